//! Grammars of calls that a model must make: one call of one of some functions, in the model's own markers.

use serde_json::{Map, Value, json};

use super::ToolCallDialect;
use crate::text::{GrammarSource, TextError, Tokenizer};

/// Keys under which a schema keeps parts that it refers to from its root.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

impl ToolCallDialect {
    /// The grammar of an answer that is one call of one of `tools`, functions in OpenAI's shape, whose arguments are what
    /// the function's schema says. Every dialect reads JSON in its markers, and so that is what is written.
    pub fn call_grammar(self, tools: &[Value], tokenizer: &Tokenizer) -> Result<GrammarSource, TextError> {
        let key = if self == Self::Llama3 { "parameters" } else { "arguments" };
        let mut definitions = Map::new();
        let mut calls = vec![];
        for tool in tools {
            let function = &tool["function"];
            let mut parameters = match &function["parameters"] {
                Value::Null => Map::from_iter([("type".to_owned(), "object".into())]),
                Value::Object(parameters) => parameters.clone(),
                other => {
                    return Err(TextError::Grammar(format!("`parameters` of a function is a schema, not {other}")));
                }
            };
            lift(&mut parameters, &mut definitions)?;
            check_references(&Value::Object(parameters.clone()))?;
            calls.push(json!({
                "type": "object",
                "properties": { "name": { "const": function["name"] }, key: parameters },
                "required": ["name", key],
                "additionalProperties": false,
            }));
        }
        let mut schema = match calls.len() {
            1 => calls.remove(0),
            _ => json!({ "anyOf": calls }),
        };
        for (key, parts) in definitions {
            schema[key] = parts;
        }
        schema["x-guidance"] = crate::text::grammar::json_options();
        // A marker is a token of its own, or text.
        let marker = |marker: &str| match tokenizer.added_token(marker).and_then(|id| tokenizer.control_token(id)) {
            Some(token) if token.special => format!("<[{}]>", token.id),
            _ => Value::from(marker).to_string(),
        };
        let listed = matches!(self, Self::Nemotron | Self::Granite3 | Self::Lfm2);
        let (begin, end) = if listed { ("\"[\"", "\"]\"") } else { ("", "") };
        let (open, close) = match self {
            Self::Llama3 => (String::new(), String::new()),
            _ => {
                let open = self.opens()[0];
                (marker(open), self.close(open).map(marker).unwrap_or_default())
            }
        };
        Ok(GrammarSource::Lark(format!("start: {open} {begin} call {end} {close}\ncall: %json {schema}\n")))
    }
}

/// Moves what a schema refers to from its root to the root that it will have.
fn lift(schema: &mut Map<String, Value>, to: &mut Map<String, Value>) -> Result<(), TextError> {
    for key in DEFINITIONS {
        let parts = match schema.remove(key) {
            None => continue,
            Some(Value::Object(parts)) => parts,
            Some(_) => return Err(TextError::Grammar(format!("`{key}` of a function's parameters is no object"))),
        };
        let all = to.entry(key).or_insert_with(|| json!({}));
        for (name, part) in parts {
            let there = &mut all[&name];
            if !there.is_null() && *there != part {
                return Err(TextError::Grammar(format!("two functions have different parts named `{name}`")));
            }
            *there = part;
        }
    }
    Ok(())
}

/// Refuses references to anything but the parts that were moved: they would mean another place.
fn check_references(value: &Value) -> Result<(), TextError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_references),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(to)
                if name == "$ref" && !DEFINITIONS.iter().any(|key| to.starts_with(&format!("#/{key}/"))) =>
            {
                Err(TextError::Grammar(format!(
                    "`$ref` of a function's parameters may be to `$defs`, and this one is to `{to}`"
                )))
            }
            value => check_references(value),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Grammars, ToolCallParser, ToolPiece};

    /// The call that is made when at every place the first token that may come does, and another one here and there.
    fn any_call(dialect: ToolCallDialect, tools: &[Value]) -> (String, Value) {
        let bytes = include_bytes!("../../../assets/demo/tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(bytes, None).expect("a tokenizer");
        let source = dialect.call_grammar(tools, &tokenizer).expect("a source");
        let grammars = Grammars::new(&tokenizer, 1024, &[2]).expect("grammars");
        let mut grammar = grammars.compile(&source).expect("a grammar");
        let mut ids = vec![];
        for step in 0..400 {
            let mask = grammar.mask().expect("a mask").expect("a mask");
            let allowed: Vec<u32> =
                (0..1024).filter(|id| mask[id / 32] >> (id % 32) & 1 == 1).map(|id| id as u32).collect();
            if allowed.contains(&2) {
                break;
            }
            // Later tokens are longer ones; quotes and braces, which end things, are bytes and so among the first.
            let token = if step % 3 == 0 { allowed[allowed.len() / 2] } else { allowed[0] };
            ids.push(token);
            if grammar.push(token).expect("a token that the mask has") {
                break;
            }
        }
        let text = tokenizer.decode_after_text(&ids).expect("text");
        let mut parser = ToolCallParser::new(dialect, tools);
        let mut pieces = parser.push(&text);
        pieces.extend(parser.finish());
        let (mut name, mut arguments) = (vec![], String::new());
        for piece in pieces {
            match piece {
                ToolPiece::Begun { name: begun, .. } => name.push(begun),
                ToolPiece::Arguments { text, .. } => arguments.push_str(&text),
                ToolPiece::Text(text) => assert!(text.trim().is_empty(), "{dialect:?}: {text}"),
            }
        }
        assert_eq!(name.len(), 1, "{dialect:?}: {text}");
        (name.remove(0), serde_json::from_str(&arguments).expect("JSON"))
    }

    #[test]
    fn what_a_grammar_has_written_is_read_as_one_call() {
        use ToolCallDialect::*;
        let tool = |name: &str, parameters: Value| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
        let weather = tool(
            "weather",
            json!({
                "type": "object",
                "properties": { "days": { "$ref": "#/$defs/count" }, "unit": { "enum": ["c", "f"] } },
                "required": ["days", "unit"],
                "additionalProperties": false,
                "$defs": { "count": { "type": "integer", "minimum": 1, "maximum": 9 } },
            }),
        );
        let nothing = json!({ "type": "function", "function": { "name": "nothing" } });
        for dialect in [Hermes, Qwen3Coder, Nemotron, Granite3, Lfm2, Llama3] {
            let (name, arguments) = any_call(dialect, std::slice::from_ref(&weather));
            assert_eq!(name, "weather");
            let days = arguments["days"].as_u64().expect("a number");
            assert!((1..=9).contains(&days) && ["c", "f"].contains(&arguments["unit"].as_str().expect("a text")));
            let (name, _) = any_call(dialect, &[nothing.clone(), weather.clone()]);
            assert!(["weather", "nothing"].contains(&name.as_str()));
        }
        let tokenizer =
            Tokenizer::from_bytes(include_bytes!("../../../assets/demo/tokenizer.json"), None).expect("one");
        let other = tool("other", json!({ "$defs": { "count": { "type": "string" } } }));
        assert!(Hermes.call_grammar(&[weather, other], &tokenizer).is_err(), "two meanings of one name");
        assert!(Hermes.call_grammar(&[tool("f", json!(5))], &tokenizer).is_err());
        assert!(Hermes.call_grammar(&[tool("f", json!({ "items": { "$ref": "#" } }))], &tokenizer).is_err());
    }
}
