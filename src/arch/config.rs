//! `config.json`, read with errors that name the field.

use serde_json::Value;

/// What is wrong with a config.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, even with bare `Infinity` and `NaN` allowed.
    #[error("config.json is not JSON: {0}")]
    Json(String),
    /// A field is not there.
    #[error("config.json lacks `{0}`")]
    Missing(String),
    /// A field holds something else than it should.
    #[error("config.json: `{field}` is {got}, must be {wanted}")]
    Invalid {
        /// The field.
        field: String,
        /// What it is.
        got: String,
        /// What it should be.
        wanted: String,
    },
    /// An option that is not implemented.
    #[error("config.json: `{field}` = {got} is not supported; supported: {supported}")]
    Unsupported {
        /// The field.
        field: String,
        /// What it is.
        got: String,
        /// What there is.
        supported: String,
    },
}

/// A parsed `config.json`, in either dialect.
#[derive(Clone, Debug)]
pub struct Config {
    root: Value,
}

/// Sizes above this are nonsense, and would overflow what is computed from them.
const LARGEST: u64 = 1 << 28;

impl Config {
    /// Parses the text of a `config.json`. Bare `Infinity`, `-Infinity` and `NaN`, which Python writes,
    /// become the objects `{"__float__": ...}`, which transformers 5 writes.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let root: Value =
            serde_json::from_str(&quote_bare_floats(text)).map_err(|e| ConfigError::Json(e.to_string()))?;
        if root.is_object() { Ok(Self { root }) } else { Err(ConfigError::Json("not an object".into())) }
    }

    /// The raw value of a field; `null` counts as absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.root.get(field).filter(|v| !v.is_null())
    }

    /// The config nested in a field, if there is one.
    pub fn nested(&self, field: &str) -> Option<Self> {
        self.get(field).filter(|v| v.is_object()).map(|v| Self { root: v.clone() })
    }

    fn required<'a, T>(&'a self, field: &str, found: Option<T>) -> Result<T, ConfigError> {
        found.ok_or_else(|| ConfigError::Missing(field.into()))
    }

    /// An error about a field's value.
    pub fn invalid(&self, field: &str, wanted: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { field: field.into(), got: self.show(field), wanted: wanted.into() }
    }

    /// An error about an option that is not implemented.
    pub fn unsupported(&self, field: &str, supported: impl Into<String>) -> ConfigError {
        ConfigError::Unsupported { field: field.into(), got: self.show(field), supported: supported.into() }
    }

    fn show(&self, field: &str) -> String {
        let mut text = self.get(field).map_or_else(|| "missing".to_owned(), Value::to_string);
        if text.len() > 60 {
            let end = (0..=57).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text.truncate(end);
            text.push_str("...");
        }
        text
    }

    /// A string.
    pub fn string(&self, field: &str) -> Result<&str, ConfigError> {
        let value = self.required(field, self.get(field))?;
        value.as_str().ok_or_else(|| self.invalid(field, "a string"))
    }

    /// A size of at least 1, if the field is there.
    pub fn size_opt(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64() {
            Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n as usize)),
            _ => Err(self.invalid(field, format!("an integer from 1 to {LARGEST}"))),
        }
    }

    /// A size of at least 1.
    pub fn size(&self, field: &str) -> Result<usize, ConfigError> {
        let found = self.size_opt(field)?;
        self.required(field, found)
    }

    /// A size of at least 1 under the first of several names that is there.
    pub fn size_any(&self, fields: &[&str]) -> Result<Option<usize>, ConfigError> {
        for field in fields {
            if let Some(n) = self.size_opt(field)? {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// A count that may be 0, with a default.
    pub fn count_or(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        match value.as_u64() {
            Some(n) if n <= LARGEST => Ok(n as usize),
            _ => Err(self.invalid(field, format!("an integer from 0 to {LARGEST}"))),
        }
    }

    /// A finite number, with a default.
    pub fn number_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let number = float(value).filter(|n| n.is_finite());
        number.ok_or_else(|| self.invalid(field, "a finite number"))
    }

    /// A finite number above 0, with a default.
    pub fn positive_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let number = self.number_or(field, default)?;
        if number > 0.0 { Ok(number) } else { Err(self.invalid(field, "a number above 0")) }
    }

    /// Numbers, infinities among them, if the field is there.
    pub fn numbers(&self, field: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|items| items.iter().map(float).collect());
        numbers.map(Some).ok_or_else(|| self.invalid(field, "a list of numbers"))
    }

    /// A flag, with a default.
    pub fn flag_or(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.invalid(field, "true or false"))
    }

    /// A list of indices, empty when the field is missing.
    pub fn indices(&self, field: &str) -> Result<Vec<usize>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(vec![]) };
        let index = |v: &Value| v.as_u64().filter(|&n| n <= LARGEST).map(|n| n as usize);
        let indices: Option<Vec<usize>> = value.as_array().and_then(|items| items.iter().map(index).collect());
        indices.ok_or_else(|| self.invalid(field, "a list of indices"))
    }

    /// A list of strings, if the field is there.
    pub fn strings(&self, field: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let string = |v: &Value| v.as_str().map(str::to_owned);
        let strings: Option<Vec<String>> = value.as_array().and_then(|items| items.iter().map(string).collect());
        strings.map(Some).ok_or_else(|| self.invalid(field, "a list of strings"))
    }

    /// Token ids: one, several, or none.
    pub fn token_ids(&self, field: &str) -> Result<Vec<u32>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(vec![]) };
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids = match value {
            Value::Array(items) => items.iter().map(id).collect(),
            // Some configs write -1 for none.
            one if one.as_i64() == Some(-1) => Some(vec![]),
            one => id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.invalid(field, "a token id or a list of them"))
    }

    /// `rope_theta`, from the field itself or from `rope_parameters` (transformers 5).
    pub fn rope_theta(&self, default: f64) -> Result<f64, ConfigError> {
        if self.get("rope_theta").is_none()
            && let Some(parameters) = self.nested("rope_parameters")
        {
            return parameters.positive_or("rope_theta", default);
        }
        self.positive_or("rope_theta", default)
    }

    /// Refuses a field whose value is not the one that is implemented. A missing field passes.
    pub fn expect(&self, field: &str, supported: &Value) -> Result<(), ConfigError> {
        match self.get(field) {
            Some(value) if value != supported => Err(self.unsupported(field, supported.to_string())),
            _ => Ok(()),
        }
    }
}

/// A number in either dialect.
fn float(value: &Value) -> Option<f64> {
    let text = value.get("__float__").and_then(Value::as_str);
    match text {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some("NaN") => Some(f64::NAN),
        Some(_) => None,
        None => value.as_f64(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects_of_infinity_are_read() {
        for text in [r#"{"t": [0.0, Infinity], "s": "Infinity \" NaN"}"#, r#"{"t": [0.0, {"__float__": "Infinity"}]}"#]
        {
            let config = Config::parse(text).expect("a config");
            assert_eq!(config.numbers("t"), Ok(Some(vec![0.0, f64::INFINITY])));
        }
        assert_eq!(Config::parse(r#"{"s": "NaN"}"#).expect("a config").string("s"), Ok("NaN"));
    }

    #[test]
    fn sizes_are_bounded() {
        for bad in ["0", "-3", "1.5", "\"7\"", "99999999999999", "null", "[]"] {
            let config = Config::parse(&format!("{{\"n\": {bad}}}")).expect("JSON");
            let error = config.size("n").expect_err(bad).to_string();
            assert!(error.contains("`n`"), "{error}");
        }
    }
}
