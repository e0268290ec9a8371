//! Text from an engine: single generations, conversations, and how tokens are chosen.

mod chat;
mod generation;
pub mod prompt_cache;
mod recommended;
mod sampling;
mod session;

pub use chat::{Chat, ChatRequest, Delta, Turn, chat_template};
pub use generation::{FinishReason, GenerateOptions, Generation};
pub use recommended::Recommended;
pub use sampling::SamplingOverrides;
pub use session::Session;
