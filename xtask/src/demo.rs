//! `cargo xtask demo`: the page with the demo model, or a conversation in the terminal.

use anyhow::{Context, Result, bail};

use crate::{drivers, serve, shell, web};

/// Build the page and serve it on this machine; with --terminal, talk in the terminal.
#[derive(clap::Args)]
pub struct Arguments {
    /// Talk in the terminal, with the binary.
    #[arg(long)]
    terminal: bool,
    /// Another model's folder, for the terminal.
    #[arg(requires = "terminal")]
    model: Option<String>,
    /// Port of the page; another one when this one is taken
    #[arg(long, default_value_t = 5173)]
    port: u16,
}

/// Folder of the built page.
const PAGE: &str = "web/demo/dist";

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.terminal {
        return terminal(arguments.model.as_deref());
    }
    web::package()?;
    web::page()?;
    let folder = shell::root().join(PAGE);
    if !folder.join("index.html").is_file() {
        bail!("{PAGE} has no index.html, though the page was built");
    }
    let listener = serve::listen(arguments.port).context("no port of this machine can be listened on")?;
    println!("\nthe page: http://localhost:{}/  (Ctrl-C ends it)", listener.local_addr()?.port());
    Ok(serve::serve(&listener, &folder)?)
}

fn terminal(model: Option<&str>) -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--bin", "selvedge"]))?;
    let mut chat = std::process::Command::new(shell::root().join("target/release/selvedge"));
    drivers::quiet(&mut chat);
    shell::run(chat.arg("chat").args(model))
}
