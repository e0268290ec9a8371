//! `selvedge perplexity`: perplexity of a text, and divergence from a reference model.

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::args::model::ModelArgs;
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::input;
use crate::terminal::{self, status};
use selvedge::checkpoint::WeightChoice;
use selvedge::eval::{Perplexity, perplexity};
use selvedge::runtime::{Cancel, Engine, EngineError};

/// Default tokens of a window, if the model can be that long.
const WINDOW: usize = 512;

/// Measure the perplexity of a text, and with --reference the divergence from another model.
///
/// The text is read in independent windows; every token but the first of a window is predicted from those before it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: Text,
    /// Tokens of a window [default: 512, or as many as the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    window: Option<u32>,
    /// Model to compare with, on the same device: usually the same model in a finer format
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Storage format of the reference's matrices
    #[arg(long, value_enum, default_value_t, requires = "reference")]
    reference_weights: WeightChoice,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Text {
    /// File with the text
    #[arg(long = "text", value_name = "FILE")]
    file: Option<PathBuf>,
    /// File with token ids, separated by commas or spaces
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
}

impl Text {
    fn ids(&self, engine: &Engine) -> Result<Vec<u32>, CommandError> {
        if let Some(path) = &self.tokens_file {
            return super::logits::read_ids(path);
        }
        let Some(path) = &self.file else { return Ok(vec![]) };
        let text = String::from_utf8(input::file(path)?).map_err(|e| CommandError::NotUtf8(e.utf8_error()))?;
        Ok(engine.tokenizer()?.encode(&text)?)
    }
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.measure())
    }

    async fn measure(self) -> Result<ExitCode, CommandError> {
        let mut engine = self.model.load().await?;
        let ids = self.text.ids(&engine)?;
        if ids.len() < 2 {
            return Err(CommandError::Misuse(
                "the text has fewer than two tokens, so none can be predicted from another".into(),
            ));
        }
        let mut reference = match &self.reference {
            Some(path) => Some(self.model.other(path, self.reference_weights).load().await?),
            None => None,
        };
        let context = reference.as_ref().map_or(usize::MAX, Engine::context).min(engine.context());
        let window = self.window.map_or(WINDOW.min(context), |window| window as usize);
        if window > context {
            return Err(EngineError::ContextFull { tokens: window, used: 0, context }.into());
        }
        if let Some(reference) = &reference {
            let (ours, theirs) = (engine.model().vocabulary, reference.model().vocabulary);
            if ours != theirs {
                return Err(CommandError::Misuse(format!(
                    "the vocabularies differ ({ours} and {theirs} tokens), so the models cannot be compared"
                )));
            }
        }
        let cancel = Cancel::default();
        let pressed = cancel.clone();
        on_ctrl_c(move || pressed.cancel())?;
        let bar = ProgressBar::with_draw_target(Some(ids.len() as u64), ProgressDrawTarget::stderr());
        bar.set_style(style());
        let mut progress = |read: usize| {
            bar.set_position(read as u64);
            !cancel.is_cancelled()
        };
        let found = perplexity(&mut engine, reference.as_mut(), &ids, window, &mut progress).await?;
        bar.finish_and_clear();
        let cut = cancel.is_cancelled();
        if cut {
            status!("stopped: the figures are of the first {} tokens", found.tokens);
        }
        if found.tokens > 0 {
            terminal::print(&self.report(&found))?;
        }
        Ok(if cut { INTERRUPTED.into() } else { ExitCode::SUCCESS })
    }

    fn report(&self, found: &Perplexity) -> String {
        let compared = self.reference.is_some();
        if self.json {
            let mut report = json!({ "tokens": found.tokens, "perplexity": found.perplexity() });
            if compared {
                report["mean_kl"] = found.mean_kl().into();
                report["top1_agreement"] = found.top1_agreement().into();
            }
            return format!("{report}\n");
        }
        let mut report = format!("perplexity      {:.4} over {} tokens\n", found.perplexity(), found.tokens);
        if compared {
            report += &format!("mean KL         {:.6} nats from the reference\n", found.mean_kl());
            report += &format!("top-1 agreement {:.2} %\n", 100.0 * found.top1_agreement());
        }
        report
    }
}

/// Shown only where stderr is a terminal.
fn style() -> ProgressStyle {
    let template = "reading {bar:32} {pos}/{len} tokens, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
