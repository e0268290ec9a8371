//! `/v1/chat/completions`, and its prompt (`/v1/chat/completions/render`).

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use selvedge::generate::{ChatRequest, FinishReason, ScoredToken};
use selvedge::runtime::Cancel;
use selvedge::text::{ChatMessage, TextError, ToolGrammar, ToolOffer, ToolOfferError, ToolPiece};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::error::ApiError;
use super::options::ReplyOptions;
use super::replies::{Choice, Chunks, Head, ToolCall, Usage, Whole, finish_reason, streamed, whole};
use super::served::Served;
use super::{Api, reward, sized_body, unique};
use crate::jobs::{Ask, Job};
use crate::reader::Part;
use crate::worker::About;

#[derive(Deserialize)]
#[serde(expecting = "an object with `messages`")]
struct Body {
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    documents: Option<Vec<Value>>,
    chat_template_kwargs: Option<Map<String, Value>>,
    enable_thinking: Option<bool>,
    #[serde(flatten)]
    options: ReplyOptions,
}

impl Body {
    /// The field that binds the reply's text, if one does.
    fn binds(&self, about: &About) -> Result<Option<&'static str>, ApiError> {
        Ok(match self.tool_grammar(about)? {
            Some(ToolGrammar::Call(_)) => Some("tool_choice"),
            _ => self.options.structure()?.map(|(field, _)| field),
        })
    }

    fn request(&self, api: &Served, choice: u32, cancel: Cancel) -> Result<ChatRequest, ApiError> {
        if self.messages.is_empty() {
            return Err(ApiError::field("messages", "`messages` is empty"));
        }
        let messages = ChatMessage::list_from_openai(self.messages.clone()).map_err(|error| match error {
            TextError::Message(why) => ApiError::field("messages", why),
            other => ApiError::field("messages", other.to_string()),
        })?;
        let tools = self.offer();
        let options = self.options.generate(api.about(), choice, usize::MAX, cancel)?;
        Ok(ChatRequest {
            sampler: options.sampler,
            max_tokens: options.max_tokens,
            stops: self.options.stops(),
            logprobs: options.logprobs,
            tools: tools.told()?,
            parse_tool_calls: true,
            tool_call_dialect: tools.dialect(api.about().tool_call_dialect),
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            documents: self.documents.clone(),
            template_kwargs: self.chat_template_kwargs.clone().unwrap_or_default(),
            thinking: self.enable_thinking,
            cancel: options.cancel,
            ..ChatRequest::new(messages)
        })
    }

    fn offer(&self) -> ToolOffer {
        ToolOffer { tools: self.tools.clone(), choice: self.tool_choice.clone() }
    }

    /// What the tools make of the reply's text.
    fn tool_grammar(&self, about: &About) -> Result<Option<ToolGrammar>, ApiError> {
        // Without a tokenizer there is no chat at all, which the model's thread says.
        let Some(tokenizer) = &about.tokenizer else { return Ok(None) };
        let bound = self.options.structure()?.is_some();
        Ok(self.offer().grammar(bound, about.tool_call_dialect, tokenizer)?)
    }
}

impl From<ToolOfferError> for ApiError {
    fn from(error: ToolOfferError) -> Self {
        Self::field(error.field, error.to_string())
    }
}

pub(super) async fn completions(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (body, bytes): (Body, _) = sized_body(&api, request).await?;
    let (api, held) = api.model(body.options.model.as_deref()).await?;
    body.options.check(api.about())?;
    api.check_count(body.options.choices() as usize)?;
    api.check_bytes(bytes)?;
    if let Some(labels) = api.about().labels.clone() {
        if body.options.streams() || body.options.choices() > 1 {
            let field = if body.options.streams() { "stream" } else { "n" };
            return Err(ApiError::field(field, format!("`{field}`: the model gives scores, all at once")));
        }
        // A text that it makes would have to keep to these.
        if let Some(field) = body.binds(api.about())? {
            return Err(ApiError::field(field, format!("`{field}`: the model gives scores and no text")));
        }
        return reward::scores(&api, body.request(&api, 0, Cancel::default())?, &labels).await;
    }
    let head = Head::new("chatcmpl", api.about());
    let tools = body.tool_grammar(api.about())?;
    let grammar = body.options.grammar(api.about(), tools).await?;
    let (mut choices, mut asks) = (vec![], vec![]);
    for index in 0..body.options.choices() {
        let cancel = Cancel::default();
        let request = body.request(&api, index, cancel.clone())?;
        let request = Box::new(ChatRequest { grammar: grammar.clone(), ..request });
        let (sender, events) = mpsc::unbounded_channel();
        asks.push(Ask::Chat { request, ids: body.options.ids(), events: sender });
        choices.push(Choice::new(events, cancel));
    }
    api.send(Job::Replies(asks))?;
    if body.options.streams() {
        return streamed(
            ChatChunks { head, choices: body.options.choices(), usage: body.options.usage_at_end() },
            choices,
            held,
        )
        .await;
    }
    let (mut said, mut usages, mut prompt) = (vec![], vec![], None);
    for (index, Choice { events, cancel, .. }) in choices.into_iter().enumerate() {
        let reply = whole(events).await?;
        drop(cancel);
        usages.push(reply.usage);
        let called = !reply.calls.is_empty();
        let (message, reason) = (whole_message(&reply), reply.reason);
        let mut choice = json!({
            "index": index,
            "message": message,
            "logprobs": body.options.logprobs()?.map(|_| content_logprobs(&reply.tokens)),
            "finish_reason": reason.map(|reason| finish_reason(reason, called)),
        });
        if let Some(ids) = reply.ids {
            choice["token_ids"] = ids.into();
        }
        prompt = prompt.or(reply.prompt_ids);
        said.push(choice);
    }
    let mut whole = head.object("chat.completion");
    whole["choices"] = said.into();
    if let Some(prompt) = prompt {
        whole["prompt_token_ids"] = prompt.into();
    }
    let usage = Usage::sum(usages, body.options.choices());
    (whole["usage"], whole["timings"]) = (usage.object(), usage.timings());
    Ok(Json(whole).into_response())
}

/// A name for a call, by which its result is known.
fn call_id() -> String {
    unique("call").replacen('-', "_", 1)
}

/// The message of a whole reply.
fn whole_message(reply: &Whole) -> Value {
    let content = Some(&reply.answer).filter(|answer| !answer.is_empty() || reply.calls.is_empty());
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !reply.thinking.is_empty() {
        message["reasoning_content"] = reply.thinking.clone().into();
    }
    if !reply.calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({ "name": call.name, "arguments": call.arguments });
            json!({ "id": call_id(), "type": "function", "function": function })
        };
        message["tool_calls"] = reply.calls.iter().map(call).collect();
    }
    message
}

/// A call's part of a chunk: the beginning has an id and the name.
fn call_delta(piece: &ToolPiece) -> Option<Value> {
    match piece {
        ToolPiece::Text(_) => None,
        ToolPiece::Begun { index, name } => {
            let function = json!({ "name": name, "arguments": "" });
            Some(json!({ "index": index, "id": call_id(), "type": "function", "function": function }))
        }
        ToolPiece::Arguments { index, text } => Some(json!({ "index": index, "function": { "arguments": text } })),
    }
}

/// The token ids of a prompt, which routers hash.
pub(super) async fn render(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (body, bytes): (Body, _) = sized_body(&api, request).await?;
    let (api, _held) = api.model(body.options.model.as_deref()).await?;
    body.options.check(api.about())?;
    api.check_bytes(bytes)?;
    let request = Box::new(body.request(&api, 0, Cancel::default())?);
    let ids = api.ask(|answer| Job::Render { request, answer }).await??;
    Ok(Json(json!({ "token_ids": ids, "count": ids.len(), "model": api.about().name })).into_response())
}

/// Tokens with their probabilities, in OpenAI's shape.
fn content_logprobs(tokens: &[ScoredToken]) -> Value {
    json!({ "content": tokens.iter().map(ScoredToken::object).collect::<Vec<_>>(), "refusal": null })
}

struct ChatChunks {
    head: Head,
    choices: u32,
    usage: bool,
}

impl ChatChunks {
    fn chunk(&self, choice: usize, delta: &Value, reason: Option<&str>) -> Value {
        let mut chunk = self.head.object("chat.completion.chunk");
        chunk["choices"] = json!([{ "index": choice, "delta": delta, "logprobs": null, "finish_reason": reason }]);
        chunk
    }
}

impl Chunks for ChatChunks {
    fn choices(&self) -> u32 {
        self.choices
    }

    fn begin(&self, choice: usize, prompt: Option<Vec<u32>>) -> Option<Value> {
        let mut chunk = self.chunk(choice, &json!({ "role": "assistant", "content": "" }), None);
        if let Some(prompt) = prompt {
            chunk["prompt_token_ids"] = prompt.into();
        }
        Some(chunk)
    }

    fn part(&mut self, choice: usize, part: &Part) -> Vec<Value> {
        let mut delta = json!({});
        if !part.thinking.is_empty() {
            delta["reasoning_content"] = part.thinking.clone().into();
        }
        if !part.answer.is_empty() {
            delta["content"] = part.answer.clone().into();
        }
        let calls = part.calls.iter().filter_map(call_delta);
        let calls = calls.map(|call| self.chunk(choice, &json!({ "tool_calls": [call] }), None));
        let text = part.calls.is_empty() || !part.answer.is_empty() || !part.thinking.is_empty();
        let text = text.then(|| self.chunk(choice, &delta, None));
        let mut chunks: Vec<Value> = text.into_iter().chain(calls).collect();
        if let (Some(token), Some(chunk)) = (&part.token, chunks.first_mut()) {
            chunk["choices"][0]["logprobs"] = content_logprobs(std::slice::from_ref(token));
        }
        if let (Some(ids), Some(chunk)) = (&part.ids, chunks.first_mut()) {
            chunk["choices"][0]["token_ids"] = ids.as_slice().into();
        }
        chunks
    }

    fn end(&self, choice: usize, reason: FinishReason, called: bool) -> Value {
        self.chunk(choice, &json!({}), Some(finish_reason(reason, called)))
    }

    fn usage(&self, usage: Usage) -> Option<Value> {
        self.usage.then(|| {
            let mut chunk = self.head.object("chat.completion.chunk");
            (chunk["choices"], chunk["usage"]) = (json!([]), usage.object());
            chunk
        })
    }
}

#[cfg(test)]
mod tests {
    use selvedge::generate::TokenText;

    use super::*;

    fn pieces() -> Vec<ToolPiece> {
        let begun = |index, name: &str| ToolPiece::Begun { index, name: name.into() };
        let arguments = |index, text: &str| ToolPiece::Arguments { index, text: text.into() };
        vec![
            begun(0, "weather"),
            arguments(0, "{\"city\": "),
            arguments(0, "\"Bern\"}"),
            begun(1, "now"),
            arguments(1, "{}"),
        ]
    }

    #[test]
    fn a_whole_message_has_its_calls_in_the_shape_of_openai() {
        let mut reply = Whole::default();
        assert_eq!(whole_message(&reply), json!({ "role": "assistant", "content": "", "refusal": null }));
        reply.take_calls(pieces());
        let message = whole_message(&reply);
        assert_eq!(message["content"], Value::Null);
        let calls = message["tool_calls"].as_array().expect("calls");
        let functions: Vec<&Value> = calls.iter().map(|call| &call["function"]).collect();
        let expected = [
            json!({ "name": "weather", "arguments": "{\"city\": \"Bern\"}" }),
            json!({ "name": "now", "arguments": "{}" }),
        ];
        assert_eq!(functions, expected.iter().collect::<Vec<_>>());
        let ids: Vec<&str> = calls.iter().filter_map(|call| call["id"].as_str()).collect();
        assert!(ids.iter().all(|id| id.starts_with("call_")) && ids[0] != ids[1], "{ids:?}");
        assert!(calls.iter().all(|call| call["type"] == "function"));
        reply.answer = "I look.".into();
        assert_eq!(whole_message(&reply)["content"], "I look.");
    }

    #[test]
    fn a_call_comes_in_chunks_of_its_own() {
        let mut chunks = ChatChunks { head: Head::of_model("chatcmpl", "m"), choices: 1, usage: false };
        let deltas = |chunks: &mut ChatChunks, part: Part| -> Vec<Value> {
            let parts = chunks.part(0, &part).into_iter();
            parts.map(|mut chunk| chunk["choices"][0]["delta"].take()).collect()
        };
        let token = Some(ScoredToken { token: TokenText::default(), logprob: -1.0, top: vec![] });
        assert_eq!(deltas(&mut chunks, Part { answer: "Hi".into(), ..Part::default() }), [json!({ "content": "Hi" })]);
        // A token without text has its probability all the same.
        assert_eq!(deltas(&mut chunks, Part { token: token.clone(), ..Part::default() }), [json!({})]);

        let part = Part { answer: "Hi".into(), calls: pieces(), token, ..Part::default() };
        let logprobs: Vec<bool> =
            chunks.part(0, &part).iter().map(|chunk| chunk["choices"][0]["logprobs"].is_object()).collect();
        assert_eq!(logprobs, [true, false, false, false, false, false]);
        let mut deltas = deltas(&mut chunks, part);
        assert_eq!(deltas.remove(0), json!({ "content": "Hi" }));
        let id = deltas[0]["tool_calls"][0]["id"].take();
        assert!(id.as_str().is_some_and(|id| id.starts_with("call_")), "{id}");
        deltas[3]["tool_calls"][0]["id"].take();
        let begun = |index: usize, name: &str| json!({ "index": index, "id": null, "type": "function", "function": { "name": name, "arguments": "" } });
        let goes_on = |index: usize, text: &str| json!({ "index": index, "function": { "arguments": text } });
        let expected = [
            begun(0, "weather"),
            goes_on(0, "{\"city\": "),
            goes_on(0, "\"Bern\"}"),
            begun(1, "now"),
            goes_on(1, "{}"),
        ];
        assert_eq!(deltas, expected.map(|call| json!({ "tool_calls": [call] })));

        let reason = |reason, called| chunks.end(0, reason, called)["choices"][0]["finish_reason"].clone();
        assert_eq!(reason(FinishReason::Stop, true), "tool_calls");
        assert_eq!(reason(FinishReason::Stop, false), "stop");
        assert_eq!(reason(FinishReason::Length, true), "length");
    }
}
