//! Values of a template: Python's, without anything that changes a list or a dict.
//!
//! Only namespaces, macros and loops can lead back to themselves: they lie with the interpreter, a value holds their
//! number. So no value is deeper than it says, and dropping one takes little stack.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::Fault;
use super::limits::VALUE_NESTING;

#[derive(Clone)]
pub(crate) enum Value {
    /// With its name, for messages.
    Undefined(Option<Arc<str>>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    /// A text that is escaped for HTML.
    Markup(Arc<str>),
    List(Rc<List>),
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    Range(Rc<[i64; 3]>),
    View(View, Rc<Dict>),
    /// Values that can be read once, as of `map`.
    Stream(Rc<Stream>),
    Namespace(usize),
    Macro(usize),
    Loop(usize),
    Method(Rc<(Value, Arc<str>)>),
    Function(&'static str),
    Cycler(Rc<Cycler>),
    Joiner(Rc<(Value, Cell<bool>)>),
}

pub(crate) struct List {
    pub items: Vec<Value>,
    depth: u16,
    /// A pair of `groupby`: its items are also named `grouper` and `list`.
    pub group: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

pub(crate) struct Stream {
    pub items: RefCell<VecDeque<Value>>,
    depth: u16,
}

pub(crate) struct Cycler {
    pub items: Vec<Value>,
    pub at: Cell<usize>,
    depth: u16,
}

/// A dict in the order in which its keys came.
#[derive(Default)]
pub(crate) struct Dict {
    pub entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: u16,
}

/// A key of a dict: 1, 1.0 and true are the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Undefined,
    Int(i128),
    Float(u64),
    Text(Arc<str>),
    /// Of a tuple, written out.
    Tuple(String),
    Thing(usize),
}

impl Value {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub fn list(items: Vec<Self>) -> Result<Self, Fault> {
        Ok(Self::List(List::new(items)?))
    }

    pub fn tuple(items: Vec<Self>) -> Result<Self, Fault> {
        Ok(Self::Tuple(List::new(items)?))
    }

    pub fn stream(items: Vec<Self>) -> Result<Self, Fault> {
        let depth = above(items.iter())?;
        Ok(Self::Stream(Rc::new(Stream { items: RefCell::new(items.into()), depth })))
    }

    pub fn cycler(items: Vec<Self>) -> Result<Self, Fault> {
        let depth = above(items.iter())?;
        Ok(Self::Cycler(Rc::new(Cycler { items, at: Cell::new(0), depth })))
    }

    pub fn method(of: Self, name: &Arc<str>) -> Result<Self, Fault> {
        above([&of].into_iter())?;
        Ok(Self::Method(Rc::new((of, name.clone()))))
    }

    pub fn undefined(name: &str) -> Self {
        Self::Undefined(Some(name.into()))
    }

    fn depth(&self) -> u16 {
        match self {
            Self::List(list) | Self::Tuple(list) => list.depth,
            Self::Dict(dict) | Self::View(_, dict) => dict.depth,
            Self::Stream(stream) => stream.depth,
            Self::Cycler(cycler) => cycler.depth,
            Self::Method(method) => method.0.depth() + 1,
            Self::Joiner(joiner) => joiner.0.depth() + 1,
            _ => 0,
        }
    }

    pub fn as_text(&self) -> Option<&Arc<str>> {
        match self {
            Self::Text(text) | Self::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number; booleans are ones.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub fn truthy(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) | Self::Markup(text) => !text.is_empty(),
            Self::List(list) | Self::Tuple(list) => !list.items.is_empty(),
            Self::Dict(dict) | Self::View(_, dict) => !dict.entries.is_empty(),
            Self::Range(range) => range_len(range) > 0,
            _ => true,
        }
    }

    /// The Python name of the type, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "none",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) | Self::Markup(_) => "a text",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Range(_) => "a range",
            Self::View(..) => "a view of a dict",
            Self::Stream(_) => "a generator",
            Self::Namespace(_) => "a namespace",
            Self::Loop(_) => "a loop",
            Self::Cycler(_) => "a cycler",
            Self::Joiner(_) => "a joiner",
            Self::Macro(_) | Self::Method(_) | Self::Function(_) => "a function",
        }
    }

    /// The same object, as Python's `is` says.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => Rc::ptr_eq(a, b),
            (Self::Dict(a), Self::Dict(b)) => Rc::ptr_eq(a, b),
            (Self::Stream(a), Self::Stream(b)) => Rc::ptr_eq(a, b),
            (Self::Range(a), Self::Range(b)) => Rc::ptr_eq(a, b),
            (Self::Namespace(a), Self::Namespace(b)) | (Self::Macro(a), Self::Macro(b)) => a == b,
            (Self::Loop(a), Self::Loop(b)) => a == b,
            (Self::Function(a), Self::Function(b)) => a == b,
            _ => false,
        }
    }

    /// As a key of a dict; a list or a dict is none.
    pub(super) fn key(&self) -> Result<Key, Fault> {
        Ok(match self {
            Self::None => Key::None,
            Self::Undefined(_) => Key::Undefined,
            Self::Bool(_) | Self::Int(_) => Key::Int(self.as_int().unwrap_or_default()),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => Key::Int(*value as i128),
            Self::Float(value) => Key::Float(value.to_bits()),
            Self::Text(text) | Self::Markup(text) => Key::Text(text.clone()),
            Self::Tuple(tuple) => {
                let mut written = String::from("(");
                for item in &tuple.items {
                    match item.key()? {
                        Key::None => written.push('N'),
                        Key::Undefined => written.push('U'),
                        Key::Int(value) => written.push_str(&format!("i{value}")),
                        Key::Float(bits) => written.push_str(&format!("f{bits}")),
                        Key::Text(text) => written.push_str(&format!("t{}:{text}", text.len())),
                        Key::Tuple(inner) => written.push_str(&inner),
                        Key::Thing(thing) => written.push_str(&format!("x{thing}")),
                    }
                    written.push(',');
                    if written.len() > 1 << 16 {
                        return Err(Fault::limit("uses a tuple of more than 64 KiB as a key".to_owned()));
                    }
                }
                written.push(')');
                Key::Tuple(written)
            }
            Self::Namespace(index) | Self::Macro(index) | Self::Loop(index) => Key::Thing(*index),
            Self::List(_) | Self::Dict(_) => {
                return Err(Fault::new(format!("{} cannot be a key of a dict or be unique", self.kind())));
            }
            _ => return Err(Fault::new(format!("{} as a key is not provided", self.kind()))),
        })
    }
}

fn above<'v>(items: impl Iterator<Item = &'v Value>) -> Result<u16, Fault> {
    let depth = items.map(Value::depth).max().map_or(1, |deepest| deepest + 1);
    if depth > VALUE_NESTING {
        return Err(Fault::limit(format!("makes a value of more than {VALUE_NESTING} levels")));
    }
    Ok(depth)
}

impl List {
    pub fn new(items: Vec<Value>) -> Result<Rc<Self>, Fault> {
        let depth = above(items.iter())?;
        Ok(Rc::new(Self { items, depth, group: false }))
    }

    pub fn group(grouper: Value, list: Value) -> Result<Value, Fault> {
        let items = vec![grouper, list];
        let depth = above(items.iter())?;
        Ok(Value::Tuple(Rc::new(Self { items, depth, group: true })))
    }
}

impl Dict {
    pub fn set(&mut self, key: Value, value: Value) -> Result<(), Fault> {
        self.depth = self.depth.max(above([&key, &value].into_iter())?);
        match self.index.entry(key.key()?) {
            std::collections::hash_map::Entry::Occupied(place) => self.entries[*place.get()].1 = value,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    pub fn get(&self, key: &Value) -> Result<Option<&Value>, Fault> {
        Ok(self.index.get(&key.key()?).map(|&at| &self.entries[at].1))
    }

    pub fn named(&self, name: &Arc<str>) -> Option<&Value> {
        self.index.get(&Key::Text(name.clone())).map(|&at| &self.entries[at].1)
    }

    pub fn view(&self, view: View, at: usize) -> Option<Result<Value, Fault>> {
        let (key, value) = self.entries.get(at)?;
        Some(match view {
            View::Keys => Ok(key.clone()),
            View::Values => Ok(value.clone()),
            View::Items => Value::tuple(vec![key.clone(), value.clone()]),
        })
    }
}

/// Count of a range's numbers.
pub(super) fn range_len(&[start, stop, step]: &[i64; 3]) -> usize {
    let (start, stop, step) = (i128::from(start), i128::from(stop), i128::from(step));
    let count = if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
    count.clamp(0, i128::from(u32::MAX)) as usize
}

/// JSON as a template sees it; counted in `bytes`.
pub(crate) fn from_json(json: &serde_json::Value, bytes: &mut usize) -> Result<Value, Fault> {
    *bytes += size_of::<Value>();
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value.into()),
            (_, Some(value)) => Value::Int(value.into()),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => {
            *bytes += text.len();
            Value::text(text.as_str())
        }
        serde_json::Value::Array(items) => {
            Value::list(items.iter().map(|item| from_json(item, bytes)).collect::<Result<_, _>>()?)?
        }
        serde_json::Value::Object(map) => {
            let mut dict = Dict::default();
            for (key, value) in map {
                *bytes += key.len();
                dict.set(Value::text(key.as_str()), from_json(value, bytes)?)?;
            }
            Value::Dict(Rc::new(dict))
        }
    })
}
