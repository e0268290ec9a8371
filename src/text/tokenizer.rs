//! A `tokenizer.json` and the two things around it that matter here: the beginning-of-text token and
//! the special tokens that are not text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::verbatim::marked;
use super::{Detokenizer, TextError, checks};
use crate::json;

/// A token that the tokenizer has beside its vocabulary of texts, such as `<tool_call>` or `<|im_end|>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlToken {
    /// Its id.
    pub id: u32,
    /// Its content.
    pub text: String,
    /// Special tokens are left out of the visible text, as with `skip_special_tokens` in transformers.
    pub special: bool,
}

/// Text to ids and back, as the model was trained.
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    /// The most by which encoding makes a text longer on its way, as a factor.
    growth: usize,
    /// Put in front of every text, unless the post-processor of `tokenizer.json` has done so.
    bos: Option<u32>,
    /// Tokens beside the vocabulary of texts, by id: their content, and whether they are special.
    added: BTreeMap<u32, (String, bool)>,
    /// Ids of some ordinary text, and that text: what follows them decodes as in the middle of a text,
    /// where decoders keep the leading space that they strip at the beginning.
    anchor: (Vec<u32>, String),
    pub(super) decodes: Decodes,
}

/// How pieces of the vocabulary stand for bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decodes {
    /// A character a byte.
    pub byte_level: bool,
    /// `<0x0A>` is a byte.
    pub byte_fallback: bool,
}

impl Tokenizer {
    /// Reads the bytes of `tokenizer.json` and, where there is one, of `tokenizer_config.json`.
    pub fn from_bytes(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self, TextError> {
        let growth = checks::check(tokenizer)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(tokenizer).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        // Training leaves these in the file. A prompt is never cut or padded.
        inner.with_truncation(None).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        inner.with_padding(None);
        check_normalized(&inner)?;
        let bos = match config {
            Some(bytes) => bos(&inner, bytes)?,
            None => None,
        };
        let added = inner.get_added_tokens_decoder().into_iter();
        let added = added.map(|(id, token)| (id, (token.content, token.special))).collect();
        let decoder = inner.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok()).unwrap_or_default();
        let has = |part: &str| decoder.contains(part);
        let decodes = Decodes { byte_level: has("\"ByteLevel\""), byte_fallback: has("\"ByteFallback\"") };
        let mut this = Self { inner, growth, bos, added, anchor: (vec![], String::new()), decodes };
        let ids = this.ids("a", false)?;
        let text = this.decode(&ids)?;
        this.anchor = (ids, text);
        Ok(this)
    }

    /// The ids of a text, special tokens in it recognised, the beginning-of-text token in front where
    /// the model wants one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.ids(text, true)?;
        if let Some(bos) = self.bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of a prompt that a chat template made: special tokens in it recognised but for those in a text of
    /// [`Tokenizer::verbatim`], none added.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, TextError> {
        if marked(prompt) { self.marked_ids(prompt) } else { self.ids(prompt, false) }
    }

    /// The text of ids, without special tokens. Ids that the tokenizer does not know give no text.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        // Some decoders count on a token.
        if !ids.iter().any(|&id| self.is_text(id)) {
            return Ok(String::new());
        }
        self.inner.decode(ids, true).map_err(|e| TextError::Decode(e.to_string()))
    }

    /// The id of an added token, special or not.
    pub fn added_token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text).filter(|id| self.added.contains_key(id))
    }

    /// The added token that an id stands for.
    pub fn control_token(&self, id: u32) -> Option<ControlToken> {
        let (text, special) = self.added.get(&id)?;
        Some(ControlToken { id, text: text.clone(), special: *special })
    }

    /// The added tokens in the order of their ids: content, and whether it is special.
    pub fn added_tokens(&self) -> impl Iterator<Item = (&str, bool)> {
        self.added.values().map(|(text, special)| (text.as_str(), *special))
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self) -> Detokenizer<&Self> {
        Detokenizer::new(self)
    }

    /// True for an id that stands for text: a known one that is no special token.
    pub(super) fn is_text(&self, id: u32) -> bool {
        self.added.get(&id).is_none_or(|(_, special)| !special) && self.inner.id_to_token(id).is_some()
    }

    /// The text that ids stand for when other text comes before them.
    pub(super) fn decode_after_text(&self, ids: &[u32]) -> Result<String, TextError> {
        let (anchor, before) = &self.anchor;
        let mut text = self.decode(&[anchor, ids].concat())?;
        if text.starts_with(before.as_str()) {
            text.drain(..before.len());
        }
        Ok(text)
    }

    /// Refuses a text that would grow beyond memory on its way.
    pub(super) fn check_length(&self, text: &str) -> Result<(), TextError> {
        if text.len().saturating_mul(self.growth) > LONGEST_ON_THE_WAY {
            let (bytes, most) = (text.len(), LONGEST_ON_THE_WAY / self.growth);
            return Err(TextError::Encode(format!(
                "it has {bytes} bytes, and with this tokenizer.json {most} at most are supported, as it can make a text {} times as long",
                self.growth
            )));
        }
        Ok(())
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        self.check_length(text)?;
        let encoding =
            self.inner.encode_fast(text, add_special_tokens).map_err(|e| TextError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Bytes that a text may have on its way through the normalizer; the library takes about twenty times as many.
const LONGEST_ON_THE_WAY: usize = if cfg!(target_pointer_width = "32") { 1 << 26 } else { 1 << 28 };

/// Refuses added tokens of which the normalizer leaves nothing: nothing is found between any two bytes, where the
/// library slices.
fn check_normalized(tokenizer: &tokenizers::Tokenizer) -> Result<(), TextError> {
    use tokenizers::{NormalizedString, Normalizer};
    let Some(normalizer) = tokenizer.get_normalizer() else { return Ok(()) };
    for token in tokenizer.get_added_tokens_decoder().values().filter(|token| token.normalized) {
        let mut text = NormalizedString::from(token.content.as_str());
        normalizer.normalize(&mut text).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        if text.get().is_empty() {
            let content = &token.content;
            return Err(TextError::Tokenizer(format!("the normalizer leaves nothing of the added token {content:?}")));
        }
    }
    Ok(())
}

/// The id of `bos_token`, where `add_bos_token` asks for it.
fn bos(tokenizer: &tokenizers::Tokenizer, config: &[u8]) -> Result<Option<u32>, TextError> {
    let config = json::parse_bytes(config).map_err(TextError::Config)?;
    if config.get("add_bos_token").and_then(Value::as_bool) != Some(true) {
        return Ok(None);
    }
    // Either the token itself or an object around it.
    let token = config.get("bos_token").map(|token| token.get("content").unwrap_or(token)).and_then(Value::as_str);
    let token =
        token.ok_or_else(|| TextError::Config("`add_bos_token` is true, but there is no `bos_token`".into()))?;
    let id = tokenizer.token_to_id(token);
    id.map(Some).ok_or_else(|| TextError::Config(format!("`bos_token` {token:?} is not in tokenizer.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &str = include_str!("../../assets/demo/tokenizer.json");

    fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut json: Value = serde_json::from_str(TOKENIZER).expect("JSON");
        edit(&mut json);
        json.to_string().into_bytes()
    }

    #[test]
    fn the_first_token_is_added_once() {
        let bare = edited(|json| json["post_processor"] = Value::Null);
        let wants = br#"{"add_bos_token": true, "bos_token": {"content": "<s>"}}"#;
        for (tokenizer, config, count) in
            [(TOKENIZER.as_bytes(), Some(wants), 1), (&bare, Some(wants), 1), (&bare, None, 0)]
        {
            let config = config.map(|c| c.as_slice());
            let ids = Tokenizer::from_bytes(tokenizer, config).expect("a tokenizer").encode("one one").expect("ids");
            assert_eq!(ids.iter().filter(|&&id| id == 1).count(), count, "{ids:?}");
            assert_eq!(ids.first() == Some(&1), count == 1);
        }
    }

    #[test]
    fn a_prompt_is_neither_cut_nor_padded() {
        let limits = edited(|json| {
            json["truncation"] = serde_json::json!(
                {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
            json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right",
                "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
        });
        let plain = Tokenizer::from_bytes(TOKENIZER.as_bytes(), None).expect("a tokenizer");
        let limited = Tokenizer::from_bytes(&limits, None).expect("a tokenizer");
        let text = "Once upon a time there was a very small fox.";
        assert_eq!(limited.encode(text).expect("ids"), plain.encode(text).expect("ids"));
    }

    #[test]
    fn broken_files_are_named() {
        let fault = |tokenizer: &[u8], config: &[u8]| match Tokenizer::from_bytes(tokenizer, Some(config)) {
            Ok(_) => panic!("a broken file was taken"),
            Err(error) => error.to_string(),
        };
        let cut = &TOKENIZER.as_bytes()[..TOKENIZER.len() / 2];
        for bytes in [cut, b"", b"[]", b"\xff\xfe", &edited(|json| json["model"]["merges"][0] = "no such".into())] {
            assert!(fault(bytes, b"{}").starts_with("tokenizer.json"), "{}", fault(bytes, b"{}"));
        }
        for config in [r#"{"add_bos_token": true}"#, r#"{"add_bos_token": true, "bos_token": "<none>"}"#, "{"] {
            let fault = fault(TOKENIZER.as_bytes(), config.as_bytes());
            assert!(fault.starts_with("tokenizer_config.json"), "{fault}");
        }
    }
}
