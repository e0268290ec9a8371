//! The vocabulary of the metadata: tokens by id, each with a type.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::head::Metadata;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Texts that end a reply in every model that has them as tokens, whatever the metadata's ids: llama.cpp goes by this list
/// too, since converters write one end and models have several.
const ENDS: [&str; 8] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<end_of_utterance>",
];
/// Tokens of dialects where `<|end|>` ends a part of a reply only.
const END_OF_PART: [&str; 3] = ["<|return|>", "<|call|>", "<|calls|>"];

/// Type of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Has a meaning and is no text.
    Control,
    /// Found in a text before all others.
    UserDefined,
    /// Padding, or reserved.
    Unused,
    /// A byte, `<0x0A>`.
    Byte,
}

impl Kind {
    fn of(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            // llama.cpp treats 0, which is undefined, and what it does not know so.
            _ => Self::Normal,
        }
    }
}

/// The tokens of a file, each text once.
pub(super) struct Vocabulary<'m> {
    /// Texts by id, also of tokens that are padding.
    pub tokens: &'m [String],
    kinds: Vec<Kind>,
    /// Ids of texts. Padding is left out, as are tokens without a text: transformers has none of them.
    by_text: HashMap<&'m str, u32>,
}

impl<'m> Vocabulary<'m> {
    /// Reads and checks the tokens and their types.
    pub fn read(metadata: &'m Metadata) -> Result<Self, String> {
        let tokens = metadata.texts(TOKENS)?.filter(|tokens| !tokens.is_empty());
        let tokens = tokens.ok_or_else(|| format!("`{TOKENS}` is not there, or empty"))?;
        let kinds = match metadata.integers(TYPES)? {
            Some(types) if types.len() != tokens.len() => {
                return Err(format!("`{TYPES}` has {} entries for {} tokens", types.len(), tokens.len()));
            }
            Some(types) => types.iter().map(|&number| Kind::of(number)).collect(),
            None => vec![Kind::Normal; tokens.len()],
        };
        let mut this = Self { tokens, kinds, by_text: HashMap::with_capacity(tokens.len()) };
        for (id, text) in (0..).zip(tokens) {
            if text.is_empty() || this.is_padding(id) {
                continue;
            }
            if let Some(first) = this.by_text.insert(text, id) {
                return Err(format!("`{TOKENS}` has {text:?} as id {first} and as id {id}"));
            }
        }
        Ok(this)
    }

    /// The text of an id below the number of tokens.
    pub fn text(&self, id: u32) -> &'m str {
        &self.tokens[id as usize]
    }

    /// The type of an id below the number of tokens.
    pub fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    /// The id of a text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    /// Ids in their order, without padding.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        (0..self.tokens.len() as u32).filter(|&id| self.id(self.text(id)) == Some(id))
    }

    /// Converters fill a vocabulary up to the rows of the embedding.
    fn is_padding(&self, id: u32) -> bool {
        self.kind(id) == Kind::Unused && self.text(id).starts_with("[PAD")
    }

    /// The tokens as the model of `tokenizer.json` has them.
    pub fn ids_by_text(&self) -> Map<String, Value> {
        self.ids().map(|id| (self.text(id).to_owned(), id.into())).collect()
    }

    /// The list `added_tokens`: those that are found in a text before all others.
    pub fn added_tokens(&self) -> Vec<Value> {
        let added = |id: u32| {
            let text = self.text(id);
            let special = match self.kind(id) {
                Kind::Control | Kind::Unknown => true,
                _ if ENDS.contains(&text) => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            Some(json!({
                "id": id,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": special,
            }))
        };
        self.ids().filter_map(added).collect()
    }

    /// Tokens that end a reply by their text.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        let part = END_OF_PART.iter().any(|text| self.id(text).is_some());
        ENDS.iter().filter(move |text| !(part && **text == "<|end|>")).filter_map(|text| self.id(text))
    }
}
