//! Errors of a command.

use std::io;
use std::path::{Path, PathBuf};

use selvedge::arch::{ArchError, ConfigError};
use selvedge::backend::BackendError;
use selvedge::checkpoint::{CheckpointError, SourceError};
use selvedge::generate::prompt_cache::StoreError;
use selvedge::hub::HubError;
use selvedge::runtime::EngineError;
use selvedge::state::SnapshotError;
use selvedge::text::TextError;

use crate::hint;

/// Errors of a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The model or the engine.
    #[error("{}", hint::engine_message(.0))]
    Engine(#[from] EngineError),
    /// No such device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The hub or its cache.
    #[error("{}", hint::hub_message(.0))]
    Hub(#[from] HubError),
    /// A GGUF file that is not there.
    #[error("there is no file `{}`; in its folder there is {there}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// GGUF files that are there.
        there: String,
    },
    /// Neither a folder nor a file, and the hub does not give it either.
    #[error("there is no folder `{model}` and no such file, and the hub refuses it: {}", hint::hub_message(error))]
    NotOnHub {
        /// The model as the user wrote it.
        model: String,
        /// The hub's error.
        error: HubError,
    },
    /// Nothing that could be a model.
    #[error(
        "`{model}` is neither a folder, nor a GGUF file, nor a model's name on the hub (owner/name, owner/name@revision, owner/name:TAG); presets, which `inspect` and `bench` take: {presets}"
    )]
    NoModel {
        /// The model as the user wrote it.
        model: String,
        /// Names of the presets.
        presets: String,
    },
    /// The name of a config that Selvedge brings along, where weights are needed.
    #[error(
        "`{0}` is a preset, a config without weights: `inspect` takes it, and `bench` with --random-weights; for anything else name the model's folder or GGUF file, or owner/name on the hub"
    )]
    Preset(String),
    /// A server that does not run.
    #[error(transparent)]
    Serve(#[from] selvedge_server::ServeError),
    /// Options that contradict each other.
    #[error("{0}")]
    Misuse(String),
    /// A prompt that is no text.
    #[error("the prompt is not UTF-8: {0}")]
    NotUtf8(std::str::Utf8Error),
    /// A file that should hold token ids.
    #[error("{}: `{word}` is not a token id; ids are numbers, separated by commas or spaces", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The word that is no id.
        word: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file that is no saved state, or one that cannot be restored here.
    #[error("{}: {error}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Its fault.
        error: SnapshotError,
    },
    /// The folder of `--cache-dir` cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The results cannot be written.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// A conversation with a model without a chat template.
    #[error(
        "{0} has no chat template, neither in tokenizer_config.json, nor as chat_template.jinja, nor in a GGUF file; `selvedge generate` continues plain text with it"
    )]
    NoTemplate(String),
    /// The input of the user cannot be read.
    #[error("cannot read from stdin: {0}")]
    Stdin(io::Error),
    /// Ctrl-C cannot be caught.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(#[from] ctrlc::Error),
}

impl CommandError {
    /// 2 for a misuse, as in clap; 141 after a broken pipe, as in shells; 1 for a failure.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Misuse(_) => 2,
            _ if self.reader_is_gone() => 141,
            _ => 1,
        }
    }

    /// True if the reader of the results closed the pipe.
    pub(crate) fn reader_is_gone(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// For `map_err` of what is done with a saved state.
    pub(crate) fn state(path: &Path) -> impl Fn(SnapshotError) -> Self {
        move |error| Self::State { path: path.to_owned(), error }
    }

    /// For `map_err` of what is done to a file.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }
}

impl From<CheckpointError> for CommandError {
    fn from(error: CheckpointError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<ArchError> for CommandError {
    fn from(error: ArchError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        ArchError::from(error).into()
    }
}

impl From<SourceError> for CommandError {
    fn from(error: SourceError) -> Self {
        CheckpointError::from(error).into()
    }
}

impl From<TextError> for CommandError {
    fn from(error: TextError) -> Self {
        EngineError::from(error).into()
    }
}
