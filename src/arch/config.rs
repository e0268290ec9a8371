//! `config.json`, read with errors that name the field.

use serde_json::Value;

use crate::json;

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

/// Longest text that is parsed, in bytes: a value takes up to a hundred times its text.
const LONGEST: usize = 1 << 20;
/// Lengths, counts and numbers of elements above this are nonsense.
const LARGEST: usize = 1 << 28;
/// Most layers.
pub(super) const LAYERS: usize = 1 << 12;
/// Most columns of an activation. Few enough that nothing computed from widths, layers and lengths overflows.
pub(super) const WIDTH: usize = 1 << 20;
/// Most words.
pub(super) const VOCABULARY: usize = 1 << 24;
/// Most columns of an attention head; most learned tokens in front of a sequence.
pub(super) const SMALL: usize = 1 << 16;

impl Config {
    /// Parses the text of a `config.json`. Bare `Infinity`, `-Infinity` and `NaN`, which Python writes,
    /// become the objects `{"__float__": ...}`, which transformers 5 writes.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > LONGEST {
            return Err(ConfigError::Json(format!("{} bytes of text; at most {LONGEST} are read", text.len())));
        }
        let root: Value = json::parse(text).map_err(|e| ConfigError::Json(e.to_string()))?;
        if root.is_object() { Ok(Self { root }) } else { Err(ConfigError::Json("not an object".into())) }
    }

    /// The raw value of a field; `null` counts as absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.root.get(field).filter(|v| !v.is_null())
    }

    /// A config without fields.
    pub(super) fn empty() -> Self {
        Self { root: Value::Object(serde_json::Map::new()) }
    }

    /// The config with a value for a field that is missing or `null`.
    pub(super) fn with_default(&self, field: &str, value: Value) -> Self {
        let mut root = self.root.clone();
        if self.get(field).is_none() {
            root[field] = value;
        }
        Self { root }
    }

    /// Whether a field is there, be it `null`.
    pub fn has(&self, field: &str) -> bool {
        self.root.get(field).is_some()
    }

    /// Whether a field is there and `null`, where that means something else than a missing one.
    pub fn is_null(&self, field: &str) -> bool {
        self.root.get(field).is_some_and(Value::is_null)
    }

    /// Whether a field holds an object.
    pub(super) fn holds_objects(&self) -> bool {
        self.root.as_object().is_some_and(|fields| fields.values().any(Value::is_object))
    }

    /// The config nested in a field, if there is one.
    pub fn nested(&self, field: &str) -> Option<Self> {
        self.get(field).filter(|v| v.is_object()).map(|v| Self { root: v.clone() })
    }

    /// How many fields there are.
    pub fn fields(&self) -> usize {
        self.root.as_object().map_or(0, serde_json::Map::len)
    }

    fn required<T>(&self, field: &str, found: Option<T>) -> Result<T, ConfigError> {
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

    /// An integer between two bounds, if the field is there.
    fn integer(&self, field: &str, least: usize, most: usize) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let found = whole(value).and_then(|n| usize::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        found.map(Some).ok_or_else(|| self.invalid(field, format!("an integer from {least} to {most}")))
    }

    /// A size of at least 1, if the field is there.
    pub fn size_opt(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        self.integer(field, 1, LARGEST)
    }

    /// A size of at least 1.
    pub fn size(&self, field: &str) -> Result<usize, ConfigError> {
        self.size_within(field, LARGEST)
    }

    /// A size from 1 to `most`.
    pub fn size_within(&self, field: &str, most: usize) -> Result<usize, ConfigError> {
        let found = self.integer(field, 1, most)?;
        self.required(field, found)
    }

    /// A size of at least 1, with a default.
    pub fn size_or(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        Ok(self.size_opt(field)?.unwrap_or(default))
    }

    /// A size from 1 to `most`, with a default.
    pub fn size_within_or(&self, field: &str, most: usize, default: usize) -> Result<usize, ConfigError> {
        Ok(self.integer(field, 1, most)?.unwrap_or(default))
    }

    /// `width` times the factor in a field, which need not be an integer as the product must be, from 1 to `most`.
    pub fn expanded(&self, field: &str, width: usize, default: f64, most: usize) -> Result<usize, ConfigError> {
        let product = self.positive_or(field, default)? * width as f64;
        let found = (product.fract() == 0.0 && (1.0..=most as f64).contains(&product)).then_some(product as usize);
        found.ok_or_else(|| self.invalid(field, format!("a factor that makes an integer of {width}, at most {most}")))
    }

    /// The product of sizes that `field` is the last word on, refused when it is 0 or above `most`.
    pub fn product(&self, field: &str, factors: &[usize], most: usize) -> Result<usize, ConfigError> {
        let product = factors.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        product.filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            let factors: Vec<String> = factors.iter().map(usize::to_string).collect();
            self.invalid(field, format!("such that {} is at least 1 and at most {most}", factors.join(" * ")))
        })
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
    pub fn count_or(&self, field: &str, default: usize, most: usize) -> Result<usize, ConfigError> {
        Ok(self.integer(field, 0, most)?.unwrap_or(default))
    }

    /// A number that is finite as f32, with a default.
    pub fn number_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let number = float(value).filter(|&n| (n as f32).is_finite());
        number.ok_or_else(|| self.invalid(field, "a finite number"))
    }

    /// A number that is finite and above 0 as f32, with a default.
    pub fn positive_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let number = self.number_or(field, default)?;
        if number as f32 > 0.0 { Ok(number) } else { Err(self.invalid(field, "a number above 0")) }
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
        let index = |v: &Value| whole(v).filter(|&n| n <= LARGEST as u64).map(|n| n as usize);
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
        let values = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        // Some configs write null or -1 for none.
        let named = values.iter().filter(|value| !value.is_null() && value.as_f64() != Some(-1.0));
        let ids = named.map(|value| whole(value).and_then(|n| u32::try_from(n).ok())).collect::<Option<Vec<u32>>>();
        ids.ok_or_else(|| self.invalid(field, "a token id or a list of them"))
    }

    /// `bos_token_id`, if it is one of the vocabulary: nothing here depends on it, and some configs name something else.
    pub fn bos(&self, vocabulary: usize) -> Option<u32> {
        self.token_ids("bos_token_id").ok()?.first().copied().filter(|&id| (id as usize) < vocabulary)
    }

    /// Refuses a field whose value is not the one that is implemented. A missing field passes.
    pub fn expect(&self, field: &str, supported: &Value) -> Result<(), ConfigError> {
        match self.get(field) {
            Some(value) if value != supported && float(value).is_none_or(|n| float(supported) != Some(n)) => {
                Err(self.unsupported(field, supported.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// An integer of at least 0, be it written as a float: 64.0.
fn whole(value: &Value) -> Option<u64> {
    let of_float = |n: f64| (n.fract() == 0.0 && (0.0..9e15).contains(&n)).then_some(n as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(of_float))
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
        let config = Config::parse(r#"{"n": 65536}"#).expect("JSON");
        assert_eq!(config.product("n", &[3, 65536], WIDTH), Ok(196_608));
        let error = config.product("n", &[usize::MAX, 65536], WIDTH).expect_err("too large").to_string();
        assert!(error.contains("`n` is 65536"), "{error}");
    }

    #[test]
    fn token_ids_may_be_none_in_several_ways() {
        let ids = |text: &str| Config::parse(&format!("{{\"ids\": {text}}}")).expect("JSON").token_ids("ids");
        for (text, wanted) in
            [("7", &[7][..]), ("7.0", &[7]), ("null", &[]), ("-1", &[]), ("[]", &[]), ("[5, null, -1, 6]", &[5, 6])]
        {
            assert_eq!(ids(text).as_deref(), Ok(wanted), "{text}");
        }
        for bad in ["\"7\"", "true", "1.5", "-2", "1e12", "{}", "[[7]]"] {
            assert!(ids(bad).is_err(), "{bad}");
            let config = Config::parse(&format!("{{\"bos_token_id\": {bad}}}")).expect("JSON");
            assert_eq!(config.bos(60), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_finite_in_f32() {
        for (text, fits) in [("1e38", true), ("1e39", false), ("1e-50", false), ("NaN", false), ("-1", false)] {
            let config = Config::parse(&format!("{{\"x\": {text}}}")).expect("JSON");
            assert_eq!(config.positive_or("x", 1.0).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn deep_and_long_texts_are_refused() {
        let deep = format!("{{\"a\": {}", "[".repeat(100_000));
        assert!(matches!(Config::parse(&deep), Err(ConfigError::Json(_))));
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(LONGEST));
        assert!(matches!(Config::parse(&long), Err(ConfigError::Json(_))));
    }
}
