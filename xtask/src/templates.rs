//! Published chat templates and what jinja2 makes of them, for the long tier.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{pretrained, shell};

/// The templates lie in the source distribution of this package.
const PACKAGE: &str = "llama-cpp-python";
const INSIDE: &str = "vendor/llama.cpp/models/templates";
const MADE: &str = "target/templates";
const SCRIPT: &str = "tools/templates/published.py";

/// Fetches the templates and renders them; gives the file of renderings.
pub fn make() -> Result<PathBuf> {
    let python = pretrained::python(pretrained::PYTHON, &["jinja2>=3.1.6"])?;
    let folder = shell::root().join(MADE);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let fetch = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", MADE, PACKAGE];
    shell::run(&mut shell::program(&python, &fetch))?;
    let archive = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "gz"))
        .context("pip fetched no archive of templates")?;
    let archive = archive.to_string_lossy().into_owned();
    shell::run(&mut shell::program(
        "tar",
        &["-xzf", &archive, "-C", MADE, "--wildcards", &format!("*/{INSIDE}/*.jinja")],
    ))?;
    let unpacked = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path().join(INSIDE)))
        .find(|path| path.is_dir())
        .context("the archive holds no templates")?;
    let renderings = folder.join("renderings.jsonl");
    let paths = [unpacked, renderings.clone()].map(|path| path.to_string_lossy().into_owned());
    shell::run(&mut shell::program(&python, &[SCRIPT, &paths[0], &paths[1]]))?;
    Ok(renderings)
}
