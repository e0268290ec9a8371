//! Conversations: messages become a prompt, and tokens become the pieces of a reply.
//!
//! A conversation has no name here. Its prompt goes on from the deepest place that is known ([`PromptCache`]), whichever
//! conversation made it known; so a turn reads its own tokens only, and an edited one those behind the edit.

mod marks;
mod reply_reader;
mod request;
mod turn;

use std::sync::Arc;

use self::marks::Prompts;
use super::GenerateOptions;
use super::prompt_cache::{
    KnownText, KnownTexts, Last, Mark, PromptCache, Reuse, StateStore, StoreError, StoreOptions,
};
use crate::checkpoint::Checkpoint;
use crate::runtime::{Engine, EngineError};
use crate::state::{CheckpointKind, Snapshot};
use crate::text::{ChatMessage, ChatTemplate, ReplyParser, TextError, Tokenizer, ToolCallDialect};

pub use self::reply_reader::{Delta, ReplyReader};
pub use self::request::ChatRequest;
pub use self::turn::Turn;

/// The chat template among a checkpoint's files.
pub async fn chat_template(checkpoint: &Checkpoint) -> Result<Option<ChatTemplate>, EngineError> {
    let config = checkpoint.file("tokenizer_config.json").await?;
    let jinja = checkpoint.file("chat_template.jinja").await?;
    Ok(ChatTemplate::from_files(config.as_deref(), jinja.as_deref())?)
}

/// A request that is ready to be read.
pub struct Prepared {
    /// Tokens of the prompt, without what was emitted before.
    pub prompt_tokens: usize,
    /// Places of the prompt at which checkpoints are worth most.
    pub marks: Vec<Mark>,
    /// How its reply is made.
    pub options: GenerateOptions,
    /// The prompt's tokens, and the reader of its reply.
    pub reader: ReplyReader,
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

    /// Keeps what is remembered in a store too, and finds what earlier runs of the same model left there. Files that cannot be used are removed and told ([`PromptCache::take_notices`]).
    pub async fn keep_in(
        &mut self,
        engine: &Engine,
        store: Box<dyn StateStore>,
        options: StoreOptions,
    ) -> Result<(), StoreError> {
        let texts = self.cache.keep_in(engine, store, options).await?;
        texts.into_iter().for_each(|text| self.texts.keep(text));
        Ok(())
    }

    /// Tokens that end a reply: the model's, and the template's own.
    pub fn stop_token_ids(&self, engine: &Engine) -> Vec<u32> {
        engine.stop_token_ids().iter().chain(&self.stop_token_ids).copied().collect()
    }

    /// The dialect of tool calls that the template shows, where it is known.
    pub fn tool_call_dialect(&self) -> Option<ToolCallDialect> {
        self.template.tool_calls()
    }

    /// Tokens that were read of the conversation in which a reply was made last; 0 before the first.
    pub fn length(&self) -> usize {
        self.last.tokens.len()
    }

    /// What is to be read for a request, and the reader of its reply. Reads nothing.
    pub fn prepare(&self, engine: &Engine, request: &ChatRequest) -> Result<Prepared, EngineError> {
        let messages: Vec<ChatMessage> = request.messages.iter().map(|message| self.verbatim(message)).collect();
        let prompt = request.prompt(&self.template, &messages, true)?;
        engine.check_bytes(&prompt)?;
        let mut known = self.texts.encode(&self.tokenizer, &prompt)?;
        let prompt_tokens = known.tokens.len();
        engine.check_length(prompt_tokens)?;
        let (tokenizer, template, texts) = (&self.tokenizer, &self.template, &self.texts);
        let prompts = Prompts { template, tokenizer, texts, request, messages: &messages };
        let (opening, cached) = (prompts.opening(&known), self.cache.cached(engine, &known.tokens));
        let marks = prompts.marks(&mut known, opening, cached);

        let stops: Vec<String> = self.stops.iter().chain(&request.stops).cloned().collect();
        let tool_calls = request.tool_call_parser(&self.template);
        let markers = tool_calls.as_ref().map_or(&[][..], |parser| parser.dialect().markers());
        let parser = ReplyParser::new(self.tokenizer.clone(), &prompt, stops).with_shown(markers);
        let (opened, thinking) = (parser.opened().map(str::to_owned), parser.thinking_tokens());
        let reader = ReplyReader::new(known, self.tokenizer.clone(), parser, tool_calls, &request.emitted)?;
        let mut sampler = request.sampler.clone();
        sampler.stop_token_ids.extend(&self.stop_token_ids);
        let max_tokens = request.max_tokens.saturating_sub(request.emitted.len());
        let mut grammar = match (request.grammar.clone(), opened) {
            (Some(grammar), None) if grammar.is_optional() => Some(grammar.or_thinking(thinking)),
            (grammar, None) | (grammar @ None, _) => grammar,
            (Some(grammar), Some(close)) => match self.tokenizer.added_token(&close) {
                Some(token) => Some(grammar.behind(token)),
                None if grammar.is_optional() => None,
                None => {
                    let why = format!("the thinking before it ends with {close:?}, which is no token: turn it off");
                    return Err(TextError::Grammar(why).into());
                }
            },
        };
        if let Some(grammar) = &mut grammar {
            request.emitted.iter().try_for_each(|&token| grammar.push(token).map(drop))?;
        }
        let (logprobs, cancel) = (request.logprobs, request.cancel.clone());
        let options = GenerateOptions { sampler, max_tokens, grammar, logprobs, cancel, ..GenerateOptions::default() };
        Ok(Prepared { prompt_tokens, marks, options, reader })
    }

    /// The token ids of a conversation up to the end of its last message, as a reward model reads it.
    pub fn conversation(&self, engine: &Engine, request: &ChatRequest) -> Result<Vec<u32>, EngineError> {
        let prompt = request.prompt(&self.template, &request.messages, false)?;
        engine.check_bytes(&prompt)?;
        let tokens = self.texts.encode(&self.tokenizer, &prompt)?.tokens;
        engine.check_length(tokens.len())?;
        Ok(tokens)
    }

    /// Reads a conversation, as far as it was not read before. [`Chat::end`] must follow.
    pub async fn begin(&mut self, engine: &mut Engine, request: &ChatRequest) -> Result<Turn, EngineError> {
        let Prepared { prompt_tokens, marks, options, reader } = self.prepare(engine, request)?;
        let tokens = reader.tokens();
        let (mut session, cached) = self.cache.open(engine, tokens, &marks, &request.cancel).await?;
        let generation = match session.begin(engine, tokens, &options).await {
            Ok((generation, _)) => generation,
            Err(error) => {
                session.close(engine)?;
                return Err(error);
            }
        };
        if request.keep {
            // Before the reply, which may be long, and the program may be ended amid it.
            let stored = self.cache.store(engine, tokens, reader.known()).await;
            if let Err(error) = stored {
                session.close(engine)?;
                return Err(error);
            }
        }
        let cached_tokens = cached.min(prompt_tokens);
        // Another conversation is no change of this one, nor is a fork.
        let begins = !request.messages.iter().any(|message| message.role() == "assistant");
        let missed = self.last.missed(tokens, cached, begins || !self.last.is_of(request.conversation));
        let reuse = Reuse { prompt_tokens, cached_tokens, missed };
        let (conversation, keep) = (request.conversation, request.keep);
        Ok(Turn { session, conversation, keep, generation, reader, reuse })
    }

    /// Ends a reply, whatever state it is in, and keeps what was read for the next turn.
    pub async fn end(&mut self, engine: &mut Engine, mut turn: Turn) -> Result<(), EngineError> {
        let read = self.keep(engine, &mut turn).await;
        turn.session.close(engine)?;
        self.finish(engine, &read?, turn.reader, turn.conversation, turn.keep).await
    }

    /// Makes a checkpoint of what a reply has read. Gives it as far as it is part of the text.
    async fn keep(&mut self, engine: &mut Engine, turn: &mut Turn) -> Result<Vec<u32>, EngineError> {
        let session = &mut turn.session;
        if turn.generation.finish_reason().is_none() {
            session.stop(engine, &mut turn.generation).await?;
        }
        turn.reader.unheard(session.tokens())?;
        let mut tokens = session.read_tokens(engine)?.to_vec();
        if turn.reader.stopped() {
            // What came behind the stop string is no part of the reply.
            tokens.truncate(turn.reader.given());
        } else {
            self.cache.keep(engine, session, CheckpointKind::Reply)?;
        }
        Ok(tokens)
    }

    /// Takes note of a reply that is over, of whose text `read` was read: for the next turn, and in the store if it is to
    /// be kept.
    pub async fn finish(
        &mut self,
        engine: &mut Engine,
        read: &[u32],
        reader: ReplyReader,
        conversation: Option<u64>,
        keep: bool,
    ) -> Result<(), EngineError> {
        let (prompt, thought) = (reader.given(), reader.thought());
        let known = reader.into_known()?;
        let kept = self.cache.depths(engine, read);
        self.last = Last { tokens: read.to_vec(), kept, prompt, thought, conversation };
        if let Some(conversation) = conversation {
            self.cache.set_tail(engine, conversation, read);
        }
        if keep {
            self.cache.store(engine, read, &known).await?;
        }
        self.texts.keep(known);
        Ok(())
    }

    /// Tokens of a conversation, and how many of them need not be read again.
    pub fn remembered(&self, engine: &Engine, request: &ChatRequest) -> Result<(usize, usize), EngineError> {
        let known = self.encode(request)?;
        Ok((known.tokens.len(), self.cache.remembered(engine, &known.tokens)))
    }

    /// A conversation up to the end of its last message, with the ids under which it was read.
    fn encode(&self, request: &ChatRequest) -> Result<KnownText, EngineError> {
        let messages: Vec<ChatMessage> = request.messages.iter().map(|message| self.verbatim(message)).collect();
        let prompt = request.prompt(&self.template, &messages, false)?;
        Ok(self.texts.encode(&self.tokenizer, &prompt)?)
    }

    /// Copies a conversation out as far as it is remembered, with its checkpoints; `None` where nothing of it is.
    pub async fn snapshot(&self, engine: &mut Engine, request: &ChatRequest) -> Result<Option<Snapshot>, EngineError> {
        let known = self.encode(request)?;
        let Some(snapshot) = self.cache.snapshot(engine, &known.tokens).await? else { return Ok(None) };
        let text = Some(known.to_snapshot());
        Ok(Some(Snapshot { tokens: known.tokens, text, ..snapshot }))
    }

    /// Copies out what was read under some ids, with its text where that is known; `None` where nothing of it is
    /// remembered.
    pub async fn snapshot_of(&self, engine: &mut Engine, tokens: &[u32]) -> Result<Option<Snapshot>, EngineError> {
        let Some(snapshot) = self.cache.snapshot(engine, tokens).await? else { return Ok(None) };
        // Of what is remembered of them other texts may have gone on.
        Ok(Some(match self.texts.of(tokens) {
            Some(known) => Snapshot { tokens: known.tokens.clone(), text: Some(known.to_snapshot()), ..snapshot },
            None => snapshot,
        }))
    }

    /// Forgets what was read under some ids on the device, but for beginnings that other texts share. Gives the count of its
    /// tokens that are still remembered there.
    pub fn erase(&mut self, engine: &mut Engine, tokens: &[u32]) -> usize {
        let left = self.cache.erase(engine, tokens);
        if left < tokens.len() {
            self.texts.forget(tokens);
        }
        left
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
