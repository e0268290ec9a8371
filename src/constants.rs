//! Numbers that Rust shares with the kernels, from `shaders/shared/constants.wgsl`, where they are typed.

// Not all of them are of use here.
#![allow(dead_code)]

include!(concat!(env!("OUT_DIR"), "/constants.rs"));
