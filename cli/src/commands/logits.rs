//! `selvedge logits`: a model's logits, to compare with other implementations.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::model::ModelArgs;
use crate::error::CommandError;
use crate::input;
use crate::output::Destination;
use selvedge::backend::Outputs;
use selvedge::checkpoint::safetensors;
use selvedge::runtime::{EngineError, PREFILL_ROWS};

/// Write the logits of every token of a sequence.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sequence: Sequence,
    /// Tokens to read in spans, as a prompt; the rest is read one by one, as while decoding [default: all]
    #[arg(long, value_name = "N")]
    prefill: Option<usize>,
    /// Tokens of a span (rows of a step)
    #[arg(long, value_name = "N", default_value_t = PREFILL_ROWS, value_parser = at_least_one)]
    chunk: usize,
    /// File to write: safetensors with one F32 tensor `logits` of shape [tokens, vocabulary]; `-` is stdout
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Sequence {
    /// The token ids: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
    /// File with the token ids, separated by commas or spaces
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "must be a number, at least 1".into())
}

impl Sequence {
    fn ids(self) -> Result<Vec<u32>, CommandError> {
        let Some(path) = self.tokens_file else { return Ok(self.tokens.unwrap_or_default()) };
        read_ids(&path)
    }
}

/// The token ids of a file.
pub(crate) fn read_ids(path: &Path) -> Result<Vec<u32>, CommandError> {
    let not_utf8 = |e: std::string::FromUtf8Error| io::Error::new(io::ErrorKind::InvalidData, e.utf8_error());
    let text = String::from_utf8(input::file(path)?).map_err(not_utf8).map_err(CommandError::file(path))?;
    let words = text.split([',', ' ', '\t', '\r', '\n', '[', ']']).filter(|word| !word.is_empty());
    let id = |word: &str| {
        word.parse()
            .map_err(|_| CommandError::TokenFile { path: path.to_owned(), word: word.chars().take(40).collect() })
    };
    words.map(id).collect()
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.write_logits())
    }

    async fn write_logits(self) -> Result<ExitCode, CommandError> {
        let model = self.model.folder()?;
        let inputs = [Some(model.as_path()), self.sequence.tokens_file.as_deref()];
        let out = Destination::check(self.out, &inputs.into_iter().flatten().collect::<Vec<_>>())?;
        let ids = self.sequence.ids()?;
        let mut engine = self.model.load().await?;
        engine.check_tokens(&ids)?;
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt.into());
        }
        if ids.len() > engine.context() {
            return Err(EngineError::ContextFull { tokens: ids.len(), used: 0, context: engine.context() }.into());
        }
        let slot = engine.open()?;
        let mut file = out.create()?;
        let head = head(ids.len(), engine.model().vocabulary);
        file.write_all(&head).map_err(|e| out.fault(e))?;
        let (prompt, rest) = ids.split_at(self.prefill.unwrap_or(ids.len()).min(ids.len()));
        for span in prompt.chunks(self.chunk).chain(rest.chunks(1)) {
            let step = engine.enqueue(slot, span, Outputs::All)?;
            for number in engine.logits(&step).await? {
                file.write_all(&number.to_le_bytes()).map_err(|e| out.fault(e))?;
            }
        }
        file.finish().map_err(|e| out.fault(e))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The beginning of a safetensors file with one tensor, whose rows follow one by one: the logits of a long text may not
/// fit in memory.
fn head(rows: usize, columns: usize) -> Vec<u8> {
    let bytes = rows * columns * size_of::<f32>();
    let header = serde_json::json!({
        "logits": { "dtype": "F32", "shape": [rows, columns], "data_offsets": [0, bytes] },
    });
    safetensors::head(header.to_string())
}
