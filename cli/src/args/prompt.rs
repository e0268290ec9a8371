//! Input of a command: a text, or token ids.

use std::ffi::OsString;

use crate::error::CommandError;
use selvedge::runtime::{Engine, EngineError};

/// A text or token ids; a command that needs one of them has a group of both that is required.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct Prompt {
    /// Text of the prompt
    #[arg(long = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<OsString>,
    /// Token ids of the prompt: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
}

impl Prompt {
    /// Refuses what is no text, before anything is loaded for it.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        self.text().map(|_| ())
    }

    /// Its token ids.
    pub(crate) fn ids(&self, engine: &Engine) -> Result<Vec<u32>, CommandError> {
        match self.text()? {
            Some(text) => Ok(engine.tokenizer()?.encode(text).map_err(EngineError::from)?),
            None => Ok(self.tokens.clone().unwrap_or_default()),
        }
    }

    /// Its token ids behind a text: no beginning of a text is marked.
    pub(crate) fn ids_after_text(&self, engine: &Engine) -> Result<Vec<u32>, CommandError> {
        match self.text()? {
            Some(text) => Ok(engine.tokenizer()?.encode_prompt(text).map_err(EngineError::from)?),
            None => self.ids(engine),
        }
    }

    fn text(&self) -> Result<Option<&str>, CommandError> {
        let bytes = self.text.as_ref().map(|text| text.as_encoded_bytes());
        bytes.map(std::str::from_utf8).transpose().map_err(CommandError::NotUtf8)
    }
}
