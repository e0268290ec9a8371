//! Functions that every template finds, and how arguments reach their parameters.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::Fault;
use super::execute::{Interpreter, Loop};
use super::value::{Dict, Value, range_len};

/// The longest range, as Jinja's sandbox has it.
const LONGEST_RANGE: usize = 100_000;

/// The arguments of a call.
pub(super) struct Arguments {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

impl Arguments {
    /// Takes a named argument.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(have, _)| &**have == name)?;
        Some(self.named.remove(at).1)
    }

    /// The arguments by their parameters, the first `required` of which must be there.
    pub fn bind<const N: usize>(
        mut self,
        of: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N], Fault> {
        if self.positional.len() > N {
            return Err(Fault::new(format!("`{of}` takes {N} arguments at most")));
        }
        let mut positional = std::mem::take(&mut self.positional).into_iter();
        let mut bound = [const { None }; N];
        for (place, name) in bound.iter_mut().zip(names) {
            *place = positional.next();
            if place.is_none() {
                *place = self.take(name);
            }
        }
        if let Some((name, _)) = self.named.first() {
            return Err(Fault::new(format!("`{of}` takes no argument `{name}`")));
        }
        if let Some(missing) = names.iter().zip(&bound).take(required).find(|(_, value)| value.is_none()) {
            return Err(Fault::new(format!("`{of}` needs its argument `{}`", missing.0)));
        }
        Ok(bound)
    }
}

/// A function by its name.
pub(super) fn global(name: &str) -> Option<Value> {
    ["self", "range", "dict", "namespace", "cycler", "joiner", "lipsum", "raise_exception", "strftime_now"]
        .into_iter()
        .find(|have| *have == name)
        .map(Value::Function)
}

/// Calls a function by its name.
pub(super) fn call(interpreter: &mut Interpreter, name: &str, arguments: Arguments) -> Result<Value, Fault> {
    match name {
        "range" => range(arguments),
        "dict" => dict(interpreter, arguments).map(|dict| Value::Dict(Rc::new(dict))),
        "namespace" => {
            let attributes = dict(interpreter, arguments)?;
            for (name, _) in &attributes.entries {
                check_attribute(name.as_text().map_or("", |name| name))?;
            }
            interpreter.meter.make(64)?;
            interpreter.namespaces.push(attributes);
            Ok(Value::Namespace(interpreter.namespaces.len() - 1))
        }
        "cycler" => {
            if arguments.positional.is_empty() {
                return Err(Fault::new("`cycler` needs something to cycle through"));
            }
            Value::cycler(arguments.positional)
        }
        "joiner" => {
            let [separator] = arguments.bind(name, ["sep"], 0)?;
            let separator = separator.unwrap_or_else(|| Value::text(", "));
            Ok(Value::Joiner(Rc::new((Value::tuple(vec![separator.clone()]).map(|_| separator)?, Cell::new(false)))))
        }
        "raise_exception" => {
            let [message] = arguments.bind(name, ["message"], 1)?;
            let message = interpreter.text_of(&message.unwrap_or(Value::None))?;
            Err(Fault::new(message.to_string()))
        }
        "strftime_now" => {
            let [format] = arguments.bind(name, ["format"], 1)?;
            match format.as_ref().and_then(Value::as_text) {
                Some(format) => {
                    interpreter.meter.make(16 * format.len())?;
                    Ok(Value::text(interpreter.now.format(format)))
                }
                None => Err(Fault::new("the format of `strftime_now` is no text")),
            }
        }
        "self" => Err(Fault::new("`self` holds the template's blocks: it cannot be called")),
        _ => Err(Fault::new(format!("`{name}` makes text by chance, which no prompt should: it is not provided"))),
    }
}

fn range(arguments: Arguments) -> Result<Value, Fault> {
    let [first, stop, step] = arguments.bind("range", ["start", "stop", "step"], 1)?;
    let whole = |value: Option<Value>, default: i64| match value {
        None => Ok(default),
        Some(value) => value
            .as_int()
            .and_then(|value| i64::try_from(value).ok())
            .ok_or_else(|| Fault::new(format!("{} cannot bound a range", value.kind()))),
    };
    let first = whole(first, 0)?;
    let (start, stop) = match stop {
        Some(stop) => (first, whole(Some(stop), 0)?),
        None => (0, first),
    };
    let range = [start, stop, whole(step, 1)?];
    if range[2] == 0 {
        return Err(Fault::new("the step of a range is zero"));
    }
    if range_len(&range) > LONGEST_RANGE {
        return Err(Fault::limit(format!("makes a range of more than {LONGEST_RANGE} numbers")));
    }
    Ok(Value::Range(Rc::new(range)))
}

/// A dict of another one or of pairs, and of named arguments.
pub(super) fn dict(interpreter: &mut Interpreter, arguments: Arguments) -> Result<Dict, Fault> {
    if arguments.positional.len() > 1 {
        return Err(Fault::new("`dict` takes 1 argument at most"));
    }
    let mut dict = Dict::default();
    match arguments.positional.first() {
        Some(Value::Dict(from)) => {
            interpreter.meter.make_items(3 * from.entries.len())?;
            for (key, value) in &from.entries {
                dict.set(key.clone(), value.clone())?;
            }
        }
        Some(pairs) => {
            for pair in interpreter.items(pairs)? {
                let [key, value] = <[Value; 2]>::try_from(interpreter.items(&pair)?)
                    .map_err(|_| Fault::new("a dict is made of pairs"))?;
                interpreter.meter.make_items(3)?;
                dict.set(key, value)?;
            }
        }
        None => {}
    }
    interpreter.meter.make_items(3 * arguments.named.len())?;
    for (name, value) in arguments.named {
        dict.set(Value::Text(name), value)?;
    }
    Ok(dict)
}

/// As transformers has it.
pub(super) fn check_attribute(name: &str) -> Result<(), Fault> {
    match name.starts_with('_') {
        true => Err(Fault::new(format!("a namespace's `{name}` begins with `_`, which is refused: rename it"))),
        false => Ok(()),
    }
}

/// An attribute of `loop`.
pub(super) fn loop_attribute(loop_: &Loop, name: &str) -> Option<Value> {
    let (at, length) = (loop_.at, loop_.items.len());
    let number = |value: usize| Value::Int(value as i128);
    Some(match name {
        "index" => number(at + 1),
        "index0" => number(at),
        "revindex" => number(length - at),
        "revindex0" => number(length - at - 1),
        "first" => Value::Bool(at == 0),
        "last" => Value::Bool(at + 1 == length),
        "length" => number(length),
        "depth" => number(loop_.depth + 1),
        "depth0" => number(loop_.depth),
        "previtem" => match at.checked_sub(1) {
            Some(before) => loop_.items[before].clone(),
            None => Value::undefined("there is no previous item"),
        },
        "nextitem" => match loop_.items.get(at + 1) {
            Some(next) => next.clone(),
            None => Value::undefined("there is no next item"),
        },
        _ => return None,
    })
}
