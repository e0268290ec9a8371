//! Files of conversations: a saved state with the messages that led to it.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::CommandError;
use crate::state_file::{self, StateFile};
use selvedge::runtime::EngineError;
use selvedge::state::Snapshot;
use selvedge::text::ChatMessage;

/// A file in which a conversation is kept.
pub(crate) struct SessionFile(StateFile);

/// A conversation of an earlier start.
pub(crate) struct Saved {
    path: PathBuf,
    /// Its messages.
    pub(crate) messages: Vec<ChatMessage>,
    /// The model's memory of it.
    pub(crate) snapshot: Snapshot,
}

impl SessionFile {
    /// Checks the name and reads the conversation, if there is one.
    pub(crate) fn open(path: PathBuf, inputs: &[&Path]) -> Result<(Self, Option<Saved>), CommandError> {
        let this = Self(StateFile::check(path, inputs)?);
        let path = this.0.path();
        let snapshot = match state_file::read(path) {
            Err(CommandError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((this, None));
            }
            snapshot => snapshot?,
        };
        let messages = snapshot.note.as_deref().map(serde_json::from_str).transpose();
        let invalid = |what: String| CommandError::file(path)(io::Error::new(io::ErrorKind::InvalidData, what));
        let messages: Option<Vec<ChatMessage>> =
            messages.map_err(|e| invalid(format!("the messages of the conversation: {e}")))?;
        let messages = messages.ok_or_else(|| {
            invalid("is a saved state without a conversation (of `generate --save-state`?); name another file".into())
        })?;
        let saved = Saved { path: path.to_owned(), messages, snapshot };
        Ok((this, Some(saved)))
    }

    /// Writes a conversation in place of what the file held.
    pub(crate) fn write(&self, messages: &[ChatMessage], snapshot: Snapshot) -> Result<(), CommandError> {
        let note = serde_json::to_string(messages).map_err(|e| CommandError::file(self.0.path())(e.into()))?;
        self.0.write(&Snapshot { note: Some(note), ..snapshot }).map(|_| ())
    }
}

impl Saved {
    /// The error of a memory that cannot be restored.
    pub(crate) fn fault(&self, error: EngineError) -> CommandError {
        match error {
            EngineError::Snapshot(error) => CommandError::state(&self.path)(error),
            error => error.into(),
        }
    }
}
