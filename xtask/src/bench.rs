//! `cargo xtask bench`: the binary's own `bench`, from a release build.

use anyhow::Result;

use crate::{drivers, shell};

/// Build for speed and run `selvedge bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments of `selvedge bench`; without any, its help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--bin", "selvedge"]))?;
    let mut bench = std::process::Command::new(shell::root().join("target/release/selvedge"));
    let help = arguments.arguments.is_empty().then_some("--help");
    drivers::quiet(&mut bench);
    shell::run(bench.arg("bench").args(&arguments.arguments).args(help))
}
