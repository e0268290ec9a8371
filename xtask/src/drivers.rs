//! Software Vulkan drivers: GPUs that every machine has, and that differ where real ones do.
//!
//! | driver | f16 | subgroup size | storage binding | invocations | storage buffers |
//! |---|---|---|---|---|---|
//! | lavapipe 22 | yes | 8 | 128 MiB | 1024 | 32 |
//! | lavapipe 25 | yes | 8 | 128 MiB | 1024 | 48 |
//! | SwiftShader | no | 4 | 1 GiB | 256 | 10 |
//!
//! They say whether a kernel is right, never whether it is fast. Beside them, the driver of AMD's cards, which runs nothing here: its
//! compiler says what it makes of a kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, shell};

/// A driver that programs can be told to use.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Name in reports.
    pub name: &'static str,
    /// The description that the Vulkan loader reads.
    pub description: PathBuf,
    /// Folder of newer libraries than the system's.
    libraries: Option<PathBuf>,
}

impl Driver {
    /// Makes a program see this driver and no other.
    pub fn choose(&self, command: &mut Command) {
        command.env("VK_DRIVER_FILES", &self.description).env("VK_ICD_FILENAMES", &self.description);
        quiet(command);
        if let Some(libraries) = &self.libraries {
            let found = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let found = std::env::split_paths(&found).filter(|path| !path.as_os_str().is_empty());
            if let Ok(paths) = std::env::join_paths([libraries.clone()].into_iter().chain(found)) {
                command.env("LD_LIBRARY_PATH", paths);
            }
        }
    }

    /// The library of a driver that has its description beside it, or names it in full.
    pub fn library(&self) -> Result<PathBuf> {
        let text = std::fs::read_to_string(&self.description)
            .with_context(|| format!("reading {}", self.description.display()))?;
        let found = text.split('"').find(|part| part.ends_with(".so"));
        let found = found.with_context(|| format!("{} names no library", self.description.display()))?;
        Ok(self.description.parent().unwrap_or(Path::new("")).join(found))
    }
}

/// Keeps drivers from complaining, in the middle of a program's output, of a folder that they look for and
/// do not need.
pub fn quiet(command: &mut Command) {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
}

/// The drivers on this machine, the newest lavapipe first; missing ones are installed. Empty where Vulkan is not how
/// GPUs are reached: tests then run on the system's own adapter.
pub fn all() -> Result<Vec<Driver>> {
    if !cfg!(target_os = "linux") {
        return Ok(vec![]);
    }
    let (system, newer) = (lavapipe()?, lavapipe_25()?);
    Ok(newer.into_iter().chain([system, swiftshader()?]).collect())
}

/// Mesa's lavapipe, as the system has it.
fn lavapipe() -> Result<Driver> {
    let find = || described("lvp_icd.");
    if find().is_none() || !loader_is_there() {
        debian::install(&["mesa-vulkan-drivers", "libvulkan1"], "GPU tests run on Mesa's software driver lavapipe")?;
    }
    let description = find().context("no lvp_icd.*.json in /usr/share/vulkan/icd.d, though Mesa is installed")?;
    Ok(Driver { name: "lavapipe", description, libraries: None })
}

/// RADV, Mesa's driver for AMD's cards, if it is there: it comes with lavapipe, the newer one where there are two.
pub fn radv() -> Result<Option<Driver>> {
    let driver = |description, libraries| Driver { name: "RADV", description, libraries };
    if !has_backports() {
        return Ok(described("radeon_icd.").map(|description| driver(description, None)));
    }
    let folder = backports();
    if !folder.join(LAVAPIPE_25).is_file() {
        return Ok(None);
    }
    Ok(Some(driver(describe(&folder, RADV, "libvulkan_radeon.so")?, Some(libraries(&folder)?))))
}

/// The description of a driver that the system has, by the beginning of its name.
fn described(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    folders.iter().find_map(|folder| child(Path::new(folder), name))
}

/// True if the Vulkan loader is in any of the places that distributions use.
fn loader_is_there() -> bool {
    let listed =
        |tool: &str| shell::read(Command::new(tool).arg("-p")).is_ok_and(|list| list.contains("libvulkan.so.1"));
    listed("ldconfig") || listed("/sbin/ldconfig")
}

/// The newer lavapipe that Debian 12 has in its backports, unpacked for this project alone. Later
/// releases of Debian have it as their own.
fn lavapipe_25() -> Result<Option<Driver>> {
    if !has_backports() {
        return Ok(None);
    }
    let folder = backports();
    if !folder.join(LAVAPIPE_25).is_file() {
        eprintln!("unpacking the newer software driver of Debian's backports into {}", folder.display());
        debian::unpack("bookworm-backports", &["mesa-vulkan-drivers", "libdrm2", "libdrm-amdgpu1"], &folder)?;
    }
    let description = describe(&folder, LAVAPIPE_25, "libvulkan_lvp.so")?;
    Ok(Some(Driver { name: "lavapipe 25", description, libraries: Some(libraries(&folder)?) }))
}

/// Descriptions of the unpacked drivers. That of lavapipe is written once they are complete.
const LAVAPIPE_25: &str = "lvp_icd.json";
const RADV: &str = "radeon_icd.json";

/// True on the release of Debian that has a newer Mesa in its backports.
fn has_backports() -> bool {
    debian::release().as_deref() == Some("bookworm")
}

/// Folder of Mesa's drivers out of the backports.
fn backports() -> PathBuf {
    shell::root().join("target/drivers/lavapipe-25")
}

/// Folder of the libraries of an unpacked driver.
fn libraries(folder: &Path) -> Result<PathBuf> {
    child(&folder.join("root/usr/lib"), "").context("the unpacked driver has no library folder")
}

/// Describes an unpacked driver for the Vulkan loader, once.
fn describe(folder: &Path, name: &str, library: &str) -> Result<PathBuf> {
    let description = folder.join(name);
    if !description.is_file() {
        let library = libraries(folder)?.join(library);
        let text = format!(
            r#"{{"file_format_version": "1.0.0", "ICD": {{"library_path": "{}", "api_version": "1.4.305"}}}}"#,
            library.display()
        );
        std::fs::write(&description, text)?;
    }
    Ok(description)
}

/// The software driver that Chromium brings along.
fn swiftshader() -> Result<Driver> {
    let browser = chromium()?;
    let description = ["/usr/lib/chromium", "/opt/google/chrome", "/usr/lib/chromium-browser"]
        .map(|folder| Path::new(folder).join("vk_swiftshader_icd.json"))
        .into_iter()
        .find(|file| file.is_file())
        .with_context(|| format!("no vk_swiftshader_icd.json beside {}", browser.display()))?;
    Ok(Driver { name: "SwiftShader", description, libraries: None })
}

/// A Chromium; installed where there is none.
pub fn chromium() -> Result<PathBuf> {
    let names = ["chromium", "google-chrome", "chromium-browser"];
    browser(&names, "chromium", "the browser proof and the SwiftShader driver come with Chromium")
}

/// A Firefox; installed where there is none.
pub fn firefox() -> Result<PathBuf> {
    browser(&["firefox-esr", "firefox"], "firefox-esr", "the long tier also runs in Firefox")
}

fn browser(names: &[&str], package: &str, why: &str) -> Result<PathBuf> {
    let find = || names.iter().find_map(|name| shell::find(name));
    if let Some(browser) = find() {
        return Ok(browser);
    }
    debian::install(&[package], why)?;
    find().with_context(|| format!("no {package} in PATH, though the package is installed"))
}

/// The first entry of a folder whose name begins so.
fn child(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
}
