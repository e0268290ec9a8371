//! Kernels and whole models on a GPU, against the CPU and the reference.

#![cfg(feature = "native")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

mod every_driver;
mod forms;
mod fused;
mod gguf;
mod goldens;
mod ops;
mod quantise_on_device;
mod scheduler;
mod sessions;
mod snapshots;
mod speculation;
mod stop_token_ids;
mod webgpu;
