//! Errors as OpenAI's clients know them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::jobs::Refused;

/// Seconds after which a client may try again.
const RETRY_AFTER: &str = "1";

/// An error with its status.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    /// Field of the request that is wrong.
    param: Option<String>,
    /// OpenAI's word for the fault.
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// What was asked for cannot be.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The same, with the field that is wrong.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::bad(message) }
    }

    /// A model that is not here.
    pub(crate) fn no_model(asked: &str, served: &[String]) -> Self {
        let are = if served.len() == 1 { "is" } else { "are" };
        let message = format!("the model `{asked}` is not served here; `{}` {are}", served.join("`, `"));
        Self { param: Some("model".into()), code: Some("model_not_found"), ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    /// A request for another machine's name.
    pub(crate) fn wrong_host(host: &str) -> Self {
        let message =
            format!("this server answers requests for this machine, and not for `{host}`: --api-key lets others in");
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// A fault of the server.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// No such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A method that the address does not have.
    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "the address does not have this method")
    }

    /// A missing or wrong key.
    pub(crate) fn wrong_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong: send it as `Authorization: Bearer KEY`")
    }

    /// A body of too many bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"))
    }

    /// A body that does not come.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {seconds} seconds"))
    }

    /// A body that is no JSON.
    pub(crate) fn unsupported_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be JSON, with `Content-Type: application/json`")
    }

    /// The server is about to end, or its device is gone.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The same of a part of the request.
    pub(crate) fn about(self, part: &str) -> Self {
        Self { message: format!("{part}: {}", self.message), ..self }
    }

    /// Whether the same request may be taken later.
    pub(crate) fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The object that clients read.
    pub(crate) fn object(&self) -> Value {
        let (kind, code) = match self.status.as_u16() {
            401 => ("authentication_error", Some("invalid_api_key")),
            403 => ("permission_error", None),
            404 => ("invalid_request_error", Some("not_found")),
            429 => ("rate_limit_error", Some("rate_limit_exceeded")),
            400..500 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code.or(code) } })
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, code) = match refused {
            Refused::Bad(_) => (StatusCode::BAD_REQUEST, None),
            Refused::TooLong(_) => (StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
            Refused::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, None),
            Refused::AtWork(_) => (StatusCode::CONFLICT, None),
            Refused::NoRoom(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
            Refused::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { code, ..Self::new(status, refused.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let busy = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let mut response = (self.status, Json(self.object())).into_response();
        if busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
