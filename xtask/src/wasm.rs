//! The browser build of the library: the WebAssembly module and its bindings, in `web/pkg/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{setup, shell};

/// Folder of the WebAssembly module and its bindings.
pub const PACKAGE: &str = "web/pkg";

/// Most bytes of the module, gzipped: what a page downloads before any weight.
const BUDGET: u64 = 3_200_000;

/// The profile of `Cargo.toml` that it is built with.
const PROFILE: &str = "wasm";

/// Builds the module; an error when it has outgrown its budget.
pub fn build() -> Result<()> {
    setup::wasm_target()?;
    let node = setup::node()?;
    let features = ["--no-default-features", "--features", "web"];
    let mut cargo = shell::cargo(&["rustc", "--lib", "--crate-type", "cdylib", "--target", setup::WASM]);
    shell::run(cargo.args(["--profile", PROFILE]).args(features))?;
    let built = shell::root().join("target").join(setup::WASM).join(PROFILE).join("selvedge.wasm");
    let package = shell::root().join(PACKAGE);
    shell::run(shell::cargo(&["run", "--quiet", "--package", "xtask-bindgen", "--"]).arg(&built).arg(&package))?;
    let module = package.join("selvedge_bg.wasm");
    optimise(&node, &module)?;
    let (raw, zipped) = (module.metadata()?.len(), gzipped(&node, std::slice::from_ref(&module))?);
    println!("selvedge_bg.wasm: {raw} bytes, {zipped} gzipped, at most {BUDGET}");
    if zipped > BUDGET {
        bail!("the module is {zipped} bytes gzipped, its budget is {BUDGET}");
    }
    Ok(())
}

/// Rewrites the module smaller and faster.
fn optimise(node: &Path, module: &Path) -> Result<()> {
    let tool = shell::root().join("web/node_modules/binaryen/bin/wasm-opt");
    let features = [
        "--enable-bulk-memory",
        "--enable-nontrapping-float-to-int",
        "--enable-sign-ext",
        "--enable-reference-types",
        "--enable-multivalue",
        "--enable-mutable-globals",
        "--enable-simd",
    ];
    let mut node = Command::new(node);
    node.arg(tool).arg("-O2").args(features).arg(module).arg("-o").arg(module);
    shell::run(&mut node)
}

/// Bytes of files, one after the other, as a server would send them.
pub fn gzipped(node: &Path, files: &[PathBuf]) -> Result<u64> {
    let script = "const { readFileSync } = require('fs'); \
                  const files = process.argv.slice(1).map((file) => readFileSync(file)); \
                  process.stdout.write(String(require('zlib').gzipSync(Buffer.concat(files), { level: 9 }).length))";
    let count = shell::read(Command::new(node).args(["-e", script]).args(files))?;
    count.parse().with_context(|| format!("node said {count:?} for a size"))
}
