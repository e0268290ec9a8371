//! Requests and answers as JSON: the names are those of `web/src/types.ts`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::WasmError;
use super::forms::browser;
use crate::arch::HymbaWindow;
use crate::backend::FormsFrom;
use crate::backend::webgpu::WebGpuOptions;
use crate::checkpoint::WeightChoice;
use crate::generate::prompt_cache::{CacheCounts, PromptCache};
use crate::generate::scheduler::Pooling;
use crate::generate::{ChatRequest, SamplingOverrides, ScoredToken};
use crate::runtime::Engine;
use crate::state::KvFormat;
use crate::text::{ChatMessage, GrammarSource, ToolOffer, ToolPiece};

/// Texts whose vectors are wanted.
#[derive(Deserialize)]
pub(super) struct EmbedRequest {
    pub inputs: Vec<EmbedInput>,
    pub pooling: Pooling,
}

/// A text, or its token ids.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum EmbedInput {
    Text(String),
    Tokens(Vec<u32>),
}

/// Kind of device, chosen by the page.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Device {
    Gpu,
    Cpu,
}

/// A device, and the page's knowledge of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub device: Device,
    /// The adapter's name, as far as the browser tells the page.
    pub adapter: String,
    /// The page asked the browser for a device with subgroups: the lanes of the smallest and of the largest.
    pub subgroups: Option<[u32; 2]>,
    /// Compare every kind of kernel with its CPU reference first: once for each adapter.
    pub self_test: bool,
}

impl Place {
    /// Options for opening a GPU.
    pub fn webgpu(&self) -> WebGpuOptions {
        let (page_has_subgroups, self_test) = (self.subgroups, self.self_test);
        let page_names = Some([self.adapter.clone(), browser()]);
        WebGpuOptions { page_has_subgroups, page_names, self_test, ..WebGpuOptions::default() }
    }
}

/// Request to load a model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadRequest {
    #[serde(flatten)]
    pub place: Place,
    #[serde(default)]
    pub weights: WeightChoice,
    pub kv: Option<KvFormat>,
    pub context_length: Option<usize>,
    pub conversations: usize,
    pub memory_budget: Option<u64>,
    #[serde(default)]
    pub hymba_window: HymbaWindow,
}

/// Request to write a model in another format.
#[derive(Deserialize)]
pub(super) struct ConvertRequest {
    /// Device that quantises.
    #[serde(flatten)]
    pub place: Place,
    pub weights: WeightChoice,
    /// Bytes of a file of weights.
    pub shard: u64,
}

/// Request for a reply.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplyRequest {
    #[serde(flatten)]
    pub conversation: ConversationRequest,
    pub max_tokens: Option<usize>,
    #[serde(flatten)]
    pub sampling: SamplingOverrides,
    /// A seed where none is asked for: a page has random numbers, this module has none.
    pub chance: u64,
    #[serde(default)]
    pub stop: Vec<String>,
    /// What the answer keeps to.
    pub grammar: Option<GrammarSource>,
    /// The answer may have several calls of tools.
    pub parallel_tool_calls: Option<bool>,
    /// Tokens beside each chosen one whose probabilities are wanted.
    pub logprobs: Option<usize>,
    /// Token ids, and what is added to their logits.
    #[serde(default)]
    pub biases: Vec<(u32, f32)>,
    /// Tokens of this reply that were made before the device was lost.
    #[serde(default)]
    pub emitted: Vec<u32>,
    /// Number of the page's conversation, where it has one.
    pub number: Option<u64>,
    /// Its memory goes into the store.
    #[serde(default)]
    pub keep: bool,
}

/// A conversation: its messages, and what its template is told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConversationRequest {
    pub messages: Vec<Value>,
    pub tools: Option<Vec<Value>>,
    pub tool_choice: Option<Value>,
    pub documents: Option<Vec<Value>>,
    #[serde(default)]
    pub template_kwargs: Map<String, Value>,
    /// `None`: as the template has it.
    pub thinking: Option<bool>,
}

impl ConversationRequest {
    /// The tools, and what the model may do with them.
    pub fn offer(&self) -> ToolOffer {
        ToolOffer { tools: self.tools.clone(), choice: self.tool_choice.clone() }
    }

    pub fn chat_request(self) -> Result<ChatRequest, WasmError> {
        let tools = self.offer().told()?;
        let Self { messages, documents, template_kwargs, thinking, .. } = self;
        let messages = ChatMessage::list_from_openai(messages)?;
        Ok(ChatRequest { tools, documents, template_kwargs, thinking, ..ChatRequest::new(messages) })
    }
}

/// How much of a conversation need not be read again: `Remembered` of `web/src/types.ts`.
#[derive(Serialize)]
pub(super) struct Remembered {
    pub tokens: usize,
    pub remembered: usize,
}

/// What came back from such bytes.
#[derive(Serialize)]
pub(super) struct RestoreReport {
    /// The messages that the bytes hold; none in a state without a conversation.
    pub messages: Vec<Value>,
    pub tokens: usize,
    pub notice: Option<String>,
}

/// What comes with a token besides text, as JSON; `None` where nothing does.
pub(super) fn more(calls: &[ToolPiece], scored: Option<&ScoredToken>) -> Option<String> {
    let call = |piece: &ToolPiece| match piece {
        ToolPiece::Text(_) => None,
        ToolPiece::Begun { index, name } => Some(json!({ "index": index, "name": name })),
        ToolPiece::Arguments { index, text } => Some(json!({ "index": index, "arguments": text })),
    };
    let calls: Vec<Value> = calls.iter().filter_map(call).collect();
    if calls.is_empty() && scored.is_none() {
        return None;
    }
    Some(json!({ "calls": calls, "token": scored.map(ScoredToken::object) }).to_string())
}

/// Report of a reply.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplyReport {
    pub finish_reason: &'static str,
    pub prompt_tokens: usize,
    pub read_tokens: usize,
    /// Why tokens were read again that had been read before.
    pub read_again: Option<String>,
    pub completion_tokens: usize,
    /// What went wrong with the memory of conversations.
    pub notices: Vec<String>,
}

/// Description of an engine: `EngineStats` of `web/src/types.ts` but for the fields that the page knows itself.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    pub model: ModelStats,
    pub device: DeviceStats,
    pub context_length: usize,
    pub weights: u64,
    pub memory: u64,
    pub state: StateStats,
    pub cache: CacheStats,
    /// The kernels are those that the device would choose: all were found right, where they were tested.
    pub found_right: bool,
    pub notices: Vec<String>,
}

/// What is remembered of all conversations.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CacheStats {
    pub checkpoints: usize,
    pub bytes: u64,
    pub made: u64,
    pub dropped: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub stored_tokens: u64,
    pub store: Option<StoreStats>,
}

/// What lies in the store.
#[derive(Clone, Copy, Serialize)]
pub(super) struct StoreStats {
    pub states: usize,
    pub bytes: u64,
}

impl CacheStats {
    /// The numbers as they are now.
    pub fn of(cache: &PromptCache, engine: &Engine) -> Self {
        let (checkpoints, bytes) = cache.size(engine);
        let CacheCounts { prompt_tokens, cached_tokens, stored_tokens, made, dropped } = cache.counts();
        let store = cache.stored().map(|(states, bytes)| StoreStats { states, bytes });
        Self { checkpoints, bytes, made, dropped, prompt_tokens, cached_tokens, stored_tokens, store }
    }
}

#[derive(Clone, Serialize)]
pub(super) struct ModelStats {
    #[serde(rename = "type")]
    pub model_type: String,
    pub parameters: u64,
    pub layers: usize,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceStats {
    pub backend: &'static str,
    pub adapter: String,
    pub software: bool,
    pub subgroups: bool,
    pub forms: Option<String>,
    pub forms_from: Option<FormsFrom>,
    pub f16: bool,
}

/// One conversation's memory in bytes.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateStats {
    pub tokens: usize,
    pub fixed: u64,
    pub per_token: u64,
    pub transformer_per_token: u64,
}
