//! Request for a reply, and the prompt that a template makes of it.

use serde_json::{Map, Value};

use crate::runtime::{Cancel, EngineError};
use crate::state::Sampler;
use crate::text::{ChatMessage, ChatTemplate, RenderRequest};

/// Request for a reply.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// The sampler; the model's stop tokens are added.
    pub sampler: Sampler,
    /// Most tokens of the reply.
    pub max_tokens: usize,
    /// Texts that end the answer, besides those of the template; within the thinking they end nothing.
    pub stops: Vec<String>,
    /// Functions that the model may call, each a JSON schema in OpenAI's shape; `None`: the template finds no tools.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from, for templates that read them.
    pub documents: Option<Vec<Value>>,
    /// More variables of the template (`chat_template_kwargs`).
    pub template_kwargs: Map<String, Value>,
    /// Thinking on or off, given to the template as `enable_thinking`; `None`: as the template decides.
    pub thinking: Option<bool>,
    /// Stops early.
    pub cancel: Cancel,
    /// Tokens of this reply that were emitted before, on a device that was lost: the reply goes on after them.
    pub emitted: Vec<u32>,
}

impl ChatRequest {
    /// The most probable reply to a conversation, as long as it gets.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        let (sampler, cancel) = (Sampler::default(), Cancel::default());
        Self {
            messages,
            sampler,
            max_tokens: usize::MAX,
            stops: vec![],
            tools: None,
            documents: None,
            template_kwargs: Map::new(),
            thinking: None,
            cancel,
            emitted: vec![],
        }
    }

    /// The prompt of these messages: up to where the reply begins with `generate`, else up to the end of the last one.
    pub(super) fn prompt(
        &self,
        template: &ChatTemplate,
        messages: &[ChatMessage],
        generate: bool,
    ) -> Result<String, EngineError> {
        let mut kwargs = self.template_kwargs.clone();
        if let Some(thinking) = self.thinking {
            kwargs.insert("enable_thinking".into(), Value::Bool(thinking));
        }
        Ok(template.render_text(&RenderRequest {
            tools: self.tools.as_deref(),
            documents: self.documents.as_deref(),
            kwargs: Some(&kwargs),
            ..RenderRequest::new(messages, generate)
        })?)
    }
}
