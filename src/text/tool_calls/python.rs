//! Calls as Python writes them: `NAME(KEY=VALUE, ...)`, one or a list.

use serde_json::Value;

use super::schema::Schemas;
use super::xml::lead;
use super::{Flow, MOST_SPACE, Sink, literal, quoted};

const CALLS_END: &str = "<|tool_call_end|>";

/// Calls behind a marker.
#[derive(Clone, Debug)]
pub(super) struct PythonCalls {
    state: State,
    /// The calls are in a list.
    listed: bool,
    /// Text that would be given back: all since the marker or the last call, then all since the last argument.
    raw: String,
    name: String,
    key: String,
    /// No argument was told yet.
    first: bool,
}

#[derive(Clone, Debug)]
enum State {
    Name,
    /// An argument or the end of the call.
    Argument,
    Key,
    Value(Text),
    /// Behind a call: another, the end of the list, or the closing marker.
    After {
        list_ended: bool,
        tail: String,
    },
}

/// Source of a value.
#[derive(Clone, Debug, Default)]
struct Text {
    source: String,
    /// Open brackets.
    depth: usize,
    quote: Option<char>,
    escaped: bool,
    /// The last character but white space was the quote: the next one shows whether it ended the string.
    closing: bool,
}

impl PythonCalls {
    /// Behind a marker and the bracket of a list, which are `raw`.
    pub fn new(raw: String, listed: bool) -> Self {
        Self { state: State::Name, listed, raw, name: String::new(), key: String::new(), first: true }
    }

    pub fn push(&mut self, c: char, schemas: &Schemas, sink: &mut Sink) -> Flow {
        let space = c.is_whitespace();
        match &mut self.state {
            State::Name => match c {
                '(' if !self.name.trim().is_empty() => {
                    self.name = self.name.trim().to_owned();
                    sink.begun(&self.name);
                    sink.arguments("{");
                    self.first = true;
                    self.raw.clear();
                    self.state = State::Argument;
                    return Flow::More;
                }
                _ if word(c) && !self.name.ends_with(char::is_whitespace) => self.name.push(c),
                _ if space && self.name.is_empty() => {}
                _ if space => self.name.push(c),
                _ => return Flow::Text(std::mem::take(&mut self.raw)),
            },
            State::Argument if space => {}
            State::Argument if c == ')' => {
                self.end_call(sink);
                return Flow::More;
            }
            State::Argument if begins_name(c) => {
                self.key = c.into();
                self.state = State::Key;
            }
            State::Key if word(c) || space => self.key.push(c),
            State::Key if c == '=' => {
                self.key = self.key.trim().to_owned();
                self.state = State::Value(Text::default());
            }
            State::Argument | State::Key => return self.fail(sink),
            State::Value(text) => {
                if text.push(c) {
                    self.raw.push(c);
                    return Flow::More;
                }
                let source = std::mem::take(&mut text.source);
                let Some(json) = json(source.trim(), &self.name, &self.key, schemas) else { return self.fail(sink) };
                if !matches!(c, ',' | ')') {
                    return self.fail(sink);
                }
                sink.arguments(&format!("{}{json}", lead(&self.key, self.first)));
                self.first = false;
                self.raw.clear();
                self.state = State::Argument;
                if c == ')' {
                    self.end_call(sink);
                }
                return Flow::More;
            }
            State::After { .. } => return self.after(c),
        }
        self.raw.push(c);
        Flow::More
    }

    fn end_call(&mut self, sink: &mut Sink) {
        sink.arguments("}");
        self.raw.clear();
        self.name.clear();
        self.state = State::After { list_ended: false, tail: String::new() };
    }

    fn after(&mut self, c: char) -> Flow {
        let State::After { list_ended, tail } = &mut self.state else { return Flow::More };
        if c.is_whitespace() && tail.len() > MOST_SPACE {
            return Flow::More;
        }
        let blank = tail.chars().all(|c| c.is_whitespace() || c == ',');
        match c {
            _ if c.is_whitespace() && blank => tail.push(c),
            ',' if blank && !*list_ended && !tail.contains(',') => tail.push(c),
            ']' if blank && self.listed && !*list_ended => (*list_ended, *tail) = (true, String::new()),
            _ if blank && !*list_ended && begins_name(c) => {
                self.raw = std::mem::take(tail);
                self.raw.push(c);
                self.name = c.into();
                self.state = State::Name;
            }
            _ => {
                let fits = CALLS_END.strip_prefix(tail.trim_start()).is_some_and(|rest| rest.starts_with(c));
                if !fits {
                    return Flow::Again(std::mem::take(tail));
                }
                tail.push(c);
                if tail.trim_start() == CALLS_END {
                    return Flow::Done;
                }
            }
        }
        Flow::More
    }

    /// The arguments end before the one at hand, which is given back.
    fn fail(&mut self, sink: &mut Sink) -> Flow {
        sink.arguments("}");
        Flow::Text(std::mem::take(&mut self.raw))
    }

    /// The answer is over. Text that is no part of a call.
    pub fn finish(self, sink: &mut Sink) -> String {
        match self.state {
            State::Name => self.raw,
            // A string that does not end.
            State::Value(text) if text.quote.is_some() && !text.closing => {
                let value = quoted(text.source.trim_start().get(1..).unwrap_or_default());
                sink.arguments(&format!("{}{}", lead(&self.key, self.first), &value[..value.len() - 1]));
                String::new()
            }
            State::Value(text) => {
                let source = text.source.trim();
                let json = literal::parse(source).map_or_else(|| source.to_owned(), |value| value.to_string());
                sink.arguments(&format!("{}{json}", lead(&self.key, self.first)));
                String::new()
            }
            // All arguments are whole.
            State::Argument | State::Key => {
                sink.arguments("}");
                self.raw
            }
            State::After { .. } => String::new(),
        }
    }
}

impl Text {
    /// Takes a character; false where the value ended before it.
    fn push(&mut self, c: char) -> bool {
        if let Some(quote) = self.quote {
            if self.closing && !c.is_whitespace() && literal::closes(Some(c)) {
                (self.quote, self.closing) = (None, false);
            } else {
                if self.escaped {
                    self.escaped = false;
                } else if c == '\\' {
                    (self.escaped, self.closing) = (true, false);
                } else {
                    self.closing = c == quote || self.closing && c.is_whitespace();
                }
                self.source.push(c);
                return true;
            }
        }
        match c {
            '\'' | '"' => self.quote = Some(c),
            '(' | '[' | '{' => self.depth += 1,
            ',' | ')' | ']' | '}' if self.depth == 0 => return false,
            ')' | ']' | '}' => self.depth -= 1,
            _ => {}
        }
        self.source.push(c);
        true
    }
}

/// The JSON of a value; `None` where it is none.
fn json(source: &str, function: &str, key: &str, schemas: &Schemas) -> Option<String> {
    match literal::parse(source) {
        // Where only a text is wanted, a bare word or number is one.
        value if !source.is_empty() && !matches!(value, Some(Value::String(_))) => {
            let text_only = schemas.types(function, key).iter().eq(["string"].iter());
            if text_only { Some(quoted(source)) } else { value.map(|value| value.to_string()) }
        }
        value => value.map(|value| value.to_string()),
    }
}

/// Whether a name may begin so.
pub(super) fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}
