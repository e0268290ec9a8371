//! Values as Python's `str` and `repr` write them.

use std::sync::Arc;

use super::Fault;
use super::execute::Interpreter;
use super::value::{Value, View};

/// Levels of a value that are written: a namespace can hold itself.
pub(super) const DEEPEST: usize = 200;

impl Interpreter<'_> {
    /// A value as a text.
    pub fn text_of(&self, value: &Value) -> Result<Arc<str>, Fault> {
        if let Some(text) = value.as_text() {
            return Ok(text.clone());
        }
        let mut text = String::new();
        self.written_into(value, &mut text)?;
        Ok(text.into())
    }

    /// Appends `str(value)`.
    pub fn written_into(&self, value: &Value, out: &mut String) -> Result<(), Fault> {
        match value {
            Value::Undefined(_) => Ok(()),
            Value::Text(text) | Value::Markup(text) => self.append(text, out),
            other => self.represent(other, out, 0),
        }
    }

    /// `repr(value)`.
    pub fn representation(&self, value: &Value) -> Result<String, Fault> {
        let mut text = String::new();
        self.represent(value, &mut text, 0)?;
        Ok(text)
    }

    fn append(&self, text: &str, out: &mut String) -> Result<(), Fault> {
        self.meter.make(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn represent(&self, value: &Value, out: &mut String, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Err(Fault::limit(format!("writes a value of more than {DEEPEST} levels: does it hold itself?")));
        }
        match value {
            Value::Undefined(_) => self.append("Undefined", out),
            Value::None => self.append("None", out),
            Value::Bool(true) => self.append("True", out),
            Value::Bool(false) => self.append("False", out),
            Value::Int(value) => self.append(&value.to_string(), out),
            Value::Float(value) => self.append(&float(*value), out),
            Value::Text(text) => self.quoted(text, out),
            Value::Markup(text) => {
                self.append("Markup(", out)?;
                self.quoted(text, out)?;
                self.append(")", out)
            }
            Value::List(list) => self.sequence("[", &list.items, "]", out, depth),
            Value::Tuple(list) if list.items.len() == 1 => self.sequence("(", &list.items, ",)", out, depth),
            Value::Tuple(list) => self.sequence("(", &list.items, ")", out, depth),
            Value::Dict(dict) => self.entries(&dict.entries, out, depth),
            Value::Namespace(number) => {
                self.append("<Namespace ", out)?;
                self.entries(&self.namespaces[*number].entries, out, depth)?;
                self.append(">", out)
            }
            Value::Range(range) => {
                let [start, stop, step] = **range;
                let step = if step == 1 { String::new() } else { format!(", {step}") };
                self.append(&format!("range({start}, {stop}{step})"), out)
            }
            Value::View(view, dict) => {
                let name = match view {
                    View::Keys => "dict_keys([",
                    View::Values => "dict_values([",
                    View::Items => "dict_items([",
                };
                let items: Vec<Value> = (0..).map_while(|at| dict.view(*view, at)).collect::<Result<_, _>>()?;
                self.sequence(name, &items, "])", out, depth)
            }
            Value::Macro(number) => {
                let name = self.macros[*number].0.name.clone();
                self.append("<Macro ", out)?;
                self.quoted(&name, out)?;
                self.append(">", out)
            }
            Value::Loop(number) => {
                let (at, length) = (self.loops[*number].at + 1, self.loops[*number].items.len());
                self.append(&format!("<LoopContext {at}/{length}>"), out)
            }
            // Python writes their addresses.
            Value::Stream(_) | Value::Method(_) | Value::Function(_) | Value::Cycler(_) | Value::Joiner(_) => {
                Err(Fault::new(format!("{} cannot be written: call it, or make a list of it", value.kind())))
            }
        }
    }

    fn sequence(&self, begin: &str, items: &[Value], end: &str, out: &mut String, depth: usize) -> Result<(), Fault> {
        self.append(begin, out)?;
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.append(", ", out)?;
            }
            self.represent(item, out, depth + 1)?;
        }
        self.append(end, out)
    }

    fn entries(&self, entries: &[(Value, Value)], out: &mut String, depth: usize) -> Result<(), Fault> {
        self.append("{", out)?;
        for (at, (key, value)) in entries.iter().enumerate() {
            if at > 0 {
                self.append(", ", out)?;
            }
            self.represent(key, out, depth + 1)?;
            self.append(": ", out)?;
            self.represent(value, out, depth + 1)?;
        }
        self.append("}", out)
    }

    fn quoted(&self, text: &str, out: &mut String) -> Result<(), Fault> {
        self.meter.make(text.len() + 2)?;
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        out.push(quote);
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c == quote => out.extend(['\\', c]),
                c if printable(c) => out.push(c),
                c => {
                    let code = u32::from(c);
                    let escaped = match code {
                        0..=0xff => format!("\\x{code:02x}"),
                        0x100..=0xffff => format!("\\u{code:04x}"),
                        _ => format!("\\U{code:08x}"),
                    };
                    self.meter.make(escaped.len())?;
                    out.push_str(&escaped);
                }
            }
        }
        out.push(quote);
        Ok(())
    }
}

/// Python's `str.isprintable` of a character, but for characters that Unicode has not assigned.
pub(super) fn printable(c: char) -> bool {
    let invisible = matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f
        | 0x2028..=0x202e | 0x2060..=0x206f | 0xd800..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff
        | 0x110bd | 0x110cd | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff | 0xf0000..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible)
}

/// A number as Python writes it: the fewest digits that say it, an exponent where it is below -4 or above 15.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
