//! Tests: what stands behind `is`.

use super::ast::Comparison;
use super::evaluate::undefined;
use super::execute::Interpreter;
use super::functions::Arguments;
use super::value::Value;
use super::{Fault, filters, operators};

const NAMES: [&str; 40] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
    "",
];

/// There is such a test.
pub(super) fn exists(name: &str) -> bool {
    !name.is_empty() && NAMES.contains(&name)
}

/// The value of `value is name(arguments)`.
pub(super) fn apply(
    interpreter: &mut Interpreter,
    name: &str,
    value: &Value,
    arguments: Arguments,
) -> Result<bool, Fault> {
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Comparison::Equal),
        "!=" | "ne" => Some(Comparison::NotEqual),
        ">" | "gt" | "greaterthan" => Some(Comparison::Greater),
        ">=" | "ge" => Some(Comparison::GreaterEqual),
        "<" | "lt" | "lessthan" => Some(Comparison::Less),
        "<=" | "le" => Some(Comparison::LessEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if comparison.is_some() || matches!(name, "divisibleby" | "sameas") {
        let [other] = arguments.bind(name, ["other"], 1)?;
        let other = other.unwrap_or(Value::None);
        return match (comparison, name) {
            (Some(comparison), _) => operators::compare(interpreter, comparison, value, &other),
            (_, "sameas") => Ok(value.same(&other)),
            _ => divides(interpreter, value, &other, 0),
        };
    }
    let [] = arguments.bind(name, [], 0)?;
    Ok(match name {
        "odd" => divides(interpreter, value, &Value::Int(2), 1)?,
        "even" => divides(interpreter, value, &Value::Int(2), 0)?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => value.as_text().is_some_and(|name| filters::exists(name)),
        "test" => value.as_text().is_some_and(|name| exists(name)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "false" => matches!(value, Value::Bool(false)),
        "true" => matches!(value, Value::Bool(true)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)),
        "string" => value.as_text().is_some(),
        "escaped" => matches!(value, Value::Markup(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Undefined(_)
                | Value::Text(_)
                | Value::Markup(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(_)
        ),
        "iterable" => match value {
            Value::View(..) | Value::Stream(_) | Value::Loop(_) => true,
            _ => apply(interpreter, "sequence", value, Arguments { positional: vec![], named: vec![] })?,
        },
        "callable" => matches!(
            value,
            Value::Undefined(_)
                | Value::Macro(_)
                | Value::Method(_)
                | Value::Function(_)
                | Value::Loop(_)
                | Value::Joiner(_)
        ),
        "lower" | "upper" => {
            let text = interpreter.text_of(value)?;
            let (lower, upper) = (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
            if name == "lower" { lower && !upper } else { upper && !lower }
        }
        _ => return Err(Fault::new(format!("the test `{name}` is unknown"))),
    })
}

fn divides(interpreter: &mut Interpreter, value: &Value, by: &Value, rest: i128) -> Result<bool, Fault> {
    if let Value::Undefined(name) = value {
        return Err(undefined(name));
    }
    let modulo = operators::arithmetic(interpreter, super::ast::Operator::Modulo, value, by)?;
    operators::equal(interpreter, &modulo, &Value::Int(rest), 0)
}
