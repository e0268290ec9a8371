//! Licences of the packages that a build contains: the notices that ship with it, and the list of those allowed.
//!
//! Packages are those of the dependency graph that are linked in: normal dependencies for the target and features of the
//! build, without procedural macros and build scripts. Their licence texts are read out of their sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{setup, shell};

/// Name of the file that ships with a build.
pub const NOTICES: &str = "THIRD-PARTY-NOTICES.txt";

/// Beginnings of the names of files that hold licences, in lower case.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// Build that is shipped.
#[derive(Clone, Copy, Debug)]
pub enum Build {
    /// The binary, for this machine.
    Binary,
    /// The binary that also drives NVIDIA cards.
    BinaryCuda,
    /// The WebAssembly module of the npm package.
    Module,
}

impl Build {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Binary => &["--package", "selvedge-cli"],
            Self::BinaryCuda => &["--package", "selvedge-cli", "--features", "native-cuda"],
            Self::Module => {
                &["--package", "selvedge", "--no-default-features", "--features", "web", "--target", setup::WASM]
            }
        }
    }
}

/// A package that a build contains.
struct Package {
    name: String,
    version: String,
    licence: String,
    repository: String,
    folder: PathBuf,
}

/// Writes the notices of a build.
pub fn write(build: Build, path: &Path) -> Result<()> {
    let text = notices(build)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Refuses packages under licences that `deny.toml` does not allow, or without a text to ship.
pub fn check() -> Result<()> {
    let allowed = allowed(&shell::root().join("deny.toml"))?;
    let mut count = 0;
    for build in [Build::Binary, Build::BinaryCuda, Build::Module] {
        for package in packages(build)? {
            if !satisfies(&package.licence, &allowed)? {
                bail!(
                    "{} {} is under `{}`, which deny.toml does not allow",
                    package.name,
                    package.version,
                    package.licence
                );
            }
            texts(&package)?;
            count += 1;
        }
    }
    println!("licences: {count} packages in three builds");
    Ok(())
}

fn notices(build: Build) -> Result<String> {
    let packages = packages(build)?;
    let mut list = String::new();
    // Texts by their words, so that a different line break does not make another text.
    let mut all: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut add = |text: String, user: String| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        all.entry(words).or_insert_with(|| (text, BTreeSet::new())).1.insert(user);
    };
    for package in &packages {
        let Package { name, version, licence, repository, .. } = package;
        writeln!(list, "{name} {version}: {licence}; {repository}")?;
        for text in texts(package)? {
            add(text, format!("{name} {version}"));
        }
    }
    add(of_rust()?, "the Rust standard library".into());
    // In the order of their first users.
    let mut texts: Vec<(String, String)> =
        all.into_values().map(|(text, users)| (users.into_iter().collect::<Vec<_>>().join(", "), text)).collect();
    texts.sort();
    let mut out = format!(
        "This build contains the following third-party packages, and the Rust standard library. Their licences and \
         notices follow the list.\n\n{list}"
    );
    for (users, text) in texts {
        write!(out, "\n{}\nFor {users}:\n\n{}\n", "-".repeat(100), text.trim())?;
    }
    Ok(out)
}

/// The packages of a build in order, without the project's own.
fn packages(build: Build) -> Result<Vec<Package>> {
    let mut tree = shell::cargo(&["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    let tree = shell::read(tree.args(["--format", "{p}"]).args(build.arguments()))?;
    let named: BTreeSet<(&str, &str)> = tree.lines().filter_map(package_of).collect();
    let target = if let Build::Module = build { setup::WASM.to_owned() } else { host()? };
    let mut metadata = shell::cargo(&["metadata", "--locked", "--format-version", "1", "--all-features"]);
    let metadata = shell::read(metadata.args(["--filter-platform", &target]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut found = vec![];
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("name"), text("version"));
        // The project's own packages have no source.
        if package["source"].is_null() || !named.contains(&(name.as_str(), version.as_str())) {
            continue;
        }
        let folder = PathBuf::from(text("manifest_path")).parent().map(Path::to_owned).unwrap_or_default();
        found.push(Package { name, version, licence: text("license"), repository: text("repository"), folder });
    }
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    if found.len() < 10 {
        bail!("only {} packages were found for {build:?}", found.len());
    }
    Ok(found)
}

/// `name v1.2.3 (...)`
fn package_of(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    words.next().zip(words.next()?.strip_prefix('v'))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    shell::read(Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).args(arguments))
}

/// The target of this machine.
pub fn host() -> Result<String> {
    let said = rustc(&["-vV"])?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The licence texts of a package. One without a file of its own must offer Apache-2.0, whose text is the same for all.
fn texts(package: &Package) -> Result<Vec<String>> {
    let mut found = vec![];
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
    };
    for entry in std::fs::read_dir(&package.folder).with_context(|| package.folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning)) && !name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        if !satisfies(&package.licence, &["Apache-2.0".into()])? {
            bail!("{} {} ships no text of its licence `{}`", package.name, package.version, package.licence);
        }
        found.push(shell::root().join("LICENSE-APACHE"));
    }
    found.into_iter().map(read).collect()
}

/// The notices of what every Rust program contains, out of the toolchain that builds it.
fn of_rust() -> Result<String> {
    let path = PathBuf::from(rustc(&["--print", "sysroot"])?.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    let page = std::fs::read_to_string(&path);
    let page = page.with_context(|| format!("{}: a toolchain of rustup's has this file", path.display()))?;
    Ok(plain(page.split_once("<body>").map_or(page.as_str(), |(_, body)| body)))
}

/// The text of a page of HTML, without empty lines that follow one another.
fn plain(page: &str) -> String {
    let mut text = String::new();
    for part in page.split('<') {
        // What follows a tag; before the first there is none.
        text.push_str(part.split_once('>').map_or("", |(_, after)| after));
    }
    for (entity, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, character);
    }
    let mut out = String::new();
    for line in text.lines().map(str::trim_end) {
        if !line.trim().is_empty() || !out.ends_with("\n\n") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

/// The list `allow` of the table `licenses` in `deny.toml`.
fn allowed(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let list = text.split_once("[licenses]").and_then(|(_, rest)| rest.split_once("allow = ["));
    let (list, _) = list.and_then(|(_, rest)| rest.split_once(']')).context("deny.toml allows no licences")?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// True if the allowed licences are enough for an expression such as `(MIT OR Apache-2.0) AND Unicode-3.0`.
fn satisfies(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let satisfied = any(&mut rest, allowed).filter(|_| rest.is_empty());
    satisfied.with_context(|| format!("`{expression}` is no licence expression"))
}

fn any(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut satisfied = all(words, allowed)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        satisfied |= all(words, allowed)?;
    }
    Some(satisfied)
}

fn all(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut satisfied = one(words, allowed)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        satisfied &= one(words, allowed)?;
    }
    Some(satisfied)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let satisfied = any(words, allowed)?;
            *words = words.strip_prefix(&[")"])?;
            Some(satisfied)
        }
        [")" | "AND" | "OR" | "WITH", ..] | [] => None,
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allowed.contains(&format!("{name} WITH {exception}")))
        }
        [name, rest @ ..] => {
            *words = rest;
            Some(allowed.iter().any(|allowed| allowed == name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_weighed() {
        let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, wanted) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT AND Zlib", true),
            ("(GPL-3.0 OR Zlib) AND MIT", true),
            ("GPL-3.0 OR Zlib AND BSD-2-Clause", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(satisfies(expression, &allowed).expect(expression), wanted, "{expression}");
        }
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Zlib", "AND MIT"] {
            assert!(satisfies(expression, &allowed).is_err(), "{expression}");
        }
    }

    #[test]
    fn pages_become_text() {
        let page = "<h1>A</h1>\n\n \n\n<p>&lt;b&gt; &amp;lt; <a href=\"x\">c</a></p>\n";
        assert_eq!(plain(page), "A\n\n<b> &lt; c");
    }

    #[test]
    fn lines_of_the_tree_name_packages() {
        assert_eq!(package_of("half v2.7.1"), Some(("half", "2.7.1")));
        assert_eq!(package_of("spirv v0.4.0+sdk-1.4 (*)"), Some(("spirv", "0.4.0+sdk-1.4")));
        assert_eq!(package_of(""), None);
    }
}
