//! Text to token ids and back.

mod stream;
mod tokenizer;

pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;

/// What is wrong with a tokenizer, or with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// `tokenizer.json` cannot be used.
    #[error("tokenizer.json is broken: {0}")]
    Tokenizer(String),
    /// `tokenizer_config.json` cannot be used.
    #[error("tokenizer_config.json is broken: {0}")]
    Config(String),
    /// A text that the tokenizer has no ids for.
    #[error("the tokenizer refuses the text: {0}")]
    Encode(String),
    /// Ids that the tokenizer has no text for.
    #[error("the tokenizer cannot decode the tokens: {0}")]
    Decode(String),
}
