//! `selvedge serve`: a server with OpenAI's interface.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::embed::pooling;
use crate::args::cache::CacheArgs;
use crate::args::model::LoadArgs;
use crate::args::speculate::SpeculateArgs;
use crate::commands::fetch::locate;
use crate::ctrl_c::{ctrl_c_ends, on_ctrl_c};
use crate::error::CommandError;
use crate::state_file::{self, StateFile};
use crate::terminal::status;
use selvedge::backend::BackendError;
use selvedge::checkpoint::Folder;
use selvedge::checkpoint::gguf::stem;
use selvedge::demo_model;
use selvedge::generate::scheduler::{Pooling, SchedulerOptions};
use selvedge::generate::{Chat, Recommended, chat_template};
use selvedge::hub::Need;
use selvedge::runtime::{EngineError, Purpose};
use selvedge::state::Snapshot;
use selvedge_server::{LoadError, Loaded, Models, MoreModels, ServeOptions, SlotFileError, SlotFiles, Worker, serve};

/// Name of the demo model for clients.
const DEMO: &str = "selvedge-demo";

/// Serve a model with OpenAI's interface: many conversations in the same steps.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model folder or GGUF file, or owner/name:TAG on the hub; without one the small model that the binary carries
    model: Option<PathBuf>,
    /// Never ask the network: the model is on this machine, or in the hub's cache
    #[arg(long)]
    offline: bool,
    /// Name of the model for clients [default: the name of its folder, or of its GGUF file without the end]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Another model, loaded when it is first asked for; may be given several times
    #[arg(long = "model", value_name = "NAME=MODEL", value_parser = NamedModel::parse)]
    more: Vec<NamedModel>,
    /// Most bytes of all loaded models, weights and slots: what does not fit beside the others takes the place of one that nobody uses
    #[arg(long, value_name = "SIZE")]
    model_memory: Option<ByteSize>,
    /// Address to listen at; others than this machine's own let the network in
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen at; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Key that clients must send; better in the variable SELVEDGE_API_KEY, as other users see command lines
    #[arg(long, value_name = "KEY", env = "SELVEDGE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Let pages of this origin ask (`https://example.com`); `*`: of any. May be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Replies made at the same time; each takes the memory of a whole context
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    slots: usize,
    /// Most requests that wait for one of them; more are told to come again
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Most bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    body_limit: ByteSize,
    /// Seconds for a client to send its request, and to take what is sent to it; then its connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    client_timeout: u64,
    /// Folder for `/slots/N?action=save` and `restore`; without one slots are not saved
    #[arg(long, value_name = "FOLDER")]
    slot_save_path: Option<PathBuf>,
    /// Seconds for replies under way when the program is asked to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// How the rows of a text become its embedding [default: as the model's 1_Pooling/config.json says, or mean]
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Write no line for each request
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    speculate: SpeculateArgs,
    #[command(flatten)]
    load: LoadArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        if self.api_key.as_deref().is_some_and(str::is_empty) {
            return Err(CommandError::Misuse("the API key is empty: leave it out to let everybody in".into()));
        }
        if let Some(origin) = self.cors.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            let what = "an origin is a scheme and a host (https://example.com), or `*`";
            return Err(CommandError::Misuse(format!("--cors {origin}: {what}")));
        }
        ctrl_c_ends("")?;
        let options = ServeOptions {
            address: SocketAddr::new(self.host, self.port),
            api_key: self.api_key.clone(),
            origins: self.cors.clone(),
            body_bytes: usize::try_from(self.body_limit.as_u64()).unwrap_or(usize::MAX),
            client: Duration::from_secs(self.client_timeout),
            slot_files: self.slot_files()?,
            drain: Duration::from_secs(self.drain),
            listening: Box::new(|address| status!("listening at http://{address}/v1; Ctrl-C ends the server")),
            log: match self.quiet {
                true => Box::new(|_| {}),
                false => Box::new(|line| status!("{line}")),
            },
        };
        if !self.host.is_loopback() && self.api_key.is_none() {
            status!("note: anybody in the network of {} may use the model: --api-key asks for a key", self.host);
        }
        let budget = self.model_memory.map(|size| size.as_u64());
        let (first, more) = self.models()?;
        let loader = self.loader();
        let worker = loader.start(&first, (budget, None))?;
        let more = MoreModels {
            names: more.iter().map(|model| model.name.clone()).collect(),
            budget,
            load: Arc::new(move |name, budget, left| {
                let model = std::iter::once(&first).chain(&more).find(|model| model.name == name);
                let model = model.ok_or_else(|| LoadError::Failed(format!("no model has the name {name}")))?;
                status!("loading {name}, which is asked for");
                loader.start(model, (budget, left)).map_err(|error| match error {
                    CommandError::Engine(error) => match error {
                        EngineError::Budget { needed, .. } => {
                            LoadError::Memory { why: error.to_string(), needed: Some(needed) }
                        }
                        EngineError::Backend(BackendError::OutOfMemory { .. }) => {
                            LoadError::Memory { why: error.to_string(), needed: None }
                        }
                        error => failed(name, &error.into()),
                    },
                    error => failed(name, &error),
                })
            }),
        };
        // From now on it ends in an orderly way.
        on_ctrl_c(|| {})?;
        serve(Models::new(worker, more), options)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The model that is loaded first, and the others.
    fn models(&self) -> Result<(NamedModel, Vec<NamedModel>), CommandError> {
        let mut models = self.more.clone();
        if self.model.is_some() || models.is_empty() {
            models.insert(0, self.first());
        } else if let Some(name) = &self.name {
            return Err(CommandError::Misuse(format!("--name {name}: there is no model beside those of --model")));
        }
        for (index, model) in models.iter().enumerate() {
            if models[..index].iter().any(|other| other.name == model.name) {
                return Err(CommandError::Misuse(format!("two models have the name {}", model.name)));
            }
        }
        let first = models.remove(0);
        Ok((first, models))
    }

    fn first(&self) -> NamedModel {
        let name = self.name.clone().unwrap_or_else(|| self.model.as_deref().map_or_else(|| DEMO.into(), own_name));
        NamedModel { name, model: self.model.clone() }
    }

    /// The files of `--slot-save-path`, in a folder that is there from now on.
    fn slot_files(&self) -> Result<Option<Arc<dyn SlotFiles>>, CommandError> {
        let Some(folder) = &self.slot_save_path else { return Ok(None) };
        fs::create_dir_all(folder).map_err(CommandError::file(folder))?;
        Ok(Some(Arc::new(SlotFolder(folder.clone()))))
    }

    fn loader(&self) -> Loader {
        let mut load = self.load.clone();
        load.speculate = self.speculate.drafts();
        Loader {
            load,
            cache: self.cache.clone(),
            offline: self.offline,
            slots: self.slots,
            queue: SchedulerOptions { waiting: self.queue, ..SchedulerOptions::default() },
            pooling: self.pooling,
        }
    }
}

/// Files of slots in a folder.
struct SlotFolder(PathBuf);

impl SlotFiles for SlotFolder {
    fn write(&self, name: &str, snapshot: &Snapshot) -> Result<u64, SlotFileError> {
        let path = self.0.join(name);
        // A model's file, say, in a folder that is not for states alone.
        if path.exists() && !state_file::is_one(&path)? {
            let what = "is there already and is no saved state; name another";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
        }
        let written = StateFile::check(path, &[]).and_then(|file| file.write(snapshot));
        written.map_err(slot_file_error)
    }

    fn read(&self, name: &str) -> Result<(Snapshot, u64), SlotFileError> {
        let path = self.0.join(name);
        if fs::symlink_metadata(&path)?.is_symlink() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link; only a file is read").into());
        }
        let snapshot = state_file::read(&path).map_err(slot_file_error)?;
        Ok((snapshot, fs::metadata(path)?.len()))
    }
}

/// What clients hear of a file: not where it lies.
fn slot_file_error(error: CommandError) -> SlotFileError {
    match error {
        CommandError::State { error, .. } => error.into(),
        CommandError::File { error, .. } => error.into(),
        other => io::Error::other(other).into(),
    }
}

/// What clients hear of a model that cannot be loaded; the log has the rest, which may name folders and addresses.
fn failed(name: &str, error: &CommandError) -> LoadError {
    status!("note: {name} cannot be loaded: {error}");
    LoadError::Failed(format!("the model `{name}` cannot be loaded; the server's log tells why"))
}

/// A model with its name for clients.
#[derive(Clone)]
struct NamedModel {
    name: String,
    /// `None`: the one that the binary carries.
    model: Option<PathBuf>,
}

impl NamedModel {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                Ok(Self { name: name.into(), model: Some(model.into()) })
            }
            _ => Err("it must be a name and a model, NAME=FOLDER, NAME=FILE.gguf or NAME=owner/name[:TAG]".into()),
        }
    }
}

/// Loads models, each in the same way.
#[derive(Clone)]
struct Loader {
    load: LoadArgs,
    cache: CacheArgs,
    offline: bool,
    slots: usize,
    queue: SchedulerOptions,
    pooling: Option<Pooling>,
}

impl Loader {
    /// Loads a model on a thread of its own.
    fn start(&self, model: &NamedModel, budget: (Option<u64>, Option<u64>)) -> Result<Worker, CommandError> {
        let (loader, model) = (self.clone(), model.clone());
        let tell = |notice: &str| status!("note: {notice}");
        Worker::start(move || pollster::block_on(loader.load(model, budget)), self.queue, tell)
    }

    async fn load(self, model: NamedModel, budget: (Option<u64>, Option<u64>)) -> Result<Loaded, CommandError> {
        let NamedModel { name, model } = model;
        let folder = model.as_ref().map(|model| locate(model, Need::All, self.offline)).transpose()?;
        let checkpoint = match &folder {
            Some(folder) => self.load.checkpoint(Folder::open(folder)?).await?,
            None => self.load.checkpoint(demo_model::files()).await?,
        };
        let template = chat_template(&checkpoint).await?;
        let recommended = Recommended::from_file(checkpoint.file("generation_config.json").await?.as_deref());
        let engine = self.load.load_within(&checkpoint, self.slots, Purpose::Any, budget).await?;
        for notice in recommended.notices() {
            status!("note: {notice}");
        }
        let mut chat = match template {
            Some(template) if engine.tokenizer().is_ok() => Some(Chat::new(&engine, template)?),
            _ => None,
        };
        match &mut chat {
            Some(chat) => {
                self.cache.keep(&engine, chat).await?;
                for notice in chat.cache_mut().take_notices() {
                    status!("note: {notice}");
                }
            }
            None if self.cache.is_given() => {
                status!("note: the model has no chat template: --cache-dir changes nothing");
            }
            None => {}
        }
        let pooling = pooling(&checkpoint, self.pooling).await?;
        Ok(Loaded { name, engine, chat, recommended, pooling })
    }
}

/// Name of a model that was given none: that of its folder, of its GGUF file without the end, or on the hub.
fn own_name(model: &Path) -> String {
    let name = model.display().to_string();
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match model {
        _ if model.is_dir() => last.to_owned(),
        _ if model.is_file() => stem(last).to_owned(),
        _ => name,
    }
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_names_for_clients() {
        let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/");
        for (model, name) in [
            ("falcon_h1", "falcon_h1"),
            ("falcon_h1/", "falcon_h1"),
            ("gguf/llama/model.gguf", "model"),
            ("gguf/types/split-00002-of-00002.gguf", "split"),
        ] {
            assert_eq!(own_name(Path::new(&format!("{goldens}{model}"))), name);
        }
        assert_eq!(own_name(Path::new("owner/name:Q4_K_M")), "owner/name:Q4_K_M");
    }
}
