//! A message of a conversation: JSON that the template reads as it is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::text::TextError;

/// A message of a conversation. `role` and `content` are what nearly every template reads; whatever else is there
/// (`tool_calls`, `reasoning_content`, `name` ...) reaches the template as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatMessage(Map<String, Value>);

impl ChatMessage {
    /// A message of a role: `system`, `user`, `assistant`, `tool`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let text = |text: String| Value::String(text);
        Self(Map::from_iter([("role".into(), text(role.into())), ("content".into(), text(content.into()))]))
    }

    /// A message as it came over the wire. Errors where `role` is no text.
    pub fn from_json(message: Value) -> Result<Self, TextError> {
        match message {
            Value::Object(fields) if fields.get("role").is_some_and(Value::is_string) => Ok(Self(fields)),
            _ => Err(TextError::Message("it must be an object whose `role` is a text".into())),
        }
    }

    /// Messages in OpenAI's shape: `developer` is `system`, and the arguments of calls, which OpenAI has as JSON in a string,
    /// become objects, as templates go through them. Errors name the message.
    pub fn list_from_openai(messages: Vec<Value>) -> Result<Vec<Self>, TextError> {
        let message = |(index, message)| {
            Self::from_openai(message).map_err(|why| TextError::Message(format!("messages[{index}]{why}")))
        };
        messages.into_iter().enumerate().map(message).collect()
    }

    /// The same of one message; an error is the place in the message and what is wrong there.
    fn from_openai(mut message: Value) -> Result<Self, String> {
        let role = message["role"].as_str().unwrap_or_default().to_owned();
        match role.as_str() {
            "developer" => message["role"] = "system".into(),
            "system" | "user" | "assistant" | "tool" => {}
            _ => return Err(format!(": the role `{role}` is not supported")),
        }
        let calls = role == "assistant" && message["tool_calls"].is_array();
        if calls {
            read_arguments(&mut message["tool_calls"])?;
        }
        match &message["content"] {
            Value::String(_) => {}
            Value::Array(parts) if parts.iter().all(|part| part["type"] == "text" && part["text"].is_string()) => {}
            Value::Array(_) => return Err(": parts of the type `text` are supported, and no others".into()),
            // Templates write the text in front of the calls, whether there is one or not.
            Value::Null if calls => message["content"] = "".into(),
            _ => return Err(": `content` must be a text".into()),
        }
        Self::from_json(message).map_err(|error| format!(": {error}"))
    }

    /// The role: `system`, `user`, `assistant` or `tool`; empty where there is none.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text; of several parts, the texts.
    pub fn content(&self) -> String {
        match self.0.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The same with each text but the role changed, however deep it lies.
    pub fn map_texts(&self, change: &dyn Fn(&str) -> String) -> Self {
        fn changed(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
            match value {
                Value::String(text) => Value::String(change(text)),
                Value::Array(items) => items.iter().map(|item| changed(item, change)).collect(),
                Value::Object(map) => {
                    Value::Object(map.iter().map(|(name, value)| (name.clone(), changed(value, change))).collect())
                }
                other => other.clone(),
            }
        }
        let field = |(name, value): (&String, &Value)| {
            (name.clone(), if name == "role" { value.clone() } else { changed(value, change) })
        };
        Self(self.0.iter().map(field).collect())
    }

    /// The content is a list of parts.
    pub(super) fn has_parts(&self) -> bool {
        self.0.get("content").is_some_and(Value::is_array)
    }

    /// The same with the texts of its parts as one.
    pub(super) fn joined(&self) -> Self {
        let mut joined = self.clone();
        if self.has_parts() {
            joined.0.insert("content".into(), Value::String(self.content()));
        }
        joined
    }

    /// Errors where a part is none of text: its type, named.
    pub fn check_parts(&self) -> Result<(), TextError> {
        for part in self.0.get("content").and_then(Value::as_array).into_iter().flatten() {
            let kind = part["type"].as_str().unwrap_or("unknown");
            if kind != "text" || !part["text"].is_string() {
                let why = format!("a part of the type `{kind}` cannot be read: this model reads text only");
                return Err(TextError::Message(why));
            }
        }
        Ok(())
    }

    /// The fields as a template gets them from transformers: without those that are null, and with what was thought
    /// under each of the names that templates ask for.
    pub(super) fn for_template(&self) -> Value {
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let mut fields: Map<String, Value> =
            self.0.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() {
            if !fields.contains_key("thinking") {
                let rest = std::mem::take(&mut fields);
                fields.insert("thinking".into(), reasoning.clone());
                fields.extend(rest);
            }
            fields.insert("reasoning_content".into(), reasoning);
        }
        Value::Object(fields)
    }
}

/// Makes objects of the arguments of calls.
fn read_arguments(calls: &mut Value) -> Result<(), String> {
    for (index, call) in calls.as_array_mut().into_iter().flatten().enumerate() {
        let refuse = |why: &str| Err(format!(".tool_calls[{index}]: {why}"));
        if !call["function"]["name"].is_string() {
            return refuse("`function` must have a name");
        }
        let arguments = &mut call["function"]["arguments"];
        let object = match &*arguments {
            Value::Null => json!({}),
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            value => value.clone(),
        };
        if !object.is_object() {
            return refuse("`arguments` must be an object, as JSON in a string");
        }
        *arguments = object;
    }
    Ok(())
}
