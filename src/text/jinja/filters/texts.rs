//! Filters of texts.

use super::super::evaluate::undefined;
use super::super::execute::Interpreter;
use super::super::functions::Arguments;
use super::super::value::Value;
use super::super::{Fault, methods, printf, texts as plain};
use super::{size, text, whole};

pub(super) fn apply(
    interpreter: &mut Interpreter,
    name: &str,
    value: &Value,
    arguments: Arguments,
) -> Result<Value, Fault> {
    if name == "urlencode" {
        return url_encode(interpreter, value, arguments);
    }
    if name == "xmlattr" {
        return attributes(interpreter, value, arguments);
    }
    if name == "truncate" {
        return truncate(interpreter, value, arguments);
    }
    let own = match (name, value) {
        ("indent" | "wordwrap", Value::Undefined(name)) => return Err(undefined(name)),
        ("indent" | "wordwrap", _) => text(name, Some(value.clone()), "")?,
        _ => interpreter.text_of(value)?,
    };
    interpreter.meter.make(own.len())?;
    match name {
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let [old, new] = [old, new].map(|value| interpreter.text_of(&value.unwrap_or(Value::None)));
            let most = match count {
                None | Some(Value::None) => usize::MAX,
                count => usize::try_from(whole(name, count, -1)?).unwrap_or(usize::MAX),
            };
            return methods::replaced(interpreter, &own, &old?, &new?, most).map(Value::text);
        }
        "format" => {
            let Arguments { positional, named } = arguments;
            let right = match (positional.is_empty(), named.is_empty()) {
                (false, false) => return Err(Fault::new("`format` takes places or names, not both")),
                (true, false) => {
                    let mut dict = super::super::value::Dict::default();
                    for (name, value) in named {
                        dict.set(Value::Text(name), value)?;
                    }
                    Value::Dict(dict.into())
                }
                _ => Value::tuple(positional)?,
            };
            return printf::format(interpreter, &own, &right).map(Value::text);
        }
        "trim" => {
            let [chars] = arguments.bind(name, ["chars"], 0)?;
            let chars = match chars {
                None | Some(Value::None) => None,
                chars => Some(text(name, chars, "")?),
            };
            return Ok(Value::text(plain::strip(&own, chars.as_deref(), true, true)));
        }
        "center" => {
            let [width] = arguments.bind(name, ["width"], 0)?;
            let width = size(name, width, 80)?;
            let (left, right) = plain::sides(own.chars().count(), width);
            interpreter.meter.make(left.saturating_add(right))?;
            return Ok(Value::text([&" ".repeat(left), &*own, &" ".repeat(right)].concat()));
        }
        "indent" => return indent(interpreter, &own, arguments),
        "wordwrap" => return wrap(interpreter, &own, arguments),
        _ => {}
    }
    let [] = arguments.bind(name, [], 0)?;
    Ok(match name {
        "capitalize" => Value::text(plain::capitalized(&own)),
        "lower" => Value::text(own.to_lowercase()),
        "upper" => Value::text(own.to_uppercase()),
        "title" => Value::text(title(&own)),
        "striptags" => Value::text(plain::without_tags(&own)),
        _ => {
            let words = own.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| !word.is_empty());
            Value::Int(words.count() as i128)
        }
    })
}

/// Jinja's own title: words begin at the start and behind white space, `-` and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let breaks = |c: char| super::super::lexer::is_space(c) || "-({[<".contains(c);
        let word = rest.find(breaks).unwrap_or(rest.len());
        out.push_str(&plain::capitalized(&rest[..word]));
        rest = &rest[word..];
        let gap = rest.find(|c| !breaks(c)).unwrap_or(rest.len());
        out.push_str(&rest[..gap]);
        rest = &rest[gap..];
    }
    out
}

fn indent(interpreter: &Interpreter, own: &str, arguments: Arguments) -> Result<Value, Fault> {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"], 0)?;
    let indention = match width {
        Some(Value::Text(text)) => text.to_string(),
        width => {
            let width = size("indent", width, 4)?;
            interpreter.meter.make(width)?;
            " ".repeat(width)
        }
    };
    let truthy = |value: Option<Value>| value.is_some_and(|value| value.truthy());
    let (first, blank) = (truthy(first), truthy(blank));
    // Jinja ends the text with a line end before it divides it, so that an empty last line counts.
    let ended = format!("{own}\n");
    let lines = plain::split_lines(&ended, false);
    interpreter.meter.make(lines.len().saturating_mul(indention.len() + 1).saturating_add(own.len()))?;
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if (at > 0 && (blank || !line.is_empty())) || (at == 0 && first) {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(Value::text(out))
}

fn truncate(interpreter: &Interpreter, value: &Value, arguments: Arguments) -> Result<Value, Fault> {
    let [length, kill, end, leeway] = arguments.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let length = size("truncate", length, 255)?;
    let end = text("truncate", end, "...")?;
    let leeway = match leeway {
        None | Some(Value::None) => 5,
        leeway => size("truncate", leeway, 5)?,
    };
    let room = end.chars().count();
    if length < room {
        return Err(Fault::new(format!("`truncate` to {length} leaves no room for {end:?}")));
    }
    if interpreter.length(value)? <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let own = &*text("truncate", Some(value.clone()), "")?;
    interpreter.meter.make(own.len())?;
    let cut = plain::between(own, (0, length - room));
    let kill = kill.is_some_and(|kill| kill.truthy());
    let kept = if kill { cut } else { cut.rsplit_once(' ').map_or(cut, |(before, _)| before) };
    Ok(Value::text([kept, &*end].concat()))
}

fn wrap(interpreter: &Interpreter, own: &str, arguments: Arguments) -> Result<Value, Fault> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, wrap, hyphens] = arguments.bind("wordwrap", names, 0)?;
    let width = size("wordwrap", width, 79)?.max(1);
    let wrap = match wrap {
        None | Some(Value::None) => "\n".into(),
        wrap => text("wordwrap", wrap, "\n")?,
    };
    let long = long.is_none_or(|long| long.truthy());
    let hyphens = hyphens.is_none_or(|hyphens| hyphens.truthy());
    let mut out: Vec<String> = vec![];
    for line in plain::split_lines(own, false) {
        interpreter.meter.make(line.len() * (2 + wrap.len()))?;
        let mut chunks = chunks(line, hyphens);
        chunks.reverse();
        let begun = out.len();
        while !chunks.is_empty() {
            let mut current = String::new();
            let mut taken = 0;
            // White space does not begin a line, but for the first.
            if out.len() > begun && chunks.last().is_some_and(|chunk| chunk.trim().is_empty()) {
                chunks.pop();
            }
            while let Some(chunk) = chunks.last() {
                let length = chunk.chars().count();
                if taken + length > width {
                    break;
                }
                current.push_str(chunk);
                taken += length;
                chunks.pop();
            }
            if let Some(chunk) = chunks.last().filter(|chunk| chunk.chars().count() > width).cloned() {
                if long {
                    let head = plain::between(&chunk, (0, width - taken)).to_owned();
                    let rest = chunk[head.len()..].to_owned();
                    current.push_str(&head);
                    chunks.pop();
                    chunks.push(rest);
                } else if current.is_empty() {
                    current.push_str(&chunk);
                    chunks.pop();
                }
            }
            let blank = current.trim_end_matches(' ');
            if !blank.is_empty() || !current.is_empty() {
                out.push(current.trim_end().to_owned());
            }
            interpreter.meter.step(1)?;
        }
        if out.len() == begun {
            out.push(String::new());
        }
    }
    Ok(Value::text(out.join(&wrap)))
}

/// Words, the white space between them, and parts of words up to a hyphen.
fn chunks(line: &str, hyphens: bool) -> Vec<String> {
    let mut chunks: Vec<String> = vec![];
    let mut space = None;
    let chars: Vec<char> = line.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let blank = super::super::lexer::is_space(c);
        let after_hyphen =
            hyphens && at >= 2 && chars[at - 1] == '-' && chars[at - 2].is_alphabetic() && c.is_alphabetic();
        if space == Some(blank) && !after_hyphen {
            if let Some(last) = chunks.last_mut() {
                last.push(c);
            }
        } else {
            chunks.push(c.into());
        }
        space = Some(blank);
    }
    chunks
}

fn url_encode(interpreter: &mut Interpreter, value: &Value, arguments: Arguments) -> Result<Value, Fault> {
    let [] = arguments.bind("urlencode", [], 0)?;
    let quoted = |interpreter: &Interpreter, value: &Value, safe: &str| -> Result<String, Fault> {
        let text = interpreter.text_of(value)?;
        interpreter.meter.make(3 * text.len())?;
        Ok(plain::quoted_address(&text, safe))
    };
    let pairs = match value {
        Value::Dict(dict) => dict.entries.clone(),
        Value::Text(_) | Value::Markup(_) => return quoted(interpreter, value, "/").map(Value::text),
        Value::List(_) | Value::Tuple(_) | Value::View(..) | Value::Stream(_) => {
            let mut pairs = vec![];
            for pair in interpreter.items(value)? {
                let [key, value] = <[Value; 2]>::try_from(interpreter.items(&pair)?)
                    .map_err(|_| Fault::new("`urlencode` takes a text, a dict or pairs"))?;
                pairs.push((key, value));
            }
            pairs
        }
        value => return quoted(interpreter, value, "/").map(Value::text),
    };
    let mut parts = vec![];
    for (key, value) in pairs {
        let (key, value) = (quoted(interpreter, &key, "")?, quoted(interpreter, &value, "")?);
        parts.push(format!("{}={}", key.replace("%20", "+"), value.replace("%20", "+")));
    }
    Ok(Value::text(parts.join("&")))
}

fn attributes(interpreter: &mut Interpreter, value: &Value, arguments: Arguments) -> Result<Value, Fault> {
    let [space] = arguments.bind("xmlattr", ["autospace"], 0)?;
    let Value::Dict(dict) = value else { return Err(Fault::new("`xmlattr` takes a dict")) };
    let mut out = vec![];
    for (key, value) in &dict.entries {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let key = interpreter.text_of(key)?;
        if key.contains(|c: char| super::super::lexer::is_space(c) || matches!(c, '/' | '>' | '=')) {
            return Err(Fault::new(format!("{key:?} is no name of an attribute")));
        }
        let text = interpreter.text_of(value)?;
        interpreter.meter.make(5 * (key.len() + text.len()))?;
        let text = if matches!(value, Value::Markup(_)) { text.to_string() } else { plain::escaped(&text) };
        out.push(format!("{}=\"{text}\"", plain::escaped(&key)));
    }
    let out = out.join(" ");
    let space = space.is_none_or(|space| space.truthy()) && !out.is_empty();
    Ok(Value::text(if space { format!(" {out}") } else { out }))
}
