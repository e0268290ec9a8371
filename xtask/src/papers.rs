//! Contents of the packages: licences and notices, sources, and nothing that is only the project's.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::licences::NOTICES;
use crate::shell;

/// Most bytes of a file of the library's package. The demo model is its largest.
const LARGEST: u64 = 4 << 20;

/// Checks the npm package, which has been built, and the library's crate.
pub fn check() -> Result<()> {
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let read = |folder: &str| std::fs::read(shell::root().join(folder).join(name)).context(name);
        if read(".")? != read("web")? {
            bail!("web/{name} is not the {name} of the repository");
        }
    }
    npm()?;
    library()
}

fn npm() -> Result<()> {
    let said = shell::read(&mut shell::program("npm", &["pack", "./web", "--dry-run", "--json", "--ignore-scripts"]))?;
    let said: Value = serde_json::from_str(&said).context("npm pack --json")?;
    let files = said[0]["files"].as_array().context("npm pack lists no files")?;
    let files: BTreeSet<&str> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    for name in ["LICENSE-APACHE", "LICENSE-MIT", NOTICES, "README.md", "dist/index.js", "pkg/selvedge_bg.wasm"] {
        if !files.contains(name) {
            bail!("the npm package lacks {name}");
        }
    }
    println!("npm package: {} files", files.len());
    Ok(())
}

fn library() -> Result<()> {
    let listed = shell::read(&mut shell::cargo(&["package", "--list", "--allow-dirty", "--package", "selvedge"]))?;
    let files: BTreeSet<&str> = listed.lines().collect();
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "build/main.rs", "shaders/permutations", "src/lib.rs"] {
        if !files.contains(name) {
            bail!("the library's package lacks {name}");
        }
    }
    // The feature `demo-model` is built from the model's files.
    for name in files.iter().filter(|name| !name.starts_with("assets/demo/")) {
        let size = shell::root().join(name).metadata().map_or(0, |found| found.len());
        if size > LARGEST || ["tests/", "web/", "xtask/", "docs/"].iter().any(|folder| name.starts_with(folder)) {
            bail!("the library's package holds {name} ({size} bytes), which nobody needs to build it");
        }
    }
    println!("library: {} files", files.len());
    Ok(())
}
