//! The library as its users call it.

#![cfg(feature = "native")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod auto_weights;
mod checkpoint;
mod configs;
mod cpu;
#[cfg(feature = "native-cuda")]
mod cuda;
mod defaults;
mod demo_model;
mod device_memory;
mod engine;
mod examples;
mod finite;
mod foreign_models;
mod fuzz_checkpoint;
mod gguf;
mod pooling;
mod prompt_cache;
mod published;
mod quantisation;
mod quantised;
mod sampling;
mod scaled;
mod scheduler;
mod sessions;
mod snapshots;
mod speculation;
mod structure;
mod templates;
mod what_loads;
