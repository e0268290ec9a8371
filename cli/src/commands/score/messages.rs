//! Scores of conversations: lines of JSON in, a line of JSON out for each, with the scores of every message of the assistant.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::args::model::ModelArgs;
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::input::{self, Line};
use crate::terminal::{self, status};
use selvedge::generate::{Chat, ChatRequest, chat_template};
use selvedge::runtime::{Cancel, Engine, EngineError, Purpose};
use selvedge::state::SlotId;
use selvedge::text::ChatMessage;

/// Weights of labels, as they were given.
#[derive(Clone, Debug)]
pub(super) struct Weights(Vec<(String, f64)>);

/// The same in the order of a model's labels.
pub(super) struct Combination(Vec<f64>);

impl Weights {
    /// Of `LABEL=WEIGHT`, separated by commas.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let weight = |part: &str| {
            let (label, weight) = part.rsplit_once('=').ok_or_else(|| format!("`{part}` is not LABEL=WEIGHT"))?;
            let weight: f64 = weight.trim().parse().map_err(|_| format!("`{weight}` is no number"))?;
            if !weight.is_finite() {
                return Err(format!("`{part}`: the weight must be finite"));
            }
            Ok((label.trim().to_owned(), weight))
        };
        let weights = text.split(',').map(weight).collect::<Result<Vec<_>, String>>()?;
        match weights.iter().enumerate().find(|(at, (label, _))| weights[..*at].iter().any(|(other, _)| other == label))
        {
            Some((_, (label, _))) => Err(format!("`{label}` has two weights")),
            None => Ok(Self(weights)),
        }
    }

    /// For a model's labels; one that it does not have is an error.
    pub(super) fn of(&self, labels: &[String]) -> Result<Combination, CommandError> {
        if let Some((label, _)) = self.0.iter().find(|(label, _)| !labels.contains(label)) {
            let have = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            return Err(CommandError::Misuse(format!("--combine: the model has no label `{label}`; it has {have}")));
        }
        let weight = |label: &String| self.0.iter().find(|(name, _)| name == label).map_or(0.0, |(_, weight)| *weight);
        Ok(Combination(labels.iter().map(weight).collect()))
    }
}

impl Combination {
    /// The weighted sum of a model's scores.
    pub(super) fn sum(&self, scores: &[f32]) -> f64 {
        self.0.iter().zip(scores).map(|(weight, &score)| weight * f64::from(score)).sum()
    }
}

/// A conversation of the input.
struct Conversation {
    /// As the line had it.
    id: Option<Value>,
    request: ChatRequest,
}

impl Conversation {
    fn parse(line: &str) -> Result<Self, String> {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("is no JSON: {error}"))?;
        let (messages, mut fields) = match line {
            Value::Array(messages) => (messages, Map::new()),
            Value::Object(mut fields) => match fields.remove("messages") {
                Some(Value::Array(messages)) => (messages, fields),
                _ => return Err("has no list `messages`".into()),
            },
            _ => return Err("is neither a list of messages nor an object with `messages`".into()),
        };
        let messages = ChatMessage::list_from_openai(messages).map_err(|error| error.to_string())?;
        if !messages.iter().any(|message| message.role() == "assistant") {
            return Err("has no message of the role `assistant`, which would be scored".into());
        }
        let tools = match fields.remove("tools") {
            None | Some(Value::Null) => None,
            Some(Value::Array(tools)) => Some(tools),
            Some(_) => return Err("has `tools` that are no list".into()),
        };
        Ok(Self { id: fields.remove("id"), request: ChatRequest { tools, ..ChatRequest::new(messages) } })
    }
}

/// A model that scores, with what a line of the output needs.
struct Judge {
    engine: Engine,
    chat: Chat,
    labels: Vec<String>,
    combination: Option<Combination>,
}

impl Judge {
    /// The line for a conversation.
    async fn score(&mut self, index: usize, conversation: Conversation) -> Result<Value, EngineError> {
        let Conversation { id, request } = conversation;
        let mut slot = self.engine.open()?;
        let turns = self.turns(&mut slot, &request).await;
        self.engine.close(slot)?;
        let mut line = json!({ "index": index });
        if let Some(id) = id {
            line["id"] = id;
        }
        line["replies"] = turns?.into();
        Ok(line)
    }

    /// Scores of every message of the assistant. What a reply's conversation shares with that of the reply before is read once.
    async fn turns(&mut self, slot: &mut SlotId, request: &ChatRequest) -> Result<Vec<Value>, EngineError> {
        let (mut turns, mut read) = (vec![], vec![]);
        for (at, _) in request.messages.iter().enumerate().filter(|(_, message)| message.role() == "assistant") {
            let upto = ChatRequest { messages: request.messages[..=at].to_vec(), ..request.clone() };
            let ids = self.chat.conversation(&self.engine, &upto)?;
            // A template may write a reply otherwise once others follow it.
            if !ids.starts_with(&read) || ids.len() == read.len() {
                self.engine.close(*slot)?;
                *slot = self.engine.open()?;
                read.clear();
            }
            let scores = self.engine.score(*slot, &ids[read.len()..]).await?;
            let named = self.labels.iter().cloned().zip(scores.iter().map(|&score| score.into()));
            let mut turn = json!({ "message": at, "tokens": ids.len(), "scores": named.collect::<Map<_, _>>() });
            if let Some(combination) = &self.combination {
                turn["combined"] = combination.sum(&scores).into();
            }
            turns.push(turn);
            read = ids;
        }
        Ok(turns)
    }
}

/// Scores the conversations of a file. A line that cannot be scored becomes one that says why, and the exit code 1 at the end.
pub(super) async fn score(model: &ModelArgs, file: &Path, weights: Option<&Weights>) -> Result<ExitCode, CommandError> {
    let mut lines: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
            Box::new(BufReader::new(opened))
        }
    };
    let checkpoint = model.checkpoint().await?;
    let template = chat_template(&checkpoint).await?;
    let template = template.ok_or_else(|| CommandError::NoTemplate(checkpoint.describe("")))?;
    let engine = model.load.load(&checkpoint, 1, Purpose::Score).await?;
    let (chat, labels) = (Chat::new(&engine, template)?, super::labels(&engine));
    let combination = weights.map(|weights| weights.of(&labels)).transpose()?;
    let mut judge = Judge { engine, chat, labels, combination };

    let cancel = Cancel::default();
    let pressed = cancel.clone();
    on_ctrl_c(move || pressed.cancel())?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(
        ProgressStyle::with_template("scoring {pos} conversations, {per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let (mut index, mut refused) = (0, 0);
    while !cancel.is_cancelled() {
        let parsed = match input::line(&mut lines).map_err(|error| unreadable(file, &error))? {
            Line::End => break,
            Line::Text(line) if line.trim().is_empty() => continue,
            Line::Text(line) => Conversation::parse(&line),
            Line::Refused(why) => Err(why),
        };
        let scored = match parsed {
            Ok(conversation) => match judge.score(index, conversation).await {
                Ok(scored) => Ok(scored),
                // Another conversation may be shorter, or written otherwise.
                Err(error) if error.refuses_text() => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            },
            Err(why) => Err(why),
        };
        let line = scored.unwrap_or_else(|why| {
            refused += 1;
            json!({ "index": index, "error": why })
        });
        bar.suspend(|| terminal::print(&format!("{line}\n")))?;
        index += 1;
        bar.set_position(index as u64);
    }
    bar.finish_and_clear();
    if cancel.is_cancelled() {
        status!("stopped after {index} conversations");
        return Ok(INTERRUPTED.into());
    }
    if refused > 0 {
        status!("{refused} of {index} lines could not be scored: each says why as its `error`");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn unreadable(file: &Path, error: &io::Error) -> CommandError {
    CommandError::Misuse(format!("{}: {error}", file.display()))
}
