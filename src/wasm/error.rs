//! Errors as JavaScript knows them: an `Error` with a `code` that programs can rely on, one of `ErrorCode` of
//! `web/src/errors.ts`.

use wasm_bindgen::JsValue;

use crate::arch::ArchError;
use crate::backend::BackendError;
use crate::checkpoint::{CheckpointError, SourceError};
use crate::generate::prompt_cache::StoreError;
use crate::runtime::EngineError;
use crate::text::{TextError, ToolOfferError};

/// Error of a call from JavaScript.
#[derive(Debug, thiserror::Error)]
pub(super) enum WasmError {
    /// The engine, or what lies below it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The page's store of states.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Tools that cannot be offered.
    #[error(transparent)]
    Tools(#[from] ToolOfferError),
    /// A wish that cannot be.
    #[error("{0}")]
    Wish(String),
    /// Arguments that are not what `web/src` sends.
    #[error("the request cannot be read: {0}")]
    Request(#[from] serde_json::Error),
}

impl From<TextError> for WasmError {
    fn from(error: TextError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<CheckpointError> for WasmError {
    fn from(error: CheckpointError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<BackendError> for WasmError {
    fn from(error: BackendError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<WasmError> for JsValue {
    fn from(error: WasmError) -> Self {
        let code = match &error {
            WasmError::Engine(error) => engine_code(error),
            WasmError::Store(_) => "internal",
            WasmError::Tools(_) | WasmError::Wish(_) | WasmError::Request(_) => "bad-request",
        };
        let value = js_sys::Error::new(&error.to_string());
        // An object that was just made takes any property.
        let _ = js_sys::Reflect::set(&value, &"code".into(), &code.into());
        value.into()
    }
}

fn engine_code(error: &EngineError) -> &'static str {
    match error {
        EngineError::Checkpoint(error) => checkpoint_code(error),
        EngineError::Arch(error) => arch_code(error),
        EngineError::Backend(error) => backend_code(error),
        EngineError::Text(error) => text_code(error),
        EngineError::Pages(_) | EngineError::Budget { .. } => "out-of-memory",
        EngineError::NoTokenizer | EngineError::NoTemplate(_) | EngineError::NotCausalLm(_) => "unsupported-model",
        EngineError::ContextFull { .. } => "context-full",
        EngineError::NotFinite { .. } => "not-finite",
        EngineError::Snapshot(_) => "bad-state",
        EngineError::EmptyPrompt
        | EngineError::UnknownToken { .. }
        | EngineError::Placeholder { .. }
        | EngineError::NotClassification
        | EngineError::Context { .. }
        | EngineError::Drafts { .. }
        | EngineError::Sampler(_)
        | EngineError::NoValue(_) => "bad-request",
        EngineError::Step(_)
        | EngineError::NoSlot(_)
        | EngineError::SlotClosed(_)
        | EngineError::Position { .. }
        | EngineError::NotRead { .. }
        | EngineError::NoCheckpoint
        | EngineError::NothingSampled(_) => "internal",
    }
}

fn checkpoint_code(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::Source(SourceError::Missing { .. })
        | CheckpointError::NoConfig { .. }
        | CheckpointError::NoWeights { .. } => "not-found",
        CheckpointError::Source(SourceError::Io { .. }) => "network",
        CheckpointError::Dtype { .. } => "unsupported-model",
        CheckpointError::Recipe { .. } | CheckpointError::Sink { .. } => "internal",
        _ => "corrupt-weights",
    }
}

fn arch_code(error: &ArchError) -> &'static str {
    match error {
        ArchError::Config(_) => "corrupt-weights",
        _ => "unsupported-model",
    }
}

fn text_code(error: &TextError) -> &'static str {
    match error {
        TextError::Tokenizer(_) | TextError::Config(_) => "corrupt-weights",
        TextError::Template { .. } | TextError::Message(_) | TextError::Encode(_) | TextError::Grammar(_) => {
            "bad-request"
        }
        TextError::Decode(_) => "internal",
    }
}

fn backend_code(error: &BackendError) -> &'static str {
    match error {
        BackendError::NoDevice { .. } => "no-device",
        BackendError::Limit { .. } | BackendError::OutOfMemory { .. } => "out-of-memory",
        BackendError::DeviceLost(_) => "device-lost",
        BackendError::SelfTest { .. } => "faulty-device",
        BackendError::Unsupported { .. } => "unsupported-model",
        BackendError::Driver { .. } | BackendError::Misuse(_) => "internal",
    }
}
