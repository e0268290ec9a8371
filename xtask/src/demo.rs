//! `cargo xtask demo`: a conversation with the demo model in the terminal.

use anyhow::Result;

use crate::{drivers, shell};

/// Build the binary and talk with the demo model in the terminal.
#[derive(clap::Args)]
pub struct Arguments {
    /// Another model's folder.
    model: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--bin", "selvedge"]))?;
    let mut chat = std::process::Command::new(shell::root().join("target/release/selvedge"));
    drivers::quiet(&mut chat);
    shell::run(chat.arg("chat").args(&arguments.model))
}
