//! The bindings for JavaScript: an engine as a class. `web/` is built on them.
//!
//! Weights are read through the page block by block; they never lie in WebAssembly's heap as a whole.

mod convert;
mod error;
mod forms;
mod requests;
mod sink;
mod source;
mod states;

use std::cell::Cell;
use std::rc::Rc;

use futures::lock::Mutex;
use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use self::error::WasmError;
use self::forms::PageForms;
use self::requests::{
    CacheStats, ConversationRequest, Device, DeviceStats, EmbedInput, EmbedRequest, LoadRequest, ModelStats,
    Remembered, ReplyReport, ReplyRequest, RestoreReport, StateStats, Stats, more,
};
use self::source::{Asking, PageSource, Thrown};
use self::states::PageStates;
use crate::backend::cpu::CpuBackend;
use crate::backend::webgpu::{FormStore, WebGpuBackend, WebGpuOptions};
use crate::backend::{Backend, DEFAULT_KV_FORMAT, Outputs};
use crate::checkpoint::{Checkpoint, CheckpointError, LoadProgress};
use crate::generate::prompt_cache::StoreOptions;
use crate::generate::scheduler::Pooling;
use crate::generate::{
    Chat, ChatRequest, Delta, FinishReason, GenerateOptions, Generation, MOST_LOGPROBS, Recommended, Turn,
    chat_template, embed,
};
use crate::runtime::{self, EngineError, EngineOptions, PREFILL_ROWS, transformer_bytes_per_token};
use crate::state::{Sampler, SlotId, Snapshot};
use crate::text::{Grammar, Grammars, Piece};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn log_error(message: &str);
}

/// Makes a panic, which is a fault of ours, say in the console where it happened.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| log_error(&panic.to_string())));
}

/// Handle that stops a reply.
#[wasm_bindgen]
#[derive(Default)]
pub struct Cancel(runtime::Cancel);

#[wasm_bindgen]
impl Cancel {
    /// A handle that is not cancelled.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the reply at its next token.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// A loaded model on a device. Calls that overlap wait for each other.
#[wasm_bindgen]
pub struct Engine {
    inner: Mutex<Inner>,
    /// Description of the engine, readable while a reply is made, but for what `now` has.
    stats: Stats,
    now: Rc<Now>,
}

/// Numbers that change while an engine is at work.
#[derive(Default)]
struct Now {
    /// Tokens of the conversation that was read, made or looked at last.
    tokens: Cell<usize>,
    cache: Cell<CacheStats>,
}

/// The pooling that [`Pooling::FILE`] asks for; `undefined` where there is none such.
#[wasm_bindgen(js_name = poolingOf)]
pub fn pooling_of(file: &[u8]) -> Result<Option<String>, JsValue> {
    let pooling = Pooling::from_file(file).map_err(|error| {
        let (file, what) = (Pooling::FILE.to_owned(), format!("is broken: {error}"));
        WasmError::from(CheckpointError::Text { file, what })
    })?;
    Ok(pooling.map(|pooling| pooling.name().to_owned()))
}

/// Vectors of texts one behind the other, and the count of each text's tokens.
#[wasm_bindgen(getter_with_clone)]
pub struct Embedded {
    /// `f32 [texts, hidden]`.
    pub vectors: Vec<f32>,
    /// `u32 [texts]`.
    pub tokens: Vec<u32>,
}

struct Inner {
    now: Rc<Now>,
    engine: runtime::Engine,
    chat: Option<Chat>,
    recommended: Recommended,
    /// Made for the first reply that keeps to a grammar.
    grammars: Option<Grammars>,
    place: String,
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model, with the adapters of its source merged into it. `request` is JSON; `progress` is called with a stage,
    /// bytes done, bytes in all and a tensor's name. What a source throws is thrown again as it was.
    pub async fn load(
        source: PageSource,
        request: String,
        progress: Function,
        forms: Option<PageStates>,
    ) -> Result<Self, JsValue> {
        let thrown = Thrown::default();
        let loaded = load(Asking::new(source, thrown.clone()), &request, &progress, forms).await;
        loaded.map_err(|error| thrown.take().unwrap_or_else(|| error.into()))
    }

    /// Makes a reply. `on_delta` is called for every token with its id (`undefined` at the end), the next
    /// text of the thinking and of the answer, and JSON of what else there is (`Told` of `web/src/core.ts`); where it gives a
    /// promise, that is waited for. Gives JSON.
    pub async fn reply(&self, request: String, cancel: &Cancel, on_delta: Function) -> Result<String, JsValue> {
        let mut inner = self.inner.lock().await;
        let report = inner.reply(&request, cancel.0.clone(), &on_delta).await?;
        Ok(serde_json::to_string(&report).map_err(WasmError::from)?)
    }

    /// What is remembered of a conversation (JSON: a request with its messages), with the messages beside it, as the
    /// bytes of a file; `undefined` where nothing is.
    pub async fn snapshot(&self, request: String) -> Result<Option<Vec<u8>>, JsValue> {
        let mut inner = self.inner.lock().await;
        Ok(inner.snapshot(&request).await?)
    }

    /// Remembers what such bytes hold. Gives JSON: the messages, and a sentence where keys and values were converted.
    pub async fn restore(&self, bytes: Vec<u8>) -> Result<String, JsValue> {
        let mut inner = self.inner.lock().await;
        let restored = inner.restore(&bytes).await?;
        Ok(serde_json::to_string(&restored).map_err(WasmError::from)?)
    }

    /// How much of a conversation (JSON: a request with its messages) need not be read again, as JSON.
    pub async fn remembered(&self, request: String) -> Result<String, JsValue> {
        let mut inner = self.inner.lock().await;
        Ok(serde_json::to_string(&inner.remembered(&request)?).map_err(WasmError::from)?)
    }

    /// Keeps the memory of conversations that ask for it in the page's store too, in at most `limit` bytes, and finds
    /// there what an earlier page of the same model left. Gives what went wrong: sentences without a full stop.
    #[wasm_bindgen(js_name = keepIn)]
    pub async fn keep_in(&self, store: PageStates, limit: f64) -> Result<Vec<String>, JsValue> {
        let mut inner = self.inner.lock().await;
        Ok(inner.keep_in(store, limit as u64).await?)
    }

    /// Description of the engine and its memory, as JSON; also while a reply is made.
    pub fn stats(&self) -> Result<String, JsValue> {
        let mut stats = self.stats.clone();
        stats.state.tokens = self.now.tokens.get();
        stats.cache = self.now.cache.get();
        Ok(serde_json::to_string(&stats).map_err(WasmError::from)?)
    }

    /// Vectors of texts, of length 1. `request` is JSON: texts or their token ids, and how their rows are pooled.
    pub async fn embed(&self, request: String) -> Result<Embedded, JsValue> {
        let mut inner = self.inner.lock().await;
        Ok(inner.embed(&request).await?)
    }

    /// The logits of every token of a text of its own: `f32 [tokens, vocabulary]`.
    pub async fn logits(&self, tokens: Vec<u32>) -> Result<Vec<f32>, JsValue> {
        let mut inner = self.inner.lock().await;
        let engine = &mut inner.engine;
        let slot = engine.open().map_err(WasmError::from)?;
        let logits = logits(engine, slot, &tokens).await;
        engine.close(slot).map_err(WasmError::from)?;
        Ok(logits.map_err(WasmError::from)?)
    }

    /// The tokens that follow a text of its own, the most probable one each time: at most `count`, fewer
    /// when the model ends the text.
    pub async fn generate(&self, tokens: Vec<u32>, count: u32) -> Result<Vec<u32>, JsValue> {
        let mut inner = self.inner.lock().await;
        let engine = &mut inner.engine;
        let slot = engine.open().map_err(WasmError::from)?;
        let made = generate(engine, slot, &tokens, count as usize).await;
        engine.close(slot).map_err(WasmError::from)?;
        Ok(made.map_err(WasmError::from)?)
    }
}

async fn load(
    source: Asking,
    request: &str,
    progress: &Function,
    forms: Option<PageStates>,
) -> Result<Engine, WasmError> {
    let request: LoadRequest = serde_json::from_str(request)?;
    let report = |stage: &str, done: u64, total: u64, tensor: &str| {
        // Whoever listens cannot stop a load by throwing: the source can.
        let _ = progress.call4(
            &JsValue::NULL,
            &stage.into(),
            &(done as f64).into(),
            &(total as f64).into(),
            &tensor.into(),
        );
    };
    report("open", 0, 0, "");
    let adapters = source.adapters();
    let mut checkpoint = Checkpoint::open(source).await?;
    for adapter in adapters {
        checkpoint = checkpoint.with_adapter(adapter).await?;
    }
    let template = chat_template(&checkpoint).await?;
    let recommended = Recommended::from_file(checkpoint.file("generation_config.json").await?.as_deref());
    report("device", 0, 0, "");
    let backend: Box<dyn Backend> = match request.place.device {
        Device::Cpu => Box::new(CpuBackend::new()),
        Device::Gpu => {
            let form_store = forms.map(|folder| Rc::new(PageForms(folder)) as Rc<dyn FormStore>);
            Box::new(WebGpuBackend::new(&WebGpuOptions { form_store, ..request.place.webgpu() }).await?)
        }
    };
    let mut weights = |at: LoadProgress<'_>| report("weights", at.done, at.total, at.tensor);
    let options = EngineOptions {
        weights: request.weights,
        kv_format: request.kv.unwrap_or(DEFAULT_KV_FORMAT),
        context: request.context_length,
        slots: request.conversations,
        budget: request.memory_budget,
        hymba_window: request.hymba_window,
        ..EngineOptions::new(&mut weights)
    };
    let engine = runtime::Engine::load(&checkpoint, backend, options).await?;
    // A model without a template, or without a tokenizer, still gives logits.
    let chat = match template {
        Some(template) if engine.tokenizer().is_ok() => Some(Chat::new(&engine, template)?),
        _ => None,
    };
    let notices = engine.notices().iter().chain(recommended.notices()).cloned().collect();
    let (stats, now) = (stats(&engine, notices), Rc::new(Now::default()));
    let inner = Inner { now: now.clone(), engine, chat, recommended, grammars: None, place: checkpoint.describe("") };
    Ok(Engine { inner: Mutex::new(inner), stats, now })
}

impl Inner {
    async fn embed(&mut self, request: &str) -> Result<Embedded, WasmError> {
        let EmbedRequest { inputs, pooling } = serde_json::from_str(request)?;
        let engine = &mut self.engine;
        let mut texts = vec![];
        for input in inputs {
            texts.push(match input {
                EmbedInput::Tokens(tokens) => tokens,
                EmbedInput::Text(text) => {
                    engine.check_bytes(&text)?;
                    engine.tokenizer()?.encode(&text)?
                }
            });
        }
        let vectors = embed(engine, &texts, pooling).await?.concat();
        Ok(Embedded { vectors, tokens: texts.iter().map(|text| text.len() as u32).collect() })
    }

    /// What a reply keeps to: what is asked for, or what its tools ask for.
    fn grammar(&mut self, request: &ReplyRequest) -> Result<Option<Grammar>, WasmError> {
        let (chat, engine) = self.chat()?;
        let (tokenizer, vocabulary) = (engine.tokenizer()?, engine.model().vocabulary);
        let stops = chat.stop_token_ids(engine);
        let bound = request.grammar.is_some();
        let tools = request.conversation.offer().grammar(bound, chat.tool_call_dialect(), &tokenizer)?;
        let optional = tools.as_ref().is_some_and(|tools| !tools.must_call());
        let source = match (&request.grammar, &tools) {
            (Some(_), Some(_)) => {
                return Err(WasmError::Wish("`tool_choice` asks for a call, and the grammar for another text".into()));
            }
            (Some(source), None) => source,
            (None, Some(tools)) => tools.source(),
            (None, None) => return Ok(None),
        };
        let grammars = match self.grammars.take() {
            Some(grammars) => grammars,
            None => Grammars::new(&tokenizer, vocabulary, &stops)?,
        };
        let grammar = self.grammars.insert(grammars).compile(source)?;
        Ok(Some(if optional { grammar.optional() } else { grammar }))
    }

    fn chat(&mut self) -> Result<(&mut Chat, &mut runtime::Engine), WasmError> {
        match &mut self.chat {
            Some(chat) => Ok((chat, &mut self.engine)),
            None => {
                // The more basic of the two faults.
                self.engine.tokenizer()?;
                Err(EngineError::NoTemplate(self.place.clone()).into())
            }
        }
    }

    async fn snapshot(&mut self, request: &str) -> Result<Option<Vec<u8>>, WasmError> {
        let request: ConversationRequest = serde_json::from_str(request)?;
        let note = serde_json::to_string(&request.messages)?;
        let request = request.chat_request()?;
        let (chat, engine) = self.chat()?;
        let Some(snapshot) = chat.snapshot(engine, &request).await? else { return Ok(None) };
        let bytes = Snapshot { note: Some(note), ..snapshot }.to_bytes();
        Ok(Some(bytes.map_err(EngineError::from)?))
    }

    async fn restore(&mut self, bytes: &[u8]) -> Result<RestoreReport, WasmError> {
        let snapshot = Snapshot::from_bytes(bytes).map_err(EngineError::from)?;
        let (chat, engine) = self.chat()?;
        let notice = chat.restore(engine, &snapshot).await?;
        let messages = snapshot.note.as_deref().map(serde_json::from_str).transpose()?;
        self.now.tokens.set(snapshot.read);
        self.count();
        Ok(RestoreReport { messages: messages.unwrap_or_default(), tokens: snapshot.read, notice })
    }

    fn remembered(&mut self, request: &str) -> Result<Remembered, WasmError> {
        let request: ConversationRequest = serde_json::from_str(request)?;
        let request = request.chat_request()?;
        let (chat, engine) = self.chat()?;
        let (tokens, remembered) = chat.remembered(engine, &request)?;
        self.now.tokens.set(remembered);
        Ok(Remembered { tokens, remembered })
    }

    async fn keep_in(&mut self, store: PageStates, limit: u64) -> Result<Vec<String>, WasmError> {
        let (chat, engine) = self.chat()?;
        // Browsers give a page little room.
        chat.keep_in(engine, Box::new(store), StoreOptions { limit, exact: false }).await?;
        let notices = chat.cache_mut().take_notices();
        self.count();
        Ok(notices)
    }

    /// Takes the numbers of the cache for whoever asks while a reply is made.
    fn count(&self) {
        if let Some(chat) = &self.chat {
            self.now.cache.set(CacheStats::of(chat.cache(), &self.engine));
        }
    }

    async fn reply(
        &mut self,
        request: &str,
        cancel: runtime::Cancel,
        on_delta: &Function,
    ) -> Result<ReplyReport, WasmError> {
        let request: ReplyRequest = serde_json::from_str(request)?;
        if request.logprobs.is_some_and(|count| count > MOST_LOGPROBS) {
            return Err(WasmError::Wish(format!("`logprobs` must be 0 to {MOST_LOGPROBS}")));
        }
        let grammar = self.grammar(&request)?;
        let (chat, _) = self.chat()?;
        let tool_call_dialect = request.conversation.offer().dialect(chat.tool_call_dialect());
        let sampler = request.sampling.sampler(&self.recommended, || request.chance);
        let request = ChatRequest {
            sampler: Sampler { biases: request.biases, ..sampler },
            grammar,
            logprobs: request.logprobs,
            parse_tool_calls: true,
            tool_call_dialect,
            parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
            max_tokens: request.max_tokens.or(self.recommended.max_new_tokens()).unwrap_or(usize::MAX),
            stops: request.stop,
            cancel,
            emitted: request.emitted,
            conversation: request.number,
            keep: request.keep,
            ..request.conversation.chat_request()?
        };
        let now = self.now.clone();
        let (chat, engine) = self.chat()?;
        let mut turn = chat.begin(engine, &request).await?;
        now.cache.set(CacheStats::of(chat.cache(), engine));
        let emitted = emit(engine, &mut turn, &now.tokens, on_delta).await;
        let mut report = ReplyReport {
            finish_reason: turn.finish_reason().unwrap_or(FinishReason::Cancelled).name(),
            prompt_tokens: turn.prompt_tokens(),
            read_tokens: turn.read_tokens(),
            read_again: turn.reuse().missed.map(|missed| missed.to_string()),
            completion_tokens: turn.made_tokens(),
            notices: vec![],
        };
        let ended = chat.end(engine, turn).await;
        let length = chat.length();
        report.notices = chat.cache_mut().take_notices();
        self.count();
        emitted?;
        ended?;
        now.tokens.set(length);
        Ok(report)
    }
}

fn stats(engine: &runtime::Engine, notices: Vec<String>) -> Stats {
    let (info, model, layout) = (engine.info(), engine.model(), engine.layout());
    let state = layout.bytes();
    Stats {
        model: ModelStats {
            model_type: model.model_type.clone(),
            parameters: model.graph.parameters(),
            layers: model.layers,
        },
        device: DeviceStats {
            backend: info.kind.name(),
            adapter: info.adapter.clone(),
            software: info.software,
            subgroups: info.subgroups,
            forms: info.forms.clone(),
            forms_from: info.forms_from,
            f16: info.f16,
        },
        context_length: engine.context(),
        weights: engine.weight_bytes(),
        memory: layout.allocated(),
        state: StateStats {
            tokens: 0,
            fixed: state.pinned + state.fixed(),
            per_token: state.per_token,
            transformer_per_token: transformer_bytes_per_token(model, layout.kv_format),
        },
        cache: CacheStats::default(),
        found_right: info.notice.is_none(),
        notices,
    }
}

/// Streams a reply to the listener until it ends.
async fn emit(
    engine: &mut runtime::Engine,
    turn: &mut Turn,
    tokens: &Cell<usize>,
    on_delta: &Function,
) -> Result<(), WasmError> {
    while let Some(Delta { token, pieces, calls, .. }) = turn.next(engine).await? {
        tokens.set(turn.prompt_tokens() + turn.made_tokens());
        let (mut thinking, mut answer) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Thinking(text) => thinking.push_str(&text),
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        let scored = turn.scored(engine)?;
        let more = more(&calls, scored.as_ref()).map_or(JsValue::UNDEFINED, JsValue::from);
        let token = token.map_or(JsValue::UNDEFINED, JsValue::from);
        // What the listener throws is its own affair; it stops a reply through its `Cancel`.
        let heard = on_delta.call4(&JsValue::NULL, &token, &thinking.into(), &answer.into(), &more);
        if let Some(pause) = heard.ok().and_then(|value| value.dyn_into::<Promise>().ok()) {
            let _ = JsFuture::from(pause).await;
        }
    }
    Ok(())
}

async fn logits(engine: &mut runtime::Engine, slot: SlotId, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
    let mut logits = vec![];
    for span in tokens.chunks(PREFILL_ROWS) {
        let step = engine.enqueue(slot, span, Outputs::All)?;
        logits.extend(engine.logits(&step).await?);
    }
    Ok(logits)
}

async fn generate(
    engine: &mut runtime::Engine,
    slot: SlotId,
    tokens: &[u32],
    count: usize,
) -> Result<Vec<u32>, EngineError> {
    let options = GenerateOptions { max_tokens: count, ..Default::default() };
    let mut generation = Generation::start(engine, slot, tokens, &options).await?;
    let mut made = vec![];
    while let Some(token) = generation.next(engine).await? {
        made.push(token);
    }
    Ok(made)
}
