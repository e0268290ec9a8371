//! Puts the notices of the packages that the binary contains into it, where `SELVEDGE_NOTICES` names their file, as
//! `cargo xtask release` does.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SELVEDGE_NOTICES");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    let notices = match std::env::var_os("SELVEDGE_NOTICES") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        }
        None => String::new(),
    };
    std::fs::write(Path::new(&out).join("notices.txt"), notices).expect("cargo's own folder can be written");
}
