//! Grammars of calls, in the model's own markers: of one that must be made, and of those that may be.

use serde_json::{Map, Value, json};

use super::ToolCallDialect;
use crate::text::{GrammarSource, TextError, Tokenizer};

/// Keys under which a schema keeps parts that it refers to from its root.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// White space around a call in its markers.
const SPACE: &str = "SPACE: /[ \\n]{1,4}/\n";

/// What binds the text of a reply with tools.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolGrammar {
    /// The whole text is one call.
    Call(GrammarSource),
    /// Any text, but for its calls: those of strict functions are what the functions' schemas say.
    Strict(GrammarSource),
}

impl ToolGrammar {
    /// The grammar.
    pub fn source(&self) -> &GrammarSource {
        match self {
            Self::Call(source) | Self::Strict(source) => source,
        }
    }

    /// Whether the text must be a call.
    pub fn must_call(&self) -> bool {
        matches!(self, Self::Call(_))
    }
}

impl ToolCallDialect {
    /// The grammar of an answer that is one call of one of `tools`, functions in OpenAI's shape, whose arguments are what
    /// the function's schema says. Every dialect reads JSON in its markers, and so that is what is written.
    pub fn call_grammar(self, tools: &[Value], tokenizer: &Tokenizer) -> Result<GrammarSource, TextError> {
        let call = self.call_rule(tools, |_| true)?;
        let (begin, end) = if self.is_list() { ("\"[\" SPACE?", "SPACE? \"]\"") } else { ("", "") };
        let (open, close) = self.around(tokenizer);
        let open = open.map(|marker| marker + " SPACE?").unwrap_or_default();
        Ok(GrammarSource::Lark(format!("start: {open} {begin} call {end} {close}\n{call}{SPACE}")))
    }

    /// The grammar of an answer with any text and any count of calls, in which a call of one of `tools` that is `strict`
    /// has the arguments that the function's schema says, and one of another has any.
    pub fn strict_grammar(self, tools: &[Value], tokenizer: &Tokenizer) -> Result<GrammarSource, TextError> {
        let call = self.call_rule(tools, |tool| tool["function"]["strict"] == true)?;
        let (open, close) = self.around(tokenizer);
        let Some(open) = open else {
            // A call is the whole answer; what begins as JSON is one.
            let text = r"TEXT: /\s*([^{\s](?s:.*))?/";
            return Ok(GrammarSource::Lark(format!(
                "start: SPACE? call (\";\" SPACE? call)* | TEXT\n{text}\n{call}{SPACE}"
            )));
        };
        let several =
            if self.is_list() { "\"[\" SPACE? call (\",\" SPACE? call)* SPACE? \"]\"" } else { "call (SPACE call)*" };
        // Calls stand nowhere but behind the first of the markers. Special tokens are no part of a text.
        let first = self.opens()[0];
        let is_text = |marker: &str| special_token(tokenizer, marker).is_none();
        let markers: Vec<String> = self.opens().iter().filter(|open| is_text(open)).map(|open| regex(open)).collect();
        let text = match markers.is_empty() {
            true => "/(?s:.*)/".to_owned(),
            false => format!("/(?s:.*)/ & ~/(?s:.*)({})(?s:.*)/", markers.join("|")),
        };
        // The longest text in front of a marker would have all of the marker but its end.
        let (opened, lead) = match is_text(first) {
            true => ("LEAD".to_owned(), format!("LEAD: ({text}) {open}\n")),
            false => (format!("TEXT {open}"), String::new()),
        };
        Ok(GrammarSource::Lark(format!(
            "start: ({opened} SPACE? {several} SPACE? {close})* TEXT\n{lead}TEXT: {text}\n{call}{SPACE}"
        )))
    }

    /// Whether calls stand in a list.
    fn is_list(self) -> bool {
        matches!(self, Self::Nemotron | Self::Granite3 | Self::Lfm2)
    }

    /// The marker in front of calls in a grammar, where there is one, and that behind them.
    fn around(self, tokenizer: &Tokenizer) -> (Option<String>, String) {
        // A marker is a token of its own, or text.
        let marker = |marker: &str| match special_token(tokenizer, marker) {
            Some(id) => format!("<[{id}]>"),
            None => Value::from(marker).to_string(),
        };
        match self {
            Self::Llama3 => (None, String::new()),
            _ => {
                let open = self.opens()[0];
                (Some(marker(open)), self.close(open).map(marker).unwrap_or_default())
            }
        }
    }

    /// The rule `call`: one call of one of `tools` as JSON. Arguments of those that `binds` does not choose are any object.
    fn call_rule(self, tools: &[Value], binds: impl Fn(&Value) -> bool) -> Result<String, TextError> {
        let key = if self == Self::Llama3 { "parameters" } else { "arguments" };
        let mut definitions = Map::new();
        let mut calls = vec![];
        for tool in tools {
            let function = &tool["function"];
            let parameters = match &function["parameters"] {
                Value::Object(parameters) if binds(tool) => parameters.clone(),
                Value::Null | Value::Object(_) => Map::from_iter([("type".to_owned(), "object".into())]),
                other => {
                    return Err(TextError::Grammar(format!("`parameters` of a function is a schema, not {other}")));
                }
            };
            let parameters = own_definitions(parameters, calls.len(), &mut definitions)?;
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
        if !definitions.is_empty() {
            schema["$defs"] = definitions.into();
        }
        schema["x-guidance"] = crate::text::grammar::json_options();
        Ok(format!("call: %json {schema}\n"))
    }
}

/// The id of a marker that is a special token.
fn special_token(tokenizer: &Tokenizer, marker: &str) -> Option<u32> {
    let token = tokenizer.added_token(marker).and_then(|id| tokenizer.control_token(id));
    token.filter(|token| token.special).map(|token| token.id)
}

/// A regular expression of a marker's text: its signs stand for themselves.
fn regex(marker: &str) -> String {
    marker.replace('|', r"\|")
}

/// Moves what the schema of function number `number` refers to from its root to that of all functions, under names of its own.
/// What refers to its whole root refers to one of those parts then.
fn own_definitions(
    mut schema: Map<String, Value>,
    number: usize,
    to: &mut Map<String, Value>,
) -> Result<Value, TextError> {
    let mut parts = Map::new();
    for key in DEFINITIONS {
        match schema.remove(key) {
            None => {}
            Some(Value::Object(found)) => {
                parts.extend(found.into_iter().map(|(name, part)| (format!("{number}.{key}.{name}"), part)));
            }
            Some(_) => return Err(TextError::Grammar(format!("`{key}` of a function's parameters is no object"))),
        }
    }
    let mut schema = Value::Object(schema);
    let mut whole = false;
    for part in parts.values_mut().chain([&mut schema]) {
        refer(part, number, &mut whole)?;
    }
    to.extend(parts);
    if whole {
        to.insert(number.to_string(), schema.clone());
    }
    Ok(schema)
}

/// Makes references lead to where their parts are moved. `whole`: one is to the root.
fn refer(value: &mut Value, number: usize, whole: &mut bool) -> Result<(), TextError> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| refer(item, number, whole)),
        Value::Object(fields) => fields.iter_mut().try_for_each(|(name, value)| match value {
            Value::String(to) if name == "$ref" => {
                let part = |key: &&str| to.strip_prefix("#/")?.strip_prefix(*key)?.strip_prefix('/');
                let moved = match DEFINITIONS.iter().find_map(|key| Some((*key, part(key)?))) {
                    Some((key, part)) => format!("#/$defs/{number}.{key}.{part}"),
                    None if to == "#" => {
                        *whole = true;
                        format!("#/$defs/{number}")
                    }
                    None => {
                        return Err(TextError::Grammar(format!(
                            "`$ref` of a function's parameters may be to `$defs`, and this one is to `{to}`"
                        )));
                    }
                };
                *to = moved;
                Ok(())
            }
            value => refer(value, number, whole),
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

    fn tool(name: &str, parameters: Value) -> Value {
        json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
    }

    fn weather() -> Value {
        let parameters = json!({
            "type": "object",
            "properties": { "days": { "$ref": "#/$defs/count" }, "unit": { "enum": ["c", "f"] } },
            "required": ["days", "unit"],
            "additionalProperties": false,
            "$defs": { "count": { "type": "integer", "minimum": 1, "maximum": 9 } },
        });
        tool("weather", parameters)
    }

    #[test]
    fn what_a_grammar_has_written_is_read_as_one_call() {
        use ToolCallDialect::*;
        let weather = weather();
        let nothing = json!({ "type": "function", "function": { "name": "nothing" } });
        for dialect in [Hermes, Qwen3Coder, Nemotron, Granite3, Lfm2, Llama3] {
            let (name, arguments) = any_call(dialect, std::slice::from_ref(&weather));
            assert_eq!(name, "weather");
            let days = arguments["days"].as_u64().expect("a number");
            assert!((1..=9).contains(&days) && ["c", "f"].contains(&arguments["unit"].as_str().expect("a text")));
            let (name, _) = any_call(dialect, &[nothing.clone(), weather.clone()]);
            assert!(["weather", "nothing"].contains(&name.as_str()));
        }
        // Another function's part of the same name is another part, and a function may have itself as a part.
        let other = tool(
            "other",
            json!({
                "type": "object",
                "properties": { "of": { "$ref": "#/definitions/count" }, "more": { "type": "array", "items": { "$ref": "#" }, "maxItems": 1 } },
                "required": ["of"],
                "additionalProperties": false,
                "definitions": { "count": { "enum": ["many"] } },
            }),
        );
        let (name, arguments) = any_call(Hermes, std::slice::from_ref(&other));
        assert_eq!((name.as_str(), &arguments["of"]), ("other", &"many".into()));
        let (name, arguments) = any_call(Hermes, &[weather, other]);
        assert!(if name == "other" { arguments["of"] == "many" } else { arguments["days"].is_u64() }, "{arguments}");

        let tokenizer = tokenizer_with(&[]);
        assert!(Hermes.call_grammar(&[tool("f", json!(5))], &tokenizer).is_err());
        assert!(Hermes.call_grammar(&[tool("f", json!({ "$defs": [] }))], &tokenizer).is_err());
        for to in ["#/properties/a", "http://example.com/a", "#/$defs"] {
            assert!(Hermes.call_grammar(&[tool("f", json!({ "items": { "$ref": to } }))], &tokenizer).is_err(), "{to}");
        }
    }

    /// The demo's tokenizer, in which markers are texts, or one that has a special token for each of them.
    fn tokenizer_with(markers: &[&str]) -> Tokenizer {
        let bytes = include_bytes!("../../../assets/demo/tokenizer.json");
        let mut json: Value = serde_json::from_slice(bytes).expect("JSON");
        for (at, marker) in markers.iter().enumerate() {
            let token = json!({ "id": 1024 + at, "content": marker, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false });
            json["added_tokens"].as_array_mut().expect("a list").push(token);
        }
        Tokenizer::from_bytes(json.to_string().as_bytes(), None).expect("a tokenizer")
    }

    #[test]
    fn calls_of_strict_functions_follow_their_schemas_amid_any_text() {
        use ToolCallDialect::*;
        let mut strict = weather();
        strict["function"]["strict"] = true.into();
        let schema = json!({ "type": "object", "properties": { "to": { "type": "string" } }, "required": ["to"] });
        let tools = [strict, tool("loose", schema)];
        for (dialect, special) in
            [Hermes, Qwen3Coder, Nemotron, Granite3, Lfm2, Llama3].iter().flat_map(|&d| [(d, false), (d, true)])
        {
            let tokenizer = tokenizer_with(if special { dialect.markers() } else { &[] });
            let source = dialect.strict_grammar(&tools, &tokenizer).expect("a source");
            let vocabulary = if special { 1028 } else { 1024 };
            let grammars = Grammars::new(&tokenizer, vocabulary, &[2]).expect("grammars");
            let compiled = grammars.compile(&source).expect("a grammar");
            // Whether a text may be written and be the whole answer.
            let takes = |text: &str| {
                let mut grammar = compiled.clone();
                let allows = |grammar: &mut crate::text::Grammar, id: u32| {
                    let mask = grammar.mask().expect("a mask").expect("a mask");
                    mask[id as usize / 32] >> (id % 32) & 1 == 1
                };
                for id in tokenizer.encode_prompt(text).expect("ids") {
                    if !allows(&mut grammar, id) {
                        return false;
                    }
                    grammar.push(id).expect("a token that the mask has");
                }
                allows(&mut grammar, 2)
            };
            let key = if dialect == Llama3 { "parameters" } else { "arguments" };
            let call = |name: &str, arguments: &str| format!(r#"{{"name": "{name}", "{key}": {arguments}}}"#);
            let (good, bad) = (r#"{"days": 3, "unit": "c"}"#, r#"{"days": 0, "unit": "c"}"#);
            let (good, bad) = (call("weather", good), call("weather", bad));
            let (loose, other) = (call("loose", r#"{"any": [1]}"#), call("other", "{}"));
            let around = |calls: &[&str], space: &str| match dialect {
                Llama3 => calls.join(";"),
                _ => {
                    let open = dialect.opens()[0];
                    let (separator, begin, end) = if dialect.is_list() { (", ", "[", "]") } else { ("\n", "", "") };
                    let close = dialect.close(open).unwrap_or_default();
                    format!("{open}{space}{begin}{}{end}{space}{close}", calls.join(separator))
                }
            };
            for text in ["", "Hello.", "An {open} <tag>, a | and [1].\nMore.", "Of {\"name\": 1}"] {
                assert!(takes(text), "{dialect:?} {special}: {text}");
            }
            for calls in [&[good.as_str()][..], &[&loose], &[&good, &loose]] {
                assert!(takes(&around(calls, "")), "{dialect:?} {special}: {calls:?}");
            }
            for calls in [&[bad.as_str()][..], &[&other], &[&good, &bad]] {
                assert!(!takes(&around(calls, "")), "{dialect:?} {special}: {calls:?}");
            }
            if dialect != Llama3 {
                let text = format!("I look.\n{}", around(&[&good], "\n"));
                assert!(takes(&text) && !takes(&format!("I look. {}", around(&[&bad], "\n"))), "{dialect:?} {special}");
                if dialect != Granite3 {
                    assert!(
                        takes(&format!("{text} Then {} and so on.", around(&[&good], ""))),
                        "{dialect:?} {special}"
                    );
                }
                assert!(!takes(dialect.opens()[0]), "{dialect:?} {special}: a marker alone");
                assert!(!takes(&format!("I {} think", dialect.opens()[0])), "{dialect:?} {special}");
            }
        }
    }
}
