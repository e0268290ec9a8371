//! Reader of a reply: tokens become text, of a conversation or of a plain completion.

use std::sync::Arc;

use selvedge::generate::{Delta, ReplyReader, ScoredToken};
use selvedge::text::{Detokenizer, Piece, TextError, Tokenizer, ToolPiece};

/// Text that came with a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    /// Of the thinking.
    pub thinking: String,
    /// Of the answer, or of a completion.
    pub answer: String,
    /// Tool calls: names and arguments.
    pub calls: Vec<ToolPiece>,
    /// The token that it came with, where probabilities are wanted.
    pub token: Option<ScoredToken>,
    /// The ids of the tokens since the part before, where they are wanted.
    pub ids: Option<Vec<u32>>,
}

impl Part {
    fn of(delta: Delta) -> Self {
        let mut part = Self { calls: delta.calls, ..Self::default() };
        for piece in delta.pieces {
            match piece {
                Piece::Thinking(text) => part.thinking.push_str(&text),
                Piece::Answer(text) => part.answer.push_str(&text),
            }
        }
        part
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.thinking.is_empty() && self.answer.is_empty() && self.calls.is_empty() && self.token.is_none()
    }
}

/// Reads the tokens of a reply.
pub(crate) enum Reader {
    /// Of a conversation.
    Chat(Box<ReplyReader>),
    /// Of a text.
    Text(TextReader),
    /// There is no reply.
    Nothing,
}

impl Reader {
    pub(crate) fn push(&mut self, token: u32, is_stop: bool) -> Result<Part, TextError> {
        match self {
            Self::Chat(reader) => Ok(Part::of(reader.push(token)?)),
            // The token that ends a text is no part of it.
            Self::Text(_) if is_stop => Ok(Part::default()),
            Self::Nothing => Ok(Part::default()),
            Self::Text(reader) => Ok(Part { answer: reader.push(token)?, ..Part::default() }),
        }
    }

    pub(crate) fn end(&mut self) -> Result<Part, TextError> {
        match self {
            Self::Chat(reader) => Ok(reader.end()?.map_or_else(Part::default, Part::of)),
            Self::Text(reader) => Ok(Part { answer: reader.end()?, ..Part::default() }),
            Self::Nothing => Ok(Part::default()),
        }
    }

    /// Whether a stop string came.
    pub(crate) fn stopped(&self) -> bool {
        match self {
            Self::Chat(reader) => reader.stopped(),
            Self::Text(reader) => reader.stopped,
            Self::Nothing => false,
        }
    }
}

/// Reads a plain text up to a stop string.
pub(crate) struct TextReader {
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    stops: Vec<String>,
    /// What may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl TextReader {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { detokenizer: Detokenizer::after_text(tokenizer), stops, held: String::new(), stopped: false }
    }

    fn push(&mut self, token: u32) -> Result<String, TextError> {
        let text = self.detokenizer.push(token)?;
        Ok(self.take(&text, false))
    }

    fn end(&mut self) -> Result<String, TextError> {
        let text = self.detokenizer.flush()?;
        Ok(self.take(&text, true))
    }

    /// The text up to where a stop string is, or might begin.
    fn take(&mut self, text: &str, last: bool) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let begins = |at: usize| !last && self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(|&at| begins(at)).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_string_is_found_across_tokens_and_is_no_part_of_the_text() {
        let tokenizer = br#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
        let tokenizer = Arc::new(Tokenizer::from_bytes(tokenizer, None).expect("a tokenizer"));
        let read = |parts: &[&str]| {
            let mut reader = TextReader::new(tokenizer.clone(), vec!["END".into(), String::new(), "<é>".into()]);
            let mut text: Vec<String> = parts.iter().map(|part| reader.take(part, false)).collect();
            text.push(reader.take("", true));
            (text, reader.stopped)
        };
        assert_eq!(read(&["one E", "N", "D two"]), (vec!["one ".into(), "".into(), "".into(), "".into()], true));
        assert_eq!(read(&["an E", "NJ"]), (vec!["an ".into(), "ENJ".into(), "".into()], false));
        assert_eq!(read(&["<", "é", ">"]).0.concat(), "");
        assert_eq!(read(&["<é"]), (vec!["".into(), "<é".into()], false));
    }
}
