//! `cargo xtask release`: a folder to hand out, in `target/`: the binary, its licences, the notices of what it contains.

use anyhow::{Context, Result};

use crate::licences::{self, Build, NOTICES};
use crate::shell;

/// Files that go along as they are.
const PAPERS: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"];

/// Build the binary for this machine, with the licences of all it contains, into target/selvedge-VERSION-TARGET/.
#[derive(clap::Args)]
pub struct Arguments {
    /// Drive NVIDIA cards, too
    #[arg(long)]
    cuda: bool,
    /// Link the C library in, for images with nothing else in them (Linux). Such a binary loads no driver: it computes on the CPU alone
    #[arg(long = "static", conflicts_with = "cuda")]
    without_libraries: bool,
}

/// Asks the compiler for a binary that needs no library of the system.
const STATIC: &str = "-Ctarget-feature=+crt-static";

pub fn run(arguments: &Arguments) -> Result<()> {
    let (build, features) = match arguments.cuda {
        true => (Build::BinaryCuda, &["--features", "native-cuda"][..]),
        false => (Build::Binary, &[][..]),
    };
    let host = licences::host()?;
    let kind = if arguments.without_libraries { "-static" } else { "" };
    let name = format!("selvedge-{}-{host}{kind}", env!("CARGO_PKG_VERSION"));
    let target = shell::root().join("target");
    let folder = target.join(name);
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder)?;
    }
    let notices = folder.join(NOTICES);
    licences::write(build, &notices)?;
    let mut cargo = shell::cargo(&["build", "--locked", "--release", "--package", "selvedge-cli"]);
    cargo.args(features).env("SELVEDGE_NOTICES", &notices);
    let mut built = target.clone();
    if arguments.without_libraries {
        // With a target named, build scripts and macros, which are loaded as libraries, are built without the flag.
        cargo.args(["--target", &host]).env("RUSTFLAGS", STATIC);
        built.push(&host);
    }
    shell::run(&mut cargo)?;
    let binary = format!("selvedge{}", std::env::consts::EXE_SUFFIX);
    let built = built.join("release").join(&binary);
    std::fs::copy(&built, folder.join(&binary)).with_context(|| built.display().to_string())?;
    for paper in PAPERS {
        std::fs::copy(shell::root().join(paper), folder.join(paper)).with_context(|| paper.to_owned())?;
    }
    println!("{}", folder.display());
    Ok(())
}
