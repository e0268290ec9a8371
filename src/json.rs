//! JSON as Python writes it.

use serde_json::Value;

/// Parses a text in which `Infinity`, `-Infinity` and `NaN` may stand bare. They become the objects
/// `{"__float__": ...}`, which transformers 5 writes.
pub(crate) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&quote_bare_floats(text))
}

/// Rewrites `Infinity`, `-Infinity` and `NaN` outside of strings to their quoted objects.
fn quote_bare_floats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some(word) = ["-Infinity", "Infinity", "NaN"].iter().find(|w| rest.starts_with(**w)) {
            out.push_str(&format!("{{\"__float__\": \"{word}\"}}"));
            rest = &rest[word.len()..];
            continue;
        }
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else {
            in_string = c == '"';
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}
