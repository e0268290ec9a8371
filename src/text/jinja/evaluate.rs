//! Expressions of a template: names, operators, attributes, items, slices and calls.

use std::rc::Rc;
use std::sync::Arc;

use super::ast::*;
use super::execute::{Interpreter, Scope};
use super::functions::Arguments;
use super::value::{Dict, Value, View, range_len};
use super::{Fault, checks, filters, functions, methods, operators};

impl Interpreter<'_> {
    pub fn evaluate(&mut self, expression: &Expr, scope: &Rc<Scope>) -> Result<Value, Fault> {
        self.meter.step(1)?;
        match expression {
            Expr::Literal(literal) => Ok(match literal {
                Literal::None => Value::None,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(value) => Value::Int(*value),
                Literal::Float(value) => Value::Float(*value),
                Literal::Text(text) => Value::Text(text.clone()),
            }),
            Expr::Name(name) => Ok(self.variable(name, scope)),
            _ => self.nested(|interpreter| interpreter.compound(expression, scope)),
        }
    }

    fn compound(&mut self, expression: &Expr, scope: &Rc<Scope>) -> Result<Value, Fault> {
        match expression {
            Expr::List(items) => {
                let items = self.all(items, scope)?;
                Value::list(items)
            }
            Expr::Tuple(items) => {
                let items = self.all(items, scope)?;
                Value::tuple(items)
            }
            Expr::Dict(entries) => {
                self.meter.make_items(3 * entries.len())?;
                let mut dict = Dict::default();
                for (key, value) in entries {
                    let key = self.evaluate(key, scope)?;
                    dict.set(key, self.evaluate(value, scope)?)?;
                }
                Ok(Value::Dict(Rc::new(dict)))
            }
            Expr::Arithmetic(first, rest) => {
                let mut value = self.evaluate(first, scope)?;
                for (operator, right) in rest {
                    let right = self.evaluate(right, scope)?;
                    value = operators::arithmetic(self, *operator, &value, &right)?;
                }
                Ok(value)
            }
            Expr::Concat(items) => {
                let mut text = String::new();
                for item in items {
                    let value = self.evaluate(item, scope)?;
                    let part = self.text_of(&value)?;
                    self.meter.make(part.len())?;
                    text.push_str(&part);
                }
                Ok(Value::text(text))
            }
            Expr::And(items) | Expr::Or(items) => {
                let until = matches!(expression, Expr::Or(_));
                let mut value = Value::None;
                for item in items {
                    value = self.evaluate(item, scope)?;
                    if value.truthy() == until {
                        break;
                    }
                }
                Ok(value)
            }
            Expr::Not(value) => Ok(Value::Bool(!self.evaluate(value, scope)?.truthy())),
            Expr::Negative(value) | Expr::Positive(value) => {
                let value = self.evaluate(value, scope)?;
                operators::sign(&value, matches!(expression, Expr::Negative(_)))
            }
            Expr::Compare(first, rest) => {
                let mut left = self.evaluate(first, scope)?;
                for (comparison, right) in rest {
                    let right = self.evaluate(right, scope)?;
                    if !operators::compare(self, *comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::If(parts, otherwise) => {
                let [test, then] = &**parts;
                if self.evaluate(test, scope)?.truthy() {
                    return self.evaluate(then, scope);
                }
                match otherwise {
                    Some(otherwise) => self.evaluate(otherwise, scope),
                    None => Ok(Value::Undefined(None)),
                }
            }
            Expr::Postfix(first, suffixes) => {
                // `self.name()` is the text of a block.
                if let (Expr::Name(name), [Suffix::Attribute(block), Suffix::Call(_), rest @ ..]) =
                    (&**first, suffixes.as_slice())
                    && &**name == "self"
                    && matches!(self.variable(name, scope), Value::Function("self"))
                {
                    let text = self.own_block(block)?;
                    return self.suffixes(Value::text(text), rest, scope);
                }
                let value = self.evaluate(first, scope)?;
                self.suffixes(value, suffixes, scope)
            }
            Expr::Literal(_) | Expr::Name(_) => Ok(Value::None),
        }
    }

    fn all(&mut self, items: &[Expr], scope: &Rc<Scope>) -> Result<Vec<Value>, Fault> {
        self.meter.make_items(items.len())?;
        items.iter().map(|item| self.evaluate(item, scope)).collect()
    }

    /// A value with what stands behind it.
    pub fn suffixes(&mut self, value: Value, suffixes: &[Suffix], scope: &Rc<Scope>) -> Result<Value, Fault> {
        let mut value = value;
        for suffix in suffixes {
            self.meter.step(1)?;
            value = match suffix {
                Suffix::Attribute(name) => self.attribute(&value, name)?,
                Suffix::Item(index) => {
                    let index = self.evaluate(index, scope)?;
                    self.item(&value, &index)?
                }
                Suffix::Slice(parts) => {
                    let mut bounds = [None; 3];
                    for (bound, part) in bounds.iter_mut().zip(&**parts) {
                        *bound = match part.as_ref().map(|part| self.evaluate(part, scope)).transpose()? {
                            None | Some(Value::None) => None,
                            Some(value) => Some(
                                value
                                    .as_int()
                                    .ok_or_else(|| Fault::new(format!("{} cannot bound a slice", value.kind())))?,
                            ),
                        };
                    }
                    self.slice(&value, bounds)?
                }
                Suffix::Call(args) => {
                    let arguments = self.arguments(args, scope)?;
                    self.call(&value, arguments)?
                }
                Suffix::Filter(name, args) => {
                    let arguments = self.arguments(args, scope)?;
                    filters::apply(self, name, value, arguments)?
                }
                Suffix::Test { name, args, negated } => {
                    let arguments = self.arguments(args, scope)?;
                    Value::Bool(checks::apply(self, name, &value, arguments)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// A call whose last call gets a `caller`.
    pub fn call_with(&mut self, call: &Expr, caller: Value, scope: &Rc<Scope>) -> Result<Value, Fault> {
        let Expr::Postfix(first, suffixes) = call else { return Err(Fault::new("`{% call %}` calls nothing")) };
        let Some((Suffix::Call(args), before)) = suffixes.split_last() else {
            return Err(Fault::new("`{% call %}` calls nothing"));
        };
        let value = self.evaluate(first, scope)?;
        let value = self.suffixes(value, before, scope)?;
        let mut arguments = self.arguments(args, scope)?;
        arguments.named.push(("caller".into(), caller));
        self.call(&value, arguments)
    }

    fn arguments(&mut self, args: &Args, scope: &Rc<Scope>) -> Result<Arguments, Fault> {
        let mut arguments = Arguments { positional: self.all(&args.positional, scope)?, named: vec![] };
        for (name, value) in &args.named {
            arguments.named.push((name.clone(), self.evaluate(value, scope)?));
        }
        if let Some(list) = &args.list {
            let list = self.evaluate(list, scope)?;
            arguments.positional.extend(self.items(&list)?);
        }
        if let Some(dict) = &args.dict {
            let Value::Dict(dict) = self.evaluate(dict, scope)? else {
                return Err(Fault::new("what follows `**` in a call is no dict"));
            };
            self.meter.make_items(2 * dict.entries.len())?;
            for (name, value) in &dict.entries {
                let name = name.as_text().ok_or_else(|| Fault::new("an argument's name is no text"))?;
                if arguments.named.iter().any(|(have, _)| have == name) {
                    return Err(Fault::new(format!("the argument `{name}` is given twice")));
                }
                arguments.named.push((name.clone(), value.clone()));
            }
        }
        Ok(arguments)
    }

    /// Calls a value.
    pub fn call(&mut self, value: &Value, arguments: Arguments) -> Result<Value, Fault> {
        match value {
            Value::Macro(number) => self.call_macro(*number, arguments),
            Value::Function(name) => functions::call(self, name, arguments),
            Value::Method(method) => methods::call(self, &method.0, &method.1, arguments),
            Value::Loop(number) => {
                let [items] = arguments.bind("loop", ["iterable"], 1)?;
                self.recurse(*number, items.unwrap_or(Value::None))
            }
            Value::Joiner(joiner) => {
                let first = !joiner.1.replace(true);
                Ok(if first { Value::text("") } else { joiner.0.clone() })
            }
            Value::Undefined(name) => Err(undefined(name)),
            other => Err(Fault::new(format!("{} cannot be called", other.kind()))),
        }
    }

    /// `value.name`: a method, else an item.
    pub fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Value, Fault> {
        match value {
            Value::Undefined(of) => return Err(undefined_attribute(of, name)),
            _ if methods::changes(value, name) => return Ok(Value::undefined(name)),
            _ => {}
        }
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        Ok(match value {
            Value::Dict(dict) => dict.named(name).cloned(),
            _ => None,
        }
        .unwrap_or_else(|| Value::Undefined(Some(name.clone()))))
    }

    /// An attribute that a value has as an object, not as a container.
    pub fn own_attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Option<Value>, Fault> {
        if methods::exists(value, name) {
            return Value::method(value.clone(), name).map(Some);
        }
        Ok(match value {
            Value::Namespace(number) => self.namespaces[*number].named(name).cloned(),
            Value::Loop(number) => functions::loop_attribute(&self.loops[*number], name),
            Value::Macro(number) => {
                let definition = &self.macros[*number].0;
                match &**name {
                    "name" => Some(Value::Text(definition.name.clone())),
                    "arguments" => {
                        let names = definition.parameters.iter().map(|(name, _)| Value::Text(name.clone()));
                        Some(Value::tuple(names.collect())?)
                    }
                    "catch_kwargs" => Some(Value::Bool(definition.takes_kwargs)),
                    "catch_varargs" => Some(Value::Bool(definition.takes_varargs)),
                    "caller" => Some(Value::Bool(definition.takes_caller)),
                    _ => None,
                }
            }
            Value::Cycler(cycler) if &**name == "current" => cycler.items.get(cycler.at.get()).cloned(),
            Value::Tuple(pair) if pair.group => match &**name {
                "grouper" => Some(pair.items[0].clone()),
                "list" => Some(pair.items[1].clone()),
                _ => None,
            },
            Value::Range(range) => match &**name {
                "start" => Some(Value::Int(range[0].into())),
                "stop" => Some(Value::Int(range[1].into())),
                "step" => Some(Value::Int(range[2].into())),
                _ => None,
            },
            Value::Int(_) | Value::Bool(_) | Value::Float(_) if &**name == "real" => {
                Some(value.as_int().map_or_else(|| value.clone(), Value::Int))
            }
            _ => None,
        })
    }

    /// `value[index]`: an item, else a method.
    pub fn item(&mut self, value: &Value, index: &Value) -> Result<Value, Fault> {
        if let Value::Undefined(of) = value {
            return Err(undefined_attribute(of, &self.text_of(index)?));
        }
        let place = |length: usize| {
            let at = index.as_int()?;
            let at = if at < 0 { at + length as i128 } else { at };
            usize::try_from(at).ok().filter(|at| *at < length)
        };
        let found = match value {
            Value::List(list) | Value::Tuple(list) => place(list.items.len()).map(|at| list.items[at].clone()),
            Value::Dict(dict) => match index.key() {
                Ok(_) => dict.get(index)?.cloned(),
                Err(_) => None,
            },
            Value::Text(text) | Value::Markup(text) if index.as_int().is_some() => {
                self.meter.read(text.len())?;
                place(text.chars().count()).and_then(|at| text.chars().nth(at)).map(|c| Value::text(c.to_string()))
            }
            Value::Range(range) => {
                place(range_len(range)).map(|at| Value::Int(i128::from(range[0]) + at as i128 * i128::from(range[2])))
            }
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(name) = index.as_text() {
            if methods::changes(value, name) {
                return Ok(Value::undefined(name));
            }
            if let Some(found) = self.own_attribute(value, name)? {
                return Ok(found);
            }
        }
        let name = self.text_of(index)?;
        Ok(Value::Undefined(Some(name)))
    }

    fn slice(&mut self, value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Result<Value, Fault> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Fault::new("the step of a slice is zero"));
        }
        let bounds = |length: usize| {
            let length = length as i128;
            let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
            let bound = |bound: i128| if bound < 0 { bound.saturating_add(length) } else { bound }.clamp(least, most);
            let begin = start.map_or(if step > 0 { 0 } else { most }, bound);
            (begin, stop.map_or(if step > 0 { length } else { -1 }, bound))
        };
        let places = |length: usize| {
            let (mut at, end) = bounds(length);
            std::iter::from_fn(move || {
                let inside = if step > 0 { at < end } else { at > end };
                let here = usize::try_from(at).ok().filter(|_| inside)?;
                at = at.saturating_add(step);
                Some(here)
            })
        };
        match value {
            Value::List(list) | Value::Tuple(list) => {
                self.meter.make_items(places(list.items.len()).count())?;
                let items = places(list.items.len()).map(|at| list.items[at].clone()).collect();
                if matches!(value, Value::List(_)) { Value::list(items) } else { Value::tuple(items) }
            }
            Value::Text(text) | Value::Markup(text) => {
                self.meter.make(4 * text.len())?;
                let chars: Vec<char> = text.chars().collect();
                Ok(Value::text(places(chars.len()).map(|at| chars[at]).collect::<String>()))
            }
            Value::Range(range) => {
                let (begin, end) = bounds(range_len(range));
                let [first, .., each] = range.map(i128::from);
                let limited = |bound: i128| bound.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                let place = |at: i128| limited(first.saturating_add(at.saturating_mul(each)));
                Ok(Value::Range(Rc::new([place(begin), place(end), limited(each.saturating_mul(step))])))
            }
            Value::Undefined(name) => Err(undefined(name)),
            other => Err(Fault::new(format!("{} has no slices", other.kind()))),
        }
    }

    /// The values that a loop over a value has.
    pub fn items(&self, value: &Value) -> Result<Vec<Value>, Fault> {
        match value {
            Value::List(list) | Value::Tuple(list) => {
                self.meter.make_items(list.items.len())?;
                Ok(list.items.clone())
            }
            Value::Dict(dict) => {
                self.meter.make_items(dict.entries.len())?;
                Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            Value::View(view, dict) => {
                self.meter.make_items(3 * dict.entries.len())?;
                (0..).map_while(|at| dict.view(*view, at)).collect()
            }
            Value::Text(text) | Value::Markup(text) => {
                self.meter.make_items(2 * text.len())?;
                Ok(text.chars().map(|c| Value::text(c.encode_utf8(&mut [0; 4]) as &str)).collect())
            }
            Value::Range(range) => {
                self.meter.make_items(range_len(range))?;
                let at = |n: usize| Value::Int(i128::from(range[0]) + n as i128 * i128::from(range[2]));
                Ok((0..range_len(range)).map(at).collect())
            }
            Value::Stream(stream) => Ok(std::mem::take(&mut *stream.items.borrow_mut()).into()),
            Value::Undefined(_) => Ok(vec![]),
            Value::Loop(number) => Ok(self.loops[*number].items.clone()),
            other => Err(Fault::new(format!("{} cannot be iterated over", other.kind()))),
        }
    }

    /// The count of a value's items.
    pub fn length(&self, value: &Value) -> Result<usize, Fault> {
        match value {
            Value::List(list) | Value::Tuple(list) => Ok(list.items.len()),
            Value::Dict(dict) | Value::View(_, dict) => Ok(dict.entries.len()),
            Value::Text(text) | Value::Markup(text) => {
                self.meter.read(text.len())?;
                Ok(text.chars().count())
            }
            Value::Range(range) => Ok(range_len(range)),
            Value::Undefined(_) => Ok(0),
            Value::Loop(number) => Ok(self.loops[*number].items.len()),
            other => Err(Fault::new(format!("{} has no length", other.kind()))),
        }
    }
}

/// A use of what is not there.
pub(super) fn undefined(name: &Option<Arc<str>>) -> Fault {
    match name {
        Some(name) => Fault::new(format!("`{name}` is undefined")),
        None => Fault::new("an inline `if` without `else` is undefined"),
    }
}

fn undefined_attribute(of: &Option<Arc<str>>, name: &str) -> Fault {
    let of = of.as_deref().unwrap_or("an inline `if`");
    Fault::new(format!("`{of}` is undefined, and so it has no `{name}`"))
}

/// The view of a dict that a method gives.
pub(super) fn view(name: &str) -> Option<View> {
    match name {
        "keys" => Some(View::Keys),
        "values" => Some(View::Values),
        "items" => Some(View::Items),
        _ => None,
    }
}
