//! How probable a token was, and which others were: `ln softmax` of the logits as the model gives them, before penalties and
//! temperature.

use serde_json::{Value, json};

use crate::runtime::LogSoftmax;
use crate::text::Tokenizer;

/// Most tokens beside a chosen one whose probabilities may be asked for over an interface; OpenAI's number.
pub const MOST_LOGPROBS: usize = 20;

/// Log probability of a token that was chosen, and of the most probable ones.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// Log probability of the token.
    pub logprob: f32,
    /// The most probable tokens, the first one most of all.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprobs {
    /// Log probabilities of `token` and of the `count` most probable ones, from a row of logits.
    pub(super) fn of(logits: &[f32], token: u32, count: usize) -> Self {
        let log_p = LogSoftmax::of(logits);
        let logprob = |id: u32| log_p.at(logits[id as usize]) as f32;
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let larger = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let count = count.min(ids.len());
        if count > 0 && count < ids.len() {
            ids.select_nth_unstable_by(count - 1, larger);
        }
        ids.truncate(count);
        ids.sort_unstable_by(larger);
        Self { logprob: logprob(token), top: ids.into_iter().map(|id| (id, logprob(id))).collect() }
    }
}

/// A token with its probability and those of others, as text.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// The token.
    pub token: TokenText,
    /// Its log probability.
    pub logprob: f32,
    /// The most probable tokens, the first one most of all.
    pub top: Vec<(TokenText, f32)>,
}

impl ScoredToken {
    /// The chosen token as text, with its probabilities.
    pub fn of(tokenizer: &Tokenizer, token: u32, logprobs: &TokenLogprobs) -> Self {
        let top = logprobs.top.iter().map(|&(id, logprob)| (TokenText::of(tokenizer, id), logprob));
        Self { token: TokenText::of(tokenizer, token), logprob: logprobs.logprob, top: top.collect() }
    }

    /// The same in the shape of OpenAI's chat completions.
    pub fn object(&self) -> Value {
        let entry =
            |token: &TokenText, logprob: f32| json!({ "token": token.text, "logprob": logprob, "bytes": token.bytes });
        let mut object = entry(&self.token, self.logprob);
        object["top_logprobs"] = self.top.iter().map(|(token, logprob)| entry(token, *logprob)).collect();
        object
    }
}

/// Text of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenText {
    /// With U+FFFD for bytes that are no character by themselves.
    pub text: String,
    /// The same as bytes.
    pub bytes: Vec<u8>,
}

impl TokenText {
    /// Text of a token; none where the id stands for nothing.
    pub fn of(tokenizer: &Tokenizer, id: u32) -> Self {
        let bytes = tokenizer.bytes_of(id).unwrap_or_default();
        Self { text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    /// A name that no other token has: OpenAI's form for bytes that are no text.
    pub fn name(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => self.bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_the_largest_come_first() {
        let logits = [1.0, 3.0, -2.0, 3.0, 0.5];
        let found = TokenLogprobs::of(&logits, 4, 3);
        assert_eq!(found.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 0]);
        let all = TokenLogprobs::of(&logits, 4, 99);
        let sum: f32 = all.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && all.top.len() == 5);
        assert_eq!(found.logprob, all.top[3].1);
        assert_eq!(TokenLogprobs::of(&logits, 0, 0).top, []);
    }
}
