//! `selvedge generate`: a text that continues a prompt, printed as it is made.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::json;

use crate::args::grammar::{GrammarArgs, compile};
use crate::args::model::ModelArgs;
use crate::args::prompt::Prompt;
use crate::args::sampling::SamplingArgs;
use crate::args::speculate::SpeculateArgs;
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::state_file::{self, StateFile};
use crate::terminal::{self, status};
use selvedge::generate::{FinishReason, GenerateOptions, Recommended, Session};
use selvedge::runtime::{Cancel, Engine, EngineError};
use selvedge::state::Snapshot;
use selvedge::text::{Detokenizer, Tokenizer};

/// Most tokens to generate where neither the user nor the model gives a number.
const DEFAULT_MAX_TOKENS: usize = 256;

/// Continue a prompt; without further options always by the most probable token.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["text", "tokens"]))]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: Prompt,
    /// Most tokens to generate [default: the model's own `max_new_tokens`, or 256]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Continue a saved state: the prompt follows its text
    #[arg(long, value_name = "FILE")]
    restore_state: Option<PathBuf>,
    /// Save the state at the end, for --restore-state
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
    /// Print one JSON object at the end instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    speculate: SpeculateArgs,
    #[command(flatten)]
    grammar: GrammarArgs,
    // Last, as its heading is that of whatever follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.generate())
    }

    async fn generate(mut self) -> Result<ExitCode, CommandError> {
        self.model.load.speculate = self.speculate.drafts();
        self.prompt.check()?;
        let sampler = self.sampling.sampler(&Recommended::default());
        sampler.check().map_err(EngineError::from)?;
        let grammar = self.grammar.source()?;
        // Faults of files show before gigabytes are read.
        let folder = self.model.folder()?;
        let save = self.save_state.map(|path| StateFile::check(path, &[&folder])).transpose()?;
        let read = |path| state_file::read(path).map(|saved| (path, saved));
        let saved = self.restore_state.as_deref().map(read).transpose()?;
        let begun = Instant::now();
        let checkpoint = self.model.checkpoint().await?;
        let recommended = Recommended::from_file(checkpoint.file("generation_config.json").await?.as_deref());
        let max_tokens = self.max_tokens.or(recommended.max_new_tokens()).unwrap_or(DEFAULT_MAX_TOKENS);
        let mut engine = self.model.load_checkpoint(&checkpoint).await?;
        let loaded = begun.elapsed();
        let (mut session, prompt) = match &saved {
            Some((path, saved)) => {
                let (session, before) = restored(&mut engine, saved, path)?;
                (session, [before, self.prompt.ids_after_text(&engine)?].concat())
            }
            None => (Session::open(&mut engine)?, self.prompt.ids(&engine)?),
        };
        let cancel = Cancel::default();
        let signal = cancel.clone();
        on_ctrl_c(move || {
            // Whoever asks twice does not want to wait for the step under way.
            if signal.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            signal.cancel();
        })?;

        let grammar = grammar.map(|source| compile(&engine, &source)).transpose()?;
        let begun = Instant::now();
        let seed = (sampler.temperature > 0.0).then_some(sampler.seed);
        let options = GenerateOptions { sampler, max_tokens, grammar, cancel, ..GenerateOptions::default() };
        if engine.most_drafts() > 0 && (options.grammar.is_some() || options.sampler.penalises()) {
            status!("note: a grammar and penalties choose without drafts: --speculate changes nothing here");
        }
        let (mut generation, read_tokens) = session.begin(&mut engine, &prompt, &options).await?;
        let tokenizer = engine.tokenizer().ok();
        let mut transcript = Transcript::new(tokenizer.as_deref(), !self.json);
        let mut read = None;
        while let Some(token) = session.next(&mut engine, &mut generation).await? {
            read.get_or_insert_with(|| begun.elapsed());
            transcript.push(token)?;
        }
        transcript.finish()?;
        let total = begun.elapsed();
        let read = read.unwrap_or(total);

        let reason = generation.finish_reason().unwrap_or(FinishReason::Stop);
        if let Some(save) = &save {
            let snapshot = session.snapshot(&mut engine).await?;
            let bytes = save.write(&snapshot)?;
            status!("saved {} tokens in {} ({})", snapshot.tokens.len(), save.path().display(), HumanBytes(bytes));
        }
        if self.json {
            let result = json!({
                "text": tokenizer.is_some().then_some(transcript.text),
                "tokens": transcript.tokens,
                "prompt_tokens": prompt.len(),
                "cached_tokens": prompt.len() - read_tokens,
                "finish_reason": reason.name(),
                "seed": seed,
                "speculation": generation.speculated().map(|counts| json!({
                    "steps": counts.steps,
                    "tokens": counts.tokens,
                    "drafted": counts.drafted,
                    "accepted": counts.accepted,
                    "acceptance": counts.acceptance(),
                    "tokens_per_step": counts.tokens_per_step(),
                })),
                "timings": {
                    "load_s": loaded.as_secs_f64(),
                    "prompt_s": read.as_secs_f64(),
                    "generate_s": (total - read).as_secs_f64(),
                },
            });
            terminal::print(&format!("{result}\n"))?;
        } else {
            terminal::print("\n")?;
            if let Some(counts) = generation.speculated() {
                status!("{counts}");
            }
        }
        Ok(if reason == FinishReason::Cancelled { INTERRUPTED.into() } else { ExitCode::SUCCESS })
    }
}

/// A sequence that goes on from a saved state, and the tokens of its text. A stop token at the end, chosen and not
/// read, is left out: what follows it would be another text.
fn restored(engine: &mut Engine, saved: &Snapshot, path: &Path) -> Result<(Session, Vec<u32>), CommandError> {
    let (session, notice) = Session::restore(engine, saved).map_err(|error| match error {
        EngineError::Snapshot(error) => CommandError::state(path)(error),
        error => error.into(),
    })?;
    if let Some(notice) = notice {
        status!("note: {notice}");
    }
    let mut tokens = saved.tokens.clone();
    if tokens.len() > saved.read && tokens.last().is_some_and(|&token| engine.is_stop_token(token)) {
        tokens.pop();
    }
    Ok((session, tokens))
}

/// The tokens generated so far, printed as they come where that is wanted.
struct Transcript<'t> {
    decoder: Option<Detokenizer<&'t Tokenizer>>,
    print: bool,
    tokens: Vec<u32>,
    /// Without a tokenizer: the ids, one after the other.
    text: String,
}

impl<'t> Transcript<'t> {
    fn new(tokenizer: Option<&'t Tokenizer>, print: bool) -> Self {
        Self { decoder: tokenizer.map(Tokenizer::stream), print, tokens: vec![], text: String::new() }
    }

    fn push(&mut self, token: u32) -> Result<(), CommandError> {
        let piece = match &mut self.decoder {
            Some(decoder) => decoder.push(token)?,
            None if self.tokens.is_empty() => token.to_string(),
            None => format!(",{token}"),
        };
        self.tokens.push(token);
        self.add(&piece)
    }

    fn finish(&mut self) -> Result<(), CommandError> {
        let rest = self.decoder.take().map(Detokenizer::finish).transpose()?;
        self.add(&rest.unwrap_or_default())
    }

    fn add(&mut self, piece: &str) -> Result<(), CommandError> {
        self.text.push_str(piece);
        if self.print { terminal::print(piece) } else { Ok(()) }
    }
}
