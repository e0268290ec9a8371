//! What a reply keeps to: `response_format` as OpenAI has it, `structured_outputs` as vLLM has it.

use selvedge::text::GrammarSource;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;

/// Fields of a request that bind its reply.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Structure {
    response_format: Option<Value>,
    structured_outputs: Option<Value>,
}

impl Structure {
    /// What the reply keeps to, and the field that says so; `None`: anything.
    pub fn source(&self) -> Result<Option<(&'static str, GrammarSource)>, ApiError> {
        let of_format = self.response_format.as_ref().map_or(Ok(None), of_format)?;
        let of_outputs = self.structured_outputs.as_ref().map_or(Ok(None), of_outputs)?;
        match (of_format, of_outputs) {
            (Some(_), Some(_)) => Err(ApiError::field(
                "structured_outputs",
                "`structured_outputs` and `response_format` exclude each other",
            )),
            (Some(source), None) => Ok(Some(("response_format", source))),
            (None, Some(source)) => Ok(Some(("structured_outputs", source))),
            (None, None) => Ok(None),
        }
    }
}

fn any_object() -> GrammarSource {
    GrammarSource::JsonSchema(json!({ "type": "object" }))
}

fn of_format(format: &Value) -> Result<Option<GrammarSource>, ApiError> {
    let refuse = |why: &str| ApiError::field("response_format", why);
    match format["type"].as_str() {
        _ if format.is_null() => Ok(None),
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(any_object())),
        Some("json_schema") => match format["json_schema"].get("schema") {
            Some(schema @ Value::Object(_)) => Ok(Some(GrammarSource::JsonSchema(schema.clone()))),
            _ => Err(refuse("`response_format.json_schema.schema` must be a JSON schema")),
        },
        _ => Err(refuse("the type of `response_format` may be \"text\", \"json_object\" or \"json_schema\"")),
    }
}

fn of_outputs(outputs: &Value) -> Result<Option<GrammarSource>, ApiError> {
    let refuse = |why: String| ApiError::field("structured_outputs", why);
    let fields = match outputs {
        Value::Null => return Ok(None),
        Value::Object(fields) => fields.iter().filter(|(_, value)| !value.is_null()).collect::<Vec<_>>(),
        _ => return Err(refuse("`structured_outputs` must be an object".into())),
    };
    let [(name, value)] = fields[..] else {
        return Err(refuse(
            "`structured_outputs` has one of `json`, `json_object`, `regex`, `choice`, `grammar`".into(),
        ));
    };
    let text = || value.as_str().map(str::to_owned).ok_or_else(|| refuse(format!("`{name}` must be a text")));
    Ok(Some(match name.as_str() {
        "json" => GrammarSource::JsonSchema(match value {
            Value::String(text) => serde_json::from_str(text).map_err(|error| refuse(format!("`json`: {error}")))?,
            schema => schema.clone(),
        }),
        "json_object" if *value == Value::Bool(true) => any_object(),
        "json_object" => return Ok(None),
        "regex" => GrammarSource::Regex(text()?),
        "grammar" => GrammarSource::Lark(text()?),
        "choice" => {
            let texts = value.as_array().and_then(|texts| {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            });
            GrammarSource::Choice(texts.ok_or_else(|| refuse("`choice` must be a list of texts".into()))?)
        }
        _ => return Err(refuse(format!("`structured_outputs.{name}` is not supported"))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(body: Value) -> Result<Option<GrammarSource>, ApiError> {
        let source = serde_json::from_value::<Structure>(body).expect("fields").source()?;
        Ok(source.map(|(_, source)| source))
    }

    #[test]
    fn formats_are_those_of_openai_and_vllm() {
        let schema = json!({ "type": "integer" });
        let wanted = Some(GrammarSource::JsonSchema(schema.clone()));
        let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "strict": true, "schema": schema } });
        for (body, wanted) in [
            (json!({}), None),
            (json!({ "response_format": null, "structured_outputs": null }), None),
            (json!({ "response_format": { "type": "text" } }), None),
            (json!({ "response_format": { "type": "json_object" } }), Some(any_object())),
            (json!({ "response_format": format }), wanted.clone()),
            (json!({ "structured_outputs": { "json": schema } }), wanted.clone()),
            (json!({ "structured_outputs": { "json": schema.to_string(), "regex": null } }), wanted),
            (json!({ "structured_outputs": { "json_object": true } }), Some(any_object())),
            (json!({ "structured_outputs": { "regex": "a+" } }), Some(GrammarSource::Regex("a+".into()))),
            (json!({ "structured_outputs": { "grammar": "start: A" } }), Some(GrammarSource::Lark("start: A".into()))),
            (json!({ "structured_outputs": { "choice": ["a"] } }), Some(GrammarSource::Choice(vec!["a".into()]))),
        ] {
            assert_eq!(source(body.clone()).ok().flatten(), wanted, "{body}");
        }
        for body in [
            json!({ "response_format": "json" }),
            json!({ "response_format": { "type": "structural_tag" } }),
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "n" } } }),
            json!({ "structured_outputs": [] }),
            json!({ "structured_outputs": {} }),
            json!({ "structured_outputs": { "json": "{" } }),
            json!({ "structured_outputs": { "regex": 1 } }),
            json!({ "structured_outputs": { "choice": [1] } }),
            json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }),
            json!({ "structured_outputs": { "structural_tag": "a" } }),
            json!({ "response_format": { "type": "json_object" }, "structured_outputs": { "regex": "a" } }),
        ] {
            assert!(source(body.clone()).is_err(), "{body}");
        }
    }
}
