//! Every composed shader as a file, for other compilers than the product's.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// Folder in which the shaders are written.
const FOLDER: &str = "target/shaders";

/// Writes the shaders; their folder.
pub fn write() -> Result<PathBuf> {
    let folder = shell::root().join(FOLDER);
    if folder.exists() {
        // Shaders that are no longer composed must not be judged.
        std::fs::remove_dir_all(&folder)?;
    }
    let example = ["run", "--quiet", "--features", shell::CUDA, "--example", "shaders", "--", FOLDER];
    shell::run(&mut shell::cargo(&example))?;
    Ok(folder)
}
