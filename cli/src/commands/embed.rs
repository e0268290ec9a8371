//! `selvedge embed`: embeddings of texts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use crate::args::model::ModelArgs;
use crate::error::CommandError;
use crate::terminal::{self, status};
use selvedge::checkpoint::Checkpoint;
use selvedge::generate;
use selvedge::generate::scheduler::Pooling;
use selvedge::runtime::EngineError;

/// Texts that are embedded before they are printed.
const AT_ONCE: usize = 32;

/// Embed texts: a vector of length 1 for each, printed as a line of JSON each.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    texts: Texts,
    /// How the rows of a text become one vector [default: as the model's 1_Pooling/config.json says, or mean]
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    /// Texts that are read together; each takes the memory of a whole context
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    slots: usize,
}

/// Texts to embed.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Texts {
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Vec<String>,
    /// File with a text a line; `-`: stdin
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
}

impl Texts {
    fn list(&self) -> Result<Vec<String>, CommandError> {
        let Some(path) = &self.lines else { return Ok(self.text.clone()) };
        let mut text = String::new();
        let read = match path == Path::new("-") {
            true => std::io::stdin().read_to_string(&mut text),
            false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
        };
        read.map_err(|error| CommandError::Misuse(format!("{}: {error}", path.display())))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.embed())
    }

    async fn embed(self) -> Result<ExitCode, CommandError> {
        let texts = self.texts.list()?;
        if let Some(line) = texts.iter().position(String::is_empty) {
            return Err(CommandError::Misuse(format!("text {} is empty, and has no embedding", line + 1)));
        }
        let checkpoint = self.model.checkpoint().await?;
        let pooling = pooling(&checkpoint, self.pooling).await?;
        let mut engine = self.model.load_slots(self.slots.min(texts.len().max(1))).await?;
        let tokenizer = engine.tokenizer()?;
        let mut ids = vec![];
        for (index, text) in texts.iter().enumerate() {
            let encode = || -> Result<Vec<u32>, EngineError> {
                engine.check_bytes(text)?;
                let ids = tokenizer.encode(text)?;
                engine.check_length(ids.len()).map(|()| ids)
            };
            ids.push(encode().map_err(|error| CommandError::Misuse(format!("text {}: {error}", index + 1)))?);
        }
        let bar = ProgressBar::with_draw_target(Some(ids.len() as u64), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{bar:32} {pos}/{len} texts").unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let mut index = 0;
        for batch in ids.chunks(AT_ONCE) {
            let vectors = generate::embed(&mut engine, batch, pooling).await?;
            for (ids, vector) in batch.iter().zip(vectors) {
                let line = json!({ "index": index, "tokens": ids.len(), "embedding": vector });
                bar.suspend(|| terminal::print(&format!("{line}\n")))?;
                index += 1;
            }
            bar.set_position(index);
        }
        bar.finish_and_clear();
        Ok(ExitCode::SUCCESS)
    }
}

/// The pooling that is asked for, or else the one of the model's own file, or else the mean.
pub(crate) async fn pooling(checkpoint: &Checkpoint, asked: Option<Pooling>) -> Result<Pooling, CommandError> {
    for step in further_steps(checkpoint).await? {
        status!("note: modules.json has the step {step}, which is not run: embeddings are those before it");
    }
    let file = match asked {
        Some(pooling) => return Ok(pooling),
        None => checkpoint.file(Pooling::FILE).await?,
    };
    let Some(bytes) = file else { return Ok(Pooling::default()) };
    let why = match Pooling::from_file(&bytes) {
        Ok(Some(pooling)) => return Ok(pooling),
        Ok(None) => "asks for a pooling other than `mean` and `last`".to_owned(),
        Err(error) => format!("is broken ({error})"),
    };
    status!("note: {} {why}: `mean` is taken, and --pooling chooses", Pooling::FILE);
    Ok(Pooling::default())
}

/// Steps of sentence-transformers' `modules.json` that are not run: others than the model, its pooling and the scaling to length 1.
async fn further_steps(checkpoint: &Checkpoint) -> Result<Vec<String>, CommandError> {
    #[derive(Deserialize)]
    struct Module {
        r#type: String,
    }
    const KNOWN: [&str; 3] = ["Transformer", "Pooling", "Normalize"];
    let file = checkpoint.file("modules.json").await?;
    let modules: Vec<Module> = file.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let name = |module: Module| module.r#type.rsplit('.').next().unwrap_or_default().to_owned();
    Ok(modules.into_iter().map(name).filter(|name| !KNOWN.contains(&name.as_str())).collect())
}
