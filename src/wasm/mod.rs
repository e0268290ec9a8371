//! The face for JavaScript: an engine as a class. `web/` is built on it.
//!
//! Weights are read out of the page's own memory block by block; they never lie in WebAssembly's heap
//! as a whole.

mod files;

use futures::lock::Mutex;
use js_sys::Map;
use wasm_bindgen::prelude::*;

use self::files::Files;
use crate::arch::HymbaWindow;
use crate::backend::cpu::CpuBackend;
use crate::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use crate::backend::{Backend, Outputs};
use crate::checkpoint::{Checkpoint, LoadProgress};
use crate::engine::{self, EngineError, EngineOptions, GenerateOptions, Generation, PREFILL_ROWS};
use crate::state::SlotId;

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

/// A loaded model on a device. Calls that overlap wait for each other.
#[wasm_bindgen]
pub struct Engine {
    engine: Mutex<engine::Engine>,
    adapter: String,
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model from its files: a `Map` from names (`config.json`, `model.safetensors`, …) to
    /// `Uint8Array`s. `device` is `gpu` or `cpu`; `hymba_window` is `training` or `generate`.
    pub async fn load(files: Map, device: String, hymba_window: String) -> Result<Self, JsError> {
        let hymba_window = match hymba_window.as_str() {
            "training" => HymbaWindow::Training,
            "generate" => HymbaWindow::Generate,
            other => return Err(unknown("window", other, "`training` or `generate`")),
        };
        let checkpoint = Checkpoint::open(Files::new(&files)?).await?;
        let backend: Box<dyn Backend> = match device.as_str() {
            "gpu" => Box::new(WebGpuBackend::new(&WebGpuOptions::default()).await?),
            "cpu" => Box::new(CpuBackend::new()),
            other => return Err(unknown("device", other, "`gpu` or `cpu`")),
        };
        let adapter = backend.info().adapter.clone();
        let mut ignore = |_: LoadProgress<'_>| {};
        let options = EngineOptions { hymba_window, ..EngineOptions::new(&mut ignore) };
        let engine = Mutex::new(engine::Engine::load(&checkpoint, backend, options).await?);
        Ok(Self { engine, adapter })
    }

    /// What it runs on.
    #[wasm_bindgen(getter)]
    pub fn adapter(&self) -> String {
        self.adapter.clone()
    }

    /// The logits of every token of a text of its own: `f32 [tokens, vocabulary]`.
    pub async fn logits(&self, tokens: Vec<u32>) -> Result<Vec<f32>, JsError> {
        let mut engine = self.engine.lock().await;
        let slot = engine.open()?;
        let logits = logits(&mut engine, slot, &tokens).await;
        engine.close(slot)?;
        Ok(logits?)
    }

    /// The tokens that follow a text of its own, the most probable one each time: at most `count`, fewer
    /// when the model ends the text.
    pub async fn generate(&self, tokens: Vec<u32>, count: u32) -> Result<Vec<u32>, JsError> {
        let mut engine = self.engine.lock().await;
        let slot = engine.open()?;
        let made = generate(&mut engine, slot, &tokens, count as usize).await;
        engine.close(slot)?;
        Ok(made?)
    }
}

async fn logits(engine: &mut engine::Engine, slot: SlotId, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
    let mut logits = vec![];
    for span in tokens.chunks(PREFILL_ROWS) {
        let step = engine.feed(slot, span, Outputs::All)?;
        logits.extend(engine.logits(&step).await?);
    }
    Ok(logits)
}

async fn generate(
    engine: &mut engine::Engine,
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

fn unknown(what: &str, got: &str, known: &str) -> JsError {
    JsError::new(&format!("there is no {what} `{got}`; use {known}"))
}
