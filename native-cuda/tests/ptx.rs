//! The PTX that the crate carries is that of its kernels, and its constants are those of the shaders.

use selvedge_cuda::compile::{ARCHITECTURES, check_compiler, compile, constants, constants_files, folders, ops};
use selvedge_cuda::images;

#[test]
fn every_folder_of_kernels_has_an_image() {
    let names: Vec<_> = images().iter().map(|image| image.op).collect();
    assert_eq!(ops(&folders().0).expect("the kernels"), names, "see `carry!` in src/images.rs");
}

#[test]
fn images_are_for_their_architecture() {
    for image in images() {
        for (architecture, ptx) in ARCHITECTURES.into_iter().zip(image.ptx) {
            let target = architecture.replace("compute", ".target sm");
            assert!(ptx.lines().any(|line| line == target), "{} lacks `{target}`", image.op);
        }
    }
}

#[test]
fn images_are_what_the_compiler_makes_of_the_kernels() {
    if let Err(error) = check_compiler() {
        println!("NOT COMPARED: the PTX was not compiled again. {error}");
        return;
    }
    let kernels = folders().0;
    for image in images() {
        for (architecture, ptx) in ARCHITECTURES.into_iter().zip(image.ptx) {
            let fresh = compile(&kernels, image.op, architecture).expect("a kernel that compiles");
            assert!(
                fresh == ptx,
                "ptx/{architecture}/{}.ptx is not of its kernel; run `cargo run -p selvedge-cuda --bin compile_kernels`",
                image.op
            );
        }
    }
}

#[test]
fn constants_are_those_of_the_shaders() {
    let (source, written) = constants_files();
    let source = std::fs::read_to_string(&source).expect("the repository around this crate");
    let lines = source.lines().filter(|line| line.starts_with("const ")).count();
    for (file, fresh) in written.iter().zip(constants(&source)) {
        let text = std::fs::read_to_string(file).expect("the constants");
        let file = file.display();
        assert!(text == fresh, "{file} is old; run `cargo run -p selvedge-cuda --bin compile_kernels`");
        let constants = fresh.lines().filter(|line| line.contains(" = ")).count();
        assert!(constants == lines, "{file} has {constants} of {lines} constants");
    }
}

#[test]
fn constants_become_those_of_other_languages() {
    let [cuda, rust] = constants("// A part\nconst ROWS = 0xffu;   // of it\nconst MOST = 3.5e8f;  // at most\n");
    assert!(
        cuda.contains("\nenum : u32 { ROWS = 0xffu };  // of it\nconstexpr float MOST = 3.5e8f;  // at most\n"),
        "{cuda}"
    );
    assert!(
        rust.contains("/// of it\npub const ROWS: u32 = 0xff;\n\n/// at most\npub const MOST: f32 = 3.5e8;\n"),
        "{rust}"
    );
}
