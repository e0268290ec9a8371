//! Compiles every kernel to the PTX that the crate carries. Needs NVRTC, says how to get it.

use std::process::ExitCode;

use selvedge_cuda::compile::{ARCHITECTURES, CompileError, check_compiler, compile, folders, ops};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), CompileError> {
    check_compiler()?;
    let (kernels, ptx) = folders();
    let mut bytes = 0;
    for architecture in ARCHITECTURES {
        let folder = ptx.join(architecture);
        std::fs::create_dir_all(&folder).map_err(|error| CompileError::File { file: folder.clone(), error })?;
        for op in ops(&kernels)? {
            let text = compile(&kernels, &op, architecture)?;
            let file = folder.join(format!("{op}.ptx"));
            println!("{architecture} {op}: {} bytes", text.len());
            bytes += text.len();
            std::fs::write(&file, text).map_err(|error| CompileError::File { file, error })?;
        }
    }
    println!("{bytes} bytes of PTX in all");
    Ok(())
}
