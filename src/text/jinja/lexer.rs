//! From the source of a template to tokens, with the white space that `trim_blocks` and `lstrip_blocks` take away.

use super::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Text(String),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
}

/// Operators; the longer ones first.
const OPERATORS: [&str; 25] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",",
];

/// A token and its line.
pub(super) type Placed = (usize, Token);

/// The tokens of a source. As in Jinja every line end becomes `\n`, and one at the very end is dropped.
pub(super) fn tokens(source: &str) -> Result<Vec<Placed>, Fault> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { rest: &source, line: 1, line_start: true, tokens: vec![] };
    lexer.run().map_err(|fault| fault.at(lexer.line))?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    rest: &'s str,
    line: usize,
    /// True behind a line end, and at the beginning of the source.
    line_start: bool,
    tokens: Vec<Placed>,
}

/// The tag at the front of a text, without its sign.
fn tag(text: &str) -> Option<&'static str> {
    ["{%", "{#", "{{"].into_iter().find(|tag| text.starts_with(tag))
}

/// The end of `{% raw %}` or `{% endraw %}` at the front of a text: the bytes before the closing sign.
fn raw_tag(text: &str, word: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let inner = inner.strip_prefix(word)?.trim_start();
    let closes = inner.starts_with("%}") || inner.starts_with("-%}") || (word == "endraw" && inner.starts_with("+%}"));
    closes.then_some(text.len() - inner.len())
}

impl<'s> Lexer<'s> {
    fn run(&mut self) -> Result<(), Fault> {
        while !self.rest.is_empty() {
            let at = (0..self.rest.len()).find(|&at| {
                self.rest.as_bytes()[at] == b'{' && self.rest.is_char_boundary(at) && tag(&self.rest[at..]).is_some()
            });
            let Some(at) = at else {
                let text = self.take(self.rest.len());
                self.text(text);
                return Ok(());
            };
            let kind = tag(&self.rest[at..]).unwrap_or_default();
            self.text_before_tag(at, kind != "{{");
            let raw = raw_tag(self.rest, "raw");
            match kind {
                "{#" => self.comment()?,
                "{%" if raw.is_some() => self.raw(raw.unwrap_or_default())?,
                _ => {
                    let begin = if kind == "{%" { Token::BlockBegin } else { Token::VariableBegin };
                    let block = kind == "{%";
                    self.take(2);
                    self.sign();
                    self.push(begin);
                    self.inside(block)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on by so many bytes.
    fn take(&mut self, bytes: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        if let Some(last) = taken.chars().next_back() {
            self.line_start = last == '\n';
        }
        taken
    }

    fn sign(&mut self) {
        if self.rest.starts_with(['-', '+']) {
            self.take(1);
        }
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Token::Text(text.to_owned()));
        }
    }

    /// The text in front of a tag, cut as its sign and `lstrip_blocks` say.
    fn text_before_tag(&mut self, at: usize, block: bool) {
        let text = &self.rest[..at];
        let kept = match self.rest.as_bytes().get(at + 2) {
            Some(b'-') => text.trim_end_matches(is_space),
            Some(b'+') => text,
            _ if block => {
                let start = text.rfind('\n').map_or(0, |end| end + 1);
                let lone = (start > 0 || self.line_start) && text[start..].chars().all(is_space);
                if lone { &text[..start] } else { text }
            }
            _ => text,
        };
        self.text(kept);
        self.take(at);
    }

    /// Behind a block or a comment: `-` takes all white space, `+` nothing, otherwise one line end goes.
    fn close(&mut self, end: &str, trim: bool) -> bool {
        let sign = self.rest.strip_prefix(['-', '+']);
        let Some(after) = sign.unwrap_or(self.rest).strip_prefix(end) else { return false };
        let begin = self.rest.as_bytes()[0];
        let after = match begin {
            b'-' => after.trim_start_matches(is_space),
            b'+' if trim => after,
            b'+' => return false,
            _ if trim => after.strip_prefix('\n').unwrap_or(after),
            _ => after,
        };
        self.take(self.rest.len() - after.len());
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest[2..].find("#}") else {
            return Err(Fault::syntax("a comment has no `#}`"));
        };
        let end = end + 2;
        let signed = end > 2 && matches!(self.rest.as_bytes()[end - 1], b'-' | b'+');
        self.take(if signed { end - 1 } else { end });
        self.close("#}", true);
        Ok(())
    }

    fn raw(&mut self, begin: usize) -> Result<(), Fault> {
        self.take(begin);
        // A line end behind `{% raw %}` stays.
        self.close("%}", false);
        let found = self.rest.match_indices("{%").find(|(at, _)| raw_tag(&self.rest[*at..], "endraw").is_some());
        let Some((at, _)) = found else { return Err(Fault::syntax("`{% raw %}` has no `{% endraw %}`")) };
        self.text_before_tag(at, true);
        let end = raw_tag(self.rest, "endraw").unwrap_or_default();
        self.take(end);
        self.close("%}", true);
        Ok(())
    }

    /// The tokens of a tag up to its end.
    fn inside(&mut self, block: bool) -> Result<(), Fault> {
        let mut open: Vec<&str> = vec![];
        loop {
            let rest = self.rest;
            let Some(first) = rest.chars().next() else {
                return Err(Fault::syntax(if block { "a tag has no `%}`" } else { "a tag has no `}}`" }));
            };
            let end = if block { "%}" } else { "}}" };
            if open.is_empty() {
                let line = self.line;
                if self.close(end, block) {
                    self.tokens.push((line, if block { Token::BlockEnd } else { Token::VariableEnd }));
                    return Ok(());
                }
            }
            if is_space(first) {
                self.take(first.len_utf8());
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphanumeric() {
                let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                let name = self.take(end).to_owned();
                self.push(Token::Name(name));
            } else if first == '"' || first == '\'' {
                let (end, text) = string(rest, first)?;
                self.push(Token::Str(text));
                self.take(end);
            } else if let Some(op) = OPERATORS.into_iter().find(|op| rest.starts_with(op)) {
                match op {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(op) => {
                        return Err(Fault::syntax(format!("`{op}` closes nothing")));
                    }
                    _ => {}
                }
                self.push(Token::Op(op));
                self.take(op.len());
            } else {
                return Err(Fault::syntax(format!("`{first}` has no meaning here")));
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let bytes = self.rest.as_bytes();
        let digits = |mut at: usize, good: fn(&u8) -> bool| {
            while at < bytes.len()
                && (good(&bytes[at]) || (bytes[at] == b'_' && at > 0 && bytes.get(at + 1).is_some_and(good)))
            {
                at += 1;
            }
            at
        };
        let decimal: fn(&u8) -> bool = u8::is_ascii_digit;
        for (mark, radix, good) in [
            ([b'x', b'X'], 16, u8::is_ascii_hexdigit as fn(&u8) -> bool),
            ([b'o', b'O'], 8, |b: &u8| (b'0'..=b'7').contains(b)),
            ([b'b', b'B'], 2, |b: &u8| matches!(b, b'0' | b'1')),
        ] {
            if bytes[0] == b'0' && bytes.get(1).is_some_and(|b| mark.contains(b)) {
                let end = digits(2, good);
                let text = self.take(end)[2..].replace('_', "");
                let value = i128::from_str_radix(&text, radix).map_err(|_| Fault::syntax("a number is not one"))?;
                self.push(Token::Int(value));
                return Ok(());
            }
        }
        let whole = digits(0, decimal);
        let mut end = whole;
        let after_dot = matches!(self.tokens.last(), Some((_, Token::Op("."))));
        if !after_dot {
            if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(decimal) {
                end = digits(end + 1, decimal);
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                if bytes.get(end + 1 + sign).is_some_and(decimal) {
                    end = digits(end + 1 + sign, decimal);
                }
            }
        }
        let text = self.take(end).replace('_', "");
        let token = if end > whole {
            Token::Float(text.parse().map_err(|_| Fault::syntax("a number is not one"))?)
        } else {
            if text.starts_with('0') && text.bytes().any(|b| b != b'0') {
                return Err(Fault::syntax(format!("`{text}` begins with a zero")));
            }
            Token::Int(text.parse().map_err(|_| Fault::syntax("a whole number has more than 38 digits"))?)
        };
        self.push(token);
        Ok(())
    }
}

/// White space as Python sees it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// A text between quotes: the bytes of its source, and its value.
fn string(source: &str, quote: char) -> Result<(usize, String), Fault> {
    let mut text = String::new();
    let mut chars = source.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((at + 1, text));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some((at, c)) = chars.next() else { break };
        let mut code = |radix: u32, from: usize, least: usize, most: usize| -> Result<char, Fault> {
            let found: String = source[from..].chars().take(most).take_while(|c| c.is_digit(radix)).collect();
            if found.len() < least {
                return Err(Fault::syntax("an escape in a text has too few digits"));
            }
            while chars.next_if(|(place, _)| *place < from + found.len()).is_some() {}
            let code = u32::from_str_radix(&found, radix).unwrap_or(u32::MAX);
            char::from_u32(code).ok_or_else(|| Fault::syntax(format!("`\\{found}` in a text is no character")))
        };
        match c {
            '\n' => {}
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'v' => text.push('\x0b'),
            '\\' | '\'' | '"' => text.push(c),
            'x' => text.push(code(16, at + 1, 2, 2)?),
            'u' => text.push(code(16, at + 1, 4, 4)?),
            'U' => text.push(code(16, at + 1, 8, 8)?),
            '0'..='7' => text.push(code(8, at, 1, 3)?),
            'N' => return Err(Fault::syntax("`\\N{...}` in a text is not provided: write the character itself")),
            // Python keeps a backslash that means nothing.
            _ => text.extend(['\\', c]),
        }
    }
    Err(Fault::syntax("a text has no closing quote"))
}
