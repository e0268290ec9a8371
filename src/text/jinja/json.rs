//! `tojson`, as Python's `json.dumps` writes: the text that models were trained on.

use super::Fault;
use super::execute::Interpreter;
use super::functions::Arguments;
use super::operators;
use super::value::Value;
use super::written::{DEEPEST, float};

struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
}

/// The filter.
pub(super) fn to_json(interpreter: &Interpreter, value: &Value, arguments: Arguments) -> Result<Value, Fault> {
    let [ascii, indent, separators, sort] =
        arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"], 0)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text.to_string()),
        Some(width) => {
            let width = width.as_int().ok_or_else(|| Fault::new("the indent of `tojson` is no number"))?;
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            interpreter.meter.make(width)?;
            Some(" ".repeat(width))
        }
    };
    let (item, key) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => match interpreter.items(&pair)?.as_slice() {
            [Value::Text(item), Value::Text(key)] => (item.to_string(), key.to_string()),
            _ => return Err(Fault::new("the separators of `tojson` are two texts")),
        },
    };
    let truthy = |value: Option<Value>| value.is_some_and(|value| value.truthy());
    let style = Style { ascii: truthy(ascii), indent, item, key, sort: truthy(sort) };
    let mut out = String::new();
    write(interpreter, value, &style, 0, &mut out)?;
    Ok(Value::text(out))
}

fn append(interpreter: &Interpreter, text: &str, out: &mut String) -> Result<(), Fault> {
    interpreter.meter.make(text.len())?;
    out.push_str(text);
    Ok(())
}

fn line(interpreter: &Interpreter, style: &Style, depth: usize, out: &mut String) -> Result<(), Fault> {
    let Some(indent) = &style.indent else { return Ok(()) };
    interpreter.meter.make(1 + indent.len().saturating_mul(depth))?;
    out.push('\n');
    out.push_str(&indent.repeat(depth));
    Ok(())
}

fn write(interpreter: &Interpreter, value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(Fault::limit(format!("writes JSON of more than {DEEPEST} levels: does it hold itself?")));
    }
    match value {
        Value::None => append(interpreter, "null", out),
        Value::Bool(value) => append(interpreter, if *value { "true" } else { "false" }, out),
        Value::Int(value) => append(interpreter, &value.to_string(), out),
        Value::Float(value) => append(interpreter, &number(*value), out),
        Value::Text(text) | Value::Markup(text) => quoted(interpreter, text, style.ascii, out),
        Value::List(list) | Value::Tuple(list) => {
            if list.items.is_empty() {
                return append(interpreter, "[]", out);
            }
            append(interpreter, "[", out)?;
            for (at, item) in list.items.iter().enumerate() {
                if at > 0 {
                    append(interpreter, &style.item, out)?;
                }
                line(interpreter, style, depth + 1, out)?;
                write(interpreter, item, style, depth + 1, out)?;
            }
            line(interpreter, style, depth, out)?;
            append(interpreter, "]", out)
        }
        Value::Dict(dict) => {
            if dict.entries.is_empty() {
                return append(interpreter, "{}", out);
            }
            append(interpreter, "{", out)?;
            let mut entries: Vec<&(Value, Value)> = dict.entries.iter().collect();
            if style.sort {
                let mut fault = None;
                interpreter.meter.make_items(entries.len())?;
                entries.sort_by(|a, b| match operators::order(interpreter, &a.0, &b.0, 0) {
                    Ok(order) => order.unwrap_or(std::cmp::Ordering::Equal),
                    Err(found) => {
                        fault.get_or_insert(found);
                        std::cmp::Ordering::Equal
                    }
                });
                if let Some(fault) = fault {
                    return Err(fault);
                }
            }
            for (at, (key, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    append(interpreter, &style.item, out)?;
                }
                line(interpreter, style, depth + 1, out)?;
                let name = match key {
                    Value::None => "null".to_owned(),
                    Value::Bool(value) => value.to_string(),
                    Value::Int(value) => value.to_string(),
                    Value::Float(value) => number(*value),
                    Value::Text(text) | Value::Markup(text) => text.to_string(),
                    other => return Err(Fault::new(format!("{} cannot be a key of JSON", other.kind()))),
                };
                quoted(interpreter, &name, style.ascii, out)?;
                append(interpreter, &style.key, out)?;
                write(interpreter, value, style, depth + 1, out)?;
            }
            line(interpreter, style, depth, out)?;
            append(interpreter, "}", out)
        }
        other => Err(Fault::new(format!("{} cannot be written as JSON", other.kind()))),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => float(value),
    }
}

fn quoted(interpreter: &Interpreter, text: &str, ascii: bool, out: &mut String) -> Result<(), Fault> {
    let begin = out.len();
    interpreter.meter.make(text.len() + 2)?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    interpreter.meter.make((out.len() - begin).saturating_sub(text.len() + 2))
}
