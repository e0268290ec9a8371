//! What a generated text keeps to.

use std::path::{Path, PathBuf};

use selvedge::runtime::{Engine, EngineError};
use selvedge::text::{Grammar, GrammarSource, Grammars};

use crate::error::CommandError;

/// Options that bind a text.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct GrammarArgs {
    /// The text is JSON that the schema in a file describes
    #[arg(long, value_name = "FILE", help_heading = "What the text keeps to")]
    json_schema: Option<PathBuf>,
    /// A regular expression matches the whole text
    #[arg(long, value_name = "EXPRESSION", help_heading = "What the text keeps to")]
    regex: Option<String>,
    /// The text follows the grammar in a file, in Lark's notation
    #[arg(long, value_name = "FILE", help_heading = "What the text keeps to")]
    lark: Option<PathBuf>,
}

impl GrammarArgs {
    /// Reads the files, before anything is loaded for them.
    pub(crate) fn source(&self) -> Result<Option<GrammarSource>, CommandError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| CommandError::Misuse(format!("{}: {error}", path.display())))
        };
        Ok(match self {
            Self { json_schema: Some(path), .. } => {
                let schema = serde_json::from_str(&read(path)?)
                    .map_err(|error| CommandError::Misuse(format!("{}: {error}", path.display())))?;
                Some(GrammarSource::JsonSchema(schema))
            }
            Self { lark: Some(path), .. } => Some(GrammarSource::Lark(read(path)?)),
            Self { regex: Some(expression), .. } => Some(GrammarSource::Regex(expression.clone())),
            _ => None,
        })
    }
}

/// A grammar for an engine's tokens.
pub(crate) fn compile(engine: &Engine, source: &GrammarSource) -> Result<Grammar, CommandError> {
    let (tokenizer, vocabulary) = (engine.tokenizer()?, engine.model().vocabulary);
    let grammars = Grammars::new(&tokenizer, vocabulary, engine.stop_token_ids()).map_err(EngineError::from)?;
    Ok(grammars.compile(source).map_err(EngineError::from)?)
}
