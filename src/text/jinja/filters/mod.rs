//! Filters: what stands behind `|`.

mod numbers;
mod sequences;
mod texts;

use std::sync::Arc;

use super::Fault;
use super::execute::Interpreter;
use super::functions::Arguments;
use super::value::Value;
use super::{json, texts as plain};

const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// There is such a filter.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value | name(arguments)`.
pub(super) fn apply(
    interpreter: &mut Interpreter,
    name: &str,
    value: Value,
    arguments: Arguments,
) -> Result<Value, Fault> {
    match name {
        "attr" => {
            let [attribute] = arguments.bind(name, ["name"], 1)?;
            let attribute = interpreter.text_of(&attribute.unwrap_or(Value::None))?;
            if let Value::Undefined(of) = &value {
                return Err(super::evaluate::undefined(of));
            }
            let found = interpreter.own_attribute(&value, &attribute)?;
            Ok(found.unwrap_or(Value::Undefined(Some(attribute))))
        }
        "default" | "d" => {
            let [default, boolean] = arguments.bind(name, ["default_value", "boolean"], 0)?;
            let falsy = boolean.is_some_and(|boolean| boolean.truthy()) && !value.truthy();
            if falsy || value.is_undefined() { Ok(default.unwrap_or_else(|| Value::text(""))) } else { Ok(value) }
        }
        "tojson" => json::to_json(interpreter, &value, arguments),
        "e" | "escape" | "forceescape" => {
            let [] = arguments.bind(name, [], 0)?;
            if matches!(value, Value::Markup(_)) && name != "forceescape" {
                return Ok(value);
            }
            let text = interpreter.text_of(&value)?;
            interpreter.meter.make(5 * text.len())?;
            Ok(Value::Markup(plain::escaped(&text).into()))
        }
        "safe" => {
            let [] = arguments.bind(name, [], 0)?;
            Ok(Value::Markup(interpreter.text_of(&value)?))
        }
        "string" => {
            let [] = arguments.bind(name, [], 0)?;
            match value {
                Value::Markup(_) => Ok(value),
                value => Ok(Value::Text(interpreter.text_of(&value)?)),
            }
        }
        "pprint" => {
            let [] = arguments.bind(name, [], 0)?;
            let text = interpreter.representation(&value)?;
            match text.chars().count() <= 80 && !holds_dict(&value) {
                true => Ok(Value::text(text)),
                false => Err(Fault::new("`pprint` of dicts and of more than a line is not provided: use `tojson`")),
            }
        }
        "abs" | "int" | "float" | "round" | "filesizeformat" => numbers::apply(interpreter, name, &value, arguments),
        "capitalize" | "center" | "format" | "indent" | "lower" | "replace" | "striptags" | "title" | "trim"
        | "truncate" | "upper" | "urlencode" | "wordcount" | "wordwrap" | "xmlattr" => {
            texts::apply(interpreter, name, &value, arguments)
        }
        "urlize" => Err(Fault::new("`urlize` makes HTML, and prompts are none: it is not provided")),
        _ if exists(name) => sequences::apply(interpreter, name, &value, arguments),
        _ => Err(Fault::new(format!("the filter `{name}` is unknown"))),
    }
}

/// A dict is in a value that has been written, so that it is known to be small.
fn holds_dict(value: &Value) -> bool {
    match value {
        Value::List(list) | Value::Tuple(list) => list.items.iter().any(holds_dict),
        Value::Dict(_) | Value::View(..) => true,
        _ => false,
    }
}

/// A whole number argument.
fn whole(of: &str, value: Option<Value>, default: i128) -> Result<i128, Fault> {
    match value {
        None => Ok(default),
        Some(value) => {
            value.as_int().ok_or_else(|| Fault::new(format!("`{of}` takes a whole number, not {}", value.kind())))
        }
    }
}

/// A size argument; a negative one is 0.
fn size(of: &str, value: Option<Value>, default: usize) -> Result<usize, Fault> {
    Ok(usize::try_from(whole(of, value, default as i128)?.max(0)).unwrap_or(usize::MAX))
}

/// A text argument.
fn text(of: &str, value: Option<Value>, default: &str) -> Result<Arc<str>, Fault> {
    match value {
        None => Ok(default.into()),
        Some(value) => {
            value.as_text().cloned().ok_or_else(|| Fault::new(format!("`{of}` takes a text, not {}", value.kind())))
        }
    }
}
