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
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (build, features) = match arguments.cuda {
        true => (Build::BinaryCuda, &["--features", "native-cuda"][..]),
        false => (Build::Binary, &[][..]),
    };
    let name = format!("selvedge-{}-{}", env!("CARGO_PKG_VERSION"), licences::host()?);
    let target = shell::root().join("target");
    let folder = target.join(name);
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder)?;
    }
    let notices = folder.join(NOTICES);
    licences::write(build, &notices)?;
    let mut cargo = shell::cargo(&["build", "--locked", "--release", "--package", "selvedge-cli"]);
    shell::run(cargo.args(features).env("SELVEDGE_NOTICES", &notices))?;
    let binary = format!("selvedge{}", std::env::consts::EXE_SUFFIX);
    let built = target.join("release").join(&binary);
    std::fs::copy(&built, folder.join(&binary)).with_context(|| built.display().to_string())?;
    for paper in PAPERS {
        std::fs::copy(shell::root().join(paper), folder.join(paper)).with_context(|| paper.to_owned())?;
    }
    println!("{}", folder.display());
    Ok(())
}
