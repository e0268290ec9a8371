//! `cargo xtask check`: what a reviewer should not have to look for.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{licences, papers, setup, shell, web};

/// Formatting, lints on every target, documentation, file lengths, licences, types and sizes of the npm package,
/// files of the packages, the page.
#[derive(clap::Args)]
pub struct Arguments {}

/// Lines after which a file should be two: about 600, with some air.
const LINES: usize = 650;

pub fn run(_: &Arguments) -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    setup::wasm_target()?;
    let web = ["--package", "selvedge", "--lib", "--target", setup::WASM, "--no-default-features", "--features", "web"];
    clippy(&["--workspace", "--all-targets"])?;
    clippy(&["--all-targets", "--features", "native-cuda"])?;
    clippy(&web)?;
    // The library without a command line, a hub, threads or drivers.
    clippy(&["--package", "selvedge", "--lib", "--tests", "--no-default-features"])?;
    let mut doc = shell::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    lengths()?;
    licences::check()?;
    web::package()?;
    papers::check()?;
    web::page()?;
    println!("all checks passed");
    Ok(())
}

fn clippy(scope: &[&str]) -> Result<()> {
    shell::run(shell::cargo(&["clippy", "--quiet"]).args(scope).args(["--", "-D", "warnings"]))
}

/// Names the files that have outgrown their room.
fn lengths() -> Result<()> {
    let files = shell::read(&mut shell::program("git", &["ls-files", "*.rs", "*.wgsl", "*.cu", "*.ts", "*.mjs"]))?;
    let mut long = vec![];
    for name in files.lines() {
        let path = shell::root().join(name);
        if !path.is_file() {
            continue;
        }
        let lines = lines(&path)?;
        if lines > LINES {
            long.push(format!("{name} has {lines}"));
        }
    }
    if !long.is_empty() {
        bail!("files of more than {LINES} lines: {}", long.join(", "));
    }
    Ok(())
}

fn lines(path: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().count())
}
