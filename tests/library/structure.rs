//! Who may know whom: no room of `src` refers to a room above it or beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every room and the rooms it may refer to, from the bottom up.
const ROOMS: &[(&str, &[&str])] = &[
    ("json", &[]),
    ("constants", &[]),
    ("hash", &[]),
    ("formats", &[]),
    ("graph", &["formats"]),
    ("text", &["json"]),
    ("arch", &["graph", "json"]),
    ("state", &["constants", "graph", "hash"]),
    ("checkpoint", &["formats", "graph", "hash", "json"]),
    // Names of GGUF files.
    ("hub", &["checkpoint"]),
    ("backend", &["constants", "formats", "graph", "state"]),
    ("backend::cpu", &["constants", "formats", "graph", "state", "backend"]),
    // Devices know the CPU references: a self-test compares with them.
    ("backend::webgpu", &["constants", "hash", "formats", "graph", "state", "backend", "backend::cpu"]),
    ("backend::cuda", &["constants", "formats", "graph", "state", "backend", "backend::cpu"]),
    ("runtime", BELOW_RUNTIME),
    ("generate", ABOVE_RUNTIME),
    ("eval", ABOVE_RUNTIME),
    ("demo_model", &["checkpoint"]),
    ("wasm", ABOVE_GENERATE),
];

const BELOW_RUNTIME: &[&str] = &[
    "hash",
    "json",
    "formats",
    "graph",
    "text",
    "arch",
    "state",
    "checkpoint",
    "backend",
    "backend::cpu",
    "backend::webgpu",
    "backend::cuda",
];

const ABOVE_RUNTIME: &[&str] =
    &["runtime", "hash", "formats", "graph", "text", "arch", "state", "checkpoint", "backend"];

const ABOVE_GENERATE: &[&str] = &[
    "generate",
    "eval",
    "runtime",
    "formats",
    "graph",
    "text",
    "arch",
    "state",
    "checkpoint",
    "backend",
    "backend::cpu",
    "backend::webgpu",
];

#[test]
fn rooms_know_only_what_lies_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut faults, mut references) = (vec![], 0);
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).expect("a file in src");
        let module = module_of(path);
        // The crate's root joins the rooms together.
        if module.is_empty() {
            continue;
        }
        let room = room_of(&module);
        let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{}: the room `{room}` is not in this test's table", path.display()));
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("readable source");
        for target in referred(&text, &module) {
            references += 1;
            let other = room_of(&target);
            // Only what the table lists is a room; other names at the root are re-exports.
            let is_room = ROOMS.iter().any(|(name, _)| *name == other);
            if is_room && other != room && !may.contains(&other.as_str()) {
                faults.push(format!("{}: `{room}` must not know `{}`", path.display(), target.join("::")));
            }
        }
    }
    assert!(references > 10, "the search found only {references} references: it is broken");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_architecture_names_every_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a file of the repository");
    let (text, picture) = (read("ARCHITECTURE.md"), read("docs/architecture.svg"));
    // Helpers of one file, and a model that is data, need no place in the picture.
    let small = ["json", "constants", "hash", "formats", "demo_model"];
    for (room, _) in ROOMS {
        let path = format!("`src/{}", room.replace("::", "/"));
        assert!(*room == "json" || text.contains(&path), "ARCHITECTURE.md has no row for {path}");
        let name = room.rsplit("::").next().unwrap_or(room);
        let drawn = small.contains(room) || picture.contains(&format!(">{name}</text>"));
        assert!(drawn, "docs/architecture.svg does not show `{name}`");
    }
}

#[test]
fn references_are_found_in_every_spelling() {
    let module = ["backend".to_owned(), "cpu".to_owned(), "linear".to_owned()];
    let text = "
        //! Not here: crate::hub
        use crate::{arch, graph::{Op, Rows}, state::SlotId as Slot, text};
        use crate::backend::{cuda, StepTable};
        fn f() -> crate::runtime::Engine { super::super::webgpu::new() } // nor crate::wasm
        use super::Cpu;
        #[cfg(test)]
        mod tests { use crate::eval; }
    ";
    let found: Vec<_> = referred(text, &module).into_iter().map(|path| path.join("::")).collect();
    let wanted = [
        "arch",
        "backend::StepTable",
        "backend::cpu",
        "backend::cuda",
        "backend::webgpu",
        "graph::Op",
        "graph::Rows",
        "runtime::Engine",
        "state::SlotId",
        "text",
    ];
    assert_eq!(found, wanted);
    assert_eq!(room_of(&["backend".to_owned(), "webgpu".to_owned()]), "backend::webgpu");
    assert_eq!(room_of(&["backend".to_owned(), "Step".to_owned()]), "backend");
}

/// The room that a path lies in: its first segment; a backend's devices are rooms of their own.
fn room_of(path: &[String]) -> String {
    let device = path.iter().take(2).map(String::as_str).collect::<Vec<_>>().join("::");
    if ROOMS.iter().any(|(name, _)| *name == device) { device } else { path[0].clone() }
}

/// `backend/cpu/linear.rs` is the module `backend::cpu::linear`; the crate's root is empty.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<_> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// The paths from the crate's root that a file refers to, but for its comments and its tests.
fn referred(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        code.push_str(line);
        code.push('\n');
    }
    let tests =
        code.find("#[cfg(test)]").filter(|&at| code[at..].lines().nth(1).is_some_and(|l| l.trim().starts_with("mod ")));
    let code = &code[..tests.unwrap_or(code.len())];

    let mut found = BTreeSet::new();
    for word in ["crate::", "super::"] {
        for (at, _) in code.match_indices(word) {
            // `super::super::` is one reference, met at its first word.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            read_tree(&code[at..], module.to_vec(), &mut found);
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// Reads a path, with the groups it may end in, as seen from the module `path`; how long it was.
/// Only two words are kept of each: that is as deep as rooms go.
fn read_tree(text: &str, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        if text[at..].starts_with('{') {
            at += 1;
            while let Some(c) = text[at..].chars().next() {
                at += match c {
                    '}' => return at + 1,
                    ',' => 1,
                    c if c.is_whitespace() => c.len_utf8(),
                    _ => {
                        let entry = read_tree(&text[at..], path.clone(), found);
                        // `as Other`, up to the next entry.
                        entry + text[at + entry..].find([',', '}']).unwrap_or(text.len() - at - entry)
                    }
                };
            }
            return at;
        }
        let word: String = text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        at += word.len();
        match word.as_str() {
            "crate" => path.clear(),
            "super" => drop(path.pop()),
            "" | "self" => {}
            _ => path.push(word),
        }
        if !text[at..].starts_with("::") {
            path.truncate(2);
            found.insert(path);
            return at;
        }
        at += 2;
    }
}

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
