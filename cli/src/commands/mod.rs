//! The subcommands of the binary, one file each. Results go to stdout, everything else to stderr, all of it through
//! `terminal`.

mod bench;
mod cache;
mod chat;
mod convert;
mod devices;
mod embed;
pub(crate) mod fetch;
mod generate;
mod inspect;
pub(crate) mod logits;
mod perplexity;
mod score;
mod serve;
mod state;

use std::borrow::Cow;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ctrl_c::sigterm_ends;
use crate::licences;
use crate::terminal::{self, status};

/// Run hybrid language models (attention and state-space layers woven together).
///
/// Without a command: a conversation with the small model that the binary carries. Results go to stdout, everything
/// else to stderr. Exit codes: 0, 1 for a failure, 2 for a misuse, 130 after Ctrl-C.
#[derive(Parser)]
#[command(name = "selvedge", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Print the licences of the program and of the libraries in it
    #[arg(long)]
    licenses: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Chat(chat::Args),
    Serve(serve::Args),
    Generate(generate::Args),
    Logits(logits::Args),
    Score(score::Args),
    Embed(embed::Args),
    State(state::Args),
    Inspect(inspect::Args),
    Convert(convert::Args),
    Perplexity(perplexity::Args),
    Devices(devices::Args),
    Bench(bench::Args),
    Fetch(fetch::Args),
    Cache(cache::Args),
}

/// Parses the command line and runs it. Exit codes: 0, 1 for a failure, 2 for a misuse (clap's own), 130 after Ctrl-C,
/// 143 after SIGTERM, 141 after a broken pipe on stdout (without a message, as other programs). A conversation from a
/// pipe or a file ends with 1 when a line of it was refused.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| misuse(&error));
    // Nothing asked for: talk.
    let talk = || Cli::parse_from(["selvedge", "chat"]).command;
    let Cli { licenses, command } = cli;
    let command = command.or_else(|| if licenses { None } else { talk() });
    // The server ends by SIGTERM in an orderly way of its own.
    let listens = if matches!(command, Some(Command::Serve(_))) { Ok(()) } else { sigterm_ends() };
    let result = listens.and_then(|()| match command {
        Some(Command::Serve(args)) => args.run(),
        Some(Command::Chat(args)) => args.run(),
        Some(Command::Generate(args)) => args.run(),
        Some(Command::Logits(args)) => args.run(),
        Some(Command::Score(args)) => args.run(),
        Some(Command::Embed(args)) => args.run(),
        Some(Command::State(args)) => args.run(),
        Some(Command::Inspect(args)) => args.run(),
        Some(Command::Convert(args)) => args.run(),
        Some(Command::Perplexity(args)) => args.run(),
        Some(Command::Devices(args)) => args.run(),
        Some(Command::Bench(args)) => args.run(),
        Some(Command::Fetch(args)) => args.run(),
        Some(Command::Cache(args)) => args.run(),
        None => licences::print(),
    });
    result.unwrap_or_else(|error| {
        if !error.reader_is_gone() {
            status!("error: {error}");
        }
        error.exit_code().into()
    })
}

/// Prints clap's message about a wrong command line, which repeats parts of it, and exits.
fn misuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if matches!(terminal::shown(&text), Cow::Borrowed(_)) {
        error.exit()
    }
    terminal::message(format_args!("{text}"), "");
    std::process::exit(error.exit_code())
}
