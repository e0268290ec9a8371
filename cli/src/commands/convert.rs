//! `selvedge convert`: a checkpoint written in another format.

mod own_files;
mod record;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::fetch::locate;
use crate::args::model::{loading_style, with_adapters};
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::terminal::status;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{
    self, Checkpoint, CheckpointError, ConvertOptions, Folder, LoadProgress, Storage, WeightChoice,
};
use selvedge::formats::Rounding;
use selvedge::hub::Need;
use selvedge::runtime::Cancel;

use own_files::OwnFiles;
use record::Record;
use target::TargetFolder;

/// Write a model in another format, as a folder that every command loads.
///
/// A conversion that was cut goes on with the same command: finished files stay. Another source or other options are
/// refused, unless --restart is given.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json and model.safetensors (or shards), or a GGUF file; or owner/name@revision:TAG on the hub
    model: PathBuf,
    /// Folder to write
    out: PathBuf,
    /// Storage format of the matrices (weights)
    #[arg(long, value_parser = formats())]
    weights: WeightChoice,
    /// Choice of the scales where matrices are quantised
    #[arg(long, value_enum, default_value_t)]
    rounding: Rounding,
    /// Most MiB of a file, unless a single tensor has more
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    shard: u64,
    /// Remove the files that an earlier conversion made in OUT, and start over
    #[arg(long)]
    restart: bool,
    /// LoRA adapter to merge into the model: a folder of PEFT; several are merged in this order
    #[arg(long, value_name = "FOLDER")]
    lora: Vec<PathBuf>,
    /// Never ask the network: the model is on this machine, or in the hub's cache
    #[arg(long)]
    offline: bool,
}

/// The formats that a model can be written in: every choice but `auto`, which is the format that it has.
fn formats() -> impl TypedValueParser<Value = WeightChoice> {
    let choices = WeightChoice::value_variants().iter().filter(|choice| **choice != WeightChoice::Auto);
    PossibleValuesParser::new(choices.filter_map(WeightChoice::to_possible_value))
        .try_map(|name| WeightChoice::from_str(&name, false))
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let cancel = Cancel::default();
        let pressed = cancel.clone();
        on_ctrl_c(move || pressed.cancel())?;
        let folder = locate(&self.model, Need::All, self.offline)?;
        let checkpoint = pollster::block_on(Checkpoint::open(OwnFiles::open(&folder, |line| status!("{line}"))?))?;
        let checkpoint = pollster::block_on(with_adapters(checkpoint, &self.lora))?;
        let config = Config::parse(checkpoint.config())?;
        let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default())?;
        let storage = Storage { rounding: self.rounding, ..self.weights.into() };
        let options = ConvertOptions { storage, shard: self.shard << 20 };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(loading_style("converting"));
        let record = pollster::block_on(Record::new(&checkpoint, &Folder::open(&folder)?, &self.lora, &options))?;
        let mut target = TargetFolder::open(&self.out, &folder, record, self.restart, bar.clone())?;
        let mut progress = |progress: LoadProgress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            !cancel.is_cancelled()
        };
        let done = checkpoint::convert(&checkpoint, &model.graph, options, None, &mut target, &mut progress);
        let done = pollster::block_on(done);
        bar.finish_and_clear();
        if let Err(stopped @ CheckpointError::Stopped) = done {
            status!("{stopped}");
            return Ok(INTERRUPTED.into());
        }
        done?;
        status!("{}: {} files, {} bytes", self.out.display(), target.files, target.bytes);
        target.close()?;
        Ok(ExitCode::SUCCESS)
    }
}
