//! The subcommands of the binary, one file each.

mod bench;
mod cache;
mod chat;
mod convert;
mod devices;
pub(crate) mod fetch;
mod generate;
mod inspect;
pub(crate) mod logits;
mod perplexity;
mod score;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs hybrid language models (attention and state-space layers woven together).
#[derive(Parser)]
#[command(name = "selvedge", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Chat(chat::Args),
    Generate(generate::Args),
    Logits(logits::Args),
    Score(score::Args),
    Inspect(inspect::Args),
    Convert(convert::Args),
    Perplexity(perplexity::Args),
    Devices(devices::Args),
    Bench(bench::Args),
    Fetch(fetch::Args),
    Cache(cache::Args),
}

/// Parses the command line and runs it. Exit codes: 0, 1 for a failure, 2 for a misuse (clap's own), 130
/// when Ctrl-C ended it.
pub(crate) fn main() -> ExitCode {
    // Nothing asked for: talk.
    let talk = || Cli::parse_from(["selvedge", "chat"]).command;
    let Some(command) = Cli::parse().command.or_else(talk) else { return ExitCode::FAILURE };
    let result = match command {
        Command::Chat(args) => args.run(),
        Command::Generate(args) => args.run(),
        Command::Logits(args) => args.run(),
        Command::Score(args) => args.run(),
        Command::Inspect(args) => args.run(),
        Command::Convert(args) => args.run(),
        Command::Perplexity(args) => args.run(),
        Command::Devices(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Fetch(args) => args.run(),
        Command::Cache(args) => args.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        error.exit_code().into()
    })
}
