//! Values as Python writes them, and JSON, whose words are taken too.

use serde_json::{Map, Number, Value};

/// Most brackets within brackets.
const MOST_DEPTH: usize = 64;

/// The value that a text is.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

/// Whether a quote before `rest` ends a string: behind a value stands a comma, a colon, a bracket or nothing. So a string
/// may hold its own quote, which templates write without a backslash. White space is passed over by the caller.
pub(super) fn closes(next: Option<char>) -> bool {
    next.is_none_or(|next| matches!(next, ',' | ':' | ')' | ']' | '}'))
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_space();
        let first = self.rest.chars().next().filter(|_| depth < MOST_DEPTH)?;
        match first {
            '\'' | '"' => self.string(first).map(Value::String),
            '[' | '(' => self.list(if first == '[' { ']' } else { ')' }, depth),
            '{' => self.map(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut items = vec![];
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            if !self.take(',') {
                return self.take(close).then_some(Value::Array(items));
            }
        }
        Some(Value::Array(items))
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut fields = Map::new();
        while !self.take('}') {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                key @ (Value::Number(_) | Value::Bool(_) | Value::Null) => key.to_string(),
                _ => return None,
            };
            if !self.take(':') {
                return None;
            }
            fields.insert(key, self.value(depth + 1)?);
            if !self.take(',') {
                return self.take('}').then_some(Value::Object(fields));
            }
        }
        Some(Value::Object(fields))
    }

    fn word(&mut self) -> Option<Value> {
        let end =
            self.rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-._".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" | "true" => return Some(Value::Bool(true)),
            "False" | "false" => return Some(Value::Bool(false)),
            "None" | "null" => return Some(Value::Null),
            _ => {}
        }
        let digits = word.strip_prefix('+').unwrap_or(word).replace('_', "");
        if digits.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
            if let Ok(number) = serde_json::from_str::<Number>(&digits) {
                return Some(number.into());
            }
            // `.5` and `5.` are numbers, `05` is none.
            let float = digits.contains('.').then(|| digits.parse::<f64>().ok())??;
            return Number::from_f64(float).map(Value::Number);
        }
        None
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let body = &self.rest[1..];
        let (mut escaped, mut end) = (false, None);
        for (at, c) in body.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote && closes(body[at + 1..].trim_start().chars().next()) {
                end = Some(at);
                break;
            }
        }
        let end = end?;
        self.rest = &body[end + 1..];
        let body = &body[..end];
        // Three quotes on either side.
        let triple = [quote, quote].iter().collect::<String>();
        let inner = body.strip_prefix(&triple).and_then(|body| body.strip_suffix(&triple));
        Some(unescape(inner.unwrap_or(body)))
    }
}

/// A text without Python's escapes. Those that are none stay as they are.
fn unescape(body: &str) -> String {
    let mut text = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, length) = escape(&rest[1..]);
        match c {
            Some(c) => text.extend(c),
            None => text.push('\\'),
        }
        rest = &rest[1 + length..];
    }
    text + rest
}

/// The character that an escape stands for, and the bytes of the escape behind its backslash. Within, `None` is a line that
/// goes on.
fn escape(rest: &str) -> (Option<Option<char>>, usize) {
    let hex = |digits: usize| {
        let code = rest.get(1..1 + digits).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        code.and_then(|code| u32::from_str_radix(code, 16).ok())
    };
    let one = |c: char| (Some(Some(c)), 1);
    match rest.chars().next() {
        Some('n') => one('\n'),
        Some('t') => one('\t'),
        Some('r') => one('\r'),
        Some('a') => one('\u{7}'),
        Some('b') => one('\u{8}'),
        Some('f') => one('\u{c}'),
        Some('v') => one('\u{b}'),
        Some('0') => one('\0'),
        Some(c @ ('\\' | '\'' | '"' | '/')) => one(c),
        Some('\n') => (Some(None), 1),
        Some(kind @ ('x' | 'u' | 'U')) => {
            let digits = match kind {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            // JSON writes characters beyond the first 65,536 as a pair.
            let low = rest.get(5..).and_then(|low| low.strip_prefix("\\u")?.get(..4));
            let low = low.and_then(|low| u32::from_str_radix(low, 16).ok());
            match (hex(digits), low) {
                (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) if kind == 'u' => {
                    let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).map(Some), 11)
                }
                (Some(code), _) if char::from_u32(code).is_some() => (Some(char::from_u32(code)), 1 + digits),
                _ => (None, 0),
            }
        }
        _ => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_python_and_of_json() {
        for (text, value) in [
            ("'a'", json!("a")),
            (r#""it's""#, json!("it's")),
            ("'it's'", json!("it's")),
            (r"'it\'s\n\x41\u00e9\q'", json!("it's\nAé\\q")),
            (r#""\ud83e\udd8a""#, json!("🦊")),
            ("'''two\nlines'''", json!("two\nlines")),
            ("''", json!("")),
            ("1", json!(1)),
            ("-1_000", json!(-1000)),
            (".5", json!(0.5)),
            ("2.", json!(2.0)),
            ("True", json!(true)),
            ("None", json!(null)),
            ("[1, 'b', (2,), ]", json!([1, "b", [2]])),
            ("{'a': {1: [null]}}", json!({"a": {"1": [null]}})),
            (r#"{"a": "b", "c": false}"#, json!({"a": "b", "c": false})),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "a", "'a", "[1", "[1 2]", "{1}", "{'a': }", "1 2", "f(x)", "07", "-", deep.as_str()] {
            assert_eq!(parse(text), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn json_is_read_as_it_is(text in r#"[a-z "\\'é,:\n]{0,20}"#, number in proptest::prelude::any::<i64>()) {
            // A quote before a comma ends a string, unless it is escaped: so only JSON's escapes are tried.
            let value = json!({ "a": [text, number], "b": null });
            proptest::prop_assert_eq!(parse(&value.to_string()), Some(value));
        }

        #[test]
        fn any_text_is_read_or_not(text in r#"[\[\](){}'",:\\0-9a-zA-Z \n]{0,60}"#) {
            let _ = parse(&text);
        }
    }
}
