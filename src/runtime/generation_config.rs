//! The file `generation_config.json`: its fields, and wrong values of them as messages show them.

use serde_json::{Map, Value};

use crate::json;

/// The name of the file.
pub(crate) const FILE: &str = "generation_config.json";

/// Characters of a wrong value that a message repeats.
const SHOWN: usize = 40;

/// The fields of the file, or what is wrong with it.
pub(crate) fn fields(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match json::parse(&String::from_utf8_lossy(bytes)).map_err(|e| e.to_string())? {
        Value::Object(fields) => Ok(fields),
        _ => Err("it is not a JSON object".into()),
    }
}

/// A wrong value as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    let text = match value.get("__float__").and_then(Value::as_str) {
        Some(word) => word.to_owned(),
        None => value.to_string(),
    };
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push_str(" ...");
    }
    short
}
