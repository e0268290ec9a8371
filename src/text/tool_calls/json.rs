//! Calls as JSON: objects with a name and arguments, one or several, or a list of them.

use super::scan::{Scan, Scanner};
use super::{Flow, MOST_SPACE, Sink};

/// Calls behind a marker.
#[derive(Clone, Debug)]
pub(super) struct JsonCalls {
    /// Text that would be given back: all since the marker, or since the last arguments.
    raw: String,
    /// The character at hand is in `raw`.
    recorded: bool,
    /// The objects are in a list.
    listed: bool,
    close: Option<&'static str>,
    /// Names that a call may have; `None`: any.
    names: Option<Vec<String>>,
    state: State,
    call: Call,
}

/// One object.
#[derive(Clone, Debug, Default)]
struct Call {
    begun: bool,
    /// In the object under `function`, as OpenAI writes calls.
    wrapped: bool,
    /// Of the arguments, before the name is known.
    held: Option<String>,
    arguments: Arguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Arguments {
    #[default]
    None,
    /// Under way.
    Open,
    Whole,
}

#[derive(Clone, Debug)]
enum State {
    /// An object must come.
    Item,
    /// A key, or at the first place the end of the object.
    Key {
        first: bool,
    },
    InKey(String, Scanner),
    Colon(String),
    Value(Field),
    InValue(Field, String, Scanner),
    /// Behind a value: a comma or the end of the object.
    AfterValue,
    /// Behind an object of a list, or behind its end.
    AfterItem {
        list_ended: bool,
        tail: String,
    },
    /// The arguments are no JSON: they are passed on as they are, up to the closing marker.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    /// As it comes.
    Arguments,
    /// Looked at when it is whole: a text that holds the arguments, or null.
    WholeArguments,
    Wrapper,
    Other,
}

impl JsonCalls {
    /// Behind a marker and the bracket of a list, which are `raw`.
    pub fn new(raw: String, listed: bool, close: Option<&'static str>) -> Self {
        Self { raw, recorded: false, listed, close, names: None, state: State::Item, call: Call::default() }
    }

    /// The same for calls of these functions alone.
    pub fn of_names(mut self, names: Vec<String>) -> Self {
        self.names = Some(names);
        self
    }

    pub fn push(&mut self, c: char, sink: &mut Sink) -> Flow {
        // Arguments that were told need not be given back.
        let told = self.call.begun && self.call.arguments == Arguments::Open;
        self.recorded = !told && !matches!(self.state, State::AfterItem { .. } | State::Broken(_));
        if self.recorded {
            self.raw.push(c);
        }
        self.step(c, sink)
    }

    /// What came so far was told.
    fn forget(&mut self) {
        self.raw.clear();
        self.recorded = false;
    }

    fn step(&mut self, c: char, sink: &mut Sink) -> Flow {
        let space = c.is_whitespace();
        match &mut self.state {
            State::Item | State::Key { .. } | State::Colon(_) | State::Value(_) | State::AfterValue if space => {}
            State::Item if c == '{' => {
                self.call = Call::default();
                self.state = State::Key { first: true };
            }
            State::Key { .. } if c == '"' => {
                let mut scanner = Scanner::new();
                scanner.push(c);
                self.state = State::InKey(c.into(), scanner);
            }
            State::Key { first: true } | State::AfterValue if c == '}' => return self.close_object(c, sink),
            State::AfterValue if c == ',' => self.state = State::Key { first: false },
            State::InKey(key, scanner) => {
                push_json(key, c, scanner);
                match scanner.push(c) {
                    Scan::More => {}
                    Scan::End => match serde_json::from_str(key) {
                        Ok(key) => self.state = State::Colon(key),
                        Err(_) => return self.fail(c, sink),
                    },
                    Scan::EndBefore | Scan::Bad => return self.fail(c, sink),
                }
            }
            State::Colon(key) if c == ':' => {
                let field = match key.as_str() {
                    "name" if !self.call.begun => Field::Name,
                    "arguments" | "parameters" if self.call.arguments == Arguments::None => Field::Arguments,
                    "function" if !self.call.begun && !self.call.wrapped => Field::Wrapper,
                    _ => Field::Other,
                };
                self.state = State::Value(field);
            }
            State::Value(Field::Wrapper) if c == '{' => {
                self.call.wrapped = true;
                self.state = State::Key { first: true };
            }
            State::Value(field) => {
                let field = match (*field, c) {
                    (Field::Arguments, '"' | 'n') => Field::WholeArguments,
                    (Field::Wrapper, _) => Field::Other,
                    (field, _) => field,
                };
                if matches!(field, Field::Arguments | Field::WholeArguments) {
                    self.call.arguments = Arguments::Open;
                }
                self.state = State::InValue(field, String::new(), Scanner::new());
                return self.value(c, sink);
            }
            State::InValue(..) => return self.value(c, sink),
            State::AfterItem { .. } => return self.after(c),
            State::Broken(tail) => {
                tail.push(c);
                while !tail.is_empty() && !self.close.is_some_and(|close| close.starts_with(tail.as_str())) {
                    sink.arguments(tail.remove(0).encode_utf8(&mut [0; 4]));
                }
                if self.close.is_some_and(|close| close == tail) {
                    return Flow::Done;
                }
            }
            _ => return self.fail(c, sink),
        }
        Flow::More
    }

    /// A character of a value.
    fn value(&mut self, c: char, sink: &mut Sink) -> Flow {
        let State::InValue(field, text, scanner) = &mut self.state else { return Flow::More };
        let field = *field;
        let mut shown = String::new();
        push_json(&mut shown, c, scanner);
        let scan = scanner.push(c);
        if matches!(scan, Scan::More | Scan::End) {
            match field {
                Field::Arguments if self.call.begun => sink.arguments(&shown),
                Field::Arguments => self.call.held.get_or_insert_default().push_str(&shown),
                Field::Other => {}
                _ => text.push_str(&shown),
            }
        }
        match scan {
            Scan::More => return Flow::More,
            Scan::Bad => return self.fail(c, sink),
            Scan::End | Scan::EndBefore => {}
        }
        match field {
            Field::Name => {
                let name: Option<String> = serde_json::from_str(text).ok().filter(|name: &String| !name.is_empty());
                let Some(name) = name else { return self.fail(c, sink) };
                if self.names.as_ref().is_some_and(|names| !names.contains(&name)) {
                    return self.fail(c, sink);
                }
                sink.begun(&name);
                self.call.begun = true;
                self.forget();
                sink.arguments(&self.call.held.take().unwrap_or_default());
            }
            Field::Arguments | Field::WholeArguments => {
                if field == Field::WholeArguments {
                    let whole = unpacked(text);
                    if self.call.begun {
                        sink.arguments(&whole);
                    } else {
                        self.call.held = Some(whole);
                    }
                }
                self.call.arguments = Arguments::Whole;
                if self.call.begun {
                    self.forget();
                }
            }
            Field::Wrapper | Field::Other => {}
        }
        self.state = State::AfterValue;
        // A number ends with the character behind it.
        if scan == Scan::EndBefore { self.step(c, sink) } else { Flow::More }
    }

    /// An object ends.
    fn close_object(&mut self, c: char, sink: &mut Sink) -> Flow {
        if !self.call.begun && !self.call.wrapped {
            return self.fail(c, sink);
        }
        if std::mem::take(&mut self.call.wrapped) {
            self.state = State::AfterValue;
            return Flow::More;
        }
        if self.call.arguments == Arguments::None {
            sink.arguments("{}");
        }
        self.forget();
        self.state = State::AfterItem { list_ended: false, tail: String::new() };
        Flow::More
    }

    /// Behind an object.
    fn after(&mut self, c: char) -> Flow {
        let State::AfterItem { list_ended, tail } = &mut self.state else { return Flow::More };
        if c.is_whitespace() && tail.len() > MOST_SPACE {
            return Flow::More;
        }
        let amid_list = self.listed && !*list_ended;
        let comma = if amid_list { ',' } else { ';' };
        let blank = tail.chars().all(|c| c.is_whitespace() || c == comma);
        match c {
            _ if c.is_whitespace() && blank => tail.push(c),
            _ if c == comma && blank && !tail.contains(comma) => tail.push(c),
            ']' if amid_list && blank => {
                if self.close.is_none() {
                    return Flow::Done;
                }
                (*list_ended, *tail) = (true, String::new());
            }
            '{' if !*list_ended && blank => {
                tail.push(c);
                (self.raw, self.call) = (std::mem::take(tail), Call::default());
                self.state = State::Key { first: true };
            }
            _ => {
                let text = tail.trim_start();
                let marker =
                    self.close.filter(|close| close.strip_prefix(text).is_some_and(|rest| rest.starts_with(c)));
                let Some(marker) = marker else { return Flow::Again(std::mem::take(tail)) };
                tail.push(c);
                if tail.trim_start() == marker {
                    return Flow::Done;
                }
            }
        }
        Flow::More
    }

    /// The character fits nowhere.
    fn fail(&mut self, c: char, sink: &mut Sink) -> Flow {
        if self.call.begun && self.call.arguments == Arguments::Open {
            if let State::InValue(Field::WholeArguments, text, _) = &self.state {
                sink.arguments(text);
            }
            self.state = State::Broken(String::new());
            return self.step(c, sink);
        }
        if self.call.begun && self.call.arguments == Arguments::None {
            sink.arguments("{}");
        }
        if self.recorded {
            self.raw.pop();
        }
        Flow::Text(std::mem::take(&mut self.raw))
    }

    /// The answer is over. Text that is no part of a call.
    pub fn finish(self, sink: &mut Sink) -> String {
        match self.state {
            // Markup that is not whole says nothing.
            State::AfterItem { .. } => String::new(),
            State::Broken(tail) => {
                sink.arguments(&tail);
                String::new()
            }
            State::InValue(Field::WholeArguments, text, _) if self.call.begun => {
                sink.arguments(&text);
                String::new()
            }
            _ if self.call.begun => String::new(),
            _ => self.raw,
        }
    }
}

/// Appends a character of JSON. Control characters amid a string become escapes.
fn push_json(text: &mut String, c: char, scanner: &Scanner) {
    if c < ' ' && scanner.in_string() {
        text.push_str(super::quoted(c.encode_utf8(&mut [0; 4])).trim_matches('"'));
    } else {
        text.push(c);
    }
}

/// Arguments that were written as a text with JSON in it, or as null.
fn unpacked(value: &str) -> String {
    let inner = match serde_json::from_str::<Option<String>>(value) {
        Ok(inner) => inner.unwrap_or_default(),
        Err(_) => return value.to_owned(),
    };
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&inner) {
        _ if inner.trim().is_empty() => "{}".into(),
        Ok(_) => inner,
        Err(_) => value.to_owned(),
    }
}
