//! `selvedge convert`: a checkpoint in other formats.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::future::{LocalBoxFuture, ready};
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::fetch::locate;
use crate::args::model::loading_style;
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::part_file::PartFile;
use crate::terminal::status;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{
    self, Checkpoint, CheckpointError, ConvertOptions, FileSink, Folder, LoadProgress, SinkError, Storage, WeightChoice,
};
use selvedge::formats::Rounding;
use selvedge::hub::Need;
use selvedge::runtime::Cancel;

/// Write a model in other formats, as a folder that every command loads.
///
/// What was finished before a conversion was cut stays, and the same command goes on from there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json and model.safetensors (or shards); or owner/name@revision on the hub
    model: PathBuf,
    /// Folder to write
    out: PathBuf,
    /// How matrices are stored
    #[arg(long, value_enum)]
    weights: WeightChoice,
    /// How the scales of quantised matrices are chosen
    #[arg(long, value_enum, default_value_t)]
    rounding: Rounding,
    /// MiB of a file, unless a single tensor has more
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    shard: u64,
    /// Do not ask the hub: the model is a folder, or in the cache
    #[arg(long)]
    offline: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        if self.weights == WeightChoice::Auto {
            return Err(CommandError::Misuse(
                "--weights auto is no format to convert to; take q8, q4 or another".into(),
            ));
        }
        let cancel = Cancel::default();
        let pressed = cancel.clone();
        on_ctrl_c(move || pressed.cancel())?;
        let folder = locate(&self.model, Need::All, self.offline)?;
        let checkpoint = pollster::block_on(Checkpoint::open(Folder::open(&folder)?))?;
        let config = Config::parse(checkpoint.config())?;
        let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default())?;
        let mut target = TargetFolder::open(&self.out, &folder)?;
        let storage = Storage { choice: self.weights, rounding: self.rounding };
        let options = ConvertOptions { storage, shard: self.shard << 20 };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(loading_style("converting"));
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
        Ok(ExitCode::SUCCESS)
    }
}

/// A folder that fills with finished files.
struct TargetFolder {
    path: PathBuf,
    /// The file being written.
    current: Option<PartFile>,
    /// Finished files.
    files: usize,
    /// Their bytes.
    bytes: u64,
}

impl TargetFolder {
    /// A new folder, or one that an earlier conversion was cut in.
    fn open(path: &Path, source: &Path) -> Result<Self, CommandError> {
        fs::create_dir_all(path).map_err(CommandError::file(path))?;
        let real = |path: &Path| path.canonicalize().map_err(CommandError::file(path));
        if real(path)? == real(source)? {
            return Err(CommandError::Misuse("OUT is the model's own folder; name another".into()));
        }
        if path.join("config.json").exists() {
            return Err(CommandError::Misuse(format!(
                "{} holds a model already; remove it first, or name another folder",
                path.display()
            )));
        }
        Ok(Self { path: path.to_owned(), current: None, files: 0, bytes: 0 })
    }

    fn has_head(path: &Path, size: u64, head: &[u8]) -> io::Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        let mut file = File::open(path)?;
        let mut found = vec![0; head.len()];
        Ok(file.metadata()?.len() == size && file.read_exact(&mut found).is_ok() && found == head)
    }
}

impl FileSink for TargetFolder {
    fn has<'a>(&'a mut self, name: &'a str, size: u64, head: &'a [u8]) -> LocalBoxFuture<'a, Result<bool, SinkError>> {
        let found = Self::has_head(&self.path.join(name), size, head);
        if let Ok(true) = found {
            (self.files, self.bytes) = (self.files + 1, self.bytes + size);
        }
        Box::pin(ready(found.map_err(Into::into)))
    }

    fn begin<'a>(&'a mut self, name: &'a str, _: u64) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let begun = PartFile::create(&self.path.join(name)).map(|file| self.current = Some(file));
        Box::pin(ready(begun.map_err(Into::into)))
    }

    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let written = match &mut self.current {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("no file was begun")),
        };
        self.bytes += bytes.len() as u64;
        Box::pin(ready(written.map_err(Into::into)))
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SinkError>> {
        self.files += 1;
        let finished = self.current.take().map_or(Ok(()), PartFile::finish);
        Box::pin(ready(finished.map_err(Into::into)))
    }
}
