//! A `tokenizer.json` and the two things around it that matter here: the beginning-of-text token and
//! the special tokens that are not text.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{StreamDecoder, TextError};

/// Text to ids and back, as the model was trained.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Put in front of every text, unless the post-processor of `tokenizer.json` has done so.
    bos: Option<u32>,
    special: BTreeSet<u32>,
    /// Ids of some ordinary text, and that text: what follows them decodes as in the middle of a text,
    /// where decoders keep the leading space that they strip at the beginning.
    anchor: (Vec<u32>, String),
}

impl Tokenizer {
    /// Reads the bytes of `tokenizer.json` and, where there is one, of `tokenizer_config.json`.
    pub fn from_bytes(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self, TextError> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(tokenizer).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        // Training leaves these in the file. A prompt is never cut or padded.
        inner.with_truncation(None).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        inner.with_padding(None);
        let bos = match config {
            Some(bytes) => bos(&inner, bytes)?,
            None => None,
        };
        let special =
            inner.get_added_tokens_decoder().iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let mut this = Self { inner, bos, special, anchor: (vec![], String::new()) };
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

    /// The ids of a prompt that a chat template made: special tokens in it recognised, none added.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, TextError> {
        self.ids(prompt, false)
    }

    /// The text of ids, without special tokens. Ids that the tokenizer does not know give no text.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.inner.decode(ids, true).map_err(|e| TextError::Decode(e.to_string()))
    }

    /// The id of a special token.
    pub fn special_token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text).filter(|id| self.special.contains(id))
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self) -> StreamDecoder<&Self> {
        StreamDecoder::new(self)
    }

    /// Whether an id stands for text: a known one that is no special token.
    pub(super) fn is_text(&self, id: u32) -> bool {
        !self.special.contains(&id) && self.inner.id_to_token(id).is_some()
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

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let encoding =
            self.inner.encode_fast(text, add_special_tokens).map_err(|e| TextError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The id of `bos_token`, where `add_bos_token` asks for it.
fn bos(tokenizer: &tokenizers::Tokenizer, config: &[u8]) -> Result<Option<u32>, TextError> {
    let config: Value = serde_json::from_slice(config).map_err(|e| TextError::Config(e.to_string()))?;
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
