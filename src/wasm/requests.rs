//! Requests and answers as JSON: the names are those of `web/src/types.ts`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arch::HymbaWindow;
use crate::backend::webgpu::WebGpuOptions;
use crate::checkpoint::WeightChoice;
use crate::generate::{ChatRequest, SamplingOverrides};
use crate::runtime::EngineError;
use crate::state::KvFormat;
use crate::text::ChatMessage;

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
    /// The page asked the browser for a device with subgroups.
    pub subgroups: bool,
    /// Compare every kind of kernel with its CPU reference first: once for each adapter.
    pub self_test: bool,
}

impl Place {
    /// Options for opening a GPU.
    pub fn webgpu(&self) -> WebGpuOptions {
        let (page_has_subgroups, self_test) = (self.subgroups, self.self_test);
        WebGpuOptions { page_has_subgroups, self_test, ..WebGpuOptions::default() }
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
    /// Tokens of this reply that were made before the device was lost.
    #[serde(default)]
    pub emitted: Vec<u32>,
}

/// A conversation: its messages, and what its template is told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConversationRequest {
    pub messages: Vec<Value>,
    pub tools: Option<Vec<Value>>,
    pub documents: Option<Vec<Value>>,
    #[serde(default)]
    pub template_kwargs: Map<String, Value>,
    /// `None`: as the template has it.
    pub thinking: Option<bool>,
}

impl ConversationRequest {
    pub fn chat_request(self) -> Result<ChatRequest, EngineError> {
        let Self { messages, tools, documents, template_kwargs, thinking } = self;
        let messages = messages.into_iter().map(ChatMessage::from_json).collect::<Result<_, _>>()?;
        Ok(ChatRequest { tools, documents, template_kwargs, thinking, ..ChatRequest::new(messages) })
    }
}

/// What came back from such bytes.
#[derive(Serialize)]
pub(super) struct RestoreReport {
    /// The messages that the bytes hold; none in a state without a conversation.
    pub messages: Vec<Value>,
    pub tokens: usize,
    pub notice: Option<String>,
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
    pub notices: Vec<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct ModelStats {
    #[serde(rename = "type")]
    pub model_type: String,
    pub parameters: u64,
    pub layers: usize,
}

#[derive(Clone, Serialize)]
pub(super) struct DeviceStats {
    pub backend: &'static str,
    pub adapter: String,
    pub software: bool,
    pub subgroups: bool,
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
