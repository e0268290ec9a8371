//! `selvedge --licenses`: the licences of the program and of the packages in it.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::error::CommandError;

/// Empty in a build that is not made by `cargo xtask release`.
const NOTICES: &str = include_str!(concat!(env!("OUT_DIR"), "/notices.txt"));

/// Prints them; a build for development has none, and fails with advice.
pub(crate) fn print() -> Result<ExitCode, CommandError> {
    if NOTICES.is_empty() {
        return Err(CommandError::Misuse(
            "this is a build for development, without the licences of what it contains: `cargo xtask release` makes one \
             with them. Selvedge itself is under MIT OR Apache-2.0"
                .into(),
        ));
    }
    let own = concat!("selvedge ", env!("CARGO_PKG_VERSION"), " is under ", env!("CARGO_PKG_LICENSE"), ".\n\n");
    let mut out = io::stdout().lock();
    let written = out.write_all(own.as_bytes()).and_then(|()| out.write_all(NOTICES.as_bytes()));
    written.and_then(|()| out.flush()).map(|()| ExitCode::SUCCESS).map_err(CommandError::Stdout)
}
