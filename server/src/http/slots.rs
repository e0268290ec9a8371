//! `/slots`: what each slot is at, and what was read in it saved to a file, restored and erased, as llama.cpp's server has it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;

use super::error::ApiError;
use super::{Api, body};
use crate::jobs::Job;
use crate::serve::{SlotFileError, SlotFiles};

/// Most bytes of a file's name.
const LONGEST_NAME: usize = 128;

#[derive(Deserialize)]
pub(super) struct Asked {
    model: Option<String>,
    action: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a `filename`")]
struct File {
    filename: String,
}

type Asking = Result<Query<Asked>, QueryRejection>;

fn query(asked: Asking) -> Result<Asked, ApiError> {
    asked.map(|Query(asked)| asked).map_err(|error| ApiError::bad(error.body_text()))
}

/// All slots of a model.
pub(super) async fn slots(State(api): State<Api>, asked: Asking) -> Result<Response, ApiError> {
    let Asked { model, .. } = query(asked)?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let slots = api.ask(|answer| Job::Slots { answer }).await?;
    let slot = |(id, slot): (usize, &crate::jobs::SlotAt)| {
        json!({
            "id": id,
            "n_ctx": api.about().context,
            "is_processing": slot.at_work,
            "n_prompt_tokens": slot.tokens,
            "n_decoded": slot.made,
        })
    };
    Ok(Json(slots.iter().enumerate().map(slot).collect::<Vec<_>>()).into_response())
}

/// Saves, restores or erases a slot.
pub(super) async fn act(
    State(api): State<Api>,
    slot: Result<Path<usize>, PathRejection>,
    asked: Asking,
    request: Request,
) -> Result<Response, ApiError> {
    let Path(slot) = slot.map_err(|error| ApiError::bad(error.body_text()))?;
    let Asked { model, action } = query(asked)?;
    let begun = Instant::now();
    let done = match action.as_deref() {
        Some("save") => {
            let (files, name) = file(&api, request).await?;
            let turn =
                api.slot_turn.clone().acquire_owned().await.map_err(|error| ApiError::failed(error.to_string()))?;
            let (api, held) = api.model(model.as_deref()).await?;
            let snapshot = api.ask(|answer| Job::Save { slot, answer }).await??;
            let (tokens, to) = (snapshot.read, name.clone());
            let work = move || {
                // Written to its end, even if nobody waits for it any more.
                let _until_written = (held, turn);
                files.write(&to, &snapshot)
            };
            let written = with_files(work).await?.map_err(|error| refused(&name, &error))?;
            json!({ "filename": name, "n_saved": tokens, "n_written": written })
        }
        Some("restore") => {
            let (files, name) = file(&api, request).await?;
            let _turn =
                api.slot_turn.clone().acquire_owned().await.map_err(|error| ApiError::failed(error.to_string()))?;
            let (api, _held) = api.model(model.as_deref()).await?;
            // Before anything is read for it.
            api.ask(|answer| Job::CheckIdle { slot, answer }).await??;
            let from = name.clone();
            let (snapshot, read) = with_files(move || files.read(&from)).await?.map_err(|error| match &error {
                SlotFileError::System(system) if system.kind() == ErrorKind::NotFound => {
                    ApiError::not_found(format!("there is no file {name}"))
                }
                _ => refused(&name, &error),
            })?;
            let snapshot = Box::new(snapshot);
            let tokens = api.ask(|answer| Job::Restore { slot, snapshot, answer }).await??;
            json!({ "filename": name, "n_restored": tokens, "n_read": read })
        }
        Some("erase") => {
            let (api, _held) = api.model(model.as_deref()).await?;
            let tokens = api.ask(|answer| Job::Erase { slot, answer }).await??;
            json!({ "n_erased": tokens })
        }
        _ => return Err(ApiError::field("action", "`action` must be save, restore or erase")),
    };
    let mut whole = Map::from_iter([("id_slot".to_owned(), Value::from(slot))]);
    whole.extend(done.as_object().cloned().unwrap_or_default());
    if action.as_deref() != Some("erase") {
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        whole.insert("timings".into(), json!({ format!("{}_ms", action.unwrap_or_default()): ms }));
    }
    Ok(Json(whole).into_response())
}

/// The files, and the name of the one that is asked for.
async fn file(api: &Api, request: Request) -> Result<(Arc<dyn SlotFiles>, String), ApiError> {
    let none = || ApiError::bad("slots are not saved here: `--slot-save-path` names a folder for them");
    let files = api.options.slot_files.clone().ok_or_else(none)?;
    let File { filename } = body(api, request).await?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if filename.is_empty() || filename.len() > LONGEST_NAME || filename.starts_with('.') || !filename.chars().all(plain)
    {
        let what = format!("`filename` is up to {LONGEST_NAME} letters, digits, `.`, `_` and `-`, and no path");
        return Err(ApiError::field("filename", what));
    }
    Ok((files, filename))
}

/// Works with files where it holds up nobody.
async fn with_files<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(|error| ApiError::failed(error.to_string()))
}

/// A file that cannot be what is asked of it, or that the system does not give.
fn refused(name: &str, error: &SlotFileError) -> ApiError {
    match error {
        // Those are refused by what they are.
        SlotFileError::System(system) if !matches!(system.kind(), ErrorKind::InvalidInput | ErrorKind::Other) => {
            ApiError::failed(format!("{name}: {error}"))
        }
        _ => ApiError::field("filename", format!("{name}: {error}")),
    }
}
