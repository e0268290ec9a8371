//! The `selvedge` binary. Results go to stdout, everything else to stderr.

mod args;
mod commands;
mod ctrl_c;
mod error;
mod form_file;
mod hint;
mod input;
mod licences;
mod output;
mod part_file;
mod session_file;
mod state_file;
mod terminal;

fn main() -> std::process::ExitCode {
    commands::main()
}
