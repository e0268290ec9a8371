//! Filters of numbers.

use super::super::Fault;
use super::super::evaluate::undefined;
use super::super::execute::Interpreter;
use super::super::functions::Arguments;
use super::super::value::Value;
use super::{text, whole};

pub(super) fn apply(
    interpreter: &mut Interpreter,
    name: &str,
    value: &Value,
    arguments: Arguments,
) -> Result<Value, Fault> {
    if let Value::Undefined(of) = value {
        return Err(undefined(of));
    }
    let number = |value: &Value| {
        value.as_float().ok_or_else(|| Fault::new(format!("`{name}` takes a number, not {}", value.kind())))
    };
    match name {
        "abs" => {
            let [] = arguments.bind(name, [], 0)?;
            match value.as_int() {
                Some(value) => Ok(Value::Int(value.wrapping_abs())),
                None => Ok(Value::Float(number(value)?.abs())),
            }
        }
        "int" => {
            let [default, base] = arguments.bind(name, ["default", "base"], 0)?;
            let base = u32::try_from(whole(name, base, 10)?).unwrap_or(1);
            let truncated = |float: f64| (float.is_finite() && float.abs() < 1e38).then_some(float.trunc() as i128);
            let found = match value {
                Value::Text(text) | Value::Markup(text) => {
                    interpreter.meter.read(text.len())?;
                    parse_int(text, base).or_else(|| parse_float(text).and_then(truncated))
                }
                value => value.as_int().or_else(|| value.as_float().and_then(truncated)),
            };
            Ok(found.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
        }
        "float" => {
            let [default] = arguments.bind(name, ["default"], 0)?;
            let found = match value {
                Value::Text(text) | Value::Markup(text) => parse_float(text),
                value => value.as_float(),
            };
            Ok(found.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "round" => {
            let [precision, method] = arguments.bind(name, ["precision", "method"], 0)?;
            let precision = whole(name, precision, 0)?.clamp(-400, 400) as i32;
            let method = text(name, method, "common")?;
            match (&*method, value.as_int()) {
                ("common", Some(value)) if precision >= 0 => Ok(Value::Int(value)),
                ("common", Some(value)) => {
                    let Some(unit) = 10_i128.checked_pow(precision.unsigned_abs()) else { return Ok(Value::Int(0)) };
                    let (low, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
                    let up = rest * 2 > unit || (rest * 2 == unit && low % 2 != 0);
                    Ok(Value::Int((low + i128::from(up)) * unit))
                }
                ("common", None) => Ok(Value::Float(rounded(number(value)?, precision))),
                ("ceil" | "floor", _) => {
                    let scale = 10_f64.powi(precision);
                    let scaled = number(value)? * scale;
                    Ok(Value::Float(if &*method == "ceil" { scaled.ceil() } else { scaled.floor() } / scale))
                }
                _ => Err(Fault::new("`round` rounds `common`, `ceil` or `floor`")),
            }
        }
        _ => {
            let [binary] = arguments.bind(name, ["binary"], 0)?;
            let binary = binary.is_some_and(|binary| binary.truthy());
            let bytes = match value {
                Value::Text(text) => parse_float(text).ok_or_else(|| Fault::new("`filesizeformat` takes a number"))?,
                value => number(value)?,
            };
            let (base, marks) = match binary {
                true => (1024.0_f64, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]),
                false => (1000.0, ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]),
            };
            let text = if bytes == 1.0 {
                "1 Byte".to_owned()
            } else if bytes < base {
                format!("{} Bytes", bytes.trunc() as i64)
            } else {
                let at = (1..8).find(|at| bytes < base.powi(at + 1)).unwrap_or(8);
                format!("{:.1} {}", bytes / base.powi(at), marks[at as usize - 1])
            };
            Ok(Value::text(text))
        }
    }
}

/// A whole number as Python's `int` reads it.
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let mut base = base;
    let mut digits = digits;
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let cut = digits.get(..2).filter(|cut| cut.eq_ignore_ascii_case(prefix));
        if cut.is_some() && (base == radix || base == 0) {
            (base, digits) = (radix, &digits[2..]);
            digits = digits.strip_prefix('_').unwrap_or(digits);
        }
    }
    let base = if base == 0 { 10 } else { base };
    let sound = digits.starts_with(|c: char| c != '_') && !digits.ends_with('_') && !digits.contains("__");
    if !(2..=36).contains(&base) || !sound || digits.starts_with(['-', '+']) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -value } else { value })
}

/// A number as Python's `float` reads it.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let sound = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    if sound { text.replace('_', "").parse().ok() } else { None }
}

/// Rounded to digits, halves to even, as Python's `round`.
fn rounded(value: f64, digits: i32) -> f64 {
    if !value.is_finite() {
        return value;
    }
    match usize::try_from(digits) {
        Ok(digits) => format!("{value:.digits$}").parse().unwrap_or(value),
        Err(_) => {
            let unit = 10_f64.powi(-digits);
            if unit.is_finite() { (value / unit).round_ties_even() * unit } else { 0.0 }
        }
    }
}
