//! `xtask-bindgen INPUT.wasm OUTPUT_FOLDER`: what `wasm-bindgen --target web` does, from the version that
//! the workspace's lock file pins, so that nobody has to install a matching command-line tool.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (input, output) =
        arguments.next().zip(arguments.next()).context("usage: xtask-bindgen INPUT.wasm OUTPUT_FOLDER")?;
    Bindgen::new()
        .input_path(&input)
        .web(true)?
        .omit_default_module_path(false)
        .typescript(true)
        .generate(&output)
        .with_context(|| format!("cannot write the JavaScript face of {}", input.display()))
}
