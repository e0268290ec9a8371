//! `selvedge chat`: a conversation in the terminal, or with a script on stdin.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use super::fetch::locate;
use crate::args::model::LoadArgs;
use crate::args::sampling::SamplingArgs;
use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::part_file::{PartFile, check_not_input, check_target};
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::demo_model;
use selvedge::generate::{self, ChatRequest, FinishReason, Recommended, Spoken, chat_template};
use selvedge::hub::Need;
use selvedge::runtime::{Cancel, Engine, EngineError, Purpose};
use selvedge::state::Sampler;
use selvedge::text::{ChatMessage, ChatTemplate, Piece, TextError};

/// What the model is told first.
const SYSTEM: &str = "You are a helpful assistant.";

const HELP: &str = "\
/regenerate   another try at the last answer
/edit TEXT    say TEXT instead of what you said last
/new          begin another conversation
/save FILE    write the conversation as JSON; /save! FILE replaces a file
/quit         leave (also the end of the input)
Ctrl-C stops an answer; twice while nothing is being said, it leaves.";

/// Talk with a model. Without MODEL, with the small one that the binary carries.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json, model.safetensors (or shards), tokenizer.json and a chat template; or
    /// owner/name@revision on the hub
    model: Option<PathBuf>,
    /// Do not ask the hub: the model is a folder, or in the cache
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tell after every answer how many tokens were read and made
    #[arg(long)]
    verbose: bool,
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
        let engine = self.load.load(&checkpoint, 1, Purpose::Write).await?;
        let mut chat = Chat::new(engine, template, opening, sampler, folder, self.verbose)?;
        if chat.terminal {
            eprintln!("/help tells what else you can say.");
        }
        while let Some(line) = chat.line()? {
            if chat.obey(&line).await? == Then::Leave {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(PartialEq, Eq)]
enum Then {
    Listen,
    Leave,
}

/// The conversation so far and what it is held with.
struct Chat {
    engine: Engine,
    chat: generate::Chat,
    sampler: Sampler,
    messages: Vec<ChatMessage>,
    /// What every conversation begins with.
    opening: Vec<ChatMessage>,
    interrupt: Interrupt,
    terminal: bool,
    /// The model's folder, unless it is the one that the binary carries.
    model: Option<PathBuf>,
    verbose: bool,
}

impl Chat {
    fn new(
        engine: Engine,
        template: ChatTemplate,
        opening: Vec<ChatMessage>,
        sampler: Sampler,
        model: Option<PathBuf>,
        verbose: bool,
    ) -> Result<Self, CommandError> {
        Ok(Self {
            chat: generate::Chat::new(&engine, template)?,
            sampler,
            messages: opening.clone(),
            opening,
            interrupt: Interrupt::listen()?,
            terminal: io::stdin().is_terminal(),
            engine,
            model,
            verbose,
        })
    }

    /// The next line that says something; `None` at the end of the input.
    fn line(&self) -> Result<Option<String>, CommandError> {
        loop {
            if self.terminal {
                eprint!("> ");
            }
            let mut line = String::new();
            if io::stdin().lock().read_line(&mut line).map_err(CommandError::Stdin)? == 0 {
                return Ok(None);
            }
            self.interrupt.forget();
            if !line.trim().is_empty() {
                return Ok(Some(line.trim().to_owned()));
            }
        }
    }

    async fn obey(&mut self, line: &str) -> Result<Then, CommandError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("/help", "") => eprintln!("{HELP}"),
            ("/quit", "") => return Ok(Then::Leave),
            ("/new", "") => self.messages.clone_from(&self.opening),
            ("/regenerate", "") => match self.last_question() {
                Some(last) => self.ask(last, self.messages[last].content.clone()).await?,
                None => eprintln!("nothing was asked yet"),
            },
            ("/edit", text) if !text.is_empty() => {
                self.ask(self.last_question().unwrap_or(self.messages.len()), text.to_owned()).await?;
            }
            ("/save" | "/save!", file) if !file.is_empty() => match self.save(Path::new(file), word == "/save!") {
                Ok(()) => eprintln!("saved in {file}"),
                Err(error) => eprintln!("error: {error}"),
            },
            (word, _) if word.starts_with('/') => eprintln!("`{line}` is no command\n{HELP}"),
            _ => self.ask(self.messages.len(), line.to_owned()).await?,
        }
        Ok(Then::Listen)
    }

    /// Where the last question is.
    fn last_question(&self) -> Option<usize> {
        self.messages.iter().rposition(|message| message.role == "user")
    }

    /// Writes the conversation; in place of a file only if `replace` says so, and never of one of the model's.
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

    /// Puts a question after the first `kept` messages and says the answer. If it does not fit, or if the template
    /// refuses it, the conversation stays as it was.
    async fn ask(&mut self, kept: usize, question: String) -> Result<(), CommandError> {
        let rest = self.messages.split_off(kept);
        self.messages.push(ChatMessage::new("user", question));
        match self.answer().await {
            Err(CommandError::Engine(EngineError::ContextFull { tokens, context, .. })) => eprintln!(
                "the conversation would take {tokens} tokens, and the context holds {context}: \
                 /new begins another, --context makes more room"
            ),
            Err(CommandError::Engine(EngineError::Text(error @ (TextError::Template(_) | TextError::Encode(_))))) => {
                eprintln!("error: {error}; the conversation is as it was before: say something else, or /new");
            }
            other => return other,
        }
        self.messages.truncate(kept);
        self.messages.extend(rest);
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), CommandError> {
        let (sampler, cancel) = (self.sampler.clone(), self.interrupt.begin());
        let request = ChatRequest { sampler, cancel, ..ChatRequest::new(self.messages.clone()) };
        let mut turn = self.chat.begin(&mut self.engine, &request).await?;
        let mut answer = String::new();
        let mut voice = Voice::new();
        while let Some(Spoken { pieces, .. }) = turn.next(&mut self.engine).await? {
            for piece in pieces {
                voice.say(&piece, &mut answer)?;
            }
        }
        let (reason, read, made) = (turn.finish_reason(), turn.read_tokens(), turn.made_tokens());
        self.chat.end(turn);
        voice.end()?;
        self.interrupt.forget();
        self.messages.push(ChatMessage::new("assistant", answer.trim()));
        match reason {
            Some(FinishReason::Context) => {
                let context = self.engine.context();
                eprintln!("the context of {context} tokens is full: /new begins another conversation");
            }
            Some(FinishReason::Cancelled) => eprintln!("(stopped)"),
            _ => {}
        }
        if self.verbose {
            eprintln!("{read} tokens read, {made} made");
        }
        Ok(())
    }
}

/// What the model is told first, unless its template has no place for that. A template that refuses even a plain
/// question is an error.
fn opening(template: &ChatTemplate) -> Result<Vec<ChatMessage>, TextError> {
    let (system, question) = (ChatMessage::new("system", SYSTEM), ChatMessage::new("user", "Hello."));
    if template.render(&[system.clone(), question.clone()], true, true).is_ok() {
        return Ok(vec![system]);
    }
    template.render(&[question], true, true).map(|_| vec![])
}

/// Says a reply on stdout as it comes. Thinking is dim; where that cannot be shown, it goes to stderr.
struct Voice {
    dim: bool,
    thinking: bool,
}

impl Voice {
    fn new() -> Self {
        Self { dim: io::stdout().is_terminal(), thinking: false }
    }

    fn say(&mut self, piece: &Piece, answer: &mut String) -> Result<(), CommandError> {
        match piece {
            Piece::Thinking(text) if self.dim => self.write(if self.thinking { "" } else { "\x1b[2m" }, text)?,
            Piece::Thinking(text) => eprint!("{text}"),
            Piece::Answer(text) => {
                answer.push_str(text);
                self.write(if self.thinking && self.dim { "\x1b[0m\n" } else { "" }, text)?;
            }
        }
        self.thinking = matches!(piece, Piece::Thinking(_));
        Ok(())
    }

    fn end(&self) -> Result<(), CommandError> {
        self.write(if self.thinking && self.dim { "\x1b[0m" } else { "" }, "\n")
    }

    fn write(&self, style: &str, text: &str) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        let written = out.write_all(style.as_bytes()).and_then(|()| out.write_all(text.as_bytes()));
        written.and_then(|()| out.flush()).map_err(CommandError::Stdout)
    }
}

/// What Ctrl-C does: it stops the reply under way; without one, the second in a row leaves.
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
                eprint!("\nCtrl-C again or /quit leaves\n> ");
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

    /// It is the user's turn, with nothing asked.
    fn forget(&self) {
        self.set(Doing::Listening);
    }

    fn set(&self, doing: Doing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }
}
