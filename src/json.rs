//! JSON as Python writes and reads it.

use serde_json::Value;

/// Parses a text in which `Infinity`, `-Infinity` and `NaN` may stand bare, and numbers beyond the range of f64, which
/// Python takes for infinite. They become the objects `{"__float__": ...}`, which transformers 5 writes. A byte order
/// mark at the beginning is passed over.
pub(crate) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&quote_bare_floats(text.trim_start_matches('\u{feff}')))
}

/// The same from bytes, which must be UTF-8.
pub(crate) fn parse_bytes(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("it is not UTF-8: {e}"))?;
    parse(text).map_err(|e| e.to_string())
}

/// Rewrites numbers that are not finite, outside of strings, to their quoted objects.
fn quote_bare_floats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some((word, length)) = bare_float(rest) {
            out.push_str(&format!("{{\"__float__\": \"{word}\"}}"));
            rest = &rest[length..];
            continue;
        }
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else {
            in_string = c == '"';
        }
        // Digits are looked at once, however many there are.
        let length = if in_string { c.len_utf8() } else { number(rest).max(c.len_utf8()) };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// The word for the number that is not finite at the beginning of a text, and its bytes there.
fn bare_float(text: &str) -> Option<(&'static str, usize)> {
    if let Some(word) = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| text.starts_with(word)) {
        return Some((word, word.len()));
    }
    let length = number(text);
    let value: f64 = text[..length].parse().ok()?;
    value.is_infinite().then_some((if value > 0.0 { "Infinity" } else { "-Infinity" }, length))
}

/// Bytes of the number at the beginning of a text; 0 where there is none.
fn number(text: &str) -> usize {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        let infinite = |sign: &str| json!({"__float__": format!("{sign}Infinity")});
        for (text, wanted) in [
            ("1e400", infinite("")),
            ("-1E+400", infinite("-")),
            ("[1e308,1e309]", json!([1e308, infinite("")])),
            (&format!("[{}]", "9".repeat(400)), json!([infinite("")])),
            ("{\"1e400\": \"-1e400 \\\" 1e400\"}", json!({"1e400": "-1e400 \" 1e400"})),
            ("[-1.5e3, 0, 1e-400]", json!([-1.5e3, 0, 0.0])),
            ("NaN", json!({"__float__": "NaN"})),
            ("\u{feff}[1]", json!([1])),
        ] {
            assert_eq!(parse(text).expect(text), wanted, "{text}");
        }
        for bad in ["1e", "--1e400", "+1e400", "1.e5", "[1e400", "1e400x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
