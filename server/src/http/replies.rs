//! Replies on their way to a client: whole, or as a stream of events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use selvedge::generate::{FinishReason, ScoredToken};
use selvedge::runtime::Cancel;
use selvedge::text::ToolPiece;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::error::ApiError;
use super::served::Held;
use super::{now, unique};
use crate::jobs::{ReplyEvent, Timings};
use crate::worker::About;

/// Seconds of silence after which a stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What every part of an answer begins with.
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub fn new(prefix: &str, about: &About) -> Self {
        Self::of_model(prefix, &about.name)
    }

    pub fn of_model(prefix: &str, model: &str) -> Self {
        Self { id: unique(prefix), created: now(), model: model.to_owned() }
    }

    pub fn object(&self, kind: &str) -> Value {
        json!({ "id": self.id, "object": kind, "created": self.created, "model": self.model })
    }
}

/// Cancels a reply that nobody waits for any more.
pub(super) struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Counts of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub made_tokens: usize,
    pub timings: Timings,
}

impl Usage {
    /// The sum of a request whose prompts have `choices` replies each: a prompt counts once.
    pub fn sum(usages: impl IntoIterator<Item = Self>, choices: u32) -> Self {
        let mut sum = Self::default();
        for (index, usage) in usages.into_iter().enumerate() {
            if index.is_multiple_of(choices as usize) {
                sum.prompt_tokens += usage.prompt_tokens;
                sum.cached_tokens += usage.cached_tokens;
            }
            sum.made_tokens += usage.made_tokens;
            sum.timings = Timings {
                queued: sum.timings.queued.max(usage.timings.queued),
                prompt: sum.timings.prompt.max(usage.timings.prompt),
                made: sum.timings.made.max(usage.timings.made),
            };
        }
        sum
    }

    /// Times in the names of llama.cpp's server: milliseconds of reading and making, and tokens a second of each. Of several
    /// replies they are those of the slowest.
    pub fn timings(self) -> Value {
        let Timings { queued, prompt, made } = self.timings;
        let read = self.prompt_tokens - self.cached_tokens;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = |tokens: usize, time: Duration| Some(tokens as f64 / time.as_secs_f64()).filter(|x| x.is_finite());
        json!({
            "queued_ms": ms(queued),
            "cache_n": self.cached_tokens,
            "prompt_n": read,
            "prompt_ms": ms(prompt),
            "prompt_per_second": rate(read, prompt),
            "predicted_n": self.made_tokens,
            "predicted_ms": ms(made),
            // The first one came with the prompt.
            "predicted_per_second": rate(self.made_tokens.saturating_sub(1), made),
        })
    }

    pub fn object(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.made_tokens,
            "total_tokens": self.prompt_tokens + self.made_tokens,
            "prompt_tokens_details": { "cached_tokens": self.cached_tokens },
        })
    }
}

/// OpenAI's word for an end; `called` where the reply has tool calls.
pub(super) fn finish_reason(reason: FinishReason, called: bool) -> &'static str {
    match reason {
        FinishReason::Stop if called => "tool_calls",
        FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length | FinishReason::Context => "length",
    }
}

/// A whole tool call.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ToolCall {
    pub name: String,
    /// JSON, unless the model wrote none.
    pub arguments: String,
}

/// A whole reply.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub thinking: String,
    pub answer: String,
    pub calls: Vec<ToolCall>,
    /// Where probabilities are wanted.
    pub tokens: Vec<ScoredToken>,
    /// Ids of the prompt and of the reply, where they are wanted.
    pub prompt_ids: Option<Vec<u32>>,
    pub ids: Option<Vec<u32>>,
    /// Where it is what was asked for.
    pub vector: Vec<f32>,
    pub reason: Option<FinishReason>,
    pub usage: Usage,
}

impl Whole {
    pub fn take_calls(&mut self, pieces: Vec<ToolPiece>) {
        for piece in pieces {
            match (piece, self.calls.last_mut()) {
                (ToolPiece::Begun { name, .. }, _) => self.calls.push(ToolCall { name, arguments: String::new() }),
                (ToolPiece::Arguments { text, .. }, Some(call)) => call.arguments.push_str(&text),
                _ => {}
            }
        }
    }
}

/// Waits for the end of a reply.
pub(super) async fn whole(mut events: UnboundedReceiver<ReplyEvent>) -> Result<Whole, ApiError> {
    let mut whole = Whole::default();
    while let Some(event) = events.recv().await {
        match event {
            ReplyEvent::Begun { prompt_tokens, cached_tokens, ids } => {
                (whole.usage.prompt_tokens, whole.usage.cached_tokens) = (prompt_tokens, cached_tokens);
                // A reply of no tokens has a list too.
                whole.ids = ids.is_some().then(Vec::new);
                whole.prompt_ids = ids;
            }
            ReplyEvent::Part(part) => {
                whole.thinking.push_str(&part.thinking);
                whole.answer.push_str(&part.answer);
                whole.tokens.extend(part.token);
                if let (Some(ids), Some(more)) = (&mut whole.ids, part.ids) {
                    ids.extend(more);
                }
                whole.take_calls(part.calls);
            }
            ReplyEvent::Pooled(vector) => whole.vector = vector,
            ReplyEvent::Ended { reason, made_tokens, timings } => {
                whole.reason = Some(reason);
                (whole.usage.made_tokens, whole.usage.timings) = (made_tokens, timings);
                return Ok(whole);
            }
            ReplyEvent::Refused(refused) => return Err(refused.into()),
        }
    }
    Err(ApiError::unavailable("the model's thread has ended"))
}

/// One choice of a stream.
pub(super) struct Choice {
    pub events: UnboundedReceiver<ReplyEvent>,
    pub cancel: CancelOnDrop,
    /// Nothing comes any more.
    pub ended: bool,
    /// It has tool calls.
    pub called: bool,
    pub usage: Usage,
}

impl Choice {
    pub fn new(events: UnboundedReceiver<ReplyEvent>, cancel: Cancel) -> Self {
        Self { events, cancel: CancelOnDrop(cancel), ended: false, called: false, usage: Usage::default() }
    }
}

/// What a stream says of its choices.
pub(super) trait Chunks: Send + 'static {
    /// Choices of a prompt.
    fn choices(&self) -> u32;
    /// In front of everything, for each choice; with the prompt's ids where they are wanted.
    fn begin(&self, choice: usize, prompt: Option<Vec<u32>>) -> Option<Value>;
    fn part(&mut self, choice: usize, part: &crate::reader::Part) -> Vec<Value>;
    /// Behind the last part; `called` where there were tool calls.
    fn end(&self, choice: usize, reason: FinishReason, called: bool) -> Value;
    /// Behind everything, where the client wants it.
    fn usage(&self, usage: Usage) -> Option<Value>;
}

struct Streaming<C> {
    chunks: C,
    choices: Vec<Choice>,
    ready: VecDeque<Value>,
    ended: bool,
    done: bool,
    /// The server does not end before the stream does.
    held: Held,
}

/// The stream of several choices. What goes wrong before anything began is an error with a status, later an event.
pub(super) async fn streamed(chunks: impl Chunks, choices: Vec<Choice>, held: Held) -> Result<Response, ApiError> {
    let mut streaming = Streaming { chunks, choices, ready: VecDeque::new(), ended: false, done: false, held };
    // Whether it is taken shows with the first word of any of them.
    match streaming.receive().await {
        Some((_, Some(ReplyEvent::Refused(refused)))) => return Err(refused.into()),
        Some((_, None)) => return Err(ApiError::unavailable("the model's thread has ended")),
        Some((index, event)) => streaming.take(index, event),
        None => {}
    }
    let events = stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    Ok(sse(events))
}

fn sse(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl<C: Chunks> Streaming<C> {
    /// The next event; `None` behind the last.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(value) = self.ready.pop_front() {
                return Some(Event::default().data(value.to_string()));
            }
            if self.done {
                return None;
            }
            if self.ended {
                self.done = true;
                return Some(Event::default().data("[DONE]"));
            }
            match self.receive().await {
                Some((index, event)) => self.take(index, event),
                None => self.end(),
            }
        }
    }

    /// The next event of any choice; `None` where all have ended.
    async fn receive(&mut self) -> Option<(usize, Option<ReplyEvent>)> {
        let open = self.choices.iter_mut().enumerate().filter(|(_, choice)| !choice.ended);
        let waits = open.map(|(index, choice)| Box::pin(async move { (index, choice.events.recv().await) }));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() { None } else { Some(futures::future::select_all(waits).await.0) }
    }

    fn end(&mut self) {
        let sum = Usage::sum(self.choices.iter().map(|choice| choice.usage), self.chunks.choices());
        self.ready.extend(self.chunks.usage(sum));
        self.ended = true;
        // A client that reads no more keeps nobody from the memory.
        self.held.release_model();
    }

    fn take(&mut self, index: usize, event: Option<ReplyEvent>) {
        let choice = &mut self.choices[index];
        match event {
            Some(ReplyEvent::Begun { prompt_tokens, cached_tokens, ids }) => {
                (choice.usage.prompt_tokens, choice.usage.cached_tokens) = (prompt_tokens, cached_tokens);
                self.ready.extend(self.chunks.begin(index, ids));
            }
            Some(ReplyEvent::Part(part)) => {
                choice.called |= !part.calls.is_empty();
                self.ready.extend(self.chunks.part(index, &part));
            }
            // It has no choices of text.
            Some(ReplyEvent::Pooled(_)) => {}
            Some(ReplyEvent::Ended { reason, made_tokens, timings }) => {
                choice.ended = true;
                (choice.usage.made_tokens, choice.usage.timings) = (made_tokens, timings);
                let mut end = self.chunks.end(index, reason, choice.called);
                end["timings"] = choice.usage.timings();
                self.ready.push_back(end);
            }
            Some(ReplyEvent::Refused(refused)) => self.fail(&refused.into()),
            None => self.fail(&ApiError::unavailable("the model's thread has ended")),
        }
    }

    /// Clients read an error as an event too; nothing follows.
    fn fail(&mut self, error: &ApiError) {
        self.choices.clear();
        self.ready.push_back(error.object());
        self.ended = true;
        self.held.release_model();
    }
}
