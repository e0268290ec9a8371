//! Selvedge runs **hybrid language models**, attention and state-space layers woven together, anywhere
//! there is a GPU: in a web page, natively, on CUDA cards, and on a plain CPU.
//!
//! The rooms, from the bottom up: [`graph`] is a model as data; [`arch`] builds it from a `config.json`;
//! [`checkpoint`] feeds it weights; [`state`] lays out what a sequence remembers; [`backend`] runs it.
//! `ARCHITECTURE.md` tells how they fit together.

pub mod arch;
pub mod backend;
pub mod checkpoint;
mod constants;
#[cfg(feature = "demo-model")]
pub mod demo_model;
pub mod eval;
pub mod formats;
pub mod generate;
pub mod graph;
#[cfg(feature = "hub")]
pub mod hub;
mod json;
pub mod runtime;
pub mod state;
pub mod text;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub mod wasm;
