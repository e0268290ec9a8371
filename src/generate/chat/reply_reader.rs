//! Reader of a reply: tokens become the pieces of its thinking and its answer.

use std::sync::Arc;

use super::super::prompt_cache::KnownText;
use crate::text::{ControlToken, Detokenizer, Piece, ReplyParser, TextError, Tokenizer, ToolCallParser, ToolPiece};

/// Reads the tokens of a reply, whoever makes them, and keeps the text as the model has it.
pub struct ReplyReader {
    /// `None` when everything was emitted.
    parser: Option<ReplyParser<Arc<Tokenizer>>>,
    /// `None` where calls are text.
    tool_calls: Option<ToolCallParser>,
    text: TurnText,
    /// Tokens of the prompt, and of what was emitted before.
    given: usize,
    made: usize,
    /// The reply had thinking.
    thought: bool,
    /// The answer has a visible beginning.
    begun: bool,
    /// A stop string came.
    stopped: bool,
}

impl ReplyReader {
    /// For the reply to a prompt, of which some tokens were emitted before.
    pub(super) fn new(
        known: KnownText,
        tokenizer: Arc<Tokenizer>,
        parser: ReplyParser<Arc<Tokenizer>>,
        tool_calls: Option<ToolCallParser>,
        emitted: &[u32],
    ) -> Result<Self, TextError> {
        let text = TurnText::new(known, tokenizer);
        let parser = Some(parser);
        let mut this =
            Self { parser, tool_calls, text, given: 0, made: 0, thought: false, begun: false, stopped: false };
        for &token in emitted {
            this.push(token)?;
        }
        this.given = this.text.known.tokens.len();
        Ok(this)
    }

    /// All tokens: the prompt, and the reply so far.
    pub fn tokens(&self) -> &[u32] {
        &self.text.known.tokens
    }

    /// Tokens of the prompt, and of what was emitted before.
    pub fn given(&self) -> usize {
        self.given
    }

    /// The next token of the reply; its pieces.
    pub fn push(&mut self, token: u32) -> Result<Delta, TextError> {
        self.made += 1;
        self.text.push(token)?;
        let Some(parser) = &mut self.parser else { return Ok(Delta { token: Some(token), ..Delta::default() }) };
        let (pieces, control) = parser.push(token)?;
        self.stopped |= parser.stopped();
        Ok(self.delta(Some(token), control, pieces))
    }

    /// The rest, when no more tokens come; `None` when it was emitted.
    pub fn end(&mut self) -> Result<Option<Delta>, TextError> {
        let Some(parser) = self.parser.take() else { return Ok(None) };
        let pieces = parser.finish()?;
        let mut delta = self.delta(None, None, pieces);
        if let Some(parser) = &mut self.tool_calls {
            let (pieces, calls) = split_calls(parser.finish());
            delta.pieces.extend(visible(pieces, &mut self.begun));
            delta.calls.extend(calls);
        }
        Ok(Some(delta))
    }

    fn delta(&mut self, token: Option<u32>, control: Option<ControlToken>, pieces: Vec<Piece>) -> Delta {
        self.thought |= pieces.iter().any(|piece| matches!(piece, Piece::Thinking(_)));
        let Some(parser) = &mut self.tool_calls else {
            return Delta { token, control, pieces: visible(pieces, &mut self.begun), calls: vec![] };
        };
        let (mut texts, mut calls) = (vec![], vec![]);
        for piece in pieces {
            match piece {
                Piece::Thinking(_) => texts.push(piece),
                Piece::Answer(text) => {
                    let (more_texts, more_calls) = split_calls(parser.push(&text));
                    texts.extend(more_texts);
                    calls.extend(more_calls);
                }
            }
        }
        Delta { token, control, pieces: visible(texts, &mut self.begun), calls }
    }

    /// Whether everything was emitted.
    pub fn ended(&self) -> bool {
        self.parser.is_none()
    }

    /// Whether a stop string came: no more tokens are wanted.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Tokens of the reply, stop tokens and what was emitted before included.
    pub fn made_tokens(&self) -> usize {
        self.made
    }

    /// Whether the reply had thinking.
    pub(super) fn thought(&self) -> bool {
        self.thought
    }

    /// The prompt, as far as it is known under which ids it is read.
    pub(super) fn known(&self) -> &KnownText {
        &self.text.known
    }

    /// Takes tokens that nobody reads any more: those under way when the reply was ended.
    pub(super) fn unheard(&mut self, tokens: &[u32]) -> Result<(), TextError> {
        let known = self.tokens().len();
        tokens.iter().skip(known).try_for_each(|&token| self.text.push(token))
    }

    /// The whole text.
    pub(super) fn into_known(self) -> Result<KnownText, TextError> {
        self.text.finish()
    }
}

/// The prompt and the reply as the model has them, with all special tokens.
struct TurnText {
    known: KnownText,
    /// Bytes of the text before the reply, and before the special token that ended it.
    reply: (usize, usize),
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    tokenizer: Arc<Tokenizer>,
}

impl TurnText {
    /// A prompt.
    fn new(known: KnownText, tokenizer: Arc<Tokenizer>) -> Self {
        let reply = (known.text.len(), known.text.len());
        Self { known, reply, detokenizer: Detokenizer::after_text(tokenizer.clone()), tokenizer }
    }

    /// The reply goes on.
    fn push(&mut self, token: u32) -> Result<(), TextError> {
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
    fn finish(mut self) -> Result<KnownText, TextError> {
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
    /// Tool calls, where they are parsed ([`ChatRequest::parse_tool_calls`](super::ChatRequest::parse_tool_calls)): names
    /// and arguments, no text.
    pub calls: Vec<ToolPiece>,
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

/// The texts and the calls of an answer.
fn split_calls(pieces: Vec<ToolPiece>) -> (Vec<Piece>, Vec<ToolPiece>) {
    let (mut texts, mut calls) = (vec![], vec![]);
    for piece in pieces {
        match piece {
            ToolPiece::Text(text) => texts.push(Piece::Answer(text)),
            call => calls.push(call),
        }
    }
    (texts, calls)
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
