//! Options of every command that loads a model.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::device::{self, Device, FormArg, GpuArgs};
use crate::commands::fetch::locate;
use crate::error::CommandError;
use crate::terminal::status;
use selvedge::arch::{self, HymbaWindow};
use selvedge::backend::{Backend, DEFAULT_KV_FORMAT};
use selvedge::checkpoint::{self, Checkpoint, Folder, LoadProgress, Source, WeightChoice};
use selvedge::formats::Rounding;
use selvedge::hub::Need;
use selvedge::runtime::{Engine, EngineOptions, Purpose};
use selvedge::state::KvFormat;

/// Largest `--context`.
pub(crate) const LONGEST_CONTEXT: u64 = selvedge::eval::LONGEST_CONTEXT as u64;

/// A model and the options of its load.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder with config.json, model.safetensors (or shards) and tokenizer.json, or a GGUF file; or
    /// owner/name@revision:TAG on the hub
    model: PathBuf,
    /// Never ask the network: the model is on this machine, or in the hub's cache
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Options of a load, for any model.
#[derive(Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// Device to run on: `auto` is a real GPU if there is one, else the CPU; `gpu` may be a software GPU too
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Name of the GPU, or a part of it, in any case; `selvedge devices` lists them
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Storage format of the matrices (weights); `auto` takes q8 or q4 where the checkpoint's own does not fit into memory
    #[arg(long, value_enum, default_value_t)]
    weights: WeightChoice,
    /// Choice of the scales where matrices are quantised
    #[arg(long, value_enum, default_value_t)]
    rounding: Rounding,
    /// Storage format of attention's keys and values
    #[arg(long, value_enum, default_value_t = DEFAULT_KV_FORMAT)]
    kv: KvFormat,
    /// Context: most tokens of a sequence [default: the model's own, at most 8192]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=LONGEST_CONTEXT))]
    context: Option<usize>,
    /// Keys that Hymba's windowed layers see while decoding
    #[arg(long, value_enum, default_value_t)]
    hymba_window: HymbaWindow,
    /// Forms of a GPU's kernels, by commas: tile or lanes, rows or quads, query or flash, head or split, heads or columns,
    /// apart or within; `measured`: those of the others that are the fastest here, measured anew [default: as they were measured
    /// when these shapes were first loaded here]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    forms: Vec<FormArg>,
    /// LoRA adapter to merge into the model while it is loaded: a folder of PEFT; several are merged in this order, into
    /// every model of a server
    #[arg(long, value_name = "FOLDER")]
    lora: Vec<PathBuf>,
    /// Of `bench` alone.
    #[arg(skip)]
    pub(crate) profile: bool,
    /// Most drafts ahead of a step, of the commands that have `--speculate`.
    #[arg(skip)]
    pub(crate) speculate: usize,
}

impl ModelArgs {
    /// The model as the user wrote it.
    pub(crate) fn name(&self) -> String {
        self.model.display().to_string()
    }

    /// Storage format of the matrices, as the user wrote it.
    pub(crate) fn weights_name(&self) -> String {
        self.load.weights.name()
    }

    /// Opens the device and puts random weights on it, for the model of a folder's config or of a preset.
    pub(crate) async fn load_random(&self, slots: usize, context: usize) -> Result<Engine, CommandError> {
        if !self.load.lora.is_empty() {
            return Err(CommandError::Misuse(
                "--lora needs a model's own weights, which --random-weights does without".into(),
            ));
        }
        let config = match arch::preset(&self.name()).filter(|_| !self.model.is_dir()) {
            Some(preset) => preset,
            None => checkpoint::read_config(&self.open(Need::Config)?).await?,
        };
        let backend = self.load.open().await?;
        let mut progress = |_: LoadProgress| {};
        let mut options = EngineOptions::new(&mut progress);
        (options.weights, options.kv_format, options.hymba_window) =
            (self.load.weights, self.load.kv, self.load.hymba_window);
        (options.slots, options.context) = (slots, Some(self.load.context.unwrap_or(context)));
        options.speculate = self.load.speculate;
        Ok(Engine::load_random(&config, backend, options).await?)
    }

    /// Another model, loaded in the same way but for the format of its matrices, and without adapters.
    pub(crate) fn other(&self, model: &Path, weights: WeightChoice) -> Self {
        let load = LoadArgs { weights, lora: vec![], ..self.load.clone() };
        Self { model: model.to_owned(), offline: self.offline, load }
    }

    /// The model's folder or GGUF file, fetched if it has to be.
    pub(crate) fn folder(&self) -> Result<PathBuf, CommandError> {
        locate(&self.model, Need::All, self.offline)
    }

    fn open(&self, need: Need) -> Result<Folder, CommandError> {
        Ok(Folder::open(locate(&self.model, need, self.offline)?)?)
    }

    /// Opens the folder.
    pub(crate) async fn checkpoint(&self) -> Result<Checkpoint, CommandError> {
        self.load.checkpoint(self.open(Need::All)?).await
    }

    /// Opens the device and loads the opened folder onto it.
    pub(crate) async fn load_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Engine, CommandError> {
        self.load.load(checkpoint, 1, Purpose::Generate).await
    }

    /// Opens the folder and the device and loads the one onto the other.
    pub(crate) async fn load(&self) -> Result<Engine, CommandError> {
        self.load_slots(1).await
    }

    /// The same with room for several sequences.
    pub(crate) async fn load_slots(&self, slots: usize) -> Result<Engine, CommandError> {
        self.load.load(&self.checkpoint().await?, slots, Purpose::Generate).await
    }

    /// The same for another purpose than generating.
    pub(crate) async fn load_for(&self, purpose: Purpose) -> Result<Engine, CommandError> {
        self.load.load(&self.checkpoint().await?, 1, purpose).await
    }
}

impl LoadArgs {
    async fn open(&self) -> Result<Box<dyn Backend>, CommandError> {
        let (adapter, forms) = (self.adapter.as_deref(), &self.forms);
        device::open(self.device, GpuArgs { adapter, forms, profile: self.profile }).await
    }

    /// Opens a model of files, with the adapters merged into it.
    pub(crate) async fn checkpoint(&self, files: impl Source + 'static) -> Result<Checkpoint, CommandError> {
        with_adapters(Checkpoint::open(files).await?, &self.lora).await
    }

    /// Opens the device and loads a checkpoint onto it, with room for several sequences.
    pub(crate) async fn load(
        &self,
        checkpoint: &Checkpoint,
        slots: usize,
        purpose: Purpose,
    ) -> Result<Engine, CommandError> {
        self.load_within(checkpoint, slots, purpose, (None, None)).await
    }

    /// The same, with a budget of bytes and what other models have left of it.
    pub(crate) async fn load_within(
        &self,
        checkpoint: &Checkpoint,
        slots: usize,
        purpose: Purpose,
        (budget, left): (Option<u64>, Option<u64>),
    ) -> Result<Engine, CommandError> {
        let backend = self.open().await?;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(loading_style("loading"));
        let mut progress = |progress: LoadProgress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let mut options = EngineOptions::new(&mut progress);
        (options.weights, options.rounding) = (self.weights, self.rounding);
        options.kv_format = self.kv;
        options.hymba_window = self.hymba_window;
        options.context = self.context;
        options.slots = slots;
        (options.purpose, options.speculate) = (purpose, self.speculate);
        (options.budget, options.left) = (budget, left);
        let engine = Engine::load(checkpoint, backend, options).await;
        bar.finish_and_clear();
        let engine = engine?;
        for notice in engine.notices() {
            status!("note: {notice}");
        }
        if engine.weights() != self.weights {
            status!(
                "the weights as they are do not fit into the device's memory: stored as {}",
                engine.weights().name()
            );
        }
        Ok(engine)
    }
}

/// A checkpoint with the adapters of these folders merged into it, in order.
pub(crate) async fn with_adapters(mut checkpoint: Checkpoint, folders: &[PathBuf]) -> Result<Checkpoint, CommandError> {
    for folder in folders {
        checkpoint = checkpoint.with_adapter(Folder::open(folder)?).await?;
    }
    Ok(checkpoint)
}

/// Shown only where stderr is a terminal.
pub(crate) fn loading_style(verb: &str) -> ProgressStyle {
    let template = format!("{verb} {{bar:32}} {{binary_bytes}}/{{binary_total_bytes}} {{binary_bytes_per_sec}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
