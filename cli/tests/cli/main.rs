//! The binary as its users meet it.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod chat;
mod chat_models;
mod commands;
mod convert;
mod convert_folders;
mod forms;
mod gguf;
mod lora;
mod outputs;
mod score;
mod speculate;
mod state;
