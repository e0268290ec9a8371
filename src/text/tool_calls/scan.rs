//! A JSON value, checked character by character (RFC 8259).

/// State of a value after a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// It goes on.
    More,
    /// The character was its last.
    End,
    /// It ended before the character.
    EndBefore,
    /// The character makes it no JSON.
    Bad,
}

/// A value under way.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    /// Open brackets; true for an object.
    open: Vec<bool>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// A value must come; `first` of a list, where its end may come too.
    Value {
        first: bool,
    },
    /// A key must come; `first` of an object, where its end may come too.
    Key {
        first: bool,
    },
    Colon,
    /// A comma or the end of the list or object.
    After,
    String {
        key: bool,
        escape: Escape,
    },
    /// The rest of `true`, `false` or `null`.
    Word(&'static str),
    Number(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// Hexadecimal digits that must follow.
    Digits(u8),
}

impl Scanner {
    pub fn new() -> Self {
        Self { open: vec![], state: State::Value { first: false } }
    }

    /// Amid a string. A control character there is accepted: models forget to escape it, and the caller does it.
    pub fn in_string(&self) -> bool {
        matches!(self.state, State::String { escape: Escape::None, .. })
    }

    pub fn push(&mut self, c: char) -> Scan {
        match &mut self.state {
            State::String { key, escape } => {
                *escape = match (*escape, c) {
                    (Escape::None, '"') if *key => {
                        self.state = State::Colon;
                        return Scan::More;
                    }
                    (Escape::None, '"') => return self.ended(Scan::End),
                    (Escape::None, '\\') => Escape::Begun,
                    (Escape::None, _) => Escape::None,
                    (Escape::Begun, 'u') => Escape::Digits(4),
                    (Escape::Begun, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Escape::None,
                    (Escape::Digits(1), c) if c.is_ascii_hexdigit() => Escape::None,
                    (Escape::Digits(left), c) if c.is_ascii_hexdigit() => Escape::Digits(left - 1),
                    _ => return Scan::Bad,
                };
                return Scan::More;
            }
            State::Word(rest) => {
                return match rest.strip_prefix(c) {
                    Some("") => self.ended(Scan::End),
                    Some(less) => {
                        *rest = less;
                        Scan::More
                    }
                    None => Scan::Bad,
                };
            }
            State::Number(digits) => {
                if c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E') {
                    digits.push(c);
                    return Scan::More;
                }
                if serde_json::from_str::<f64>(digits).is_err() {
                    return Scan::Bad;
                }
                if self.ended(Scan::EndBefore) == Scan::EndBefore {
                    return Scan::EndBefore;
                }
            }
            _ => {}
        }
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            return Scan::More;
        }
        match (&self.state, c) {
            (State::Value { first: true }, ']') => {
                self.open.pop();
                return self.ended(Scan::End);
            }
            (State::Value { .. }, '{') => {
                self.open.push(true);
                self.state = State::Key { first: true };
            }
            (State::Value { .. }, '[') => {
                self.open.push(false);
                self.state = State::Value { first: true };
            }
            (State::Value { .. }, '"') => self.state = State::String { key: false, escape: Escape::None },
            (State::Value { .. }, 't') => self.state = State::Word("rue"),
            (State::Value { .. }, 'f') => self.state = State::Word("alse"),
            (State::Value { .. }, 'n') => self.state = State::Word("ull"),
            (State::Value { .. }, '-' | '0'..='9') => self.state = State::Number(c.into()),
            (State::Key { .. }, '"') => self.state = State::String { key: true, escape: Escape::None },
            (State::Colon, ':') => self.state = State::Value { first: false },
            (State::After, ',') if self.open.last() == Some(&true) => self.state = State::Key { first: false },
            (State::After, ',') => self.state = State::Value { first: false },
            (State::After | State::Key { first: true }, '}') if self.open.last() == Some(&true) => {
                self.open.pop();
                return self.ended(Scan::End);
            }
            (State::After, ']') if self.open.last() == Some(&false) => {
                self.open.pop();
                return self.ended(Scan::End);
            }
            _ => return Scan::Bad,
        }
        Scan::More
    }

    /// A value has ended: `whole` where it was the outermost.
    fn ended(&mut self, whole: Scan) -> Scan {
        self.state = State::After;
        if self.open.is_empty() { whole } else { Scan::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text is a value, by itself.
    fn whole(text: &str) -> bool {
        let mut scanner = Scanner::new();
        let mut ended = false;
        for c in text.chars().chain([' ']) {
            match scanner.push(c) {
                Scan::More if ended => return c == ' ',
                Scan::More => {}
                Scan::End | Scan::EndBefore => ended = true,
                Scan::Bad => return ended && c == ' ',
            }
        }
        ended
    }

    #[test]
    fn it_takes_what_a_json_parser_takes() {
        for text in [
            "{}",
            "[]",
            "[{}]",
            r#"{"a": [1, -2.5e3, "\u00e9\n"], "b": {"c": null}}"#,
            "true",
            "12",
            r#""x""#,
            "[1,2]",
            "{\"a\":1,}",
            "[1,]",
            "{,}",
            "[",
            "{\"a\" 1}",
            "{1: 2}",
            "tru",
            "01",
            "1.",
            "-",
            r#""\x""#,
            r#""\u12""#,
            "[}",
            "{]",
            "[1 2]",
            "nul",
            "'a'",
        ] {
            assert_eq!(whole(text), serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_is_no_recursion() {
        let mut scanner = Scanner::new();
        for _ in 0..1_000_000 {
            assert_eq!(scanner.push('['), Scan::More);
        }
    }
}
