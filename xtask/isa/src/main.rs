//! `xtask-isa FOLDER`: compiles every `.wgsl` file of a folder for the device that the Vulkan loader finds, and prints the
//! statistics of its compiler as lines of JSON. The first line is the device's: its name and its driver's version.

mod compiler;
mod shader;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use compiler::Compiler;
use shader::Shader;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("usage: xtask-isa FOLDER")?;
    let compiler = Compiler::open()?;
    println!("{}", json!({ "device": compiler.device_name(), "driver": compiler.driver_version() }));
    let mut files = vec![];
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shader = Shader::from_wgsl(&source).with_context(|| name.to_string())?;
        let mut line = compiler.statistics(&shader).with_context(|| name.to_string())?;
        line.insert("shader".into(), name.into());
        println!("{}", Value::Object(line));
    }
    Ok(())
}
