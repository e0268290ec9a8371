//! Text from an engine: single generations, conversations, and how tokens are chosen.

mod chat;
mod embed;
mod generation;
mod logprobs;
pub mod prompt_cache;
mod recommended;
mod sampling;
pub mod scheduler;
mod session;
mod speculation;

pub use chat::{Chat, ChatRequest, Delta, Prepared, ReplyReader, Turn, chat_template};
pub use embed::embed;
pub use generation::{FinishReason, GenerateOptions, Generation};
pub use logprobs::{MOST_LOGPROBS, ScoredToken, TokenLogprobs, TokenText};
pub use recommended::Recommended;
pub use sampling::SamplingOverrides;
pub use session::Session;
pub use speculation::Speculated;
