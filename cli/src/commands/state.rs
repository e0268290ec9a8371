//! `selvedge state`: the contents of a saved state.

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::HumanBytes;
use serde_json::json;

use crate::error::CommandError;
use crate::{state_file, terminal};
use selvedge::state::Snapshot;

/// Tell what a saved state holds: its model, tokens, bytes and formats.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File of `generate --save-state` or `chat --session`
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let snapshot = state_file::read(&self.file)?;
        let text = if self.json { format!("{}\n", in_json(&snapshot)) } else { table(&snapshot) };
        terminal::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn in_json(snapshot: &Snapshot) -> serde_json::Value {
    let bytes = snapshot.bytes();
    json!({
        "fingerprint": snapshot.fingerprint,
        "weights": snapshot.weights,
        "kv_format": snapshot.kv_format,
        "tokens": snapshot.tokens,
        "read": snapshot.read,
        "position": snapshot.state.position,
        "checkpoints": snapshot.checkpoints.iter().map(|checkpoint| checkpoint.read).collect::<Vec<_>>(),
        "conversation": snapshot.note.as_deref().and_then(|note| serde_json::from_str::<serde_json::Value>(note).ok()),
        "bytes": {
            "kv": bytes.kv,
            "conv": bytes.conv,
            "recurrent": bytes.recurrent,
            "checkpoints": bytes.checkpoints,
            "other": bytes.other,
            "total": bytes.total(),
        },
    })
}

fn table(snapshot: &Snapshot) -> String {
    let (bytes, print) = (snapshot.bytes(), &snapshot.fingerprint);
    let tokenizer = print.tokenizer.map_or_else(|| "none".into(), |hash| hash.to_string());
    let places: Vec<String> = snapshot.checkpoints.iter().map(|checkpoint| checkpoint.read.to_string()).collect();
    let places = if places.is_empty() { "none".into() } else { format!("after {} tokens", places.join(", ")) };
    let rows = [
        ("architecture", print.architecture.clone()),
        ("weights", format!("{} {}", snapshot.weights, print.weights)),
        ("config", print.config.to_string()),
        ("tokenizer", tokenizer),
        ("tokens", format!("{} read, {} chosen and not read", snapshot.read, snapshot.unread().len())),
        ("checkpoints", places),
        ("keys and values", format!("{} in {}", HumanBytes(bytes.kv), snapshot.kv_format)),
        ("convolutions", HumanBytes(bytes.conv).to_string()),
        ("recurrent states", HumanBytes(bytes.recurrent).to_string()),
        ("of checkpoints", HumanBytes(bytes.checkpoints).to_string()),
        ("total", HumanBytes(bytes.total()).to_string()),
    ];
    rows.iter().map(|(name, value)| format!("{name:17} {value}\n")).collect()
}
