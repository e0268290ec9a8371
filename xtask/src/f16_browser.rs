//! A Chromium whose WebGPU has shader-f16 without a graphics card, for tests: a copy of the system's with lavapipe in
//! SwiftShader's place (`xtask/driver`). The system's own is left as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::drivers::Driver;
use crate::shell;

const FOLDER: &str = "target/drivers/chromium-f16";
const LIBRARY: &str = "libvk_swiftshader.so";
const DESCRIPTION: &str = "vk_swiftshader_icd.json";

/// The copy, the driver that does its work, and that driver's library.
pub struct F16Browser {
    program: PathBuf,
    lavapipe: Driver,
    library: PathBuf,
}

impl F16Browser {
    /// Makes a command that runs tests take this browser.
    pub fn choose(&self, command: &mut Command) {
        self.lavapipe.choose(command);
        command.env("CHROMIUM", &self.program).env("SELVEDGE_DRIVER", &self.library);
    }

    /// The browser, copied where it is not there, over the newest lavapipe of the drivers: Dawn does not take the
    /// oldest.
    pub fn new(drivers: &[Driver]) -> Result<Self> {
        let [lavapipe, .., swiftshader] = drivers else { bail!("there are no software drivers on this system") };
        let original = swiftshader.description.parent().context("SwiftShader lies in no folder")?;
        let program = ["chromium", "chrome"].into_iter().find(|name| original.join(name).is_file());
        let program = program.with_context(|| format!("no browser in {}", original.display()))?;
        let folder = shell::root().join(FOLDER);
        if !folder.join(DESCRIPTION).is_file() {
            eprintln!("copying {} to {} for a browser with shader-f16", original.display(), folder.display());
            copy(original, &folder)?;
        }
        shell::run(&mut shell::cargo(&["build", "--quiet", "--package", "xtask-driver"]))?;
        replace(&shell::root().join("target/debug/libxtask_driver.so"), &folder.join(LIBRARY))?;
        let text = format!(
            r#"{{"file_format_version": "1.0.0", "ICD": {{"library_path": "./{LIBRARY}", "api_version": "1.3.0"}}}}"#
        );
        let description = folder.join(DESCRIPTION);
        std::fs::write(&description, text).with_context(|| description.display().to_string())?;
        Ok(Self { program: folder.join(program), lavapipe: lavapipe.clone(), library: lavapipe.library()? })
    }
}

/// Copies a folder with what is in it, but for the driver and its description.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if [LIBRARY, DESCRIPTION].iter().any(|name| *entry.file_name() == **name) {
            continue;
        }
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            replace(&source, &target)?;
        }
    }
    Ok(())
}

/// Copies a file to where another may be.
fn replace(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
