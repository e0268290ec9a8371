//! `selvedge chat`: a conversation in the terminal, or with a script on stdin.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;

use super::fetch::locate;
use crate::args::model::LoadArgs;
use crate::args::sampling::{SamplingArgs, chance};
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::input::{self, Line};
use crate::part_file::{PartFile, check_not_input, check_target};
use crate::terminal::{self, status};
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::demo_model;
use selvedge::generate::{self, ChatRequest, Delta, FinishReason, Recommended, Turn, chat_template};
use selvedge::hub::Need;
use selvedge::runtime::{Cancel, Engine, EngineError, Purpose};
use selvedge::state::Sampler;
use selvedge::text::{ChatMessage, ChatTemplate, Piece, RenderRequest, TextError};

/// Default system message.
const SYSTEM: &str = "You are a helpful assistant.";

const HELP: &str = "\
/regenerate   answer the last question again: a new draw, where tokens are drawn and no --seed is given
/edit TEXT    replace your last message by TEXT
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
    /// Folder with config.json, model.safetensors (or shards), tokenizer.json and a chat template; or
    /// owner/name@revision on the hub
    model: Option<PathBuf>,
    /// Never ask the network: the model is a folder, or in the hub's cache
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    load: LoadArgs,
    /// Thinking before the answer, of models that can: on, off, or as the model's template has it
    #[arg(long, value_enum, default_value_t = Thinking::Auto)]
    thinking: Thinking,
    /// Print after every answer how many tokens were read and made
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

    async fn talk(self) -> Result<ExitCode, CommandError> {
        let folder = self.model.as_ref().map(|model| locate(model, Need::All, self.offline)).transpose()?;
        let checkpoint = match &folder {
            Some(folder) => Checkpoint::open(Folder::open(folder)?).await?,
            None => Checkpoint::open(demo_model::files()).await?,
        };
        // What is wrong with the template shows before gigabytes are read.
        let template = chat_template(&checkpoint).await?;
        let template = template.ok_or_else(|| CommandError::NoTemplate(checkpoint.describe("")))?;
        let opening = opening(&template)?;
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
        let interrupt = Interrupt::listen()?;
        let mut chat = Chat {
            chat: generate::Chat::new(&engine, template)?,
            engine,
            sampler,
            new_seeds: self.sampling.seed_is_free(),
            thinking: self.thinking,
            max_tokens: recommended.max_new_tokens().unwrap_or(usize::MAX),
            messages: opening.clone(),
            opening,
            interrupt,
            model: folder,
            terminal: io::stdin().is_terminal(),
            verbose: self.verbose,
            refused: false,
        };
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

#[derive(PartialEq, Eq)]
enum Then {
    Listen,
    Leave,
}

/// A conversation and its engine.
struct Chat {
    engine: Engine,
    chat: generate::Chat,
    sampler: Sampler,
    /// Every answer has a seed of its own.
    new_seeds: bool,
    thinking: Thinking,
    /// Most tokens of an answer.
    max_tokens: usize,
    messages: Vec<ChatMessage>,
    /// Messages that every conversation begins with.
    opening: Vec<ChatMessage>,
    interrupt: Interrupt,
    terminal: bool,
    /// The model's folder, unless it is the one that the binary carries.
    model: Option<PathBuf>,
    verbose: bool,
    /// A line was not followed.
    refused: bool,
}

impl Chat {
    /// The next line that is not empty; `None` at the end of the input.
    fn line(&mut self) -> Result<Option<String>, CommandError> {
        loop {
            if self.terminal {
                terminal::message(format_args!("> "), "");
            }
            let line = input::line(&mut io::stdin().lock()).map_err(CommandError::Stdin)?;
            self.interrupt.forget();
            match line {
                Line::End => return Ok(None),
                Line::Refused(reason) => self.refuse(format_args!("error: {reason}; it is passed over")),
                Line::Text(line) => {
                    // Shells of Windows begin what they pipe with a byte order mark.
                    let said = line.trim_start_matches('\u{feff}').trim();
                    if !said.is_empty() {
                        return Ok(Some(said.to_owned()));
                    }
                }
            }
        }
    }

    /// Tells that a line is not followed.
    fn refuse(&mut self, reason: fmt::Arguments<'_>) {
        self.refused = true;
        status!("{reason}");
    }

    async fn obey(&mut self, line: &str) -> Result<Then, CommandError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("/help", "") => status!("{HELP}"),
            ("/quit", "") => return Ok(Then::Leave),
            ("/new", "") => self.messages.clone_from(&self.opening),
            ("/think", word) => match Thinking::from_str(word, true) {
                Ok(thinking) if thinking.asked().is_some() && !self.chat.template().has_thinking_switch() => {
                    self.refuse(format_args!("{NO_SWITCH}: /think {word} would change nothing"));
                }
                Ok(thinking) => self.thinking = thinking,
                Err(_) => self.refuse(format_args!("/think takes on, off or auto, and here is `{word}`")),
            },
            ("/regenerate", "") => match self.last_question() {
                Some(last) => self.ask(last, self.messages[last].content()).await?,
                None => self.refuse(format_args!("nothing was asked yet")),
            },
            ("/edit", text) if !text.is_empty() => {
                self.ask(self.last_question().unwrap_or(self.messages.len()), text.to_owned()).await?;
            }
            ("/save" | "/save!", file) if !file.is_empty() => match self.save(Path::new(file), word == "/save!") {
                Ok(()) => status!("saved in {file}"),
                Err(error) => self.refuse(format_args!("error: {error}")),
            },
            ("/help" | "/quit" | "/new" | "/regenerate", more) => {
                self.refuse(format_args!("{word} takes nothing behind it, and here is `{more}`"));
            }
            ("/edit", _) => self.refuse(format_args!("/edit takes the text that is said instead")),
            ("/save" | "/save!", _) => self.refuse(format_args!("{word} takes the name of a file")),
            (word, _) if word.starts_with('/') => self.refuse(format_args!("`{word}` is no command\n{HELP}")),
            _ => self.ask(self.messages.len(), line.to_owned()).await?,
        }
        Ok(Then::Listen)
    }

    /// Index of the last question.
    fn last_question(&self) -> Option<usize> {
        self.messages.iter().rposition(|message| message.role() == "user")
    }

    /// Writes the conversation; over an existing file only with `replace`, and never over one of the model's.
    fn save(&self, file: &Path, replace: bool) -> Result<(), CommandError> {
        let model: Vec<&Path> = self.model.as_deref().into_iter().collect();
        let write = || {
            let found = check_target(file)?;
            check_not_input(file, &model)?;
            if found.is_some() && !replace {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there already; /save! replaces it"));
            }
            let mut part = PartFile::create(file)?;
            serde_json::to_writer_pretty(&mut part, &self.messages)?;
            part.write_all(b"\n")?;
            if replace { part.finish() } else { part.finish_new() }
        };
        write().map_err(CommandError::file(file))
    }

    /// Puts a question after the first `kept` messages and prints the answer. If it is refused, the conversation stays
    /// unchanged.
    async fn ask(&mut self, kept: usize, question: String) -> Result<(), CommandError> {
        let rest = self.messages.split_off(kept);
        self.messages.push(ChatMessage::new("user", question));
        match self.answer().await {
            Err(CommandError::Engine(EngineError::ContextFull { tokens, context, .. })) => self.refuse(format_args!(
                "the conversation would take {tokens} tokens, and the context holds {context}: \
                 /new begins a new one, --context N makes more room"
            )),
            Err(CommandError::Engine(error)) if error.refuses_text() => self.refuse(format_args!(
                "error: {}; the conversation is unchanged: send another message, or /new",
                CommandError::Engine(error)
            )),
            other => return other,
        }
        self.messages.truncate(kept);
        self.messages.extend(rest);
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), CommandError> {
        if self.new_seeds {
            self.sampler.seed = chance();
        }
        let (sampler, cancel) = (self.sampler.clone(), self.interrupt.begin());
        let (thinking, max_tokens) = (self.thinking.asked(), self.max_tokens);
        let request = ChatRequest { sampler, cancel, thinking, max_tokens, ..ChatRequest::new(self.messages.clone()) };
        let mut turn = self.chat.begin(&mut self.engine, &request).await?;
        let said = print_reply(&mut self.engine, &mut turn).await;
        let (reason, read, made) = (turn.finish_reason(), turn.read_tokens(), turn.made_tokens());
        // Whatever became of it: the slot must not be lost.
        self.chat.end(turn);
        self.interrupt.forget();
        self.messages.push(ChatMessage::new("assistant", said?.trim()));
        match reason {
            Some(FinishReason::Context) => {
                let context = self.engine.context();
                status!("the context of {context} tokens is full: /new begins a new conversation");
            }
            Some(FinishReason::Length) => {
                status!("(cut after {} tokens, the `max_new_tokens` of generation_config.json)", self.max_tokens);
            }
            Some(FinishReason::Cancelled) => status!("(stopped)"),
            _ => {}
        }
        if self.verbose {
            status!("{read} tokens read, {made} made");
        }
        Ok(())
    }
}

/// Prints a reply as it comes; gives its answer.
async fn print_reply(engine: &mut Engine, turn: &mut Turn) -> Result<String, CommandError> {
    let mut answer = String::new();
    let mut printer = ReplyPrinter::new();
    while let Some(Delta { pieces, .. }) = turn.next(engine).await? {
        for piece in pieces {
            printer.print(&piece, &mut answer)?;
        }
    }
    printer.end()?;
    Ok(answer)
}

/// The system message, unless the template has no place for one. A template that refuses even a plain
/// question is an error.
fn opening(template: &ChatTemplate) -> Result<Vec<ChatMessage>, TextError> {
    let (system, question) = (ChatMessage::new("system", SYSTEM), ChatMessage::new("user", "Hello."));
    let both = [system.clone(), question.clone()];
    if template.render(&RenderRequest::new(&both, true)).is_ok() {
        return Ok(vec![system]);
    }
    template.render(&RenderRequest::new(&[question], true)).map(|_| vec![])
}

/// Printer of a reply on stdout, as it comes. Thinking is dim; where that cannot be shown, it goes to stderr, in lines
/// of its own.
struct ReplyPrinter {
    dim: bool,
    thinking: bool,
    /// The thinking on stderr is amid a line.
    amid_line: bool,
}

impl ReplyPrinter {
    fn new() -> Self {
        Self { dim: io::stdout().is_terminal(), thinking: false, amid_line: false }
    }

    fn print(&mut self, piece: &Piece, answer: &mut String) -> Result<(), CommandError> {
        match piece {
            Piece::Thinking(text) if self.dim => {
                terminal::print_styled(if self.thinking { "" } else { "\x1b[2m" }, text)?;
            }
            Piece::Thinking(text) => {
                terminal::aside(text);
                self.amid_line = !text.ends_with('\n');
            }
            Piece::Answer(text) => {
                self.end_line();
                answer.push_str(text);
                terminal::print_styled(if self.thinking && self.dim { "\x1b[0m\n" } else { "" }, text)?;
            }
        }
        self.thinking = matches!(piece, Piece::Thinking(_));
        Ok(())
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.amid_line) {
            terminal::aside("\n");
        }
    }

    fn end(&mut self) -> Result<(), CommandError> {
        self.end_line();
        terminal::print_styled(if self.thinking && self.dim { "\x1b[0m" } else { "" }, "\n")
    }
}

/// Handler of Ctrl-C: it stops the reply; without a reply, the second in a row exits.
#[derive(Clone)]
struct Interrupt(Arc<Mutex<Doing>>);

enum Doing {
    Replying(Cancel),
    Listening,
    /// Ctrl-C came while listening.
    Asked,
}

impl Interrupt {
    fn listen() -> Result<Self, CommandError> {
        let this = Self(Arc::new(Mutex::new(Doing::Listening)));
        let heard = this.clone();
        on_ctrl_c(move || heard.hear())?;
        Ok(this)
    }

    fn hear(&self) {
        let mut doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*doing {
            Doing::Replying(cancel) => cancel.cancel(),
            Doing::Listening => {
                terminal::message(format_args!("\nCtrl-C again or /quit exits\n> "), "");
                *doing = Doing::Asked;
            }
            Doing::Asked => std::process::exit(INTERRUPTED.into()),
        }
    }

    /// A reply begins.
    fn begin(&self) -> Cancel {
        let cancel = Cancel::default();
        self.set(Doing::Replying(cancel.clone()));
        cancel
    }

    /// Back at an idle prompt.
    fn forget(&self) {
        self.set(Doing::Listening);
    }

    fn set(&self, doing: Doing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }
}
