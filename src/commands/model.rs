//! What every command that loads a model takes.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::CommandError;
use super::device::{self, Device};
use crate::arch::HymbaWindow;
use crate::backend::DEFAULT_KV_FORMAT;
use crate::checkpoint::{Checkpoint, Folder, LoadProgress, WeightChoice};
use crate::engine::{Engine, EngineOptions};
use crate::state::KvFormat;

/// A model and how to load it.
#[derive(clap::Args)]
pub(super) struct ModelArgs {
    /// Folder with config.json, model.safetensors (or shards) and tokenizer.json
    model: PathBuf,
    /// Where to run: `auto` takes a GPU if there is a real one; `gpu` takes a software GPU too
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Take the GPU whose name contains this, in any case
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// How matrices are stored
    #[arg(long, value_enum, default_value_t)]
    weights: WeightChoice,
    /// How attention's keys and values are stored
    #[arg(long, value_enum, default_value_t = DEFAULT_KV_FORMAT)]
    kv: KvFormat,
    /// Tokens that a sequence can hold [default: what the model was made for, at most 8192]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Keys that Hymba's windowed layers see while decoding
    #[arg(long, value_enum, default_value_t)]
    hymba_window: HymbaWindow,
}

impl ModelArgs {
    /// Opens the folder and the device and loads the one onto the other.
    pub(super) async fn load(&self) -> Result<Engine, CommandError> {
        let checkpoint = Checkpoint::open(Folder::open(&self.model)?).await?;
        let backend = device::open(self.device, self.adapter.as_deref()).await?;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style());
        let mut progress = |progress: LoadProgress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let mut options = EngineOptions::new(&mut progress);
        options.weights = self.weights;
        options.kv_format = self.kv;
        options.hymba_window = self.hymba_window;
        options.context = self.context;
        let engine = Engine::load(&checkpoint, backend, options).await;
        bar.finish_and_clear();
        Ok(engine?)
    }
}

/// Shown only where stderr is a terminal.
fn style() -> ProgressStyle {
    let template = "loading {bar:32} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
