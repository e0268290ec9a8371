//! A server with OpenAI's interface: many conversations with a model, in the same steps.
//!
//! | file | what it is |
//! |---|---|
//! | `worker` | the thread that owns the engine: jobs in, tokens out, through the library's scheduler |
//! | `jobs` | what the thread is asked, and what becomes of it |
//! | `models` | models that are loaded when they are asked for, and given up within a budget of bytes |
//! | `reader` | tokens of a reply become its text |
//! | `http` | routes, keys, limits, errors in OpenAI's shape; `chat`, `completions`, `text`, `health` |
//! | `serve` | listening, and draining when the program is asked to end |
//!
//! The engine's thread never waits for a client, and no request waits for another but in the scheduler's queue.

mod grammars;
mod http;
mod jobs;
mod models;
mod reader;
mod serve;
mod slots;
mod worker;

pub use models::{LoadError, LoadModel, Models, MoreModels};
pub use serve::{ServeError, ServeOptions, SlotFileError, SlotFiles, serve};
pub use worker::{Loaded, Worker};
