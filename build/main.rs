//! Composes every shader of `shaders/permutations`, checks it with naga, and writes what naga reads out of it as
//! Rust: the table of shaders, and for each interface its parameters, its buffers by name and its constants, so that
//! none of them is typed twice. The parts themselves are embedded once each, without their comments.

mod interfaces;
mod permutations;
mod reflect;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use permutations::Permutation;
use reflect::Reflection;

/// What every shader begins with, and Rust knows as `crate::constants`.
const CONSTANTS: &str = "shared/constants";

/// The files of `shaders/`, read once each.
struct Parts {
    root: PathBuf,
    read: BTreeMap<String, String>,
}

impl Parts {
    fn get(&mut self, file: &str) -> &str {
        self.read.entry(file.to_owned()).or_insert_with(|| read(&self.root.join(format!("{file}.wgsl"))))
    }
}

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shaders");
    println!("cargo::rerun-if-changed=shaders");
    println!("cargo::rerun-if-changed=build");
    let families = permutations::parse(&read(&root.join("permutations")));
    let mut parts = Parts { root, read: BTreeMap::new() };
    let mut reflected = Vec::new();
    for family in families {
        let reflections: Vec<_> = family.permutations.iter().map(|p| reflect::reflect(p, &mut parts)).collect();
        reflected.push((family, reflections));
    }

    let mut table = String::from("pub(super) static SHADERS: &[Shader] = &[\n");
    for (family, reflections) in &reflected {
        for (permutation, reflection) in family.permutations.iter().zip(reflections) {
            describe(permutation, reflection, &mut table);
        }
    }
    table.push_str("];\n");
    for (file, source) in &parts.read {
        push(&mut table, format_args!("const {}: &str = {:?};", constant(file), strip_comments(source)));
    }
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    let fingerprint = hasher.finish();
    push(
        &mut table,
        format_args!("/// Another one when any shader changes.\npub(super) const FINGERPRINT: u64 = {fingerprint};"),
    );
    write("shaders.rs", &table);
    write("kernels.rs", &interfaces::kernels(&reflected));
    write("constants.rs", &interfaces::constants(&read(&parts.root.join(format!("{CONSTANTS}.wgsl")))));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn write(file: &str, rust: &str) {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join(file);
    std::fs::write(&out, rust).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

/// Appends a line.
fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string");
}

/// `linear/rows` -> `LINEAR_ROWS`
fn constant(file: &str) -> String {
    file.replace('/', "_").to_uppercase()
}

/// Writes a shader's entry of the table.
fn describe(permutation: &Permutation, reflection: &Reflection, table: &mut String) {
    let files: Vec<String> = permutation.files.iter().map(|file| constant(file)).collect();
    let kinds: Vec<String> = reflection.bindings.iter().map(|b| format!("Access::{:?}", b.access)).collect();
    push(
        table,
        format_args!(
            "Shader {{ name: {:?}, header: {:?}, parts: &[{}], subgroups: {}, bindings: &[{}] }},",
            permutation.name,
            permutation.header(),
            files.join(", "),
            reflection.subgroups,
            kinds.join(", ")
        ),
    );
}

/// Drops comments, indentation and empty lines: they need not travel in the binary.
fn strip_comments(source: &str) -> String {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    code.filter(|code| !code.is_empty()).flat_map(|code| [code, "\n"]).collect()
}
