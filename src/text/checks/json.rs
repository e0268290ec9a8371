//! The parts of a `tokenizer.json` that are checked. Of the vocabulary and the merges only what matters is kept; the
//! rest is small, or refused.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{DEEPEST, MOST_ADDED, MOST_TOKENS};

/// Values in one of the small parts. A character map is one of them, however long.
const MOST_VALUES: usize = 1 << 16;

/// The file.
pub(super) struct File {
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub post_processor: Option<Value>,
    pub decoder: Option<Value>,
    pub model: Model,
}

/// An added token, as far as it is checked.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
}

/// The model, as far as it is checked.
#[derive(Default)]
pub(super) struct Model {
    pub vocab: Vocabulary,
    pub merges: usize,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub max_input_chars_per_word: Option<u64>,
}

/// Counts of a vocabulary's tokens.
#[derive(Default)]
pub(super) struct Vocabulary {
    pub count: usize,
    /// Bytes of the longest token.
    pub longest: usize,
    pub largest_id: u64,
    /// A list of tokens with scores, Unigram's, rather than tokens by name.
    pub scored: bool,
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut seen: Vec<String> = vec![];
        let mut added_tokens = vec![];
        let [mut normalizer, mut pre_tokenizer, mut post_processor, mut decoder] = [const { None }; 4];
        let mut model = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "added_tokens" => added_tokens = map.next_value_seed(Limited::<AddedToken>::new(MOST_ADDED))?,
                "normalizer" => normalizer = map.next_value_seed(Small::part())?,
                "pre_tokenizer" => pre_tokenizer = map.next_value_seed(Small::part())?,
                "post_processor" => post_processor = map.next_value_seed(Small::part())?,
                "decoder" => decoder = map.next_value_seed(Small::part())?,
                "model" => model = Some(map.next_value()?),
                "version" | "truncation" | "padding" => drop(map.next_value_seed(Small::part())?),
                _ => return Err(A::Error::custom(format!("`{key}` is no part of a tokenizer"))),
            }
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("`{key}` is there twice")));
            }
            seen.push(key);
        }
        let model = model.ok_or_else(|| A::Error::custom("it has no model"))?;
        Ok(File { added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model })
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = Model;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the model: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
        let mut seen: Vec<String> = vec![];
        let mut model = Model::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "vocab" => model.vocab = map.next_value()?,
                "merges" => model.merges = map.next_value_seed(Limited::<IgnoredAny>::new(MOST_TOKENS))?.len(),
                "continuing_subword_prefix" => model.continuing_subword_prefix = map.next_value()?,
                "end_of_word_suffix" => model.end_of_word_suffix = map.next_value()?,
                "max_input_chars_per_word" => model.max_input_chars_per_word = map.next_value()?,
                _ => drop(map.next_value_seed(Small::part())?),
            }
            if seen.contains(&key) || seen.len() > 32 {
                return Err(A::Error::custom(format!("`{key}` of the model is there twice, or one of too many")));
            }
            seen.push(key);
        }
        Ok(model)
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl Vocabulary {
    fn add<E: Error>(&mut self, token: &str, id: u64) -> Result<(), E> {
        self.count += 1;
        self.longest = self.longest.max(token.len());
        self.largest_id = self.largest_id.max(id);
        if self.count > MOST_TOKENS {
            return Err(E::custom(format!("there are more than {MOST_TOKENS} tokens")));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary: ids by token, or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut found = Vocabulary::default();
        while let Some((token, id)) = map.next_entry::<String, u64>()? {
            found.add(&token, id)?;
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocabulary, A::Error> {
        let mut found = Vocabulary { scored: true, ..Vocabulary::default() };
        while let Some((token, _)) = list.next_element::<(String, f64)>()? {
            let id = found.count as u64;
            found.add(&token, id)?;
        }
        Ok(found)
    }
}

/// A list of at most so many values.
struct Limited<T> {
    most: usize,
    of: PhantomData<T>,
}

impl<T> Limited<T> {
    fn new(most: usize) -> Self {
        Self { most, of: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Limited<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Limited<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} values", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut found = vec![];
        while let Some(value) = list.next_element()? {
            if found.len() == self.most {
                return Err(A::Error::custom(format!("a list of more than {} values", self.most)));
            }
            found.push(value);
        }
        Ok(found)
    }
}

/// A value of few values, not nested deeply. Gives nothing for null.
struct Small {
    left: usize,
}

impl Small {
    fn part() -> Self {
        Self { left: MOST_VALUES }
    }
}

impl<'de> DeserializeSeed<'de> for Small {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Option<Value>, D::Error> {
        // A sequence is an object with a list of objects; lists of pieces and their fields come on top.
        let value = Node { left: &mut self.left, depth: 2 * DEEPEST + 6 }.deserialize(deserializer)?;
        Ok(if value.is_null() { None } else { Some(value) })
    }
}

struct Node<'l> {
    left: &'l mut usize,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if *self.left == 0 || self.depth == 0 {
            return Err(D::Error::custom(format!("a part of more than {MOST_VALUES} values, or nested too deeply")));
        }
        *self.left -= 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut found = vec![];
        while let Some(value) = list.next_element_seed(Node { left: self.left, depth: self.depth - 1 })? {
            found.push(value);
        }
        Ok(found.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Node { left: self.left, depth: self.depth - 1 })?;
            if found.insert(key, value).is_some() {
                return Err(A::Error::custom("a field is there twice"));
            }
        }
        Ok(found.into())
    }
}

/// Every second half of a merge begins with the prefix: the library cuts it off unseen.
pub(super) fn check_merges(bytes: &[u8], prefix: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Merges {
        model: Within,
    }
    #[derive(Deserialize)]
    struct Within {
        merges: Vec<Merge>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Pair(IgnoredAny, String),
        Line(String),
    }
    let merges: Merges = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    for merge in merges.model.merges {
        let second = match &merge {
            Merge::Pair(_, second) => second,
            Merge::Line(line) => line.split_once(' ').map_or("", |(_, second)| second),
        };
        if !second.starts_with(prefix) {
            return Err(format!("a merge has the second half {second:?}, without the prefix {prefix:?} of the model"));
        }
    }
    Ok(())
}
