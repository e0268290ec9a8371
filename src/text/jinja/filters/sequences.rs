//! Filters of lists, dicts and whatever can be iterated over.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::super::evaluate::undefined;
use super::super::execute::Interpreter;
use super::super::functions::Arguments;
use super::super::value::{List, Value, View};
use super::super::{Fault, checks, operators};
use super::{size, text};

pub(super) fn apply(
    interpreter: &mut Interpreter,
    name: &str,
    value: &Value,
    arguments: Arguments,
) -> Result<Value, Fault> {
    match name {
        "length" | "count" => {
            let [] = arguments.bind(name, [], 0)?;
            Ok(Value::Int(interpreter.length(value)? as i128))
        }
        "items" => {
            let [] = arguments.bind(name, [], 0)?;
            match value {
                Value::Undefined(_) => Value::stream(vec![]),
                Value::Dict(dict) => {
                    let pairs = interpreter.items(&Value::View(View::Items, dict.clone()))?;
                    Value::stream(pairs)
                }
                other => Err(Fault::new(format!("`items` takes a dict, not {}", other.kind()))),
            }
        }
        "list" => {
            let [] = arguments.bind(name, [], 0)?;
            Value::list(interpreter.items(value)?)
        }
        "first" | "last" | "random" => {
            let [] = arguments.bind(name, [], 0)?;
            if let (Value::Stream(stream), "first") = (value, name) {
                let first = stream.items.borrow_mut().pop_front();
                return Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")));
            }
            if !matches!(name, "first") && matches!(value, Value::Stream(_)) {
                return Err(Fault::new(format!("`{name}` takes a list, not a generator")));
            }
            let items = interpreter.items(value)?;
            let found = match name {
                "first" => items.first(),
                "last" => items.last(),
                _ => items.get(interpreter.now.microsecond as usize % items.len().max(1)),
            };
            Ok(found.cloned().unwrap_or_else(|| Value::undefined("the first, last or random item of an empty list")))
        }
        "reverse" => {
            let [] = arguments.bind(name, [], 0)?;
            if let Some(text) = value.as_text() {
                interpreter.meter.make(text.len())?;
                return Ok(Value::text(text.chars().rev().collect::<String>()));
            }
            let mut items = interpreter.items(value)?;
            items.reverse();
            if matches!(value, Value::Stream(_)) { Value::list(items) } else { Value::stream(items) }
        }
        "join" => {
            let [separator, attribute] = arguments.bind(name, ["d", "attribute"], 0)?;
            let separator = interpreter.text_of(&separator.unwrap_or_else(|| Value::text("")))?;
            let mut out = String::new();
            for (at, item) in interpreter.items(value)?.into_iter().enumerate() {
                let item = match &attribute {
                    None | Some(Value::None) => item,
                    Some(attribute) => get(interpreter, &item, attribute, None)?,
                };
                let item = interpreter.text_of(&item)?;
                interpreter.meter.make(item.len() + separator.len())?;
                if at > 0 {
                    out.push_str(&separator);
                }
                out.push_str(&item);
            }
            Ok(Value::text(out))
        }
        "map" => map(interpreter, value, arguments),
        "select" | "reject" | "selectattr" | "rejectattr" => select(interpreter, name, value, arguments),
        "batch" => {
            let [count, fill] = arguments.bind(name, ["linecount", "fill_with"], 1)?;
            let count = size(name, count, 0)?;
            let fill = fill.filter(|fill| !matches!(fill, Value::None));
            let items = interpreter.items(value)?;
            if count == 0 {
                return match items.is_empty() {
                    true => Value::stream(vec![]),
                    false => Err(Fault::new("`batch` takes a size of at least 1")),
                };
            }
            let mut rows = vec![];
            for row in items.chunks(count) {
                let mut row = row.to_vec();
                if let Some(fill) = &fill {
                    interpreter.meter.make_items(count - row.len())?;
                    row.resize(count, fill.clone());
                }
                rows.push(Value::list(row)?);
            }
            Value::stream(rows)
        }
        "slice" => {
            let [count, fill] = arguments.bind(name, ["slices", "fill_with"], 1)?;
            let count = size(name, count, 0)?;
            let fill = fill.filter(|fill| !matches!(fill, Value::None));
            let items = interpreter.items(value)?;
            if count == 0 {
                return Err(Fault::new("`slice` takes at least 1 slice"));
            }
            interpreter.meter.make_items(count.saturating_mul(3))?;
            let (per, more) = (items.len() / count, items.len() % count);
            let mut slices = Vec::with_capacity(count);
            let mut from = 0;
            for at in 0..count {
                let length = per + usize::from(at < more);
                let mut slice = items[from..from + length].to_vec();
                from += length;
                if at >= more
                    && let Some(fill) = &fill
                {
                    slice.push(fill.clone());
                }
                slices.push(Value::list(slice)?);
            }
            Value::stream(slices)
        }
        "sum" => {
            let [attribute, start] = arguments.bind(name, ["attribute", "start"], 0)?;
            let mut sum = start.unwrap_or(Value::Int(0));
            if sum.as_text().is_some() {
                return Err(Fault::new("`sum` adds no texts: use `join`"));
            }
            for item in interpreter.items(value)? {
                let item = match &attribute {
                    None | Some(Value::None) => item,
                    Some(attribute) => get(interpreter, &item, attribute, None)?,
                };
                sum = operators::arithmetic(interpreter, super::super::ast::Operator::Add, &sum, &item)?;
            }
            Ok(sum)
        }
        "min" | "max" => {
            let [case, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
            let items = interpreter.items(value)?;
            let keyed = keyed(interpreter, items, attribute.as_ref(), case)?;
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut best: Option<(Value, Value)> = None;
            for (key, item) in keyed {
                let better = match &best {
                    None => true,
                    Some((have, _)) => operators::order(interpreter, &key, have, 0)? == Some(wanted),
                };
                if better {
                    best = Some((key, item));
                }
            }
            Ok(best.map_or_else(|| Value::undefined("the least or the most of an empty list"), |(_, item)| item))
        }
        "sort" => {
            let [reverse, case, attribute] = arguments.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
            let items = interpreter.items(value)?;
            let mut keyed = keyed_many(interpreter, items, attribute.as_ref(), case)?;
            sort(interpreter, &mut keyed, reverse.is_some_and(|reverse| reverse.truthy()))?;
            Value::list(keyed.into_iter().map(|(_, item)| item).collect())
        }
        "unique" => {
            let [case, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
            let items = interpreter.items(value)?;
            let mut seen = HashSet::new();
            let mut kept = vec![];
            for (key, item) in keyed(interpreter, items, attribute.as_ref(), case)? {
                if seen.insert(key.key()?) {
                    kept.push(item);
                }
            }
            Value::stream(kept)
        }
        "groupby" => {
            let [attribute, default, case] = arguments.bind(name, ["attribute", "default", "case_sensitive"], 1)?;
            let attribute = attribute.unwrap_or(Value::None);
            let folds = !case.is_some_and(|case| case.truthy());
            let mut keyed = vec![];
            for item in interpreter.items(value)? {
                let key = get(interpreter, &item, &attribute, default.as_ref())?;
                keyed.push((if folds { fold(key) } else { key }, item));
            }
            sort(interpreter, &mut keyed, false)?;
            let mut groups: Vec<(Value, Vec<Value>)> = vec![];
            for (key, item) in keyed {
                match groups.last_mut() {
                    Some((have, items)) if operators::equal(interpreter, have, &key, 0)? => items.push(item),
                    _ => groups.push((key, vec![item])),
                }
            }
            let mut out = vec![];
            for (key, items) in groups {
                // Folded or not, the group is named as its first item has it.
                let key = if folds { get(interpreter, &items[0], &attribute, default.as_ref())? } else { key };
                out.push(List::group(key, Value::list(items)?)?);
            }
            Value::list(out)
        }
        "dictsort" => {
            let [case, by, reverse] = arguments.bind(name, ["case_sensitive", "by", "reverse"], 0)?;
            let Value::Dict(dict) = value else {
                return Err(match value {
                    Value::Undefined(name) => undefined(name),
                    other => Fault::new(format!("`dictsort` takes a dict, not {}", other.kind())),
                });
            };
            let by = text(name, by, "key")?;
            let fold_case = !case.is_some_and(|case| case.truthy());
            let mut keyed = vec![];
            for (key, value) in &dict.entries {
                let by = match &*by {
                    "key" => key.clone(),
                    "value" => value.clone(),
                    _ => return Err(Fault::new("`dictsort` sorts by `key` or by `value`")),
                };
                let pair = Value::tuple(vec![key.clone(), value.clone()])?;
                keyed.push((if fold_case { fold(by) } else { by }, pair));
            }
            interpreter.meter.make_items(4 * keyed.len())?;
            sort(interpreter, &mut keyed, reverse.is_some_and(|reverse| reverse.truthy()))?;
            Value::list(keyed.into_iter().map(|(_, pair)| pair).collect())
        }
        _ => Err(Fault::new(format!("the filter `{name}` is unknown"))),
    }
}

/// Lower case, where it is a text.
fn fold(value: Value) -> Value {
    match value.as_text() {
        Some(text) => Value::text(text.to_lowercase()),
        None => value,
    }
}

/// An attribute of an item: a number, or names and numbers with dots between them.
fn get(
    interpreter: &mut Interpreter,
    item: &Value,
    attribute: &Value,
    default: Option<&Value>,
) -> Result<Value, Fault> {
    let mut value = item.clone();
    let parts: Vec<Value> = match attribute.as_text() {
        Some(path) => path
            .split('.')
            .map(|part| match part.parse::<u32>() {
                Ok(index) => Value::Int(index.into()),
                Err(_) => Value::text(part),
            })
            .collect(),
        None => vec![attribute.clone()],
    };
    for part in parts {
        value = interpreter.item(&value, &part)?;
        if let (true, Some(default)) = (value.is_undefined(), default) {
            value = default.clone();
        }
    }
    Ok(value)
}

/// Items with what they are compared by.
fn keyed(
    interpreter: &mut Interpreter,
    items: Vec<Value>,
    attribute: Option<&Value>,
    case: Option<Value>,
) -> Result<Vec<(Value, Value)>, Fault> {
    let folds = !case.is_some_and(|case| case.truthy());
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let key = match attribute {
            None | Some(Value::None) => item.clone(),
            Some(attribute) => get(interpreter, &item, attribute, None)?,
        };
        keyed.push((if folds { fold(key) } else { key }, item));
    }
    Ok(keyed)
}

/// The same, by lists of keys: one for each attribute, with commas between their names. Keys that are equal, as none
/// is to none, need no order.
fn keyed_many(
    interpreter: &mut Interpreter,
    items: Vec<Value>,
    attribute: Option<&Value>,
    case: Option<Value>,
) -> Result<Vec<(Value, Value)>, Fault> {
    let attributes: Vec<Value> = match attribute {
        None | Some(Value::None) => vec![],
        Some(attribute) => match attribute.as_text() {
            Some(paths) => paths.split(',').map(Value::text).collect(),
            None => vec![attribute.clone()],
        },
    };
    let folds = !case.is_some_and(|case| case.truthy());
    let folded = |key: Value| if folds { fold(key) } else { key };
    let mut keyed = vec![];
    for item in items {
        let mut keys = vec![];
        for attribute in &attributes {
            keys.push(folded(get(interpreter, &item, attribute, None)?));
        }
        if attributes.is_empty() {
            keys.push(folded(item.clone()));
        }
        interpreter.meter.make_items(keys.len())?;
        keyed.push((Value::list(keys)?, item));
    }
    Ok(keyed)
}

/// Sorts by the keys; equal ones stay in their order.
fn sort(interpreter: &Interpreter, keyed: &mut [(Value, Value)], reverse: bool) -> Result<(), Fault> {
    let mut fault = None;
    keyed.sort_by(|a, b| {
        if fault.is_some() {
            return Ordering::Equal;
        }
        let order = match operators::order(interpreter, &a.0, &b.0, 0) {
            Ok(order) => order.unwrap_or(Ordering::Equal),
            Err(found) => {
                fault = Some(found);
                Ordering::Equal
            }
        };
        if reverse { order.reverse() } else { order }
    });
    fault.map_or(Ok(()), Err)
}

fn map(interpreter: &mut Interpreter, value: &Value, mut arguments: Arguments) -> Result<Value, Fault> {
    // Jinja looks at no more of what is false, none among it.
    if !value.truthy() {
        return Value::stream(vec![]);
    }
    let items = interpreter.items(value)?;
    let mut mapped = Vec::with_capacity(items.len());
    if arguments.positional.is_empty() && arguments.named.iter().any(|(name, _)| &**name == "attribute") {
        let [attribute, default] = arguments.bind("map", ["attribute", "default"], 1)?;
        let attribute = attribute.unwrap_or(Value::None);
        for item in items {
            mapped.push(get(interpreter, &item, &attribute, default.as_ref())?);
        }
        return Value::stream(mapped);
    }
    if arguments.positional.is_empty() {
        return Err(Fault::new("`map` needs a filter or `attribute=`"));
    }
    let name = text("map", Some(arguments.positional.remove(0)), "")?;
    for item in items {
        interpreter.meter.step(1)?;
        let arguments = Arguments { positional: arguments.positional.clone(), named: arguments.named.clone() };
        mapped.push(interpreter.nested(|interpreter| super::apply(interpreter, &name, item, arguments))?);
    }
    Value::stream(mapped)
}

fn select(interpreter: &mut Interpreter, name: &str, value: &Value, mut arguments: Arguments) -> Result<Value, Fault> {
    if !value.truthy() {
        return Value::stream(vec![]);
    }
    let items = interpreter.items(value)?;
    let wanted = name.starts_with("select");
    let attribute = match name.ends_with("attr") {
        true if arguments.positional.is_empty() => {
            return Err(Fault::new(format!("`{name}` needs the name of an attribute")));
        }
        true => Some(arguments.positional.remove(0)),
        false => None,
    };
    let test: Option<Arc<str>> = match arguments.positional.is_empty() {
        true => None,
        false => Some(text(name, Some(arguments.positional.remove(0)), "")?),
    };
    let mut kept = vec![];
    for item in items {
        interpreter.meter.step(1)?;
        let tested = match &attribute {
            Some(attribute) => get(interpreter, &item, attribute, None)?,
            None => item.clone(),
        };
        let passes = match &test {
            None => tested.truthy(),
            Some(test) => {
                let arguments = Arguments { positional: arguments.positional.clone(), named: arguments.named.clone() };
                checks::apply(interpreter, test, &tested, arguments)?
            }
        };
        if passes == wanted {
            kept.push(item);
        }
    }
    Value::stream(kept)
}
