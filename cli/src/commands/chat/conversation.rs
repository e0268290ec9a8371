//! The lines of a conversation: what each does.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::interrupt::Interrupt;
use super::reply_printer::print_reply;
use super::{HELP, NO_SWITCH, Thinking};
use crate::args::sampling::chance;
use crate::error::CommandError;
use crate::input::{self, Line};
use crate::part_file::{PartFile, check_not_input, check_target};
use crate::session_file::{Saved, SessionFile};
use crate::terminal::{self, status};
use selvedge::generate::{self, ChatRequest, FinishReason};
use selvedge::runtime::{Engine, EngineError};
use selvedge::state::Sampler;
use selvedge::text::ChatMessage;

/// What follows a line.
#[derive(PartialEq, Eq)]
pub(super) enum Then {
    Listen,
    Leave,
}

/// A branch that is left for now.
#[derive(Default)]
pub(super) struct Branch {
    number: u64,
    messages: Vec<ChatMessage>,
}

/// A conversation, its branches, and its engine.
pub(super) struct Conversation {
    pub engine: Engine,
    pub chat: generate::Chat,
    pub sampler: Sampler,
    /// Every answer has a seed of its own.
    pub new_seeds: bool,
    pub thinking: Thinking,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    pub messages: Vec<ChatMessage>,
    /// Number by which the engine knows the present branch.
    pub number: u64,
    /// The branches that are left for now, the first one first; the place of the present one is empty.
    pub branches: Vec<Branch>,
    /// Place of the present branch.
    pub branch: usize,
    /// Messages that every conversation begins with.
    pub opening: Vec<ChatMessage>,
    pub interrupt: Interrupt,
    /// Where the conversation is kept from start to start.
    pub session: Option<SessionFile>,
    pub terminal: bool,
    /// The model's folder, unless it is the one that the binary carries.
    pub model: Option<PathBuf>,
    pub verbose: bool,
    /// A line was not followed.
    pub refused: bool,
}

impl Conversation {
    /// The next line that is not empty; `None` at the end of the input.
    pub(super) fn line(&mut self) -> Result<Option<String>, CommandError> {
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

    /// Goes on with the conversation of an earlier start. A memory of another model is an error: the next answer would
    /// overwrite the file.
    pub(super) async fn resume(&mut self, saved: Saved) -> Result<(), CommandError> {
        let restored = self.chat.restore(&mut self.engine, &saved.snapshot).await;
        if let Some(notice) = restored.map_err(|error| saved.fault(error))? {
            status!("note: {notice}");
        }
        self.messages = saved.messages;
        let (messages, tokens) = (self.messages.len(), saved.snapshot.read);
        status!("going on with {messages} messages; {tokens} tokens are remembered");
        if self.terminal {
            for message in self.messages.iter().filter(|message| message.role() != "system") {
                let mark = if message.role() == "user" { "> " } else { "" };
                terminal::print(&format!("{mark}{}\n", message.content()))?;
            }
        }
        Ok(())
    }

    /// Tells that a line is not followed.
    fn refuse(&mut self, reason: fmt::Arguments<'_>) {
        self.refused = true;
        status!("{reason}");
    }

    pub(super) async fn obey(&mut self, line: &str) -> Result<Then, CommandError> {
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
            ("/fork", "") => self.fork(),
            ("/switch", number) if !number.is_empty() => self.switch(number),
            ("/back", count) => self.back(count),
            ("/help" | "/quit" | "/new" | "/regenerate" | "/fork", more) => {
                self.refuse(format_args!("{word} takes nothing behind it, and here is `{more}`"));
            }
            ("/switch", _) => self.refuse(format_args!("/switch takes the number of a branch")),
            ("/edit", _) => self.refuse(format_args!("/edit takes the text that is said instead")),
            ("/save" | "/save!", _) => self.refuse(format_args!("{word} takes the name of a file")),
            (word, _) if word.starts_with('/') => self.refuse(format_args!("`{word}` is no command\n{HELP}")),
            _ => self.ask(self.messages.len(), line.to_owned()).await?,
        }
        Ok(Then::Listen)
    }

    /// Goes on in a copy of the conversation; the one before can be returned to. What both have in common is remembered
    /// once.
    fn fork(&mut self) {
        let from = self.branch;
        // Both are known by new numbers: that of before stays at the place where they part.
        let next = 2 * self.branches.len() as u64;
        self.branches[from] = Branch { number: next - 1, messages: self.messages.clone() };
        self.number = next;
        self.branch = self.branches.len();
        self.branches.push(Branch::default());
        status!("this is branch {} now; /switch {} returns", self.branch + 1, from + 1);
    }

    /// Returns to another branch.
    fn switch(&mut self, number: &str) {
        let count = self.branches.len();
        match number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).filter(|&index| index < count) {
            Some(index) if index == self.branch => status!("this is branch {number} already"),
            Some(index) => {
                let other = std::mem::take(&mut self.branches[index]);
                let messages = std::mem::replace(&mut self.messages, other.messages);
                let number = std::mem::replace(&mut self.number, other.number);
                self.branches[self.branch] = Branch { number, messages };
                self.branch = index;
                status!("branch {number} of {count}, {} messages", self.messages.len());
            }
            None => self.refuse(format_args!("/switch takes a number from 1 to {count}, and here is `{number}`")),
        }
    }

    /// Takes the last questions and their answers back.
    fn back(&mut self, count: &str) {
        let asked = self.messages.iter().filter(|message| message.role() == "user").count();
        let count = if count.is_empty() { Some(1) } else { count.parse().ok() };
        match count.filter(|count| (1..=asked).contains(count)) {
            Some(count) => {
                for _ in 0..count {
                    self.messages.truncate(self.last_question().unwrap_or_default());
                }
                status!("{} messages are left", self.messages.len());
            }
            None => self.refuse(format_args!("/back takes a count of questions to take back, and {asked} were asked")),
        }
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
        let conversation = Some(self.number);
        let request = ChatRequest {
            sampler,
            cancel,
            thinking,
            max_tokens,
            conversation,
            ..ChatRequest::new(self.messages.clone())
        };
        let mut turn = self.chat.begin(&mut self.engine, &request).await?;
        let said = print_reply(&mut self.engine, &mut turn).await;
        let (reason, reuse, made) = (turn.finish_reason(), turn.reuse().clone(), turn.made_tokens());
        let speculated = turn.speculated();
        // Whatever became of it: the slot must not be lost.
        self.chat.end(&mut self.engine, turn).await?;
        self.interrupt.forget();
        self.messages.push(ChatMessage::new("assistant", said?.trim()));
        match reason {
            Some(FinishReason::Context) => {
                let context = self.engine.context();
                status!("the context of {context} tokens is full: /new begins a new conversation");
            }
            Some(FinishReason::Length) => {
                status!(
                    "(cut after {} tokens: --max-tokens, or the `max_new_tokens` of generation_config.json)",
                    self.max_tokens
                );
            }
            Some(FinishReason::Cancelled) => status!("(stopped)"),
            _ => {}
        }
        if self.verbose {
            let remembered = match reuse.cached_tokens {
                0 => String::new(),
                cached => format!("; {cached} remembered"),
            };
            status!("{} tokens read, {made} made{remembered}", reuse.read_tokens());
            if let Some(missed) = reuse.missed {
                status!("read again: {missed}");
            }
            if let Some(counts) = speculated {
                status!("{counts}");
            }
        }
        self.tell_notices();
        if let Err(error) = self.keep().await {
            self.refuse(format_args!("error: the conversation is not kept: {error}"));
        }
        Ok(())
    }

    /// Prints what went wrong with the memory of conversations.
    pub(super) fn tell_notices(&mut self) {
        for notice in self.chat.cache_mut().take_notices() {
            status!("note: {notice}");
        }
    }

    /// Writes the conversation and its memory to the session's file, if there is one.
    async fn keep(&mut self) -> Result<(), CommandError> {
        let Some(session) = &self.session else { return Ok(()) };
        let thinking = self.thinking.asked();
        let request = ChatRequest { thinking, ..ChatRequest::new(self.messages.clone()) };
        match self.chat.snapshot(&mut self.engine, &request).await? {
            Some(snapshot) => session.write(&self.messages, snapshot),
            None => Ok(()),
        }
    }
}
