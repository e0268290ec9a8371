//! A reply under way: tokens become the pieces of its thinking and its answer.

use std::sync::Arc;

use super::super::prompt_cache::{KnownText, Reuse};
use super::super::{FinishReason, Generation, Session};
use crate::runtime::{Engine, EngineError};
use crate::text::{ControlToken, Detokenizer, Piece, ReplyParser, TextError, Tokenizer};

/// A reply under way.
pub struct Turn {
    pub(super) session: Session,
    pub(super) generation: Generation,
    /// `None` when everything was emitted.
    pub(super) parser: Option<ReplyParser<Arc<Tokenizer>>>,
    pub(super) text: TurnText,
    /// Tokens of the prompt and of what was emitted before.
    pub(super) given: usize,
    pub(super) reuse: Reuse,
    pub(super) made: usize,
    /// The reply had thinking.
    pub(super) thought: bool,
    /// The answer has a visible beginning.
    pub(super) begun: bool,
    /// A stop string came.
    pub(super) stopped: bool,
}

/// The prompt and the reply as the model has them, with all special tokens.
pub(super) struct TurnText {
    pub known: KnownText,
    /// Bytes of the text before the reply, and before the special token that ended it.
    reply: (usize, usize),
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    tokenizer: Arc<Tokenizer>,
}

impl TurnText {
    /// A prompt.
    pub fn new(known: KnownText, tokenizer: Arc<Tokenizer>) -> Self {
        let reply = (known.text.len(), known.text.len());
        Self { known, reply, detokenizer: Detokenizer::after_text(tokenizer.clone()), tokenizer }
    }

    /// The reply goes on.
    pub fn push(&mut self, token: u32) -> Result<(), TextError> {
        self.known.tokens.push(token);
        match self.tokenizer.control_token(token).filter(|control| control.special) {
            Some(control) => {
                let rest = self.detokenizer.flush()?;
                self.known.text.push_str(&rest);
                self.reply.1 = self.known.text.len();
                self.known.text.push_str(&control.text);
            }
            None => {
                let text = self.detokenizer.push(token)?;
                self.known.text.push_str(&text);
                self.reply.1 = self.known.text.len();
            }
        }
        Ok(())
    }

    /// The reply is over.
    pub fn finish(mut self) -> Result<KnownText, TextError> {
        let rest = self.detokenizer.flush()?;
        self.known.text.push_str(&rest);
        if !rest.is_empty() {
            self.reply.1 = self.known.text.len();
        }
        self.known.replies.push(self.reply);
        self.known.end();
        Ok(self.known)
    }
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

impl Turn {
    /// The next token's pieces; `None` when the reply is over.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Delta>, EngineError> {
        let Some(parser) = &mut self.parser else { return Ok(None) };
        let token = if self.stopped { None } else { self.session.next(engine, &mut self.generation).await? };
        let (mut pieces, mut control) = (vec![], None);
        if let Some(token) = token {
            self.made += 1;
            self.text.push(token)?;
            (pieces, control) = parser.push(token)?;
            if parser.stopped() {
                self.stopped = true;
                self.session.stop(engine, &mut self.generation).await?;
            }
        } else if let Some(parser) = self.parser.take() {
            pieces = parser.finish()?;
        }
        self.thought |= pieces.iter().any(|piece| matches!(piece, Piece::Thinking(_)));
        Ok(Some(Delta { token, control, pieces: visible(pieces, &mut self.begun) }))
    }

    /// Tokens of the prompt, and how many of them were not read again.
    pub fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.reuse.prompt_tokens
    }

    /// Tokens of the prompt that were read in this turn; the others were known.
    pub fn read_tokens(&self) -> usize {
        self.reuse.read_tokens()
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
pub(super) fn visible(pieces: Vec<Piece>, begun: &mut bool) -> Vec<Piece> {
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
