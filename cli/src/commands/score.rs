//! `selvedge score`: scores of a text, from a reward model or another with a head of a few labels.

use std::process::ExitCode;

use serde_json::json;

use crate::args::model::ModelArgs;
use crate::args::prompt::Prompt;
use crate::error::CommandError;
use crate::terminal;
use selvedge::arch::Head;
use selvedge::runtime::Purpose;

/// Score a text with a reward model: one number for each of its labels, after the last token.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: Prompt,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.score())
    }

    async fn score(self) -> Result<ExitCode, CommandError> {
        self.prompt.check()?;
        let mut engine = self.model.load_for(Purpose::Score).await?;
        let ids = self.prompt.ids(&engine)?;
        let slot = engine.open()?;
        let scores = engine.score(slot, &ids).await?;
        let labels = match &engine.model().head {
            Head::Classification(labels) => labels.as_slice(),
            Head::CausalLm => &[],
        };
        let report = if self.json {
            let scores = labels.iter().zip(&scores).map(|(label, score)| json!({ "label": label, "score": score }));
            format!("{}\n", json!({ "scores": scores.collect::<Vec<_>>(), "prompt_tokens": ids.len() }))
        } else {
            let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
            labels.iter().zip(&scores).map(|(label, score)| format!("{label:width$} {score:10.5}\n")).collect()
        };
        terminal::print(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}
