//! Text to token ids and back, and conversations to text.

mod checks;
mod grammar;
mod jinja;
mod markers;
mod reply;
mod stream;
mod template;
mod tokenizer;
mod tool_calls;
mod verbatim;

pub use grammar::{Grammar, GrammarSource, Grammars};
pub use reply::{Piece, ReplyParser, ReplySplitter};
pub use stream::Detokenizer;
pub use template::{ChatMessage, ChatTemplate, RenderRequest};
pub use tokenizer::{ControlToken, Tokenizer};
pub use tool_calls::{ToolCallDialect, ToolCallParser, ToolGrammar, ToolOffer, ToolOfferError, ToolPiece};

/// Error of a tokenizer or a chat template.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// `tokenizer.json` cannot be used.
    #[error("tokenizer.json is broken: {0}")]
    Tokenizer(String),
    /// `tokenizer_config.json` cannot be used.
    #[error("tokenizer_config.json is broken: {0}")]
    Config(String),
    /// The chat template cannot be used, or refuses a conversation.
    #[error("the chat template in {file} fails: {why}")]
    Template {
        /// Name of the template's file.
        file: &'static str,
        /// The fault and its line.
        why: String,
    },
    /// A message that no template or model can take.
    #[error("a message of the conversation cannot be used: {0}")]
    Message(String),
    /// A text that the tokenizer has no ids for.
    #[error("the tokenizer refuses the text: {0}")]
    Encode(String),
    /// Ids that the tokenizer has no text for.
    #[error("the tokenizer cannot decode the tokens: {0}")]
    Decode(String),
    /// A grammar or schema that cannot be used, or that a token broke.
    #[error("the grammar cannot be used: {0}")]
    Grammar(String),
}
