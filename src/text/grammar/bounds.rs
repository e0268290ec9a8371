//! Bounds of a grammar, checked before anything is made of it. The compiler goes into a definition from within the one that
//! refers to it, and its stack is that of the caller; some checks of a schema take time with the square of its parts.

use serde_json::{Deserializer, Value};

use super::GrammarSource;

/// Most bytes of a grammar.
pub(super) const MOST_BYTES: usize = 1 << 17;
/// Most alternatives of a choice.
const MOST_CHOICES: usize = 4096;
/// Most definitions of a grammar in Lark's notation, and most places that a schema refers to.
const MOST_DEFINITIONS: usize = 128;
/// Most patterns of properties in a schema; each is compared with each.
const MOST_PATTERNS: usize = 32;
/// Most properties of a schema.
const MOST_PROPERTIES: usize = 1024;
/// The largest `multipleOf`: the automaton has a state for each remainder.
const LARGEST_MULTIPLE: f64 = 1e4;

/// Refuses a grammar that is beyond them.
pub(super) fn check(source: &GrammarSource) -> Result<(), String> {
    let bytes = match source {
        GrammarSource::JsonSchema(schema) => schema.to_string().len(),
        GrammarSource::Regex(text) | GrammarSource::Lark(text) => text.len(),
        GrammarSource::Choice(texts) => texts.iter().map(String::len).sum(),
    };
    most("bytes", bytes, MOST_BYTES)?;
    match source {
        GrammarSource::JsonSchema(schema) => check_schema(schema),
        GrammarSource::Lark(text) => check_lark(text),
        GrammarSource::Choice(texts) if texts.is_empty() => Err("a choice of no texts".into()),
        GrammarSource::Choice(texts) => most("texts", texts.len(), MOST_CHOICES),
        GrammarSource::Regex(_) => Ok(()),
    }
}

fn most(what: &str, count: usize, most: usize) -> Result<(), String> {
    if count > most { Err(format!("it has {count} {what}, and may have {most}")) } else { Ok(()) }
}

/// Counts what a schema has in all its parts.
#[derive(Default)]
struct Parts<'a> {
    references: Vec<&'a str>,
    patterns: usize,
    properties: usize,
    largest_multiple: f64,
}

fn check_schema(schema: &Value) -> Result<(), String> {
    let mut parts = Parts::default();
    parts.count(schema);
    parts.references.sort_unstable();
    parts.references.dedup();
    most("different `$ref`s", parts.references.len(), MOST_DEFINITIONS)?;
    most("`patternProperties`", parts.patterns, MOST_PATTERNS)?;
    most("properties", parts.properties, MOST_PROPERTIES)?;
    if parts.largest_multiple > LARGEST_MULTIPLE {
        return Err(format!("its `multipleOf` may be {LARGEST_MULTIPLE} at most"));
    }
    Ok(())
}

impl<'a> Parts<'a> {
    /// Adds those of a value; JSON that was parsed is not deep.
    fn count(&mut self, value: &'a Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.count(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(to)) => self.references.push(to),
                        ("patternProperties", Value::Object(patterns)) => self.patterns += patterns.len(),
                        ("properties", Value::Object(properties)) => self.properties += properties.len(),
                        ("multipleOf", Value::Number(number)) => {
                            let number = number.as_f64().unwrap_or(f64::INFINITY).abs();
                            self.largest_multiple = self.largest_multiple.max(number);
                        }
                        _ => {}
                    }
                    self.count(value);
                }
            }
            _ => {}
        }
    }
}

/// Definitions are on lines of their own, in front of a colon. Schemas may stand among them.
fn check_lark(text: &str) -> Result<(), String> {
    let (mut rest, mut colons) = (text, 0);
    while let Some((before, after)) = rest.split_once("%json") {
        colons += before.matches(':').count();
        let mut values = Deserializer::from_str(after).into_iter::<Value>();
        match values.next() {
            Some(Ok(schema)) => {
                check_schema(&schema)?;
                rest = &after[values.byte_offset()..];
            }
            _ => return Err("no JSON follows `%json`".into()),
        }
    }
    most("definitions or colons", colons + rest.matches(':').count(), MOST_DEFINITIONS)
}
