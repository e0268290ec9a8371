//! Text from ids that come one by one.
//!
//! A token is not a piece of text: a character may be spread over several tokens (bytes of an emoji),
//! and decoders treat the first token of a text differently (they strip its leading space). So tokens
//! wait until the text they make together is whole, and are decoded as what they are: the beginning of
//! the text, or its middle.

use std::ops::Deref;

use super::{TextError, Tokenizer};

/// Character that a decoder writes for bytes that are no character, or not yet.
const REPLACEMENT: char = '\u{fffd}';

/// Tokens after which bytes that are still no character will never be one. A character has at most
/// four bytes; tokens of several bytes can end amid a character a few times in a row.
const MOST_WAITING: usize = 32;

/// Decodes incrementally. The pieces, joined, are what decoding all ids at once gives.
///
/// One case differs, for the better: some decoders throw away a whole run of byte tokens when one of
/// them is wrong; here the characters before the wrong byte have been shown already.
pub struct Detokenizer<T> {
    tokenizer: T,
    waiting: Vec<u32>,
    begun: bool,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// Decodes the beginning of a text.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, waiting: vec![], begun: false }
    }

    /// Decodes what follows other text.
    pub fn after_text(tokenizer: T) -> Self {
        Self { begun: true, ..Self::new(tokenizer) }
    }

    /// The text that became whole with this token; often empty. Special tokens give none.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if !self.tokenizer.is_text(id) {
            return Ok(String::new());
        }
        self.waiting.push(id);
        let text = self.decode()?;
        if (text.is_empty() || text.ends_with(REPLACEMENT)) && self.waiting.len() < MOST_WAITING {
            return Ok(String::new());
        }
        self.waiting.clear();
        self.begun |= !text.is_empty();
        Ok(text)
    }

    /// The text of the tokens that wait: bytes of an unfinished character become U+FFFD.
    pub fn flush(&mut self) -> Result<String, TextError> {
        let text = self.decode()?;
        self.waiting.clear();
        self.begun |= !text.is_empty();
        Ok(text)
    }

    /// The rest, when no more tokens come.
    pub fn finish(mut self) -> Result<String, TextError> {
        self.flush()
    }

    fn decode(&self) -> Result<String, TextError> {
        match self.waiting.as_slice() {
            [] => Ok(String::new()),
            ids if self.begun => self.tokenizer.decode_after_text(ids),
            ids => self.tokenizer.decode(ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::models::bpe::{BPE, Vocab};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    /// SentencePiece pieces, leading spaces and byte fallback.
    fn pieces() -> Tokenizer {
        Tokenizer::from_bytes(include_bytes!("../../assets/demo/tokenizer.json"), None).expect("a tokenizer")
    }

    /// GPT-2's bytes, with merges that end amid characters: "日本" becomes `E6`, `97 A5 E6`, `9C`, `AC`.
    fn bytes() -> Tokenizer {
        let mut vocabulary: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        vocabulary.sort();
        let [a, b, c] = ["Ĺ", "¥", "æ"].map(str::to_owned);
        let merges = vec![(a.clone(), b.clone()), (format!("{a}{b}"), c.clone())];
        vocabulary.extend([format!("{a}{b}"), format!("{a}{b}{c}")]);
        let ids = vocabulary.into_iter().zip(0..);
        let model = BPE::builder().vocab_and_merges(ids.collect::<Vocab>(), merges).build();
        let mut inner = tokenizers::Tokenizer::new(model.expect("a model"));
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        inner.with_decoder(Some(ByteLevel::default()));
        let json = inner.to_string(false).expect("JSON");
        Tokenizer::from_bytes(json.as_bytes(), None).expect("a tokenizer")
    }

    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let mut stream = tokenizer.stream();
        let mut text: String = ids.iter().map(|&id| stream.push(id).expect("text")).collect();
        text.push_str(&stream.finish().expect("text"));
        text
    }

    #[test]
    fn characters_come_whole() {
        for (tokenizer, text, whole) in [(pieces(), "a 🦊!", "🦊"), (bytes(), "a 日本!", "日本")] {
            let ids = tokenizer.encode(text).expect("ids");
            let mut stream = tokenizer.stream();
            let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("text")).collect();
            assert_eq!(pieces.concat(), text, "nothing is left for the end");
            assert!(pieces.iter().any(|piece| piece == whole), "{pieces:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_shown_as_broken_at_the_end() {
        let tokenizer = pieces();
        let ids = tokenizer.encode("ok 🦊").expect("ids");
        let mut stream = tokenizer.stream();
        let before: String = ids[..ids.len() - 1].iter().map(|&id| stream.push(id).expect("text")).collect();
        assert_eq!(before, "ok ");
        assert_eq!(stream.finish().expect("text"), "\u{fffd}".repeat(3));
    }

    #[test]
    fn broken_bytes_do_not_wait_for_ever() {
        let tokenizer = pieces();
        let ids = tokenizer.encode("é").expect("ids");
        let lone = ids.last().copied().expect("a byte");
        let mut stream = tokenizer.stream();
        let text: String = (0..100).map(|_| stream.push(lone).expect("text")).collect();
        assert_eq!(text.chars().count(), 96);
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_text_are_the_text(text in r"\PC{0,24}|[ a-z\n]{0,40}|( |é|日|本|🦊|x){0,20}") {
            for tokenizer in [pieces(), bytes()] {
                let ids = tokenizer.encode(&text).expect("ids");
                prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids).expect("text"));
            }
            prop_assert_eq!(streamed(&bytes(), &bytes().encode(&text).expect("ids")), text);
        }

        #[test]
        fn the_pieces_of_any_tokens_are_their_text(ids in prop::collection::vec(prop_oneof![0u32..259, 0u32..1100], 0..24)) {
            let tokenizer = bytes();
            prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids).expect("text"));
            // Byte fallback throws away whole runs; what is broken stays broken, and nothing else does.
            let tokenizer = pieces();
            let (streamed, whole) = (streamed(&tokenizer, &ids), tokenizer.decode(&ids).expect("text"));
            prop_assert_eq!(streamed.contains(REPLACEMENT), whole.contains(REPLACEMENT));
            prop_assert!(streamed == whole || whole.contains(REPLACEMENT));
        }
    }
}
