//! What tests of whole models share: the places to run, the reference's numbers, comparisons.

#![allow(dead_code, reason = "every test program uses its own part of this")]

pub mod acts;
pub mod demo;
pub mod drafts;
pub mod files;
pub mod pooling;
pub mod scripted;
pub mod snapshots;
pub mod talking;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};

use selvedge::arch::HymbaWindow;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::webgpu::{self, Form, FormKind, Measure, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs};
use selvedge::checkpoint::{Checkpoint, Folder, Memory};
use selvedge::generate::{FinishReason, GenerateOptions, Generation};
use selvedge::runtime::{Engine, EngineOptions, Purpose};
use selvedge::state::{KvFormat, SlotId};

/// The folder of the repository, from whichever of its packages.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("the folder with Cargo.lock").to_owned()
}

/// Runs a future to its end.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// A backend to test, and how far it may be from the reference.
pub struct Place {
    pub name: &'static str,
    pub open: fn() -> Box<dyn Backend>,
    /// How many times the CPU's tolerance it is allowed.
    pub slack: f32,
    /// So slow (SwiftShader takes a second for what others do in a hundredth) that long ways are walked on the
    /// other drivers only, and short ones here.
    pub slow: bool,
}

/// The one that is always there.
pub fn cpu() -> Place {
    // What quantised weights are multiplied with is not rounded here: `ops` holds the products in integers to the references.
    Place { name: "cpu", open: || Box::new(CpuBackend::in_floats()), slack: 1.0, slow: false }
}

/// Reports that the calling test returns without having run: `cargo xtask test` counts the line instead of the test.
pub fn skipped(reason: &str) {
    println!("skipped: {reason}");
}

const NO_ADAPTER: &str = "WebGPU: there is no adapter";

/// Whether WebGPU has an adapter; where a driver was chosen (`VK_DRIVER_FILES`) it must.
pub fn has_adapter() -> bool {
    let found = !wait(webgpu::adapters()).is_empty();
    assert!(found || std::env::var_os("VK_DRIVER_FILES").is_none(), "the chosen Vulkan driver offers no adapter");
    found
}

/// The same; without an adapter the calling test is reported as skipped.
pub fn adapter_or_skipped() -> bool {
    let found = has_adapter();
    if !found {
        skipped(NO_ADAPTER);
    }
    found
}

/// WebGPU, whichever driver stands behind it; without an adapter the calling test is reported as skipped.
pub fn webgpu_or_skipped() -> Option<Place> {
    adapter_or_skipped().then(webgpu_place)
}

/// WebGPU with some forms of its kernels; the others are those of many lanes where they run, so that a test is the same
/// wherever it runs.
pub fn webgpu_with(forms: &[Form]) -> Box<dyn Backend> {
    // tests/gpu/webgpu.rs runs the self-test; here it would only take time, at every load. And what is compared are
    // kernels on the same codes: tests/gpu/quantise_on_device.rs has those that a device makes.
    let (forms, quiet) =
        (forms.to_vec(), WebGpuOptions { self_test: false, measure: Measure::Never, ..Default::default() });
    let options = WebGpuOptions { forms, quantise: false, ..quiet };
    Box::new(wait(WebGpuBackend::new(&options)).expect("the adapter opens"))
}

/// The forms that run everywhere.
pub fn webgpu_basic() -> Box<dyn Backend> {
    webgpu_with(&FormKind::ALL.map(|kind| kind.forms()[0]))
}

fn webgpu_place() -> Place {
    let adapters = wait(webgpu::adapters());
    let adapter = adapters.first().expect("an adapter");
    println!("webgpu runs on {} ({})", adapter.adapter, adapter.driver);
    let open = || webgpu_with(&[]);
    Place { name: "webgpu", open, slack: 2.0, slow: adapter.adapter.contains("SwiftShader") }
}

/// Every backend of this machine. Which driver stands behind WebGPU is the environment's choice.
pub fn places() -> Vec<Place> {
    let mut places = vec![cpu()];
    if has_adapter() {
        places.push(webgpu_place());
    } else {
        println!("skipped in part: {NO_ADAPTER}");
    }
    places
}

/// The folder of a golden.
pub fn folder(name: &str) -> PathBuf {
    repository().join("tests/goldens").join(name)
}

/// Further goldens, in the layout of `tests/goldens`: the folders below `families` in the folder that SELVEDGE_GOLDENS
/// names. `None` where it names none.
pub fn further_goldens() -> Option<Vec<PathBuf>> {
    let families = Path::new(&std::env::var_os("SELVEDGE_GOLDENS")?).join("families");
    let entries = std::fs::read_dir(&families).unwrap_or_else(|error| panic!("{}: {error}", families.display()));
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    Some(folders)
}

/// Goldens of every family but Hymba that gives words: attention, short convolutions, Mamba-2, experts, the gated
/// delta rule.
pub const ATTENTION: [&str; 10] =
    ["granite", "granite_rope", "llama", "ministral3", "mistral", "mistral3", "nemotron", "qwen2", "qwen3", "smollm3"];
pub const CONVOLUTIONS: [&str; 4] = ["lfm2", "lfm2_25", "lfm2_bias", "lfm3"];
pub const MAMBA: [&str; 7] =
    ["bamba", "falcon_h1", "falcon_h1_rms", "granite_h", "nemotron_h", "nemotron_h_bf16", "nemotron_h_bias"];
pub const EXPERTS: [&str; 9] = [
    "granite_moe",
    "granitemoe",
    "granitemoeshared",
    "jamba",
    "lfm2_moe",
    "nemotron_h_latent",
    "nemotron_h_moe",
    "qwen3_moe",
    "qwen3_moe_all",
];
pub const GATED_DELTA: [&str; 5] = ["qwen3_5", "qwen3_5_gva", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next"];
/// Goldens with heads for later tokens.
pub const DRAFTS: [&str; 3] = ["draft_qwen3_5", "draft_qwen3_5_moe", "draft_nemotron_h"];
/// Goldens of the models that give scores.
pub const REWARDS: [&str; 4] = ["llama_reward", "nemotron_reward", "qwen2_reward", "qwen3_reward"];

/// Every golden that gives words, but Hymba's.
pub fn families() -> impl Iterator<Item = &'static str> {
    ATTENTION.into_iter().chain(CONVOLUTIONS).chain(MAMBA).chain(EXPERTS).chain(GATED_DELTA)
}

/// Largest difference of a logit on the CPU: what `transformers` in f32 is away from the same formulas in f64, times
/// ten. The norm behind the gated delta rule divides by numbers that may be small.
pub fn tolerance(golden: &str) -> f32 {
    match golden {
        name if name.starts_with("qwen3_5") || name.starts_with("qwen3_next") => 8e-4,
        name if ["lfm2", "llama", "qwen"].iter().any(|family| name.starts_with(family)) => 3e-4,
        _ => 2e-4,
    }
}

/// The checkpoint of a golden.
pub fn checkpoint(name: &str) -> Checkpoint {
    wait(Checkpoint::open(Folder::open(folder(name)).expect("a folder"))).expect("a checkpoint")
}

/// The checkpoint of a golden, whose tensors are all f32, with what `change` does to each tensor's numbers.
pub fn changed(name: &str, change: impl Fn(&str, &mut [f32])) -> Checkpoint {
    let read = |file: &str| std::fs::read(folder(name).join(file)).expect("a golden's file");
    let mut weights = read("model.safetensors");
    let (length, header) = safetensors::SafeTensors::read_metadata(&weights).expect("a header");
    for (tensor, info) in header.tensors() {
        assert_eq!(info.dtype, safetensors::Dtype::F32, "{tensor}");
        let bytes = &mut weights[8 + length..][info.data_offsets.0..info.data_offsets.1];
        let mut numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        change(&tensor, &mut numbers);
        bytes.copy_from_slice(&numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
    }
    let source = Memory::new().with("config.json", read("config.json")).with("model.safetensors", weights);
    wait(Checkpoint::open(source)).expect("a checkpoint")
}

/// How a test's engine differs from the usual.
#[derive(Clone, Default)]
pub struct Setting {
    pub slots: usize,
    pub context: Option<usize>,
    pub window: HymbaWindow,
    pub keep: Vec<String>,
    pub purpose: Purpose,
    /// Most drafts ahead of a step.
    pub speculate: usize,
    /// Keys and values in 16 bits.
    pub kv_f16: bool,
}

/// Loads a checkpoint.
pub fn load(place: &Place, checkpoint: &Checkpoint, setting: Setting) -> Engine {
    let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    options.slots = setting.slots.max(1);
    options.context = setting.context;
    options.hymba_window = setting.window;
    options.keep = setting.keep;
    options.purpose = setting.purpose;
    options.speculate = setting.speculate;
    if setting.kv_f16 {
        options.kv_format = KvFormat::F16;
    }
    wait(Engine::load(checkpoint, (place.open)(), options)).expect("the model loads")
}

/// Reads tokens in spans of `chunk` rows; the logits of all of them.
pub fn read(engine: &mut Engine, slot: SlotId, ids: &[u32], chunk: usize) -> Vec<f32> {
    let mut logits = vec![];
    for span in ids.chunks(chunk) {
        let step = engine.enqueue(slot, span, Outputs::All).expect("a step");
        logits.extend(wait(engine.logits(&step)).expect("logits"));
    }
    logits
}

/// All tokens of a generation, and why it ended.
pub fn generate(
    engine: &mut Engine,
    slot: SlotId,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (Vec<u32>, FinishReason) {
    let mut generation = wait(Generation::start(engine, slot, prompt, options)).expect("a prompt");
    let mut tokens = vec![];
    while let Some(token) = wait(generation.next(engine)).expect("a token") {
        tokens.push(token);
    }
    (tokens, generation.finish_reason().expect("an end"))
}

/// Compares the scores of every text of a reference, `input_ids.K` and `scores.K`. Gives how many there were.
pub fn compare_scores(worst: &mut Worst, place: &str, engine: &mut Engine, expected: &Golden) -> usize {
    let texts: Vec<&str> = expected.names("input_ids.").collect();
    for text in &texts {
        let slot = engine.open().expect("a slot");
        let scores = wait(engine.score(slot, &expected.ids(&format!("input_ids.{text}")))).expect("scores");
        engine.close(slot).expect("an open slot");
        worst.compare(&format!("{place}, text {text}"), &scores, &expected.get(&format!("scores.{text}")).data);
    }
    texts.len()
}

/// Numbers as weights are: most small, few large.
pub fn bell(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 0.05).collect()
}

/// The sum of the squared differences.
pub fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// A tensor of the reference.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Tensor {
    /// Row-major index.
    pub fn at(&self, index: &[usize]) -> f32 {
        assert_eq!(index.len(), self.shape.len());
        self.data[index.iter().zip(&self.shape).fold(0, |at, (i, size)| at * size + i)]
    }

    /// Without its leading dimensions of one, down to `rank` dimensions.
    pub fn squeezed(mut self, rank: usize) -> Self {
        while self.shape.len() > rank {
            assert_eq!(self.shape.remove(0), 1);
        }
        self
    }
}

/// The reference's numbers: `golden.safetensors`.
pub struct Golden {
    tensors: BTreeMap<String, Tensor>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        Self::read(&folder(name).join("golden.safetensors"))
    }

    pub fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).expect("a golden");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let bytes = view.data();
            let data = match view.dtype() {
                safetensors::Dtype::F32 => numbers(bytes, f32::from_le_bytes),
                safetensors::Dtype::I64 => numbers(bytes, |b| i64::from_le_bytes(b) as f32),
                other => panic!("{name} is {other:?}"),
            };
            (name, Tensor { shape: view.shape().to_vec(), data })
        });
        Self { tensors: tensors.collect() }
    }

    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.find(name).unwrap_or_else(|| panic!("the golden has no {name}"))
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).data.iter().map(|&id| id as u32).collect()
    }

    /// Names that begin so, without the prefix.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |name| name.strip_prefix(prefix))
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.chunks_exact(N).map(|chunk| number(chunk.try_into().expect("N bytes"))).collect()
}

/// Collects the largest difference of many comparisons, and fails at the end if it is too large.
pub struct Worst {
    what: String,
    tolerance: f32,
    largest: f32,
    place: String,
    compared: usize,
}

impl Worst {
    pub fn new(what: impl Into<String>, tolerance: f32) -> Self {
        Self { what: what.into(), tolerance, largest: 0.0, place: String::new(), compared: 0 }
    }

    /// Compares numbers that must be as many.
    pub fn compare(&mut self, place: &str, got: &[f32], wanted: &[f32]) {
        assert_eq!(got.len(), wanted.len(), "{}, {place}: another size", self.what);
        self.compared += got.len();
        for (&got, &wanted) in got.iter().zip(wanted) {
            let difference = (got - wanted).abs();
            // Not a number is the worst of all.
            if difference.is_nan() || difference > self.largest {
                self.largest = if difference.is_nan() { f32::INFINITY } else { difference };
                self.place = place.to_owned();
            }
        }
    }

    pub fn finish(self) {
        let Self { what, tolerance, largest, place, compared } = self;
        println!("{what}: largest difference {largest:.1e} of {tolerance:.0e} allowed ({place}; {compared} numbers)");
        assert!(compared > 0, "{what}: nothing was compared");
        assert!(largest <= tolerance, "{what}: off by {largest:e} in {place}, {tolerance:e} is allowed");
    }
}
