//! Types that the schemas of tools give to arguments, for dialects that write values as bare text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{literal, quoted};

/// The schemas of all tools, by the names of their functions.
#[derive(Clone, Debug)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Of functions in OpenAI's shape, with or without the object around them.
    pub fn new(tools: &[Value]) -> Self {
        let function = |tool: &Value| {
            let function = tool.get("function").filter(|function| function.is_object()).unwrap_or(tool);
            Some((function["name"].as_str()?.to_owned(), function["parameters"]["properties"].clone()))
        };
        Self(tools.iter().filter_map(function).collect())
    }

    /// Names of the functions.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The types that a parameter may have; none where it is not declared.
    pub fn types(&self, function: &str, parameter: &str) -> BTreeSet<&str> {
        let mut types = BTreeSet::new();
        if let Some(schema) = self.0.get(function).and_then(|properties| properties.get(parameter)) {
            let several = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
            for schema in several.chain([schema]) {
                match &schema["type"] {
                    Value::String(name) => drop(types.insert(name.as_str())),
                    Value::Array(names) => types.extend(names.iter().filter_map(Value::as_str)),
                    _ => {}
                }
            }
        }
        types
    }

    /// The JSON of a value that is written as bare text: of a declared type where it can be read so, else a string.
    pub fn json(&self, function: &str, parameter: &str, text: &str) -> String {
        let types = self.types(function, parameter);
        let bare = text.trim();
        let others = types.iter().filter(|&&name| name != "string");
        others.into_iter().find_map(|name| read(name, bare)).unwrap_or_else(|| quoted(text))
    }
}

/// The JSON of a value of a type.
fn read(name: &str, text: &str) -> Option<String> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let fits = |value: &Value| match name {
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => false,
    };
    match name {
        "boolean" if text.eq_ignore_ascii_case("true") => Some("true".into()),
        "boolean" if text.eq_ignore_ascii_case("false") => Some("false".into()),
        "null" if text.eq_ignore_ascii_case("null") || text == "None" => Some("null".into()),
        // As it is written: no digit changes.
        _ if value.as_ref().is_some_and(fits) => Some(text.to_owned()),
        "object" | "array" => literal::parse(text).filter(fits).map(|value| value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_the_type_of_its_schema() {
        let properties = json!({
            "text": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"},
            "on": {"type": "boolean"}, "list": {"type": "array"}, "map": {"type": "object"},
            "maybe": {"type": ["integer", "null"]}, "either": {"anyOf": [{"type": "number"}, {"type": "string"}]},
        });
        let tools = [
            json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}),
            json!({"name": "bare"}),
        ];
        let schemas = Schemas::new(&tools);
        assert_eq!(schemas.names(), ["bare", "f"]);
        for (parameter, text, expected) in [
            ("text", "12", r#""12""#),
            ("text", " null\n", r#"" null\n""#),
            ("count", " 12 ", "12"),
            ("count", "123456789012345678901234", "123456789012345678901234"),
            ("count", "1.5", r#""1.5""#),
            ("count", "many", r#""many""#),
            ("ratio", "1.50", "1.50"),
            ("on", "True", "true"),
            ("on", "yes", r#""yes""#),
            ("list", "[1, 2]", "[1, 2]"),
            ("list", "['a', None]", r#"["a",null]"#),
            ("map", r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("map", "[1]", r#""[1]""#),
            ("maybe", "null", "null"),
            ("maybe", "3", "3"),
            ("either", "3", "3"),
            ("either", "three", r#""three""#),
            ("unknown", "3", r#""3""#),
        ] {
            assert_eq!(schemas.json("f", parameter, text), expected, "{parameter}: {text}");
        }
    }
}
