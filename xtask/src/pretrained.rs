//! The goldens of every family anew, by the `transformers` of today, for the long tier.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell;

/// A virtual environment, and what the script needs.
pub const PYTHON: &str = "target/python";
const PACKAGES: [&str; 3] = ["torch", "transformers>=5.0", "safetensors"];
const SCRIPT: &str = "tools/goldens/families.py";
const MADE: &str = "target/pretrained";

/// Makes them; gives the folder for SELVEDGE_GOLDENS.
pub fn make() -> Result<PathBuf> {
    let python = python(PYTHON, &PACKAGES)?;
    let folder = shell::root().join(MADE);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut script = shell::program(&python, &[SCRIPT, &format!("{MADE}/families")]);
    shell::run(script.env("TRANSFORMERS_VERBOSITY", "error").env("HF_HUB_DISABLE_PROGRESS_BARS", "1"))?;
    Ok(folder)
}

/// A Python in a virtual environment in `folder` that has these packages.
pub fn python(folder: &str, packages: &[&str]) -> Result<String> {
    let python = shell::root().join(folder).join("bin/python");
    if !python.exists() {
        shell::run(&mut shell::program("python3", &["-m", "venv", folder]))
            .context("install Python 3 with its venv module (Debian: python3-venv)")?;
    }
    let python = python.to_string_lossy().into_owned();
    let install = [&["-m", "pip", "install", "--quiet"][..], packages].concat();
    shell::run(&mut shell::program(&python, &install))?;
    Ok(python)
}
