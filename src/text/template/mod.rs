//! Chat templates: the Jinja text beside a model that turns messages into the prompt that it was trained on.

mod message;

use serde_json::{Map, Value};

use super::jinja::{self, Moment, SOURCE_BYTES, Template};
use super::{TextError, ToolCallDialect};
use crate::json;

pub use message::ChatMessage;

/// Tokens that transformers gives to every template, where `tokenizer_config.json` has them.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A conversation to render, and what the template may ask for besides.
#[derive(Clone, Copy, Debug)]
pub struct RenderRequest<'r> {
    /// The conversation.
    pub messages: &'r [ChatMessage],
    /// Up to where the assistant's next message begins.
    pub add_generation_prompt: bool,
    /// Functions that the model may call, each a JSON schema as OpenAI has it. `None`: the template finds none.
    pub tools: Option<&'r [Value]>,
    /// Documents to answer from.
    pub documents: Option<&'r [Value]>,
    /// More variables, as `enable_thinking`. They go before the special tokens of the same name.
    pub kwargs: Option<&'r Map<String, Value>>,
}

impl<'r> RenderRequest<'r> {
    /// A conversation, with nothing besides.
    pub fn new(messages: &'r [ChatMessage], add_generation_prompt: bool) -> Self {
        Self { messages, add_generation_prompt, tools: None, documents: None, kwargs: None }
    }
}

/// A compiled chat template, with the tokens that it may mention.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
    /// The template for conversations with tools, where there is another one.
    tool_use: Option<Template>,
    /// The file that it is from, for messages.
    file: &'static str,
    /// The special tokens by their names.
    tokens: Map<String, Value>,
    tool_calls: Option<ToolCallDialect>,
}

impl ChatTemplate {
    /// The template in the bytes of `chat_template.jinja`, else in those of `tokenizer_config.json`; `None` when
    /// there is none. Of several named ones, those named `default` and `tool_use`.
    pub fn from_files(config: Option<&[u8]>, jinja: Option<&[u8]>) -> Result<Option<Self>, TextError> {
        let config: Value = match config {
            Some(bytes) => json::parse_bytes(bytes).map_err(TextError::Config)?,
            None => Value::Null,
        };
        let (file, sources) = match jinja {
            Some(bytes) if bytes.len() > SOURCE_BYTES => {
                let (have, most) = (bytes.len(), SOURCE_BYTES >> 20);
                let why = format!("it has {have} bytes, {most} MiB are the most: replace it by the model's own");
                return Err(TextError::Template { file: "chat_template.jinja", why });
            }
            Some(bytes) => {
                let utf8 =
                    |e| TextError::Template { file: "chat_template.jinja", why: format!("it is not UTF-8: {e}") };
                ("chat_template.jinja", Some((std::str::from_utf8(bytes).map_err(utf8)?, None)))
            }
            None => ("tokenizer_config.json", sources(&config)?),
        };
        let Some((source, tool_use)) = sources else { return Ok(None) };
        let parse = |source| Template::parse(source).map_err(|why| TextError::Template { file, why: why.to_string() });
        let tool_calls = ToolCallDialect::of_template(tool_use.unwrap_or(source));
        let tool_use = tool_use.map(parse).transpose()?;
        Ok(Some(Self { template: parse(source)?, tool_use, file, tokens: special_tokens(&config), tool_calls }))
    }

    /// The dialect in which the model writes its tool calls; `None` where the template shows none that is known.
    pub fn tool_calls(&self) -> Option<ToolCallDialect> {
        self.tool_calls
    }

    /// The prompt for a conversation, as transformers renders it.
    /// The text holds its special tokens itself: see [`super::Tokenizer::encode_prompt`].
    pub fn render(&self, request: &RenderRequest) -> Result<String, TextError> {
        let fault = |why: jinja::Fault| TextError::Template { file: self.file, why: why.to_string() };
        let list = |items: &[Value]| Value::Array(items.to_vec());
        let mut variables = self.tokens.clone();
        variables.extend(request.kwargs.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        let messages = request.messages.iter().map(ChatMessage::for_template).collect();
        variables.extend([
            ("messages".to_owned(), Value::Array(messages)),
            ("tools".to_owned(), request.tools.map_or(Value::Null, list)),
            ("documents".to_owned(), request.documents.map_or(Value::Null, list)),
            ("add_generation_prompt".to_owned(), Value::Bool(request.add_generation_prompt)),
        ]);
        let mut bytes = 0;
        let mut values = Vec::with_capacity(variables.len());
        for (name, value) in &variables {
            values.push((name.clone(), jinja::from_json(value, &mut bytes).map_err(fault)?));
        }
        let template = self.tool_use.as_ref().filter(|_| request.tools.is_some()).unwrap_or(&self.template);
        template.render(values, bytes, Moment::now()).map_err(fault)
    }

    /// The same for a model that reads text only: parts of a message that are no text are refused by name, and the
    /// texts become one where the template cannot read parts.
    pub fn render_text(&self, request: &RenderRequest) -> Result<String, TextError> {
        for (index, message) in request.messages.iter().enumerate() {
            message.check_parts().map_err(|error| match error {
                TextError::Message(why) => TextError::Message(format!("messages[{index}]: {why}")),
                other => other,
            })?;
        }
        if !request.messages.iter().any(ChatMessage::has_parts) || self.reads_parts() {
            return self.render(request);
        }
        let joined: Vec<ChatMessage> = request.messages.iter().map(ChatMessage::joined).collect();
        self.render(&RenderRequest { messages: &joined, ..*request })
    }

    /// The template reads a content of parts; others write the list out, or fail.
    fn reads_parts(&self) -> bool {
        const SAID: &str = "selvedge-said-this";
        let message = serde_json::json!({"role": "user", "content": [{"type": "text", "text": SAID}]});
        let Ok(message) = ChatMessage::from_json(message) else { return false };
        let rendered = self.render(&RenderRequest::new(&[message], true));
        rendered.is_ok_and(|prompt| prompt.contains(SAID) && !prompt.contains("'text'") && !prompt.contains("\"text\""))
    }

    /// True if `enable_thinking` makes another prompt.
    pub fn has_thinking_switch(&self) -> bool {
        let messages = [ChatMessage::new("user", "Hello.")];
        let prompt = |thinking: bool| {
            let kwargs = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(thinking))]);
            self.render(&RenderRequest { kwargs: Some(&kwargs), ..RenderRequest::new(&messages, true) }).ok()
        };
        prompt(true) != prompt(false)
    }

    /// Texts that end a reply, should the model write them out: the end token, and what the template puts
    /// directly after an assistant's message.
    pub fn stops(&self) -> Vec<String> {
        let eos = self.tokens.get("eos_token").and_then(Value::as_str);
        let mut stops: Vec<String> = eos.iter().map(|&eos| eos.to_owned()).collect();
        stops.extend(self.next_turn().filter(|marker| eos != Some(marker)));
        stops
    }

    fn next_turn(&self) -> Option<String> {
        const SAID: &str = "selvedge-said-this";
        let turns =
            [("user", "a"), ("assistant", SAID), ("user", "b")].map(|(role, text)| ChatMessage::new(role, text));
        let rendered = self.render(&RenderRequest::new(&turns, false)).ok()?;
        let after = rendered.split(SAID).nth(1)?.trim_start();
        // Only what no answer would say: a tag.
        let close = match after.chars().next()? {
            '<' => '>',
            '[' => ']',
            _ => return None,
        };
        Some(after[..=after.find(close)?].to_owned())
    }
}

/// The sources in `tokenizer_config.json`: the template, and the one for tools.
fn sources(config: &Value) -> Result<Option<(&str, Option<&str>)>, TextError> {
    let Some(value) = config.get("chat_template").filter(|value| !value.is_null()) else { return Ok(None) };
    let named = |name: &str| value.as_array()?.iter().find(|entry| entry["name"] == name)?["template"].as_str();
    match value.as_str().or_else(|| named("default")) {
        Some(source) => Ok(Some((source, named("tool_use")))),
        None => Err(TextError::Config("`chat_template` is neither a text nor a list with one named `default`".into())),
    }
}

/// The special tokens by name, as transformers gives them: the standard ones, those of `extra_special_tokens`, and
/// whatever else is named `..._token`. A token is either its text or an object around it.
fn special_tokens(config: &Value) -> Map<String, Value> {
    let text = |value: &Value| {
        let text = value.get("content").unwrap_or(value).as_str()?;
        Some(Value::String(text.to_owned()))
    };
    let mut tokens: Map<String, Value> =
        SPECIAL.iter().filter_map(|name| Some(((*name).to_owned(), text(config.get(*name)?)?))).collect();
    let own = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let extra = ["extra_special_tokens", "model_specific_special_tokens"]
        .into_iter()
        .filter_map(|list| config.get(list)?.as_object())
        .flatten();
    for (name, value) in own.chain(extra) {
        if let Some(text) = text(value) {
            tokens.insert(name.clone(), text);
        }
    }
    tokens
}

#[cfg(test)]
mod tests;
