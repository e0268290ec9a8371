//! The binary as its users meet it.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod chat;
mod commands;
mod convert;
mod convert_folders;
mod outputs;
