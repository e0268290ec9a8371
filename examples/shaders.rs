//! Writes every composed shader as browsers get it, one `.wgsl` file each, for validation with other
//! compilers: `cargo run --example shaders -- FOLDER`.

use std::path::PathBuf;

use selvedge::backend::webgpu::shaders;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: shaders FOLDER");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&folder)?;
    for shader in shaders::all() {
        std::fs::write(folder.join(format!("{}.wgsl", shader.name)), shader.source(true))?;
    }
    println!("{} shaders", shaders::all().len());
    Ok(())
}
