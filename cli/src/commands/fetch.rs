//! `selvedge fetch`, and the search for a model's files that every command does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ctrl_c::ctrl_c_ends;
use crate::error::CommandError;
use crate::terminal::{self, status};
use selvedge::arch;
use selvedge::checkpoint::gguf::{first_of, is_gguf, is_model};
use selvedge::hub::{FetchEvent, Hub, HubError, ModelName, Need, Settings};

/// Fetch a model, or its missing files, from the Hugging Face hub, and print its folder, or its GGUF file.
///
/// `owner/name:Q4_K_M` is a GGUF model: of a repository's files, those whose name holds the tag. A model of several files
/// is fetched whole, and the first file is printed. Without a tag, safetensors are fetched, or the only GGUF model.
///
/// An interrupted download goes on where it ended. HF_TOKEN (or `hf auth login`), HF_HOME, HF_HUB_CACHE, HF_ENDPOINT
/// and HF_HUB_OFFLINE have the same meaning as in Python's huggingface_hub, and the cache is the same.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: owner/name or owner/name@revision, for a GGUF file with :TAG or :FILE.gguf behind it
    model: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Never ask the network: print the place if the model is in the cache, else fail
    #[arg(long)]
    offline: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let mut model: ModelName = self.model.parse()?;
        if let Some(revision) = &self.revision {
            if self.model.contains('@') {
                let both = format!("`{}` names a revision already; leave out --revision", self.model);
                return Err(CommandError::Misuse(both));
            }
            model = model.at(revision)?;
        }
        let hub = hub(self.offline);
        let found = hub.cache().find(&model, Need::Weights).filter(|_| hub.offline());
        let place = found.map_or_else(|| fetch(&hub, &model, Need::All), Ok)?;
        terminal::print(&format!("{}\n", place.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The place of a model: a folder or a GGUF file itself, or those of a model's name on the hub, which is looked for in the
/// cache and fetched, with a line on stderr, where it is not there.
pub(crate) fn locate(model: &Path, need: Need, offline: bool) -> Result<PathBuf, CommandError> {
    // A file is complained of by whoever opens it as a folder.
    if model.is_dir() || model.is_file() {
        return Ok(model.to_owned());
    }
    if let Some(missing) = missing_file(model) {
        return Err(missing);
    }
    let Some(name) = model.to_str().and_then(|name| name.parse::<ModelName>().ok()) else {
        let named = model.display().to_string();
        if arch::preset(&named).is_some() {
            return Err(CommandError::Preset(named));
        }
        return Err(CommandError::NoModel { model: named, presets: arch::presets().join(", ") });
    };
    let hub = hub(offline);
    // Offline one must do with what there is. Who has a network gets a missing tokenizer too.
    let enough = if hub.offline() { need.min(Need::Weights) } else { need };
    match hub.cache().find(&name, enough) {
        Some(folder) => Ok(folder),
        None => fetch(&hub, &name, need).map_err(|error| match error {
            // Somebody who mistyped a folder's name has not asked for the hub.
            CommandError::Hub(error @ HubError::Refused { .. }) => {
                CommandError::NotOnHub { model: name.to_string(), error }
            }
            other => other,
        }),
    }
}

/// Names of files that an error lists.
const LISTED: usize = 8;

/// The error of a GGUF file that is not in a folder which is there. Some models on the hub have such names too.
fn missing_file(path: &Path) -> Option<CommandError> {
    if !path.file_name()?.to_str().is_some_and(is_gguf) {
        return None;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_model(name));
    let there: BTreeSet<String> = names.map(|name| first_of(&name)).collect();
    let mut there = Vec::from_iter(there);
    let more = there.len().saturating_sub(LISTED);
    there.truncate(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let there = if there.is_empty() { "no GGUF file".into() } else { there.join(", ") + &more };
    Some(CommandError::NoFile { path: path.to_owned(), there })
}

fn hub(offline: bool) -> Hub {
    let settings = Settings::from_env();
    Hub::new(Settings { offline: offline || settings.offline, ..settings })
}

fn fetch(hub: &Hub, model: &ModelName, need: Need) -> Result<PathBuf, CommandError> {
    if !hub.offline() {
        status!("fetching {model} from the hub into {}", hub.cache().root().display());
    }
    ctrl_c_ends("stopped; the same command goes on from here")?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style());
    let mut missing = false;
    let fetched = hub.fetch(model, need, &mut |event| {
        missing |= matches!(event, FetchEvent::Start { .. });
        show(&bar, event);
    });
    bar.finish_and_clear();
    if fetched.is_ok() && !missing {
        status!("nothing was missing in the cache");
    }
    ctrl_c_ends("")?;
    Ok(fetched?)
}

fn show(bar: &ProgressBar, event: FetchEvent) {
    match event {
        FetchEvent::Start { files, total, done } => {
            let earlier = if done > 0 { format!(", {} of them here already", HumanBytes(done)) } else { String::new() };
            let plural = if files == 1 { "" } else { "s" };
            bar.set_length(total);
            bar.set_position(done);
            // What came earlier says nothing about how fast the rest will come.
            bar.reset_eta();
            say(bar, &format!("{files} file{plural}, {}{earlier}", HumanBytes(total)));
        }
        FetchEvent::Progress { file, done } => {
            let file = terminal::shown(file);
            if bar.message() != file {
                bar.set_message(file.into_owned());
            }
            bar.set_position(done);
        }
        FetchEvent::Notice(text) => say(bar, text),
    }
}

/// A line above the bar; a plain one where there is no bar.
pub(super) fn say(bar: &ProgressBar, line: &str) {
    if io::stderr().is_terminal() {
        bar.println(terminal::shown(line));
    } else {
        status!("{line}");
    }
}

/// Shown only where stderr is a terminal.
fn style() -> ProgressStyle {
    let template = "{msg} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
