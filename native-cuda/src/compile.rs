//! Kernels to PTX, with NVRTC where it is installed. Users never need it: the PTX is part of this crate.
//! `cargo run -p selvedge-cuda --bin compile_kernels` renews it.

use std::path::{Path, PathBuf};

use cudarc::nvrtc::{self, CompileOptions};

/// The architectures that PTX is made for. A driver compiles the nearest one below its device's.
pub const ARCHITECTURES: [&str; 2] = ["compute_80", "compute_90"];

/// The version of NVRTC that the PTX in this crate was made with: another one's differs in its text.
pub const NVRTC_VERSION: (i32, i32) = (12, 4);

/// How to get it.
pub const HOW_TO_GET_NVRTC: &str = "NVRTC 12.4 was not found. It needs neither a GPU nor a driver:
    pip install --no-deps --target target/nvrtc nvidia-cuda-nvrtc-cu12==12.4.127
    export LD_LIBRARY_PATH=$PWD/target/nvrtc/nvidia/cuda_nvrtc/lib";

/// What went wrong while compiling.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// No NVRTC, or another version.
    #[error("{HOW_TO_GET_NVRTC}\n({0})")]
    NoCompiler(String),
    /// A kernel is wrong.
    #[error("{}: {log}", .file.display())]
    Source {
        /// The kernel's file.
        file: PathBuf,
        /// The compiler's words.
        log: String,
    },
    /// A file cannot be read.
    #[error("{}: {error}", .file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Refuses to go on without the right NVRTC.
pub fn check_compiler() -> Result<(), CompileError> {
    // SAFETY: loads a library and lets go of it; NVRTC does nothing when it is loaded.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(CompileError::NoCompiler("no libnvrtc is on the library path".into()));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are to live integers.
    let result = unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
    if result != nvrtc::sys::nvrtcResult::NVRTC_SUCCESS || (major, minor) != NVRTC_VERSION {
        return Err(CompileError::NoCompiler(format!("libnvrtc is of version {major}.{minor}")));
    }
    Ok(())
}

/// Where this crate's kernels and their PTX lie, in a checkout.
pub fn folders() -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    (root.join("kernels"), root.join("ptx"))
}

/// Names of the ops that have a folder among the kernels, sorted.
pub fn ops(kernels: &Path) -> Result<Vec<String>, CompileError> {
    let failed = |error| CompileError::File { file: kernels.to_path_buf(), error };
    let mut ops = Vec::new();
    for entry in std::fs::read_dir(kernels).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            ops.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    ops.sort();
    Ok(ops)
}

/// The constants that the kernels share with Rust and WGSL, `shaders/shared/constants.wgsl` of the repository, as the
/// text of `kernels/constants.cuh` and that of `src/constants.rs`.
pub fn constants(source: &str) -> [String; 2] {
    const MADE: &str = "written by `cargo run -p selvedge-cuda --bin compile_kernels`";
    const FROM: &str = "shaders/shared/constants.wgsl";
    let mut cuda = format!("// {FROM} for the kernels, {MADE}.\n");
    cuda += "// Enumerators, because NVRTC makes a variable of every constexpr.\n#pragma once\n";
    let mut rust = format!("//! The numbers that the kernels share with their hosts: `{FROM}`,\n//! {MADE}.\n");
    for line in source.lines() {
        let declaration = line.strip_prefix("const ").and_then(|line| line.split_once(" = "));
        let Some((name, (value, comment))) = declaration.and_then(|(name, rest)| Some((name, rest.split_once(';')?)))
        else {
            continue;
        };
        let comment = comment.trim().trim_start_matches("//").trim();
        let kind = if value.ends_with('u') { "u32" } else { "f32" };
        cuda += &match kind {
            "u32" => format!("enum : u32 {{ {name} = {value} }};  // {comment}\n"),
            _ => format!("constexpr float {name} = {value};  // {comment}\n"),
        };
        let value = &value[..value.len() - 1];
        rust += &format!("\n/// {comment}\npub const {name}: {kind} = {value};\n");
    }
    [cuda, rust]
}

/// Where those lie, in a checkout: the source, then what is written.
pub fn constants_files() -> (PathBuf, [PathBuf; 2]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = [root.join("kernels/constants.cuh"), root.join("src/constants.rs")];
    (root.join("../shaders/shared/constants.wgsl"), written)
}

/// The PTX of an op's kernels for an architecture.
pub fn compile(kernels: &Path, op: &str, architecture: &'static str) -> Result<String, CompileError> {
    let file = kernels.join(op).join(format!("{op}.cu"));
    let source = std::fs::read_to_string(&file).map_err(|error| CompileError::File { file: file.clone(), error })?;
    let options = CompileOptions {
        arch: Some(architecture),
        include_paths: vec![kernels.to_string_lossy().into_owned()],
        name: Some(format!("{op}.cu")),
        options: vec!["--std=c++17".into()],
        ..CompileOptions::default()
    };
    match nvrtc::compile_ptx_with_opts(source, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(nvrtc::CompileError::CompileError { log, .. }) => {
            Err(CompileError::Source { file, log: log.to_string_lossy().into_owned() })
        }
        Err(error) => Err(CompileError::Source { file, log: error.to_string() }),
    }
}
