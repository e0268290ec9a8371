//! `xtask-bindgen INPUT.wasm OUTPUT_FOLDER`: what `wasm-bindgen --target web` does, from the version that
//! the workspace's lock file pins, so that nobody has to install a matching command-line tool.

use std::fs;
use std::path::PathBuf;

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
        .with_context(|| format!("cannot write the JavaScript face of {}", input.display()))?;
    let name = PathBuf::from(&input).with_extension("js");
    let script = PathBuf::from(&output).join(name.file_name().context("INPUT.wasm has no name")?);
    let text = fs::read_to_string(&script).with_context(|| script.display().to_string())?;
    fs::write(&script, without_comments(&text)).with_context(|| script.display().to_string())
}

/// A script without the comments before its items: the types beside it have the same, and pages do not download those.
fn without_comments(script: &str) -> String {
    let mut kept = String::with_capacity(script.len());
    let mut inside = false;
    for line in script.lines() {
        inside |= line.trim_start().starts_with("/**");
        if !inside {
            kept.extend([line, "\n"]);
        }
        inside &= !line.ends_with("*/");
    }
    kept
}
