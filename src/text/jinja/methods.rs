//! Methods of Python's texts, lists and dicts. Those that change a list or a dict are refused, as in Jinja's sandbox.

use std::rc::Rc;
use std::sync::Arc;

use super::evaluate::view;
use super::execute::Interpreter;
use super::functions::{self, Arguments};
use super::value::{Dict, Value};
use super::{Fault, operators, text_format, texts};

const OF_TEXTS: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
];

/// A value has this method.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) | Value::Markup(_) => OF_TEXTS.contains(&name) || name == "zfill",
        Value::Dict(_) => matches!(name, "get" | "items" | "keys" | "values" | "copy" | "fromkeys"),
        Value::List(_) => matches!(name, "index" | "count" | "copy"),
        Value::Tuple(_) | Value::Range(_) => matches!(name, "index" | "count"),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        Value::Cycler(_) => matches!(name, "next" | "reset"),
        Value::Function("dict") => name == "fromkeys",
        Value::Float(_) => name == "is_integer",
        Value::Int(_) => matches!(name, "bit_length" | "is_integer"),
        _ => false,
    }
}

/// The method would change the value: the sandbox hides it.
pub(super) fn changes(value: &Value, name: &str) -> bool {
    match value {
        Value::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        Value::List(_) => {
            matches!(name, "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove")
        }
        _ => false,
    }
}

/// Calls a method.
pub(super) fn call(
    interpreter: &mut Interpreter,
    value: &Value,
    name: &Arc<str>,
    arguments: Arguments,
) -> Result<Value, Fault> {
    match value {
        Value::Text(text) | Value::Markup(text) => of_text(interpreter, text, name, arguments),
        Value::Dict(dict) => of_dict(interpreter, dict, name, arguments),
        Value::Function(_) => from_keys(interpreter, arguments),
        Value::Loop(number) => match &**name {
            "cycle" => {
                let items = &arguments.positional;
                if items.is_empty() {
                    return Err(Fault::new("`loop.cycle` needs something to cycle through"));
                }
                Ok(items[interpreter.loops[*number].at % items.len()].clone())
            }
            _ => {
                let asked = arguments.positional;
                let old = interpreter.loops[*number].changed.take();
                let mut same = old.as_ref().is_some_and(|old| old.len() == asked.len());
                for (a, b) in old.iter().flatten().zip(&asked) {
                    same = same && operators::equal(interpreter, a, b, 0)?;
                }
                interpreter.meter.make_items(asked.len())?;
                interpreter.loops[*number].changed = Some(asked);
                Ok(Value::Bool(!same))
            }
        },
        Value::Cycler(cycler) => {
            let [] = arguments.bind(name, [], 0)?;
            let at = cycler.at.get();
            if &**name == "reset" {
                cycler.at.set(0);
                return Ok(Value::None);
            }
            cycler.at.set((at + 1) % cycler.items.len().max(1));
            cycler.items.get(at).cloned().ok_or_else(|| Fault::new("a cycler is empty"))
        }
        Value::Int(number) => {
            let [] = arguments.bind(name, [], 0)?;
            match &**name {
                "is_integer" => Ok(Value::Bool(true)),
                _ => Ok(Value::Int((128 - number.unsigned_abs().leading_zeros()).into())),
            }
        }
        Value::Float(number) => {
            let [] = arguments.bind(name, [], 0)?;
            Ok(Value::Bool(number.fract() == 0.0))
        }
        list => {
            let items = interpreter.items(list)?;
            match &**name {
                "copy" => {
                    let [] = arguments.bind(name, [], 0)?;
                    Value::list(items)
                }
                _ => {
                    let [item, start, stop] = arguments.bind(name, ["value", "start", "stop"], 1)?;
                    let item = item.unwrap_or(Value::None);
                    let (start, stop) = bounds(items.len(), start, stop)?;
                    let mut count = 0;
                    for (at, other) in items.iter().enumerate() {
                        if at >= start && at < stop && operators::equal(interpreter, other, &item, 0)? {
                            if &**name == "index" {
                                return Ok(Value::Int(at as i128));
                            }
                            count += 1;
                        }
                    }
                    if &**name == "index" { Err(Fault::new("`index` finds nothing")) } else { Ok(Value::Int(count)) }
                }
            }
        }
    }
}

fn from_keys(interpreter: &mut Interpreter, arguments: Arguments) -> Result<Value, Fault> {
    let [keys, value] = arguments.bind("fromkeys", ["iterable", "value"], 1)?;
    let mut dict = Dict::default();
    for key in interpreter.items(&keys.unwrap_or(Value::None))? {
        interpreter.meter.make_items(3)?;
        dict.set(key, value.clone().unwrap_or(Value::None))?;
    }
    Ok(Value::Dict(Rc::new(dict)))
}

fn of_dict(interpreter: &mut Interpreter, dict: &Rc<Dict>, name: &str, arguments: Arguments) -> Result<Value, Fault> {
    if name == "get" {
        let [key, default] = arguments.bind(name, ["key", "default"], 1)?;
        let found = dict.get(&key.unwrap_or(Value::None))?.cloned();
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    if name == "fromkeys" {
        return from_keys(interpreter, arguments);
    }
    if name == "copy" {
        let positional = vec![Value::Dict(dict.clone())];
        return functions::dict(interpreter, Arguments { positional, named: vec![] }).map(|d| Value::Dict(Rc::new(d)));
    }
    let [] = arguments.bind(name, [], 0)?;
    view(name).map(|view| Value::View(view, dict.clone())).ok_or_else(|| Fault::new(format!("no method `{name}`")))
}

/// Bounds as of a slice.
fn bounds(length: usize, start: Option<Value>, stop: Option<Value>) -> Result<(usize, usize), Fault> {
    let place = |value: Option<Value>, default: usize| match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => {
            let at = value.as_int().ok_or_else(|| Fault::new(format!("{} is no place", value.kind())))?;
            let at = if at < 0 { (at.saturating_add(length as i128)).max(0) } else { at };
            Ok(usize::try_from(at).unwrap_or(usize::MAX))
        }
    };
    Ok((place(start, 0)?, place(stop, length)?.min(length)))
}

/// A text argument.
fn text(of: &str, value: Option<Value>) -> Result<Arc<str>, Fault> {
    let value = value.unwrap_or(Value::None);
    value.as_text().cloned().ok_or_else(|| Fault::new(format!("`{of}` takes a text, not {}", value.kind())))
}

/// A text argument that may be left out or none.
fn text_or_none(of: &str, value: Option<Value>) -> Result<Option<Arc<str>>, Fault> {
    match value {
        None | Some(Value::None) => Ok(None),
        value => text(of, value).map(Some),
    }
}

/// A count that may be left out; a negative one is none.
fn count(of: &str, value: Option<Value>) -> Result<usize, Fault> {
    match value {
        None => Ok(usize::MAX),
        Some(value) => {
            let count = value
                .as_int()
                .ok_or_else(|| Fault::new(format!("`{of}` takes a whole number, not {}", value.kind())))?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        }
    }
}

fn of_text(interpreter: &mut Interpreter, own: &Arc<str>, name: &str, arguments: Arguments) -> Result<Value, Fault> {
    interpreter.meter.make(own.len())?;
    let all = |good: fn(char) -> bool| Ok(Value::Bool(!own.is_empty() && own.chars().all(good)));
    let texts_of = |interpreter: &Interpreter, parts: Vec<&str>| -> Result<Vec<Value>, Fault> {
        interpreter.meter.make_items(2 * parts.len())?;
        Ok(parts.into_iter().map(Value::text).collect())
    };
    match name {
        "format" => return text_format::format(interpreter, own, &arguments).map(Value::text),
        "format_map" => {
            let [map] = arguments.bind(name, ["mapping"], 1)?;
            let Some(Value::Dict(map)) = map else { return Err(Fault::new("`format_map` takes a dict")) };
            let mut named = vec![];
            for (key, value) in &map.entries {
                named.extend(key.as_text().map(|key| (key.clone(), value.clone())));
            }
            return text_format::format(interpreter, own, &Arguments { positional: vec![], named }).map(Value::text);
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(name, ["chars"], 0)?;
            let chars = text_or_none(name, chars)?;
            return Ok(Value::text(texts::strip(own, chars.as_deref(), name != "rstrip", name != "lstrip")));
        }
        "split" | "rsplit" => {
            let [separator, most] = arguments.bind(name, ["sep", "maxsplit"], 0)?;
            let most = count(name, most)?;
            let right = name == "rsplit";
            let parts: Vec<&str> = match text_or_none(name, separator)? {
                None => texts::split_space(own, most, right),
                Some(separator) if separator.is_empty() => return Err(Fault::new("`split` by an empty text")),
                Some(separator) if right => {
                    let mut parts: Vec<_> = own.rsplitn(most.saturating_add(1), &*separator).collect();
                    parts.reverse();
                    parts
                }
                Some(separator) => own.splitn(most.saturating_add(1), &*separator).collect(),
            };
            return Value::list(texts_of(interpreter, parts)?);
        }
        "splitlines" => {
            let [keep] = arguments.bind(name, ["keepends"], 0)?;
            let lines = texts::split_lines(own, keep.is_some_and(|keep| keep.truthy()));
            return Value::list(texts_of(interpreter, lines)?);
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(name, ["sep"], 1)?;
            let separator = text(name, separator)?;
            if separator.is_empty() {
                return Err(Fault::new(format!("`{name}` by an empty text")));
            }
            let first = name == "partition";
            let found = if first { own.split_once(&*separator) } else { own.rsplit_once(&*separator) };
            let parts = match found {
                Some((before, after)) => [before, &separator, after],
                None if first => [&**own, "", ""],
                None => ["", "", &**own],
            };
            return Value::tuple(parts.into_iter().map(Value::text).collect());
        }
        "startswith" | "endswith" => {
            let [part, start, end] = arguments.bind(name, ["prefix", "start", "end"], 1)?;
            let bounds = bounds(own.chars().count(), start, end)?;
            let window = texts::between(own, bounds);
            let parts = match part {
                Some(Value::Tuple(parts)) => parts.items.clone(),
                part => vec![part.unwrap_or(Value::None)],
            };
            for part in parts {
                let part = text(name, Some(part))?;
                let found = if name == "startswith" { window.starts_with(&*part) } else { window.ends_with(&*part) };
                if found && bounds.0 <= bounds.1 {
                    return Ok(Value::Bool(true));
                }
            }
            return Ok(Value::Bool(false));
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = arguments.bind(name, ["sub", "start", "end"], 1)?;
            let part = text(name, part)?;
            let bounds = bounds(own.chars().count(), start, end)?;
            if name == "count" {
                let window = texts::between(own, bounds);
                let empty = bounds.0 <= bounds.1;
                let count = if part.is_empty() {
                    usize::from(empty) + window.chars().count()
                } else {
                    window.matches(&*part).count()
                };
                return Ok(Value::Int(count as i128));
            }
            let found = texts::find(own, &part, bounds, name.starts_with('r'));
            return match found {
                Some(at) => Ok(Value::Int(at as i128)),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => Err(Fault::new(format!("`{name}` finds no {part:?}"))),
            };
        }
        "replace" => {
            let [old, new, most] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (text(name, old)?, text(name, new)?);
            return replaced(interpreter, own, &old, &new, count(name, most)?).map(Value::text);
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(name, ["part"], 1)?;
            let part = text(name, part)?;
            let rest = if name == "removeprefix" { own.strip_prefix(&*part) } else { own.strip_suffix(&*part) };
            return Ok(rest.map_or_else(|| Value::Text(own.clone()), Value::text));
        }
        "join" => {
            let [items] = arguments.bind(name, ["iterable"], 1)?;
            let mut out = String::new();
            for (at, item) in interpreter.items(&items.unwrap_or(Value::None))?.into_iter().enumerate() {
                let item = text(name, Some(item))?;
                interpreter.meter.make(item.len() + own.len())?;
                if at > 0 {
                    out.push_str(own);
                }
                out.push_str(&item);
            }
            return Ok(Value::text(out));
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = arguments.bind(name, ["width", "fillchar"], 1)?;
            let fill = text_or_none(name, fill)?.unwrap_or_else(|| " ".into());
            let width = width.unwrap_or(Value::None);
            let width =
                width.as_int().ok_or_else(|| Fault::new(format!("`{name}` takes a width, not {}", width.kind())))?;
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            let mut chars = fill.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return Err(Fault::new(format!("`{name}` fills with one character")));
            };
            let length = own.chars().count();
            let (left, right) = match name {
                "center" => texts::sides(length, width),
                "ljust" => (0, width.saturating_sub(length)),
                _ => (width.saturating_sub(length), 0),
            };
            interpreter.meter.make(left.saturating_add(right).saturating_mul(fill.len_utf8()))?;
            let side = |count| std::iter::repeat_n(fill, count);
            return Ok(Value::text(side(left).chain(own.chars()).chain(side(right)).collect::<String>()));
        }
        "zfill" => {
            let [width] = arguments.bind(name, ["width"], 1)?;
            let length = own.chars().count();
            let width = width.and_then(|width| width.as_int()).ok_or_else(|| Fault::new("`zfill` takes a width"))?;
            let zeros = usize::try_from(width.max(0)).unwrap_or(usize::MAX).saturating_sub(length);
            interpreter.meter.make(zeros)?;
            let sign = own.len() - own.strip_prefix(['-', '+']).unwrap_or(own).len();
            return Ok(Value::text([&own[..sign], &"0".repeat(zeros), &own[sign..]].concat()));
        }
        "expandtabs" => {
            let [size] = arguments.bind(name, ["tabsize"], 0)?;
            let size =
                size.map_or(Some(8), |size| size.as_int()).ok_or_else(|| Fault::new("`expandtabs` takes a width"))?;
            let size = usize::try_from(size.max(0)).unwrap_or(usize::MAX);
            let mut out = String::new();
            let mut column = 0;
            for c in own.chars() {
                match c {
                    '\t' => {
                        let spaces = size.saturating_sub(column % size.max(1));
                        interpreter.meter.make(spaces)?;
                        out.push_str(&" ".repeat(spaces));
                        column += spaces;
                    }
                    c => {
                        column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                        out.push(c);
                    }
                }
            }
            return Ok(Value::text(out));
        }
        "encode" => return Err(Fault::new("`encode` makes bytes, which a prompt has none of: it is not provided")),
        _ => {}
    }
    let [] = arguments.bind(name, [], 0)?;
    let cased = |own: fn(char) -> bool, other: fn(char) -> bool, text: &str| {
        Ok(Value::Bool(text.chars().any(own) && !text.chars().any(other)))
    };
    match name {
        "upper" => Ok(Value::text(own.to_uppercase())),
        "lower" => Ok(Value::text(own.to_lowercase())),
        "casefold" => Ok(Value::text(own.to_lowercase().replace('ß', "ss").replace('ς', "σ"))),
        "title" => Ok(Value::text(texts::title(own))),
        "capitalize" => Ok(Value::text(texts::capitalized(own))),
        "swapcase" => Ok(Value::text(
            own.chars()
                .flat_map(|c| {
                    let swapped: Vec<char> =
                        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
                    swapped
                })
                .collect::<String>(),
        )),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isdigit" => {
            all(|c| c.is_ascii_digit() || (c.is_numeric() && "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉".contains(c)) || decimal(c))
        }
        "isdecimal" => all(decimal),
        "isnumeric" => all(char::is_numeric),
        "isspace" => all(super::lexer::is_space),
        "isascii" => Ok(Value::Bool(own.is_ascii())),
        "isprintable" => Ok(Value::Bool(own.chars().all(super::written::printable))),
        "isidentifier" => {
            let begins = own.starts_with(|c: char| c == '_' || c.is_alphabetic());
            Ok(Value::Bool(begins && own.chars().all(|c| c == '_' || c.is_alphanumeric())))
        }
        "islower" => cased(char::is_lowercase, char::is_uppercase, own),
        "isupper" => cased(char::is_uppercase, char::is_lowercase, own),
        "istitle" => Ok(Value::Bool(own.chars().any(char::is_alphabetic) && texts::title(own) == **own)),
        _ => Err(Fault::new(format!("a text has no method `{name}`"))),
    }
}

/// A decimal digit of some script.
fn decimal(c: char) -> bool {
    // The zeros of the scripts in use; nine digits follow each.
    const ZEROS: [u32; 12] = [0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xe50, 0xff10];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&c.into()))
}

/// A text with a part replaced, at most `most` times.
pub(super) fn replaced(
    interpreter: &Interpreter,
    text: &str,
    old: &str,
    new: &str,
    most: usize,
) -> Result<String, Fault> {
    let places = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() }.min(most);
    interpreter.meter.make(text.len().saturating_add(places.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, most))
}
