//! Operators between values, as Python has them.

use std::cmp::Ordering;

use super::Fault;
use super::ast::{Comparison, Operator};
use super::evaluate::undefined;
use super::execute::Interpreter;
use super::printf;
use super::texts::escaped;
use super::value::{Value, range_len};
use super::written::DEEPEST;

const SIGNS: [(Operator, &str); 7] = [
    (Operator::Add, "+"),
    (Operator::Subtract, "-"),
    (Operator::Multiply, "*"),
    (Operator::Divide, "/"),
    (Operator::FloorDivide, "//"),
    (Operator::Modulo, "%"),
    (Operator::Power, "**"),
];

/// `left operator right`.
pub(super) fn arithmetic(
    interpreter: &mut Interpreter,
    operator: Operator,
    left: &Value,
    right: &Value,
) -> Result<Value, Fault> {
    for side in [left, right] {
        if let Value::Undefined(name) = side
            && !(operator == Operator::Modulo && left.as_text().is_some())
        {
            return Err(undefined(name));
        }
    }
    match (operator, left, right) {
        (Operator::Modulo, Value::Text(format), _) => {
            return printf::format(interpreter, format, right).map(Value::text);
        }
        (Operator::Modulo, Value::Markup(format), _) => {
            return Err(Fault::new(format!("`{format}` is escaped: formatting it with `%` is not provided")));
        }
        (Operator::Add, _, _) => {
            if let (Some(a), Some(b)) = (left.as_text(), right.as_text()) {
                interpreter.meter.make(a.len() + b.len())?;
                let both = [a, b].map(|text| &**text);
                return Ok(match (left, right) {
                    (Value::Text(_), Value::Text(_)) => Value::text(both.concat()),
                    (Value::Markup(_), Value::Markup(_)) => Value::Markup(both.concat().into()),
                    (Value::Markup(_), _) => Value::Markup((a.to_string() + &escaped(b)).into()),
                    _ => Value::Markup((escaped(a) + b).into()),
                });
            }
            if let (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) = (left, right) {
                interpreter.meter.make_items(a.items.len() + b.items.len())?;
                let items = [a.items.as_slice(), b.items.as_slice()].concat();
                return if matches!(left, Value::List(_)) { Value::list(items) } else { Value::tuple(items) };
            }
        }
        (Operator::Multiply, _, _) => {
            let repeated = match (left.as_int(), right.as_int()) {
                (None, Some(times)) => repeat(interpreter, left, times)?,
                (Some(times), None) => repeat(interpreter, right, times)?,
                _ => None,
            };
            if let Some(repeated) = repeated {
                return Ok(repeated);
            }
        }
        _ => {}
    }
    let zero = || Fault::new("a division by zero");
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let whole = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::FloorDivide | Operator::Modulo | Operator::Divide if b == 0 => return Err(zero()),
            Operator::FloorDivide => a.checked_div_euclid(b).map(|_| floor_divide(a, b)),
            Operator::Modulo => a.checked_rem(b).map(|_| a.wrapping_sub(floor_divide(a, b).wrapping_mul(b))),
            Operator::Divide => return Ok(Value::Float(a as f64 / b as f64)),
            Operator::Power if b >= 0 => u32::try_from(b).ok().and_then(|power| a.checked_pow(power)),
            Operator::Power if a == 0 => return Err(zero()),
            Operator::Power => return Ok(Value::Float((a as f64).powf(b as f64))),
        };
        return whole.map(Value::Int).ok_or_else(|| Fault::limit("makes a whole number of more than 38 digits"));
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return Ok(Value::Float(match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide | Operator::FloorDivide | Operator::Modulo if b == 0.0 => return Err(zero()),
            Operator::Divide => a / b,
            Operator::FloorDivide => floor_and_rest(a, b).0,
            Operator::Modulo => floor_and_rest(a, b).1,
            Operator::Power if a == 0.0 && b < 0.0 => return Err(zero()),
            Operator::Power if a < 0.0 && b.fract() != 0.0 => {
                return Err(Fault::new("a root of a negative number is not provided"));
            }
            Operator::Power => {
                let power = a.powf(b);
                if power.is_infinite() && a.is_finite() && b.is_finite() {
                    return Err(Fault::new("a power is too large"));
                }
                power
            }
        }));
    }
    let sign = SIGNS.iter().find(|(have, _)| *have == operator).map_or("", |(_, sign)| sign);
    Err(Fault::new(format!("`{sign}` has no meaning between {} and {}", left.kind(), right.kind())))
}

fn floor_divide(a: i128, b: i128) -> i128 {
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// The floored quotient and the rest, which has the sign of `b`. The quotient is made from the exact rest: `a / b` may
/// be rounded up to a whole number.
fn floor_and_rest(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = rest.copysign(b);
    } else if (rest < 0.0) != (b < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    let floor = quotient.floor();
    let nearest = if quotient - floor > 0.5 { floor + 1.0 } else { floor };
    (if quotient == 0.0 { 0.0_f64.copysign(a / b) } else { nearest }, rest)
}

fn repeat(interpreter: &Interpreter, value: &Value, times: i128) -> Result<Option<Value>, Fault> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    Ok(match value {
        Value::Text(text) | Value::Markup(text) => {
            interpreter.meter.make(text.len().saturating_mul(times))?;
            Some(Value::text(if text.is_empty() { String::new() } else { text.repeat(times) }))
        }
        Value::List(list) | Value::Tuple(list) => {
            interpreter.meter.make_items(list.items.len().saturating_mul(times))?;
            let times = if list.items.is_empty() { 0 } else { times };
            let mut items = vec![];
            for _ in 0..times {
                items.extend_from_slice(&list.items);
            }
            Some(if matches!(value, Value::List(_)) { Value::list(items)? } else { Value::tuple(items)? })
        }
        _ => None,
    })
}

/// `-value` or `+value`.
pub(super) fn sign(value: &Value, negative: bool) -> Result<Value, Fault> {
    match value {
        Value::Float(number) => Ok(Value::Float(if negative { -number } else { *number })),
        Value::Undefined(name) => Err(undefined(name)),
        _ => match value.as_int() {
            Some(number) => Ok(Value::Int(if negative { number.wrapping_neg() } else { number })),
            None => Err(Fault::new(format!("{} has no sign", value.kind()))),
        },
    }
}

/// A comparison.
pub(super) fn compare(
    interpreter: &Interpreter,
    comparison: Comparison,
    left: &Value,
    right: &Value,
) -> Result<bool, Fault> {
    match comparison {
        Comparison::Equal => equal(interpreter, left, right, 0),
        Comparison::NotEqual => Ok(!equal(interpreter, left, right, 0)?),
        Comparison::In => contains(interpreter, right, left),
        Comparison::NotIn => Ok(!contains(interpreter, right, left)?),
        _ => {
            let Some(order) = order(interpreter, left, right, 0)? else { return Ok(false) };
            Ok(match comparison {
                Comparison::Less => order == Ordering::Less,
                Comparison::LessEqual => order != Ordering::Greater,
                Comparison::Greater => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
    }
}

fn deeper(depth: usize) -> Result<usize, Fault> {
    if depth >= DEEPEST {
        return Err(Fault::limit(format!("compares values of more than {DEEPEST} levels: do they hold themselves?")));
    }
    Ok(depth + 1)
}

/// `left == right`.
pub(super) fn equal(interpreter: &Interpreter, left: &Value, right: &Value, depth: usize) -> Result<bool, Fault> {
    let depth = deeper(depth)?;
    interpreter.meter.step(1)?;
    let all = |a: &[Value], b: &[Value]| -> Result<bool, Fault> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !equal(interpreter, a, b, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let dicts = |a: &super::value::Dict, b: &super::value::Dict| -> Result<bool, Fault> {
        if a.entries.len() != b.entries.len() {
            return Ok(false);
        }
        for (key, value) in &a.entries {
            match b.get(key)? {
                Some(other) if equal(interpreter, value, other, depth)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    };
    if let (Some(a), Some(b)) = (left.as_text(), right.as_text()) {
        interpreter.meter.read(a.len().min(b.len()))?;
        return Ok(a == b);
    }
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return Ok(a == b);
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return Ok(a == b);
    }
    match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) => Ok(true),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => all(&a.items, &b.items),
        (Value::Dict(a), Value::Dict(b)) => dicts(a, b),
        (Value::Range(a), Value::Range(b)) => {
            let (count, other) = (range_len(a), range_len(b));
            Ok(count == other && (count == 0 || a[0] == b[0]) && (count < 2 || a[2] == b[2]))
        }
        (Value::View(..), Value::View(..)) => all(&interpreter.items(left)?, &interpreter.items(right)?),
        _ => Ok(left.same(right)),
    }
}

/// The order of two values; `None` beside a number that is none.
pub(super) fn order(
    interpreter: &Interpreter,
    left: &Value,
    right: &Value,
    depth: usize,
) -> Result<Option<Ordering>, Fault> {
    let depth = deeper(depth)?;
    interpreter.meter.step(1)?;
    if let (Some(a), Some(b)) = (left.as_text(), right.as_text()) {
        interpreter.meter.read(a.len().min(b.len()))?;
        return Ok(Some(a.cmp(b)));
    }
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return Ok(a.partial_cmp(&b));
    }
    match (left, right) {
        (Value::Undefined(name), _) | (_, Value::Undefined(name)) => Err(undefined(name)),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(interpreter, a, b, depth)? {
                    return order(interpreter, a, b, depth);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => Err(Fault::new(format!("{} and {} have no order", left.kind(), right.kind()))),
    }
}

/// `item in container`.
pub(super) fn contains(interpreter: &Interpreter, container: &Value, item: &Value) -> Result<bool, Fault> {
    match container {
        Value::Text(text) | Value::Markup(text) => match item.as_text() {
            Some(part) => {
                interpreter.meter.read(text.len())?;
                Ok(text.contains(&**part))
            }
            None => Err(Fault::new(format!("{} is looked for in a text", item.kind()))),
        },
        Value::Dict(dict) => Ok(dict.get(item)?.is_some()),
        Value::Namespace(_) => Err(Fault::new("a namespace cannot be searched")),
        _ => {
            for other in interpreter.items(container)? {
                if other.same(item) || equal(interpreter, &other, item, 0)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
