//! `selvedge score`: scores of texts and of conversations, from a reward model or another with a head of a few labels.

mod messages;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::args::model::ModelArgs;
use crate::args::prompt::Prompt;
use crate::error::CommandError;
use crate::terminal;
use messages::Weights;
use selvedge::arch::Head;
use selvedge::runtime::{Engine, Purpose};

/// Score a text with a reward model, or every reply of conversations: one number for each of its labels.
///
/// The score of a text is that after its last token. Of a conversation every message of the assistant is scored, in the
/// conversation up to its end.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["text", "tokens", "messages"]))]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: Option<Prompt>,
    /// File with a conversation a line, as JSON: a list of messages, or an object with `messages`, and perhaps `tools` and `id`;
    /// `-`: stdin. A line of JSON comes out for each
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
    /// Weights of labels, whose weighted sum is a score of its own: helpfulness=0.65,correctness=0.8
    #[arg(long, value_name = "LABEL=WEIGHT,...", value_parser = Weights::parse)]
    combine: Option<Weights>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.score())
    }

    async fn score(self) -> Result<ExitCode, CommandError> {
        if let Some(file) = &self.messages {
            return messages::score(&self.model, file, self.combine.as_ref()).await;
        }
        let Some(prompt) = &self.prompt else { return Ok(ExitCode::SUCCESS) };
        prompt.check()?;
        let mut engine = self.model.load_for(Purpose::Score).await?;
        let labels = labels(&engine);
        let combine = self.combine.as_ref().map(|weights| weights.of(&labels)).transpose()?;
        let ids = prompt.ids(&engine)?;
        let slot = engine.open()?;
        let scores = engine.score(slot, &ids).await?;
        let combined = combine.map(|combine| combine.sum(&scores));
        let report = if self.json {
            let scores = labels.iter().zip(&scores).map(|(label, score)| json!({ "label": label, "score": score }));
            let mut report = json!({ "scores": scores.collect::<Vec<_>>(), "prompt_tokens": ids.len() });
            if let Some(combined) = combined {
                report["combined"] = combined.into();
            }
            format!("{report}\n")
        } else {
            let lines = labels.iter().map(String::as_str).zip(scores.iter().map(|&score| f64::from(score)));
            let lines: Vec<(&str, f64)> = lines.chain(combined.map(|sum| ("combined", sum))).collect();
            let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
            lines.iter().map(|(label, score)| format!("{label:width$} {score:10.5}\n")).collect()
        };
        terminal::print(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Names of the scores that a model gives.
fn labels(engine: &Engine) -> Vec<String> {
    match &engine.model().head {
        Head::Classification(labels) => labels.clone(),
        Head::CausalLm => vec![],
    }
}
