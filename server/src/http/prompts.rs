//! Texts or token ids of a request, one or several.

use serde::Deserialize;

use super::error::ApiError;
use crate::jobs::Prompt;

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "it must be a text, token ids, or a list of either")]
pub(super) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    /// Each of them; `field` is where they come from.
    pub fn list(self, field: &str, most: usize) -> Result<Vec<Prompt>, ApiError> {
        let prompts: Vec<Prompt> = match self {
            Self::Tokens(tokens) if tokens.is_empty() => vec![],
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        };
        let is_empty = |prompt: &Prompt| matches!(prompt, Prompt::Tokens(tokens) if tokens.is_empty());
        if let Some(index) = prompts.iter().position(is_empty) {
            return Err(ApiError::field(field, format!("`{field}[{index}]` has no token ids")));
        }
        match (1..=most).contains(&prompts.len()) {
            true => Ok(prompts),
            false => Err(ApiError::field(field, format!("`{field}` may be 1 to {most} texts"))),
        }
    }
}
