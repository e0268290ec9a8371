//! `cargo xtask demo`: a prompt in the terminal, answered by the model in `assets/demo`.

use std::io::{BufRead, Write};

use anyhow::{Context, Result};

use crate::{drivers, shell};

/// Build the binary and put questions to the demo model in the terminal.
#[derive(clap::Args)]
pub struct Arguments {
    /// Another model's folder.
    #[arg(default_value = "assets/demo")]
    model: String,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--bin", "selvedge"]))?;
    let binary = shell::root().join("target/release/selvedge");
    let model = shell::root().join(&arguments.model);
    eprintln!("Begin a text and the model goes on with it; an empty line ends.");
    let mut lines = std::io::stdin().lock().lines();
    loop {
        eprint!("> ");
        std::io::stderr().flush()?;
        let Some(prompt) = lines.next().transpose()?.filter(|line| !line.trim().is_empty()) else {
            return Ok(());
        };
        let mut generate = std::process::Command::new(&binary);
        // With `=`, so that a prompt may begin with a dash.
        generate.arg("generate").arg(&model).arg(format!("--prompt={prompt}"));
        generate.arg(format!("--max-tokens={}", arguments.max_tokens));
        drivers::quiet(&mut generate);
        // What goes wrong it says itself; the next prompt may do better.
        generate.status().with_context(|| format!("cannot start {}", binary.display()))?;
    }
}
