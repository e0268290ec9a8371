//! Packages that Debian's package manager can install, and advice where it cannot.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Installs packages, or says how a person would.
///
/// `why` completes "… are needed: {why}".
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if shell::find("apt-get").is_none() {
        bail!(
            "{why}: needs what Debian and Ubuntu have in the packages `{list}`; install it by this system's own means"
        );
    }
    if shell::read(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("{why}: needs packages that only root can install; run `sudo apt-get install {list}`");
    }
    let mut update = apt_get();
    shell::run(update.arg("update"))?;
    let mut install = apt_get();
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    shell::run(&mut install).with_context(|| why.to_owned())
}

/// `bookworm`, or nothing on another system.
pub fn release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(|value| value.trim_matches('"')))
    };
    (field("ID") == Some("debian")).then(|| field("VERSION_CODENAME").map(str::to_owned)).flatten()
}

/// Downloads packages of another suite of the archive this system already uses and unpacks them into
/// `folder/root`, beside the system and without touching it.
pub fn unpack(suite: &str, packages: &[&str], folder: &Path) -> Result<()> {
    let lists = folder.join("lists");
    std::fs::create_dir_all(lists.join("partial"))?;
    let sources = folder.join("sources.list");
    std::fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {suite} main\n", archive()?))?;
    let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
    let apart = || {
        let mut command = apt_get();
        command.current_dir(folder).args(["-o", &setting("Dir::Etc::sourcelist", &sources)]);
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", &setting("Dir::State::lists", &lists)]);
        command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    shell::run(apart().arg("update"))?;
    shell::run(apart().arg("download").args(packages))?;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            shell::run(Command::new("dpkg").arg("-x").arg(&path).arg(folder.join("root")))?;
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The keys that Debian's archive is signed with; part of every installation.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Address of the archive of this system's release.
fn archive() -> Result<String> {
    let release = release().context("not a Debian system")?;
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]);
    let targets = shell::read(&mut targets)?;
    let archive = targets.lines().find_map(|line| line.strip_prefix(&release)?.strip_prefix(' '));
    archive.map(str::to_owned).with_context(|| format!("no source of {release} in apt's lists; run `apt-get update`"))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]);
    command
}
