//! Conversations: messages become a prompt, and tokens become the pieces of a reply.
//!
//! A conversation has no name here. Its prompt goes on from the deepest place that is known ([`PromptCache`]), whichever
//! conversation made it known; so a turn reads its own tokens only, and an edited one those behind the edit.

mod marks;
mod request;
mod turn;

use std::sync::Arc;

use self::marks::Prompts;
use self::turn::{TurnText, visible};
use super::GenerateOptions;
use super::prompt_cache::{CheckpointKind, KnownText, KnownTexts, Last, PromptCache, Reuse, StateStore, StoreError};
use crate::checkpoint::Checkpoint;
use crate::runtime::{Engine, EngineError};
use crate::state::Snapshot;
use crate::text::{ChatMessage, ChatTemplate, ReplyParser, Tokenizer};

pub use self::request::ChatRequest;
pub use self::turn::{Delta, Turn};

/// The chat template among a checkpoint's files.
pub async fn chat_template(checkpoint: &Checkpoint) -> Result<Option<ChatTemplate>, EngineError> {
    let config = checkpoint.file("tokenizer_config.json").await?;
    let jinja = checkpoint.file("chat_template.jinja").await?;
    Ok(ChatTemplate::from_files(config.as_deref(), jinja.as_deref())?)
}

/// The conversations of an engine.
pub struct Chat {
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    /// Texts that end a reply and are no tokens.
    stops: Vec<String>,
    /// Tokens that end a reply, besides the model's own.
    stop_token_ids: Vec<u32>,
    cache: PromptCache,
    texts: KnownTexts,
    last: Last,
}

impl Chat {
    /// For an engine of the same checkpoint as the template.
    pub fn new(engine: &Engine, template: ChatTemplate) -> Result<Self, EngineError> {
        let tokenizer = engine.tokenizer()?;
        // What is one token, the device notices by itself.
        let (tokens, stops): (Vec<_>, Vec<_>) =
            template.stops().into_iter().partition(|stop| tokenizer.added_token(stop).is_some());
        let stop_token_ids = tokens.iter().filter_map(|stop| tokenizer.added_token(stop)).collect();
        let (cache, texts, last) = (PromptCache::default(), KnownTexts::default(), Last::default());
        Ok(Self { template, tokenizer, stops, stop_token_ids, cache, texts, last })
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// What is remembered of all conversations.
    pub fn cache(&self) -> &PromptCache {
        &self.cache
    }

    /// The same, to be changed.
    pub fn cache_mut(&mut self) -> &mut PromptCache {
        &mut self.cache
    }

    /// Keeps what is remembered in a store too, in at most `limit` bytes, and finds what earlier runs of the same model
    /// left there. Files that cannot be used are removed and told ([`PromptCache::take_notices`]).
    pub async fn keep_in(&mut self, engine: &Engine, store: Box<dyn StateStore>, limit: u64) -> Result<(), StoreError> {
        let texts = self.cache.keep_in(engine, store, limit).await?;
        texts.into_iter().for_each(|text| self.texts.keep(text));
        Ok(())
    }

    /// Tokens that were read of the conversation in which a reply was made last; 0 before the first.
    pub fn length(&self) -> usize {
        self.last.tokens.len()
    }

    /// Reads a conversation, as far as it was not read before. [`Chat::end`] must follow.
    pub async fn begin(&mut self, engine: &mut Engine, request: &ChatRequest) -> Result<Turn, EngineError> {
        let messages: Vec<ChatMessage> = request.messages.iter().map(|message| self.verbatim(message)).collect();
        let prompt = request.prompt(&self.template, &messages, true)?;
        let mut known = self.texts.encode(&self.tokenizer, &prompt)?;
        let prompt_tokens = known.tokens.len();
        let (tokenizer, template, texts) = (&self.tokenizer, &self.template, &self.texts);
        let prompts = Prompts { template, tokenizer, texts, request, messages: &messages };
        let (opening, cached) = (prompts.opening(&known), self.cache.cached(engine, &known.tokens));
        let marks = prompts.marks(&mut known, opening, cached);

        let stops: Vec<String> = self.stops.iter().chain(&request.stops).cloned().collect();
        let mut parser = ReplyParser::new(self.tokenizer.clone(), &prompt, stops);
        let mut text = TurnText::new(known, self.tokenizer.clone());
        let mut begun = false;
        for &token in &request.emitted {
            text.push(token)?;
            visible(parser.push(token)?.0, &mut begun);
        }
        let tokens = &text.known.tokens;
        let mut sampler = request.sampler.clone();
        sampler.stop_token_ids.extend(&self.stop_token_ids);
        let max_tokens = request.max_tokens.saturating_sub(request.emitted.len());
        let options =
            GenerateOptions { sampler, max_tokens, cancel: request.cancel.clone(), ..GenerateOptions::default() };
        let (mut session, cached) = self.cache.open(engine, tokens, &marks, &request.cancel).await?;
        let generation = match session.begin(engine, tokens, &options).await {
            Ok((generation, _)) => generation,
            Err(error) => {
                session.close(engine)?;
                return Err(error);
            }
        };
        let cached_tokens = cached.min(prompt_tokens);
        let begins = !messages.iter().any(|message| message.role() == "assistant");
        let missed = self.last.missed(tokens, cached, begins);
        let reuse = Reuse { prompt_tokens, cached_tokens, missed };
        Ok(Turn {
            session,
            generation,
            parser: Some(parser),
            given: tokens.len(),
            text,
            reuse,
            made: request.emitted.len(),
            thought: false,
            begun,
            stopped: false,
        })
    }

    /// Ends a reply, whatever state it is in, and keeps what was read for the next turn.
    pub async fn end(&mut self, engine: &mut Engine, mut turn: Turn) -> Result<(), EngineError> {
        let kept = self.keep(engine, &mut turn).await;
        turn.session.close(engine)?;
        let known = turn.text.finish()?;
        kept?;
        self.cache.store(engine, &self.last.tokens, &known).await?;
        self.texts.keep(known);
        Ok(())
    }

    async fn keep(&mut self, engine: &mut Engine, turn: &mut Turn) -> Result<(), EngineError> {
        let session = &mut turn.session;
        if turn.generation.finish_reason().is_none() {
            session.stop(engine, &mut turn.generation).await?;
        }
        for &token in session.tokens().iter().skip(turn.text.known.tokens.len()) {
            turn.text.push(token)?;
        }
        let mut tokens = session.read_tokens(engine)?.to_vec();
        if turn.stopped {
            // What came behind the stop string is no part of the reply.
            tokens.truncate(turn.given);
        } else {
            self.cache.keep(engine, session, CheckpointKind::Reply)?;
        }
        let kept = self.cache.depths(engine, &tokens);
        self.last = Last { tokens, kept, prompt: turn.given, thought: turn.thought };
        Ok(())
    }

    /// Copies a conversation out as far as it is remembered, with its checkpoints; `None` where nothing of it is.
    pub async fn snapshot(&self, engine: &mut Engine, request: &ChatRequest) -> Result<Option<Snapshot>, EngineError> {
        let messages: Vec<ChatMessage> = request.messages.iter().map(|message| self.verbatim(message)).collect();
        let prompt = request.prompt(&self.template, &messages, false)?;
        let known = self.texts.encode(&self.tokenizer, &prompt)?;
        let Some(snapshot) = self.cache.snapshot(engine, &known.tokens).await? else { return Ok(None) };
        let text = Some(known.to_snapshot());
        Ok(Some(Snapshot { tokens: known.tokens, text, ..snapshot }))
    }

    /// Goes on with a conversation that was copied out. The sentence that comes back tells that keys and values were
    /// converted, see [`Engine::restore`].
    pub async fn restore(&mut self, engine: &mut Engine, snapshot: &Snapshot) -> Result<Option<String>, EngineError> {
        let notice = self.cache.restore(engine, snapshot)?;
        let tokens = snapshot.tokens[..snapshot.read].to_vec();
        let kept = self.cache.depths(engine, &tokens);
        self.last = Last { prompt: tokens.len(), tokens, kept, ..Last::default() };
        let known = snapshot.text.as_ref().and_then(|text| KnownText::from_snapshot(text, &snapshot.tokens));
        known.into_iter().for_each(|known| self.texts.keep(known));
        Ok(notice)
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
