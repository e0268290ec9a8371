//! Writes the constants that kernels share with their hosts, and compiles every kernel to the PTX that the crate
//! carries. The latter needs NVRTC; it says how to get it.

use std::process::ExitCode;

use selvedge_cuda::compile::{
    ARCHITECTURES, CompileError, check_compiler, compile, constants, constants_files, folders, ops,
};

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
    write_constants()?;
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

fn write_constants() -> Result<(), CompileError> {
    let (source, written) = constants_files();
    let text = std::fs::read_to_string(&source).map_err(|error| CompileError::File { file: source, error })?;
    for (file, text) in written.into_iter().zip(constants(&text)) {
        std::fs::write(&file, text).map_err(|error| CompileError::File { file, error })?;
    }
    Ok(())
}
