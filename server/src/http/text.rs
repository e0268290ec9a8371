//! `/tokenize` and `/detokenize`, in the shapes of vLLM's server. They ask nothing of the engine.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use selvedge::text::{TextError, Tokenizer};
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::error::ApiError;
use super::served::Served;
use super::{Api, body};

#[derive(Deserialize)]
struct Text {
    model: Option<String>,
    prompt: String,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Ids {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// Lets a tokenizer work where it holds up nobody.
async fn with_tokenizer<T: Send + 'static>(
    api: &Served,
    work: impl FnOnce(Arc<Tokenizer>) -> Result<T, TextError> + Send + 'static,
) -> Result<T, ApiError> {
    let tokenizer = api.about().tokenizer.clone().ok_or_else(|| ApiError::bad("the model has no tokenizer"))?;
    let done = spawn_blocking(move || work(tokenizer)).await;
    done.map_err(|error| ApiError::failed(error.to_string()))?.map_err(|error| ApiError::bad(error.to_string()))
}

pub(super) async fn tokenize(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let Text { model, prompt, add_special_tokens } = body(&api, request).await?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let encode = move |tokenizer: Arc<Tokenizer>| match add_special_tokens {
        true => tokenizer.encode(&prompt),
        false => tokenizer.encode_prompt(&prompt),
    };
    let tokens = with_tokenizer(&api, encode).await?;
    let context = api.about().context;
    Ok(Json(json!({ "count": tokens.len(), "max_model_len": context, "tokens": tokens })).into_response())
}

pub(super) async fn detokenize(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let Ids { model, tokens } = body(&api, request).await?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let vocabulary = api.about().vocabulary;
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(ApiError::field("tokens", format!("token id {id} is not in the vocabulary of {vocabulary}")));
    }
    let text = with_tokenizer(&api, move |tokenizer| tokenizer.decode(&tokens)).await?;
    Ok(Json(json!({ "prompt": text })).into_response())
}
