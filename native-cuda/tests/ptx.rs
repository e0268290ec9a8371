//! The PTX that the crate carries is that of its kernels.

use selvedge_cuda::compile::{ARCHITECTURES, check_compiler, compile, folders, ops};
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
