//! GGUF: a model in one file, as llama.cpp keeps it.

mod head;
mod types;

pub use head::{Metadata, Value};
pub use types::GgmlType;
