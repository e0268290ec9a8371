//! Conversations: messages become a prompt, and tokens become the pieces of a reply.
//!
//! A conversation has no name here. Its prompt is compared with the texts that the slots have read, and the slot that
//! has read its beginning continues it; so a turn costs its own tokens only.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{FinishReason, GenerateOptions, Generation, Session};
use crate::checkpoint::Checkpoint;
use crate::runtime::{Cancel, Engine, EngineError};
use crate::state::Sampler;
use crate::text::{ChatMessage, ChatTemplate, ControlToken, Piece, RenderRequest, ReplyParser, Tokenizer};

/// The chat template among a checkpoint's files.
pub async fn chat_template(checkpoint: &Checkpoint) -> Result<Option<ChatTemplate>, EngineError> {
    let config = checkpoint.file("tokenizer_config.json").await?;
    let jinja = checkpoint.file("chat_template.jinja").await?;
    Ok(ChatTemplate::from_files(config.as_deref(), jinja.as_deref())?)
}

/// Request for a reply.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// The sampler; the model's stop tokens are added.
    pub sampler: Sampler,
    /// Most tokens of the reply.
    pub max_tokens: usize,
    /// Texts that end the answer, besides those of the template; within the thinking they end nothing.
    pub stops: Vec<String>,
    /// Functions that the model may call, each a JSON schema in OpenAI's shape; `None`: the template finds no tools.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from, for templates that read them.
    pub documents: Option<Vec<Value>>,
    /// More variables of the template (`chat_template_kwargs`).
    pub template_kwargs: Map<String, Value>,
    /// Thinking on or off, given to the template as `enable_thinking`; `None`: as the template decides.
    pub thinking: Option<bool>,
    /// Stops early.
    pub cancel: Cancel,
    /// Tokens of this reply that were emitted before, on a device that was lost: the reply goes on after them.
    pub emitted: Vec<u32>,
}

impl ChatRequest {
    /// The most probable reply to a conversation, as long as it gets.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        let (sampler, cancel) = (Sampler::default(), Cancel::default());
        Self {
            messages,
            sampler,
            max_tokens: usize::MAX,
            stops: vec![],
            tools: None,
            documents: None,
            template_kwargs: Map::new(),
            thinking: None,
            cancel,
            emitted: vec![],
        }
    }

    /// The prompt of its messages as they are to be read, up to where the reply begins.
    fn prompt(&self, template: &ChatTemplate, messages: &[ChatMessage]) -> Result<String, EngineError> {
        let mut kwargs = self.template_kwargs.clone();
        if let Some(thinking) = self.thinking {
            kwargs.insert("enable_thinking".into(), Value::Bool(thinking));
        }
        Ok(template.render_text(&RenderRequest {
            tools: self.tools.as_deref(),
            documents: self.documents.as_deref(),
            kwargs: Some(&kwargs),
            ..RenderRequest::new(messages, true)
        })?)
    }
}

/// The conversations of an engine.
pub struct Chat {
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    /// Texts that end a reply and are no tokens.
    stops: Vec<String>,
    /// Tokens that end a reply, besides the model's own.
    stop_token_ids: Vec<u32>,
    /// The one used longest ago first.
    sessions: Vec<Session>,
}

/// A reply under way.
pub struct Turn {
    session: Session,
    generation: Generation,
    /// `None` when everything was emitted.
    parser: Option<ReplyParser<Arc<Tokenizer>>>,
    /// The answer has a visible beginning.
    begun: bool,
    stopped: bool,
    prompt: usize,
    read: usize,
    made: usize,
}

/// The new part of a reply after one token: the token and the text that it completes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The token; `None` at the end of the reply, when the rest is emitted.
    pub token: Option<u32>,
    /// The token once more, where it is no text of the vocabulary: the beginning of a tool call, say.
    pub control: Option<ControlToken>,
    /// Texts of the thinking and the answer; often none.
    pub pieces: Vec<Piece>,
}

impl Delta {
    /// Texts of the answer; the thinking is left out.
    pub fn answer(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Answer(text) => Some(text.as_str()),
            Piece::Thinking(_) => None,
        })
    }
}

impl Chat {
    /// For an engine of the same checkpoint as the template.
    pub fn new(engine: &Engine, template: ChatTemplate) -> Result<Self, EngineError> {
        let tokenizer = engine.tokenizer()?;
        // What is one token, the device notices by itself.
        let (tokens, stops): (Vec<_>, Vec<_>) =
            template.stops().into_iter().partition(|stop| tokenizer.added_token(stop).is_some());
        let stop_token_ids = tokens.iter().filter_map(|stop| tokenizer.added_token(stop)).collect();
        Ok(Self { template, tokenizer, stops, stop_token_ids, sessions: vec![] })
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Tokens that the conversation has read which a reply was made in last; 0 before the first.
    pub fn length(&self, engine: &Engine) -> Result<usize, EngineError> {
        self.sessions.last().map_or(Ok(0), |session| session.length(engine))
    }

    /// Reads a conversation, as far as it was not read before. [`Chat::end`] must follow.
    pub async fn begin(&mut self, engine: &mut Engine, request: &ChatRequest) -> Result<Turn, EngineError> {
        let messages: Vec<ChatMessage> = request.messages.iter().map(|message| self.verbatim(message)).collect();
        let prompt = request.prompt(&self.template, &messages)?;
        let mut ids = self.tokenizer.encode_prompt(&prompt)?;
        let length = ids.len();
        ids.extend(&request.emitted);
        let mut sampler = request.sampler.clone();
        sampler.stop_token_ids.extend(&self.stop_token_ids);
        let stops: Vec<String> = self.stops.iter().chain(&request.stops).cloned().collect();
        // A stop string is noticed late: what was read of it must be taken back.
        let undo = stops.iter().any(|stop| !stop.is_empty());
        let max_tokens = request.max_tokens.saturating_sub(request.emitted.len());
        let options =
            GenerateOptions { sampler, max_tokens, cancel: request.cancel.clone(), ..GenerateOptions::default() };
        let mut parser = ReplyParser::new(self.tokenizer.clone(), &prompt, stops);
        let mut begun = false;
        for &token in &request.emitted {
            visible(parser.push(token)?.0, &mut begun);
        }

        let mut session = self.take(engine, &ids)?;
        match session.begin(engine, &ids, &options, undo).await {
            Ok((generation, read)) => Ok(Turn {
                session,
                generation,
                parser: Some(parser),
                begun,
                stopped: false,
                prompt: length,
                read,
                made: request.emitted.len(),
            }),
            Err(error) => {
                self.sessions.insert(0, session);
                Err(error)
            }
        }
    }

    /// The session that has read the beginning of a prompt, else a new one, else the one used longest ago.
    fn take(&mut self, engine: &mut Engine, prompt: &[u32]) -> Result<Session, EngineError> {
        let mut best = None;
        for (index, session) in self.sessions.iter().enumerate() {
            let kept = session.kept(engine, prompt)?;
            if kept > best.map_or(0, |(most, _)| most) {
                best = Some((kept, index));
            }
        }
        if let Some((_, index)) = best {
            return Ok(self.sessions.remove(index));
        }
        match Session::open(engine) {
            Err(EngineError::NoSlot(_)) if !self.sessions.is_empty() => Ok(self.sessions.remove(0)),
            opened => opened,
        }
    }

    /// Forgets the conversation used longest ago, so that its slot is free; false when there is none.
    pub fn forget(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        if self.sessions.is_empty() {
            return Ok(false);
        }
        self.sessions.remove(0).close(engine)?;
        Ok(true)
    }

    /// Ends a reply, whatever state it is in, and keeps what its slot has read for the next turn.
    pub fn end(&mut self, mut turn: Turn) {
        if turn.generation.finish_reason().is_none() {
            // Steps may be in flight whose tokens were never read.
            turn.session.forget();
        }
        self.sessions.push(turn.session);
    }

    /// A message in which control tokens that are spelled out are text, unless the model wrote it itself. Otherwise an
    /// `<|im_end|>` in a message or in a tool's result would end the turn and begin one of another role.
    fn verbatim(&self, message: &ChatMessage) -> ChatMessage {
        match message.role() {
            "assistant" => message.clone(),
            _ => message.map_texts(&|text| self.tokenizer.verbatim(text).into_owned()),
        }
    }
}

impl Turn {
    /// The next token's pieces; `None` when the reply is over.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Delta>, EngineError> {
        let Some(parser) = &mut self.parser else { return Ok(None) };
        let token = if self.stopped { None } else { self.session.next(engine, &mut self.generation).await? };
        let (mut pieces, mut control) = (vec![], None);
        if let Some(token) = token {
            self.made += 1;
            (pieces, control) = parser.push(token)?;
            if parser.stopped() {
                self.stopped = true;
                self.session.take_back(engine, &mut self.generation).await?;
            }
        } else if let Some(parser) = self.parser.take() {
            pieces = parser.finish()?;
        }
        Ok(Some(Delta { token, control, pieces: visible(pieces, &mut self.begun) }))
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    /// Tokens of the prompt that were read in this turn; the slot had read the others before.
    pub fn read_tokens(&self) -> usize {
        self.read
    }

    /// Tokens of the reply, stop tokens included.
    pub fn made_tokens(&self) -> usize {
        self.made
    }

    /// Reason for the end of the reply; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        match self.parser {
            None if self.stopped => Some(FinishReason::Stop),
            None => self.generation.finish_reason(),
            Some(_) => None,
        }
    }
}

/// Pieces without the white space in front of an answer: line ends between the thinking and the answer, or
/// before the answer, say nothing.
fn visible(pieces: Vec<Piece>, begun: &mut bool) -> Vec<Piece> {
    let mut kept = vec![];
    for piece in pieces {
        match piece {
            Piece::Answer(text) if !*begun => {
                let text = text.trim_start();
                if !text.is_empty() {
                    *begun = true;
                    kept.push(Piece::Answer(text.to_owned()));
                }
            }
            piece => kept.push(piece),
        }
    }
    kept
}
