//! Calls of tools that a model writes in its answer, read as they come.
//!
//! Every model family has a dialect of its own; a chat template shows which one. The text goes through the parser
//! character by character, so it does not matter how it is cut into pieces, and the time is linear. What turns out to be no
//! call is given back as text. The name of a call is told as soon as it is known, its arguments as JSON that grows.

mod dialect;
mod grammar;
mod json;
mod literal;
mod offer;
mod python;
mod scan;
mod schema;
mod xml;

use serde_json::Value;

use self::json::JsonCalls;
use self::python::PythonCalls;
use self::schema::Schemas;
use self::xml::XmlCalls;

pub use self::dialect::ToolCallDialect;
pub use self::grammar::ToolGrammar;
pub use self::offer::{ToolOffer, ToolOfferError};

/// Bytes of white space around calls that are kept until it is known whether they are of any use. What goes on beyond is
/// left out: it is looked at again with every character.
const MOST_SPACE: usize = 256;

/// A piece of an answer with tool calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolPiece {
    /// Text of the answer.
    Text(String),
    /// A call begins.
    Begun {
        /// Number of the call in the answer, from 0.
        index: usize,
        /// Name of the function.
        name: String,
    },
    /// Arguments of the call that began last go on.
    Arguments {
        /// Number of the call.
        index: usize,
        /// JSON; all texts of a call together are its arguments. They are no valid JSON where the model wrote none, or where
        /// the answer ends amid the call.
        text: String,
    },
}

/// Reads an answer that may hold tool calls.
#[derive(Clone, Debug)]
pub struct ToolCallParser {
    dialect: ToolCallDialect,
    schemas: Schemas,
    state: State,
    sink: Sink,
}

#[derive(Clone, Debug)]
enum State {
    /// Text. `held` may be the beginning of a marker; `begun` when a character that is no white space came.
    Outside { held: String, begun: bool },
    /// Behind a marker, before the first character that shows the form of the calls. `raw` is all since the marker's
    /// beginning, `skip` the bytes of the marker.
    Opened { raw: String, skip: usize, close: Option<&'static str> },
    /// Calls as JSON.
    Json(JsonCalls),
    /// Calls as tags.
    Xml(XmlCalls),
    /// Calls as Python writes them.
    Python(PythonCalls),
}

impl State {
    fn outside() -> Self {
        Self::Outside { held: String::new(), begun: true }
    }
}

/// State of the calls behind a marker after a character.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flow {
    /// They go on.
    More,
    /// The character was their last.
    Done,
    /// They ended before the character. This is text.
    Text(String),
    /// They ended before this text and the character. Another marker may be in it.
    Again(String),
}

impl ToolCallParser {
    /// For an answer of a model that was told of `tools`, functions in OpenAI's shape. Their schemas give the types of
    /// arguments that a dialect writes as bare text.
    pub fn new(dialect: ToolCallDialect, tools: &[Value]) -> Self {
        let state = State::Outside { held: String::new(), begun: false };
        Self { dialect, schemas: Schemas::new(tools), state, sink: Sink::default() }
    }

    /// The same; only the first call is told, the others are left out.
    pub fn first_only(mut self) -> Self {
        self.sink.first_only = true;
        self
    }

    /// The dialect.
    pub fn dialect(&self) -> ToolCallDialect {
        self.dialect
    }

    /// The pieces that are certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<ToolPiece> {
        text.chars().for_each(|c| self.take(c));
        std::mem::take(&mut self.sink.pieces)
    }

    /// The pieces that still wait when no more text comes. The next text begins a new answer.
    pub fn finish(&mut self) -> Vec<ToolPiece> {
        let sink = &mut self.sink;
        let rest = match std::mem::replace(&mut self.state, State::Outside { held: String::new(), begun: false }) {
            State::Outside { held, .. } => held,
            State::Opened { raw, .. } => raw,
            State::Json(calls) => calls.finish(sink),
            State::Xml(calls) => calls.finish(sink),
            State::Python(calls) => calls.finish(sink),
        };
        sink.text(&rest);
        let pieces = std::mem::take(&mut sink.pieces);
        *sink = Sink { first_only: sink.first_only, ..Sink::default() };
        pieces
    }

    fn take(&mut self, c: char) {
        let (sink, schemas) = (&mut self.sink, &self.schemas);
        let flow = match &mut self.state {
            State::Outside { held, begun } => {
                if let Some(opened) = outside(self.dialect, c, held, begun, sink) {
                    self.open(opened);
                }
                return;
            }
            State::Opened { raw, skip, .. } if c.is_whitespace() && raw.len() - *skip > MOST_SPACE => return,
            State::Opened { raw, skip, close } => {
                let inner = raw[*skip..].trim_start();
                let form = match c {
                    _ if c.is_whitespace() => None,
                    '[' if inner.is_empty() => None,
                    _ => Some(c),
                };
                let Some(first) = form else { return raw.push(c) };
                let (listed, close, raw) = (!inner.is_empty(), *close, std::mem::take(raw));
                let calls = match (first, self.dialect) {
                    ('{', _) => Some(State::Json(JsonCalls::new(raw, listed, close))),
                    ('<', ToolCallDialect::Hermes | ToolCallDialect::Qwen3Coder) if !listed => {
                        Some(State::Xml(XmlCalls::new(raw)))
                    }
                    (_, ToolCallDialect::Lfm2) if python::begins_name(first) => {
                        Some(State::Python(PythonCalls::new(raw, listed)))
                    }
                    _ => {
                        sink.text(&raw);
                        None
                    }
                };
                self.state = calls.unwrap_or_else(State::outside);
                return self.take(c);
            }
            State::Json(calls) => calls.push(c, sink),
            State::Xml(calls) => calls.push(c, schemas, sink),
            State::Python(calls) => calls.push(c, schemas, sink),
        };
        match flow {
            Flow::More => {}
            Flow::Done => self.state = State::outside(),
            Flow::Text(text) => {
                self.sink.text(&text);
                self.state = State::outside();
                self.take(c);
            }
            Flow::Again(text) => {
                self.state = State::outside();
                text.chars().chain([c]).for_each(|c| self.take(c));
            }
        }
    }

    /// Goes on behind a marker, or behind the first character of a bare call.
    fn open(&mut self, marker: String) {
        self.state = match marker.as_str() {
            "{" => {
                // Any answer in JSON begins so: only the name of a tool makes it a call.
                let calls = JsonCalls::new(String::new(), false, None);
                self.state = State::Json(calls.of_names(self.schemas.names()));
                return self.take('{');
            }
            xml::FUNCTION => State::Xml(XmlCalls::bare()),
            _ => State::Opened { skip: marker.len(), close: self.dialect.close(&marker), raw: marker },
        };
    }
}

/// A character of text; the marker that it completes.
fn outside(dialect: ToolCallDialect, c: char, held: &mut String, begun: &mut bool, sink: &mut Sink) -> Option<String> {
    if dialect == ToolCallDialect::Llama3 && !*begun && held.is_empty() && c == '{' {
        return Some("{".into());
    }
    held.push(c);
    while !held.is_empty() {
        if let Some(marker) = dialect.opens().iter().find(|marker| marker.starts_with(held.as_str())) {
            return (marker.len() == held.len()).then(|| std::mem::take(held));
        }
        let first = held.remove(0);
        *begun |= !first.is_whitespace();
        sink.text(first.encode_utf8(&mut [0; 4]));
    }
    None
}

/// Collects pieces; neighbours of one kind become one.
#[derive(Clone, Debug, Default)]
struct Sink {
    pieces: Vec<ToolPiece>,
    /// Calls that began.
    calls: usize,
    /// Behind a call: white space waits, for between calls and behind the last it says nothing.
    after_call: bool,
    space: String,
    first_only: bool,
}

impl Sink {
    fn text(&mut self, text: &str) {
        let mut text = text;
        let waited;
        if self.after_call {
            if text.trim().is_empty() {
                if self.space.len() < MOST_SPACE {
                    self.space.push_str(text);
                }
                return;
            }
            self.space.push_str(text);
            self.after_call = false;
            waited = std::mem::take(&mut self.space);
            text = &waited;
        }
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolPiece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(ToolPiece::Text(text.to_owned())),
        }
    }

    fn begun(&mut self, name: &str) {
        self.space.clear();
        self.after_call = true;
        self.calls += 1;
        if !self.left_out() {
            self.pieces.push(ToolPiece::Begun { index: self.calls - 1, name: name.to_owned() });
        }
    }

    /// Arguments of the last call.
    fn arguments(&mut self, text: &str) {
        if text.is_empty() || self.left_out() {
            return;
        }
        match self.pieces.last_mut() {
            Some(ToolPiece::Arguments { text: last, .. }) => last.push_str(text),
            _ => self.pieces.push(ToolPiece::Arguments { index: self.calls - 1, text: text.to_owned() }),
        }
    }

    fn left_out(&self) -> bool {
        self.first_only && self.calls > 1
    }
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
