//! The project's own verbs: `cargo xtask setup | demo | test | check | bench | isa | wasm | release`.

mod bench;
mod check;
mod debian;
mod demo;
mod drivers;
mod f16_browser;
mod isa;
mod licences;
mod papers;
mod pretrained;
mod release;
mod serve;
mod setup;
mod shaders;
mod shell;
mod tally;
mod templates;
mod test;
mod wasm;
mod web;

use std::process::ExitCode;

use clap::Parser;

/// The project's own verbs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    Setup(setup::Arguments),
    Demo(demo::Arguments),
    Test(test::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    Isa(isa::Arguments),
    Wasm(web::Arguments),
    Release(release::Arguments),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup(arguments) => setup::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Isa(arguments) => isa::run(&arguments),
        Verb::Wasm(arguments) => web::run(&arguments),
        Verb::Release(arguments) => release::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
