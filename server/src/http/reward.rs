//! Conversations in front of a reward model: `/v1/chat/completions` in the shape that NVIDIA's clients read, one entry of
//! `logprobs.content` for each attribute, with its score.

use axum::Json;
use axum::response::{IntoResponse, Response};
use selvedge::generate::ChatRequest;
use selvedge::generate::scheduler::PoolingTask;
use serde_json::{Value, json};

use super::error::ApiError;
use super::pooled::pooled;
use super::replies::Head;
use super::served::Served;
use crate::jobs::PooledText;

/// Scores of a conversation's last message, which is the assistant's.
pub(super) async fn scores(api: &Served, request: ChatRequest, labels: &[String]) -> Result<Response, ApiError> {
    let role = request.messages.last().map(|message| message.role());
    if role != Some("assistant") {
        let why = "the model scores replies: the last message must be of the role `assistant`";
        return Err(ApiError::field("messages", why));
    }
    let text = |_| Ok(PooledText::Conversation(Box::new(request.clone())));
    let done = pooled(api, 1, text, PoolingTask::Score).await?;
    let mut whole = Head::new("chatcmpl", api.about()).object("chat.completion");
    if let Some(reply) = done.first() {
        whole["choices"] = json!([choice(labels, &reply.vector)]);
        (whole["usage"], whole["timings"]) = (reply.usage.object(), reply.usage.timings());
    }
    Ok(Json(whole).into_response())
}

fn choice(labels: &[String], scores: &[f32]) -> Value {
    let scores = || labels.iter().zip(scores);
    let content: Vec<String> = scores().map(|(label, score)| format!("{label}:{score}")).collect();
    let entry = |(label, score): (&String, &f32)| json!({ "token": label, "logprob": score, "bytes": label.as_bytes(), "top_logprobs": [] });
    json!({
        "index": 0,
        "message": { "role": "assistant", "content": content.join(","), "refusal": null },
        "logprobs": { "content": scores().map(entry).collect::<Vec<_>>(), "refusal": null },
        "finish_reason": "stop",
    })
}
