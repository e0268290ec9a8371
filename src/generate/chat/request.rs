//! Request for a reply, and the prompt that a template makes of it.

use serde_json::{Map, Value};

use crate::runtime::{Cancel, EngineError};
use crate::state::Sampler;
use crate::text::{ChatMessage, ChatTemplate, Grammar, RenderRequest, ToolCallDialect, ToolCallParser};

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
    /// What the answer keeps to; `None`: anything. Thinking that the prompt has opened comes before it.
    pub grammar: Option<Grammar>,
    /// Tokens beside each chosen one whose probabilities are wanted; `None`: no probabilities.
    pub logprobs: Option<usize>,
    /// Functions that the model may call, each a JSON schema in OpenAI's shape; `None`: the template finds no tools.
    pub tools: Option<Vec<Value>>,
    /// Calls in the answer are told as such, where there are tools and the template shows a dialect that is known
    /// ([`ChatTemplate::tool_calls`]). Otherwise they are text of the answer.
    pub parse_tool_calls: bool,
    /// The dialect in which calls are read; `None`: the template's.
    pub tool_call_dialect: Option<ToolCallDialect>,
    /// The answer may have several calls; otherwise those behind the first are left out. Heeded where calls are parsed.
    pub parallel_tool_calls: bool,
    /// Documents to answer from, for templates that read them.
    pub documents: Option<Vec<Value>>,
    /// More variables of the template (`chat_template_kwargs`).
    pub template_kwargs: Map<String, Value>,
    /// Thinking on or off, given to the template as `enable_thinking`; `None`: as the template decides.
    pub thinking: Option<bool>,
    /// Number of the conversation, where it has one: what is remembered of its end is dropped last
    /// ([`PromptCache::set_tail`](crate::generate::prompt_cache::PromptCache::set_tail)).
    pub conversation: Option<u64>,
    /// What is remembered of it is kept in the store too, if there is one.
    pub keep: bool,
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
            grammar: None,
            logprobs: None,
            tools: None,
            parse_tool_calls: false,
            tool_call_dialect: None,
            parallel_tool_calls: true,
            documents: None,
            template_kwargs: Map::new(),
            thinking: None,
            conversation: None,
            keep: true,
            cancel,
            emitted: vec![],
        }
    }

    /// Parser of the calls in the answer, where there may be some.
    pub(super) fn tool_call_parser(&self, template: &ChatTemplate) -> Option<ToolCallParser> {
        let tools = self.tools.as_deref().filter(|tools| self.parse_tool_calls && !tools.is_empty())?;
        let parser = ToolCallParser::new(self.tool_call_dialect.or(template.tool_calls())?, tools);
        Some(if self.parallel_tool_calls { parser } else { parser.first_only() })
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
