//! `cargo xtask wasm`: the npm package in `web/`, its JavaScript from its TypeScript, around the WebAssembly module.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::licences::{self, Build, NOTICES};
use crate::{setup, shell, wasm};

/// Build the WebAssembly module into web/pkg/ and the npm package around it into web/dist/.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    package()
}

/// Folders of `web/dist/` that pages load only where they ask for them, and the rest; most bytes of each, together and gzipped,
/// before any bundler makes them smaller.
const BUDGETS: [(&str, u64); 3] = [("remote", 7_000), ("ai-sdk", 5_000), ("", 42_000)];

/// Builds the whole package; an error when a part of it has outgrown its budget.
pub fn package() -> Result<()> {
    wasm::build()?;
    let node = setup::node()?;
    let dist = shell::root().join("web/dist");
    if dist.is_dir() {
        // What is no longer compiled must not be shipped.
        std::fs::remove_dir_all(&dist)?;
    }
    licences::write(Build::Module, &shell::root().join("web").join(NOTICES))?;
    // The types have what comments say of the interface, and pages do not download those.
    typescript(&node, "web", &["--removeComments", "--declaration", "false"])?;
    typescript(&node, "web", &["--emitDeclarationOnly"])?;
    typescript(&node, "web/tests", &[])?;
    let mut rest = scripts(&dist)?;
    rest.push(shell::root().join(wasm::PACKAGE).join("selvedge.js"));
    for (folder, budget) in BUDGETS {
        let at = dist.join(folder);
        let (files, others) = rest.into_iter().partition(|file| folder.is_empty() || file.starts_with(&at));
        rest = others;
        let files: Vec<PathBuf> = files;
        let name = if folder.is_empty() { "the package" } else { folder };
        let zipped = wasm::gzipped(&node, &files)?;
        println!("JavaScript of {name}: {} files, {zipped} bytes gzipped, at most {budget}", files.len());
        if zipped > budget {
            bail!("the JavaScript of {name} is {zipped} bytes gzipped, its budget is {budget}");
        }
    }
    Ok(())
}

/// Builds the page over the package, which has been built.
pub fn page() -> Result<()> {
    shell::run(&mut shell::program("npm", &["run", "build:page", "--prefix", "web"]))
        .context("the page could not be built")
}

/// Compiles a folder that has a `tsconfig.json`.
fn typescript(node: &Path, folder: &str, more: &[&str]) -> Result<()> {
    let compiler = shell::root().join("web/node_modules/typescript/lib/tsc.js");
    shell::run(Command::new(node).arg(compiler).args(["--project", folder]).args(more).current_dir(shell::root()))
}

/// The scripts below a folder.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(scripts(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "js") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
