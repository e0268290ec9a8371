//! Calls as tags: `<function=NAME>` around `<parameter=KEY>`.

use super::schema::Schemas;
use super::{Flow, MOST_SPACE, Sink, quoted};

/// Beginning of a call.
pub(super) const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
const CALLS_END: &str = "</tool_call>";

/// Calls behind a marker.
#[derive(Clone, Debug)]
pub(super) struct XmlCalls {
    state: State,
    /// Text that would be given back: all since the marker, before the name is known.
    raw: String,
    name: String,
    key: String,
    /// No parameter was told yet.
    first: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// `<function=` must come, of which this is the beginning.
    Function(String),
    Name,
    /// A parameter or the end of the call, of whose tag this is the beginning.
    Body(String),
    Key,
    Value(String),
    /// Another call or the closing marker.
    After(String),
}

impl XmlCalls {
    /// Behind a marker, which is `raw`.
    pub fn new(raw: String) -> Self {
        Self { state: State::Function(String::new()), raw, name: String::new(), key: String::new(), first: true }
    }

    /// Behind `<function=` without a marker.
    pub fn bare() -> Self {
        Self { state: State::Name, ..Self::new(FUNCTION.into()) }
    }

    pub fn push(&mut self, c: char, schemas: &Schemas, sink: &mut Sink) -> Flow {
        match &mut self.state {
            State::Function(_) if c.is_whitespace() => self.raw.push(c),
            State::Function(tag) => {
                tag.push(c);
                if !FUNCTION.starts_with(tag.as_str()) {
                    tag.pop();
                    self.raw.truncate(self.raw.len() - tag.len());
                    sink.text(&self.raw);
                    return Flow::Again(std::mem::take(tag));
                }
                self.raw.push(c);
                if tag == FUNCTION {
                    self.state = State::Name;
                }
            }
            State::Name if c == '>' && !self.name.trim().is_empty() => {
                self.name = self.name.trim().to_owned();
                sink.begun(&self.name);
                sink.arguments("{");
                self.first = true;
                self.state = State::Body(String::new());
            }
            State::Name if matches!(c, '<' | '>' | '\n') => return Flow::Text(std::mem::take(&mut self.raw)),
            State::Name => {
                self.raw.push(c);
                self.name.push(c);
            }
            State::Body(tag) if tag.is_empty() && c.is_whitespace() => {}
            State::Body(tag) => {
                tag.push(c);
                let tags = [PARAMETER, FUNCTION_END, CALLS_END];
                match tags.into_iter().find(|whole| whole.starts_with(tag.as_str())) {
                    Some(whole) if whole != tag => {}
                    Some(PARAMETER) => {
                        self.key.clear();
                        self.state = State::Key;
                    }
                    Some(whole) => {
                        sink.arguments("}");
                        if whole == CALLS_END {
                            return Flow::Done;
                        }
                        self.state = State::After(String::new());
                    }
                    None => {
                        tag.pop();
                        sink.arguments("}");
                        return Flow::Again(std::mem::take(tag));
                    }
                }
            }
            State::Key if c == '>' && !self.key.trim().is_empty() => {
                self.key = self.key.trim().to_owned();
                self.state = State::Value(String::new());
            }
            State::Key if matches!(c, '<' | '>' | '\n') => {
                sink.arguments("}");
                return Flow::Text(format!("{PARAMETER}{}", self.key));
            }
            State::Key => self.key.push(c),
            State::Value(text) => {
                text.push(c);
                // Closing tags may be missing. Amid a line, the beginning of another parameter is text.
                let another = text.ends_with("\n<parameter=").then_some(PARAMETER);
                let closed = [PARAMETER_END, FUNCTION_END].into_iter().find(|tag| c == '>' && text.ends_with(tag));
                let Some(tag) = closed.or(another) else { return Flow::More };
                text.truncate(text.len() - tag.len());
                let value = text.strip_prefix('\n').unwrap_or(text);
                let value = value.strip_suffix('\n').unwrap_or(value);
                let json = schemas.json(&self.name, &self.key, value);
                sink.arguments(&format!("{}{json}", lead(&self.key, self.first)));
                self.first = false;
                self.state = match tag {
                    PARAMETER_END => State::Body(String::new()),
                    PARAMETER => {
                        self.key.clear();
                        State::Key
                    }
                    _ => {
                        sink.arguments("}");
                        State::After(String::new())
                    }
                };
            }
            State::After(tail) if c.is_whitespace() && tail.len() > MOST_SPACE => return Flow::More,
            State::After(tail) => {
                let tag = tail.trim_start();
                if tag.is_empty() && c.is_whitespace() {
                    tail.push(c);
                    return Flow::More;
                }
                let fits = |whole: &str| whole.strip_prefix(tag).is_some_and(|rest| rest.starts_with(c));
                if !fits(FUNCTION) && !fits(CALLS_END) {
                    return Flow::Again(std::mem::take(tail));
                }
                tail.push(c);
                match tail.trim_start() {
                    CALLS_END => return Flow::Done,
                    FUNCTION => *self = Self::bare(),
                    _ => {}
                }
            }
        }
        Flow::More
    }

    /// The answer is over. Text that is no part of a call.
    pub fn finish(self, sink: &mut Sink) -> String {
        match self.state {
            State::Function(_) | State::Name => return self.raw,
            // All parameters are whole.
            State::Body(tag) => {
                sink.arguments("}");
                if !FUNCTION_END.starts_with(&tag) && !CALLS_END.starts_with(&tag) {
                    return tag;
                }
            }
            State::Key => {
                sink.arguments("}");
                return format!("{PARAMETER}{}", self.key);
            }
            // A string that does not end.
            State::Value(text) => {
                let value = quoted(text.strip_prefix('\n').unwrap_or(&text));
                sink.arguments(&format!("{}{}", lead(&self.key, self.first), &value[..value.len() - 1]));
            }
            State::After(_) => {}
        }
        String::new()
    }
}

/// What stands before the value of a parameter.
pub(super) fn lead(key: &str, first: bool) -> String {
    format!("{}{}: ", if first { "" } else { ", " }, quoted(key))
}
