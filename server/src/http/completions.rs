//! `/v1/completions`: the continuation of a text, or of token ids.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use selvedge::generate::{FinishReason, GenerateOptions, ScoredToken};
use selvedge::runtime::Cancel;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::error::ApiError;
use super::options::ReplyOptions;
use super::prompts::Prompts;
use super::replies::{Choice, Chunks, Head, Usage, finish_reason, streamed, whole};
use super::{Api, body};
use crate::jobs::{Ask, Job};
use crate::reader::Part;

/// Tokens of a completion where nobody says how many; OpenAI's number.
const DEFAULT_TOKENS: usize = 16;
/// What a completion is called.
const KIND: &str = "text_completion";
/// Most prompts of one request.
const MOST_PROMPTS: usize = 64;

#[derive(Deserialize)]
#[serde(expecting = "an object with a `prompt`")]
struct Body {
    prompt: Prompts,
    #[serde(flatten)]
    options: ReplyOptions,
}

pub(super) async fn completions(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let body: Body = body(&api, request).await?;
    let (api, held) = api.model(body.options.model.as_deref()).await?;
    api.check_makes_text("text")?;
    body.options.check(api.about())?;
    let prompts = body.prompt.list("prompt", MOST_PROMPTS)?;
    api.check_count(prompts.len() * body.options.choices() as usize)?;
    let head = Head::new("cmpl", api.about());
    let grammar = body.options.grammar(api.about(), None).await?;
    let (mut choices, mut asks) = (vec![], vec![]);
    for prompt in prompts {
        for index in 0..body.options.choices() {
            let cancel = Cancel::default();
            let options = body.options.generate(api.about(), index, DEFAULT_TOKENS, cancel.clone())?;
            let options = Box::new(GenerateOptions { grammar: grammar.clone(), ..options });
            let (sender, events) = mpsc::unbounded_channel();
            let (prompt, stops) = (prompt.clone(), body.options.stops());
            asks.push(Ask::Complete { prompt, options, stops, ids: body.options.ids(), events: sender });
            choices.push(Choice::new(events, cancel));
        }
    }
    api.send(Job::Replies(asks))?;
    if body.options.streams() {
        return streamed(
            TextChunks {
                head,
                choices: body.options.choices(),
                usage: body.options.usage_at_end(),
                offsets: vec![0; choices.len()],
            },
            choices,
            held,
        )
        .await;
    }
    let (mut texts, mut usages) = (vec![], vec![]);
    for (index, Choice { events, cancel, .. }) in choices.into_iter().enumerate() {
        let reply = whole(events).await?;
        drop(cancel);
        usages.push(reply.usage);
        let reason = reply.reason.map(|reason| finish_reason(reason, false));
        let logprobs = body.options.logprobs()?.map(|_| text_logprobs(&reply.tokens, &mut 0));
        let mut text = json!({ "index": index, "text": reply.answer, "logprobs": logprobs, "finish_reason": reason });
        if let (Some(prompt), Some(ids)) = (reply.prompt_ids, reply.ids) {
            (text["prompt_token_ids"], text["token_ids"]) = (prompt.into(), ids.into());
        }
        texts.push(text);
    }
    let mut whole = head.object(KIND);
    whole["choices"] = texts.into();
    let usage = Usage::sum(usages, body.options.choices());
    (whole["usage"], whole["timings"]) = (usage.object(), usage.timings());
    Ok(Json(whole).into_response())
}

/// Tokens with their probabilities, in the shape of OpenAI's completions. Offsets are in characters from the
/// beginning of the reply; `at` is that of the first, and behind them that of the next.
fn text_logprobs(tokens: &[ScoredToken], at: &mut usize) -> Value {
    let offsets = tokens.iter().map(|token| {
        let offset = *at;
        *at += token.token.text.chars().count();
        offset
    });
    let offsets: Vec<usize> = offsets.collect();
    let top = |token: &ScoredToken| -> Value {
        token.top.iter().map(|(token, logprob)| (token.name(), Value::from(*logprob))).collect::<Map<_, _>>().into()
    };
    json!({
        "tokens": tokens.iter().map(|token| token.token.name()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

struct TextChunks {
    head: Head,
    choices: u32,
    usage: bool,
    /// Characters of each choice so far.
    offsets: Vec<usize>,
}

impl TextChunks {
    fn chunk(&self, choice: usize, text: &str, reason: Option<&str>) -> Value {
        let mut chunk = self.head.object(KIND);
        chunk["choices"] = json!([{ "index": choice, "text": text, "logprobs": null, "finish_reason": reason }]);
        chunk
    }
}

impl Chunks for TextChunks {
    fn choices(&self) -> u32 {
        self.choices
    }

    fn begin(&self, choice: usize, prompt: Option<Vec<u32>>) -> Option<Value> {
        prompt.map(|prompt| {
            let mut chunk = self.chunk(choice, "", None);
            chunk["choices"][0]["prompt_token_ids"] = prompt.into();
            chunk
        })
    }

    fn part(&mut self, choice: usize, part: &Part) -> Vec<Value> {
        let mut chunk = self.chunk(choice, &part.answer, None);
        if let Some(token) = &part.token {
            chunk["choices"][0]["logprobs"] = text_logprobs(std::slice::from_ref(token), &mut self.offsets[choice]);
        }
        if let Some(ids) = &part.ids {
            chunk["choices"][0]["token_ids"] = ids.as_slice().into();
        }
        vec![chunk]
    }

    fn end(&self, choice: usize, reason: FinishReason, _: bool) -> Value {
        self.chunk(choice, "", Some(finish_reason(reason, false)))
    }

    fn usage(&self, usage: Usage) -> Option<Value> {
        self.usage.then(|| {
            let mut chunk = self.head.object(KIND);
            (chunk["choices"], chunk["usage"]) = (json!([]), usage.object());
            chunk
        })
    }
}
