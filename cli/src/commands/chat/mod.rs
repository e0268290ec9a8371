//! `selvedge chat`: a conversation in the terminal, or with a script on stdin.

mod conversation;
mod interrupt;
mod reply_printer;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use self::conversation::{Conversation, Then};
use self::interrupt::Interrupt;
use super::fetch::locate;
use crate::args::cache::CacheArgs;
use crate::args::model::LoadArgs;
use crate::args::sampling::SamplingArgs;
use crate::args::speculate::SpeculateArgs;
use crate::error::CommandError;
use crate::session_file::SessionFile;
use crate::terminal::status;
use selvedge::checkpoint::Folder;
use selvedge::demo_model;
use selvedge::generate::{Chat, Recommended, chat_template};
use selvedge::hub::Need;
use selvedge::runtime::{EngineError, Purpose};
use selvedge::text::{ChatMessage, ChatTemplate, RenderRequest, TextError};

/// Default system message.
const SYSTEM: &str = "You are a helpful assistant.";

const HELP: &str = "\
/regenerate   answer the last question again: a new draw, where tokens are drawn and no --seed is given
/edit TEXT    replace your last message by TEXT
/back [N]     take the last question and its answer back, or the last N
/fork         go on in a copy of the conversation; /switch N returns to branch N
/new          begin a new conversation
/think WORD   on, off or auto: thinking before the answer, where the model's template has a switch for it
/save FILE    write the conversation as JSON; /save! FILE replaces a file
/quit         exit (so does the end of the input)
Ctrl-C stops the answer; pressed twice at an idle prompt it exits.";

const NO_SWITCH: &str = "the model's template has no switch for thinking";

/// Thinking before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Thinking {
    /// Ask the template for thinking
    On,
    /// Ask the template for no thinking
    Off,
    /// As the template decides
    Auto,
}

impl Thinking {
    /// The template's `enable_thinking`.
    fn asked(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Auto => None,
        }
    }
}

/// Chat with a model; without MODEL, with the small one that the binary carries.
///
/// Every line of the terminal, or of a script on stdin, is a message; /help lists the commands. A line that is refused
/// (the context is full, the template or the tokenizer refuses it) leaves the conversation unchanged; with a script,
/// the exit code at the end is then 1.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json, model.safetensors (or shards), tokenizer.json and a chat template, or a GGUF file; or
    /// owner/name@revision:TAG on the hub
    model: Option<PathBuf>,
    /// Never ask the network: the model is on this machine, or in the hub's cache
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    speculate: SpeculateArgs,
    /// System message; an empty text for none
    #[arg(long, value_name = "TEXT", default_value = SYSTEM, allow_hyphen_values = true)]
    system: String,
    /// Most tokens of an answer [default: the model's own `max_new_tokens`, or what the context holds]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_tokens: Option<usize>,
    /// Thinking before the answer, of models that can: on, off, or as the model's template has it
    #[arg(long, value_enum, default_value_t = Thinking::Auto)]
    thinking: Thinking,
    /// Keep the conversation and the model's memory of it in a file: written after every answer, continued at the
    /// next start
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print after every answer how many tokens were remembered, read and made, and why any were read again
    #[arg(long)]
    verbose: bool,
    // Last, as its heading is that of whatever follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        pollster::block_on(self.talk())
    }

    async fn talk(mut self) -> Result<ExitCode, CommandError> {
        self.load.speculate = self.speculate.drafts();
        let folder = self.model.as_ref().map(|model| locate(model, Need::All, self.offline)).transpose()?;
        let checkpoint = match &folder {
            Some(folder) => self.load.checkpoint(Folder::open(folder)?).await?,
            None => self.load.checkpoint(demo_model::files()).await?,
        };
        // What is wrong with the template shows before gigabytes are read.
        let template = chat_template(&checkpoint).await?;
        let place = || folder.as_ref().map_or_else(|| checkpoint.describe(""), |folder| folder.display().to_string());
        let template = template.ok_or_else(|| CommandError::NoTemplate(place()))?;
        let opening = opening(&template, &self.system)?;
        let inputs: Vec<&Path> = folder.as_deref().into_iter().collect();
        let session = self.session.map(|path| SessionFile::open(path, &inputs)).transpose()?;
        let recommended = Recommended::from_file(checkpoint.file("generation_config.json").await?.as_deref());
        let sampler = self.sampling.sampler(&recommended);
        sampler.check().map_err(EngineError::from)?;
        if self.thinking.asked().is_some() && !template.has_thinking_switch() {
            status!("note: {NO_SWITCH}: --thinking changes nothing");
        }
        let engine = self.load.load(&checkpoint, 1, Purpose::Generate).await?;
        for notice in recommended.notices() {
            status!("note: {notice}");
        }
        let (session, saved) = session.unzip();
        let interrupt = Interrupt::listen()?;
        let mut chat = Conversation {
            chat: Chat::new(&engine, template)?,
            engine,
            session,
            number: 0,
            branches: vec![conversation::Branch::default()],
            branch: 0,
            sampler,
            new_seeds: self.sampling.seed_is_free(),
            thinking: self.thinking,
            max_tokens: self.max_tokens.or(recommended.max_new_tokens()).unwrap_or(usize::MAX),
            messages: opening.clone(),
            opening,
            interrupt,
            model: folder,
            terminal: io::stdin().is_terminal(),
            verbose: self.verbose,
            refused: false,
        };
        self.cache.keep(&chat.engine, &mut chat.chat).await?;
        chat.tell_notices();
        if let Some(saved) = saved.flatten() {
            chat.resume(saved).await?;
        }
        if chat.terminal {
            status!("/help lists the commands.");
        }
        while let Some(line) = chat.line()? {
            if chat.obey(&line).await? == Then::Leave {
                break;
            }
        }
        // Whoever types has read it.
        Ok(if chat.refused && !chat.terminal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The system message, unless it is empty or the template has no place for one, which is told where it is not the
/// default. A template that refuses even a plain question is an error.
fn opening(template: &ChatTemplate, system: &str) -> Result<Vec<ChatMessage>, TextError> {
    let question = ChatMessage::new("user", "Hello.");
    if !system.trim().is_empty() {
        let message = ChatMessage::new("system", system);
        if template.render(&RenderRequest::new(&[message.clone(), question.clone()], true)).is_ok() {
            return Ok(vec![message]);
        }
        if system != SYSTEM {
            status!("note: the model's template has no place for a system message: --system changes nothing");
        }
    }
    template.render(&RenderRequest::new(&[question], true)).map(|_| vec![])
}
