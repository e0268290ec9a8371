//! Routes, keys and limits.

mod chat;
mod completions;
mod embeddings;
mod error;
mod health;
mod options;
mod pooled;
mod prompts;
mod replies;
mod reward;
mod scores;
mod served;
mod slots;
mod structured;
mod text;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use self::error::ApiError;
use crate::models::Models;
use crate::serve::ServeOptions;
use crate::worker::About;

/// Statuses of requests whose bodies were not read.
const UNREAD: [StatusCode; 5] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
];

/// What every route needs.
#[derive(Clone)]
pub(crate) struct Api {
    models: Arc<Models>,
    options: Arc<ServeOptions>,
    draining: Arc<AtomicBool>,
    /// Replies that clients have asked for and not got to their ends.
    under_way: Arc<AtomicUsize>,
    /// One slot is saved or restored at a time: its file is in memory, whole.
    slot_turn: Arc<Semaphore>,
    started: u64,
}

impl Api {
    pub(crate) fn new(models: Models, options: ServeOptions) -> Self {
        let (models, options) = (Arc::new(models), Arc::new(options));
        Self {
            models,
            options,
            draining: Arc::default(),
            under_way: Arc::default(),
            slot_turn: Arc::new(Semaphore::new(1)),
            started: now(),
        }
    }

    /// From now on no request is taken.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }

    /// Whether a request for a host may be answered. A page may give its own name this machine's address; where nobody
    /// asks for a key, requests for other names than this machine's are of such pages.
    fn is_for(&self, host: &str) -> bool {
        let address = self.options.address.ip();
        if self.options.api_key.is_some() || !address.is_loopback() {
            return true;
        }
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_ascii_lowercase();
        let is_loopback = |name: &str| name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        name.is_empty() || name == "localhost" || name.ends_with(".localhost") || is_loopback(&name)
    }

    /// Refuses requests while the server ends.
    fn check_open(&self) -> Result<(), ApiError> {
        match self.draining.load(Ordering::SeqCst) {
            true => Err(ApiError::unavailable("the server is about to end")),
            false => Ok(()),
        }
    }
}

/// All routes.
pub(crate) fn router(api: Api) -> Router {
    let origins = &api.options.origins;
    let mut cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        // `*` would leave out the key.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER]);
    if origins.iter().any(|origin| origin == "*") {
        cors = cors.allow_origin(Any);
    } else {
        let listed = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        cors = cors.allow_origin(AllowOrigin::list(listed));
    }
    let routes = Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/chat/completions/render", post(chat::render))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/score", post(scores::score))
        .route("/v1/rerank", post(scores::rerank))
        .route("/slots", get(slots::slots))
        .route("/slots/{slot}", post(slots::act))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .fallback(|request: Request| async move {
            ApiError::not_found(format!("there is nothing at {}", request.uri().path()))
        })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .layer(middleware::from_fn_with_state(api.clone(), guard));
    let routes = if origins.is_empty() { routes } else { routes.layer(cors) };
    routes.with_state(api)
}

/// Asks for the key, and writes a line on each request: its path and times, never its text.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (begun, method, path) = (Instant::now(), request.method().clone(), request.uri().path().to_owned());
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let known = match &api.options.api_key {
        // Whether a server is there is no secret.
        Some(_) if path == "/health" => true,
        Some(key) => sent.and_then(|sent| sent.split_once(' ')).is_some_and(|(scheme, sent)| {
            // The scheme's name has no case (RFC 9110, section 11.1).
            scheme.eq_ignore_ascii_case("bearer") && same(sent, key)
        }),
        None => true,
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let mut response = match () {
        () if !known => ApiError::wrong_key().into_response(),
        () if !api.is_for(&host) => ApiError::wrong_host(&host).into_response(),
        () => next.run(request).await,
    };
    if UNREAD.contains(&response.status()) {
        // What is left of the body would be read as the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let line = json!({
        "method": method.as_str(),
        "path": path,
        "status": response.status().as_u16(),
        "ms": begun.elapsed().as_millis() as u64,
    });
    (api.options.log)(&line.to_string());
    response
}

/// Whether two keys are the same, in a time that does not tell how far they are.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The JSON of a request.
async fn body<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, ApiError> {
    Ok(sized_body(api, request).await?.0)
}

/// The same, with its bytes.
async fn sized_body<T: DeserializeOwned>(api: &Api, request: Request) -> Result<(T, usize), ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !kind.ends_with("+json") {
        return Err(ApiError::unsupported_type());
    }
    // Twice what a pause may last.
    let (limit, time) = (api.options.body_bytes, 2 * api.options.client);
    let read = tokio::time::timeout(time, axum::body::to_bytes(request.into_body(), limit)).await;
    let bytes = read.map_err(|_| ApiError::too_slow(time.as_secs()))?.map_err(|error| {
        let error = error.to_string();
        match error.contains("length limit exceeded") {
            true => ApiError::too_large(limit),
            false => ApiError::bad(format!("the body does not come whole: {error}")),
        }
    })?;
    let value = serde_json::from_slice(&bytes).map_err(|error| wrong::<T>(&bytes, &error));
    Ok((value?, bytes.len()))
}

/// Most bytes of a body in which the wrong field is looked for.
const MOST_SEARCHED: usize = 1 << 16;
/// Most fields of such a body: it is read once for each.
const MOST_FIELDS: usize = 48;

/// What is wrong with a body, and in which field: the one without which the others can be used.
fn wrong<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    // The words of the library for numbers are Rust's.
    const WORDS: [(&str, &str); 8] = [
        ("a map", "an object"),
        ("a sequence", "a list"),
        ("sequence", "a list"),
        ("map, ", "an object, "),
        ("usize", "a count"),
        ("u32", "a count"),
        ("i64", "a whole number"),
        ("f32", "a number"),
    ];
    let words = WORDS.iter().fold(error.to_string(), |error, (rust, plain)| error.replace(rust, plain));
    let fields = if bytes.len() > MOST_SEARCHED { None } else { serde_json::from_slice(bytes).ok() };
    let fields = fields.filter(|fields: &serde_json::Map<_, _>| fields.len() <= MOST_FIELDS);
    let param = fields.and_then(|fields| {
        let without = |name: &str| {
            let mut fields = fields.clone();
            fields.remove(name);
            T::deserialize(serde_json::Value::Object(fields)).map(drop).map_err(|error| error.to_string())
        };
        let usable = fields.keys().find(|name| without(name).is_ok());
        // One that must be there: without it, that is the only fault.
        let missing = |name: &str| format!("missing field `{name}`");
        let needed = || fields.keys().find(|name| without(name).is_err_and(|error| error.starts_with(&missing(name))));
        usable.or_else(needed).cloned()
    });
    match param {
        Some(param) => ApiError::field(&param, format!("`{param}` cannot be used: {words}")),
        None => ApiError::bad(format!("the body cannot be used: {words}")),
    }
}

/// The description of all routes.
async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../../openapi.json"))
}

async fn models(State(api): State<Api>) -> Response {
    let data: Vec<_> = api.models.names().iter().map(|name| description(&api, name)).collect();
    Json(json!({ "object": "list", "data": data })).into_response()
}

async fn model(State(api): State<Api>, name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad(error.body_text()))?;
    if !api.models.names().contains(&name) {
        return Err(ApiError::no_model(&name, api.models.names()));
    }
    Ok(Json(description(&api, &name)).into_response())
}

/// A model of the list; what is not known before it is loaded is null.
fn description(api: &Api, name: &str) -> serde_json::Value {
    let worker = api.models.find(name);
    let about = worker.as_ref().map(|worker| &worker.about);
    json!({
        "id": name,
        "object": "model",
        "created": api.started,
        "owned_by": "selvedge",
        "loaded": about.is_some(),
        "max_model_len": about.map(|about| about.context),
        "slots": about.map(|about| about.slots),
        "chat": about.map(|about| about.has_chat),
        "labels": about.and_then(|about: &About| about.labels.as_deref()),
    })
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A random number: a hasher's keys are the standard library's.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

/// A name that no other reply has.
fn unique(kind: &str) -> String {
    format!("{kind}-{:016x}{:016x}", chance(), chance())
}
