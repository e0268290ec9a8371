//! `cargo xtask setup`: whatever the other verbs need and this machine lacks. Quick where all is there.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::drivers::{self, Driver};
use crate::{debian, shell};

/// Install what the tests need and this machine lacks.
#[derive(clap::Args)]
pub struct Arguments {}

/// The target of the browser build.
pub const WASM: &str = "wasm32-unknown-unknown";

/// The oldest Node.js that the tools in `web/` run on.
const NODE: u32 = 20;

pub fn run(_: &Arguments) -> Result<()> {
    for driver in drivers::all()? {
        println!("{}: {}", driver.name, driver.description.display());
    }
    println!("browser: {}", drivers::chromium()?.display());
    compiler()?;
    node()?;
    wasm_target()?;
    println!("everything is there");
    Ok(())
}

/// Everything that `cargo xtask test` needs; the drivers to run on.
pub fn for_tests() -> Result<Vec<Driver>> {
    let drivers = drivers::all()?;
    compiler()?;
    node()?;
    wasm_target()?;
    Ok(drivers)
}

/// A C++ compiler: the emulator of the CUDA driver is built with it.
fn compiler() -> Result<()> {
    if cfg!(target_os = "linux") && shell::find("g++").is_none() {
        debian::install(&["g++"], "the emulator of the CUDA driver is C++")?;
    }
    Ok(())
}

/// Node.js and the packages in `web/`.
pub fn node() -> Result<()> {
    if shell::find("npm").is_none() {
        debian::install(&["nodejs", "npm"], "the browser build and its tests use Node.js")?;
    }
    let version = shell::read(&mut shell::program("node", &["--version"]))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        bail!("Node.js {NODE} or later is needed, this machine has {}; install a newer one", version.trim());
    }
    let (lock, installed) = (shell::root().join("web/package-lock.json"), "web/node_modules/.package-lock.json");
    if older(&shell::root().join(installed), &lock) {
        let arguments = ["ci", "--prefix", "web", "--ignore-scripts", "--no-audit", "--no-fund"];
        shell::run(&mut shell::program("npm", &arguments)).context("the packages of web/ could not be installed")?;
    }
    Ok(())
}

/// Rust's standard library for the browser.
pub fn wasm_target() -> Result<()> {
    let there = || {
        let rustc = shell::read(&mut shell::program("rustc", &["--print", "sysroot"]))?;
        anyhow::Ok(Path::new(rustc.trim()).join("lib/rustlib").join(WASM).join("lib").is_dir())
    };
    if there()? {
        return Ok(());
    }
    if shell::find("rustup").is_some() {
        shell::run(&mut shell::program("rustup", &["target", "add", WASM])).context(
            "the browser build needs Rust's standard library for wasm32; is the network down, or the toolchain not rustup's?",
        )?;
    }
    if !there()? {
        bail!(
            "the browser build needs the target {WASM}; `rustup target add {WASM}` installs it where rustup manages Rust"
        );
    }
    Ok(())
}

/// Whether a file is missing or older than another.
fn older(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    !matches!((modified(file), modified(than)), (Ok(file), Ok(than)) if file >= than)
}
