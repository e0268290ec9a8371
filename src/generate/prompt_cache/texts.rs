//! Known texts: the ids under which the beginning of a prompt was read.
//!
//! A model may write a text in other tokens than its tokenizer does, and a cache of token ids is worth nothing when
//! the reply that comes back in the next prompt is tokenized anew. So the text of every turn is kept with the ids that
//! were really read, and a prompt that begins with it takes those.

use std::collections::VecDeque;

use crate::state::SnapshotText;
use crate::text::{TextError, Tokenizer};

/// Texts that are kept.
const MOST: usize = 32;

/// A text with its ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::generate) struct KnownText {
    pub text: String,
    pub tokens: Vec<u32>,
    /// Places where the text may be cut: bytes and tokens before each, ascending.
    pub ends: Vec<(usize, usize)>,
    /// The bytes of each reply, from and to, ascending.
    pub replies: Vec<(usize, usize)>,
}

impl KnownText {
    /// A cut may be made at the end.
    pub fn end(&mut self) {
        let end = (self.text.len(), self.tokens.len());
        if self.ends.last().is_none_or(|last| last.0 < end.0 && last.1 <= end.1) {
            self.ends.push(end);
        }
    }

    /// A cut may be made within.
    pub fn end_at(&mut self, bytes: usize, tokens: usize) {
        let place = self.ends.partition_point(|end| end.0 < bytes);
        let fits = |end: Option<&(usize, usize)>, below: bool| {
            end.is_none_or(|end| if below { end.1 <= tokens } else { end.0 > bytes && end.1 >= tokens })
        };
        let before = place.checked_sub(1).and_then(|before| self.ends.get(before));
        if self.text.is_char_boundary(bytes) && fits(before, true) && fits(self.ends.get(place), false) {
            self.ends.insert(place, (bytes, tokens));
        }
    }

    /// What a snapshot keeps of it.
    pub fn to_snapshot(&self) -> SnapshotText {
        SnapshotText { text: self.text.clone(), ends: self.ends.clone(), replies: self.replies.clone() }
    }

    /// What a snapshot kept, if it agrees with the snapshot's tokens.
    pub fn from_snapshot(saved: &SnapshotText, tokens: &[u32]) -> Option<Self> {
        let SnapshotText { text, ends, replies } = saved.clone();
        let within = |&(bytes, count): &(usize, usize)| text.is_char_boundary(bytes) && count <= tokens.len();
        let ascends = ends.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let whole = ends.last() == Some(&(text.len(), tokens.len()));
        let replies_fit = replies.iter().all(|&(from, to)| text.get(from..to).is_some());
        // Tokens without a text would come in front of every prompt.
        let stand_for_text = ends.iter().all(|end| end.0 > 0 || end.1 == 0);
        let fits = whole && ascends && replies_fit && stand_for_text && ends.iter().all(within);
        fits.then(|| Self { text, tokens: tokens.to_vec(), ends, replies })
    }

    /// The last cut up to which a prompt is this text, but for white space around replies: its number, and the bytes of
    /// the prompt before it.
    fn follow(&self, prompt: &str) -> Option<(usize, usize)> {
        let (known, prompt) = (self.text.as_bytes(), prompt.as_bytes());
        let (mut at, mut of_prompt, mut cut, mut ends) = (0, 0, None, self.ends.iter().enumerate().peekable());
        loop {
            while let Some((index, _)) = ends.next_if(|(_, end)| end.0 <= at) {
                // A cut amid white space that was stripped is none of the prompt's.
                if self.ends[index].0 == at {
                    cut = Some((index, of_prompt));
                }
            }
            match (known.get(at), prompt.get(of_prompt)) {
                (Some(a), Some(b)) if a == b => (at, of_prompt) = (at + 1, of_prompt + 1),
                (Some(_), Some(_)) => match self.space_around_reply(at) {
                    0 => return cut,
                    space => at += space,
                },
                // Where a prompt ends, its reply is still to come: one of white space alone is none of it.
                _ => return cut,
            }
        }
    }

    /// Bytes of white space from `at` on that begin a reply or end one.
    fn space_around_reply(&self, at: usize) -> usize {
        let reply = self.replies.iter().find(|(from, to)| (*from..*to).contains(&at));
        let Some((&(from, to), rest)) = reply.and_then(|reply| Some((reply, self.text.get(at..reply.1)?))) else {
            return 0;
        };
        let space = rest.len() - rest.trim_start().len();
        if at == from || at + space == to { space } else { 0 }
    }
}

/// The texts of an engine's conversations.
#[derive(Debug, Default)]
pub(in crate::generate) struct KnownTexts(VecDeque<KnownText>);

impl KnownTexts {
    /// A prompt with its ids: as far as it is known, those that were read.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<KnownText, TextError> {
        let tokens = tokenizer.encode_prompt(prompt)?;
        let mut whole = KnownText { text: prompt.to_owned(), tokens, ..KnownText::default() };
        if let Some((known, index, of_prompt)) = self.longest(prompt) {
            let (bytes, count) = known.ends[index];
            let rest = tokenizer.encode_prompt(&prompt[of_prompt..])?;
            // Some tokenizers mark the beginning of a text: there the rest would be in other tokens than it is within.
            if whole.tokens.ends_with(&rest) {
                whole.text = known.text[..bytes].to_owned() + &prompt[of_prompt..];
                whole.tokens = [&known.tokens[..count], &rest].concat();
                whole.ends = known.ends[..=index].to_vec();
                whole.replies = known.replies.iter().copied().filter(|reply| reply.1 <= bytes).collect();
            }
        }
        whole.end();
        Ok(whole)
    }

    /// The text with the longest beginning in common with a prompt that ends at a cut: the text, the number of the cut,
    /// and the bytes of the prompt before it.
    fn longest(&self, prompt: &str) -> Option<(&KnownText, usize, usize)> {
        let found = self.0.iter().filter_map(|known| {
            let (index, of_prompt) = known.follow(prompt)?;
            Some((known, index, of_prompt))
        });
        // Of equal ones the newest.
        found.max_by_key(|(_, _, of_prompt)| *of_prompt)
    }

    /// The text of ids, where they are the beginning of one that is known.
    pub fn of(&self, tokens: &[u32]) -> Option<&KnownText> {
        self.0.iter().rev().find(|known| known.tokens.starts_with(tokens))
    }

    /// Forgets the texts that begin with some ids.
    pub fn forget(&mut self, tokens: &[u32]) {
        self.0.retain(|known| !known.tokens.starts_with(tokens));
    }

    /// Keeps a text, in place of those that are its beginning.
    pub fn keep(&mut self, text: KnownText) {
        self.0.retain(|known| !text.text.starts_with(&known.text));
        self.0.push_back(text);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(parts: &[(&str, &[u32])]) -> KnownText {
        let mut known = KnownText::default();
        for (text, tokens) in parts {
            known.text.push_str(text);
            known.tokens.extend(*tokens);
            known.end();
        }
        known
    }

    #[test]
    fn the_longest_known_beginning_ends_at_a_cut() {
        let mut texts = KnownTexts::default();
        texts.keep(known(&[("ab", &[1]), ("cd", &[2, 3])]));
        texts.keep(known(&[("ab", &[1]), ("ce", &[4])]));
        let cut = |prompt: &str| texts.longest(prompt).map(|(known, index, _)| known.ends[index]);
        assert_eq!(cut("a"), None);
        assert_eq!(cut("abx"), Some((2, 1)));
        assert_eq!(cut("abcdx"), Some((4, 3)));
        assert_eq!(cut("abcex"), Some((4, 2)));
        texts.keep(known(&[("ab", &[1]), ("cd", &[2, 3]), ("e", &[5])]));
        assert_eq!(texts.0.len(), 2, "what goes on is kept once");
    }

    #[test]
    fn white_space_around_a_reply_does_not_count() {
        let mut text = known(&[("<u>a b<a>", &[1]), (" \n yes, no \n<e>", &[2, 3])]);
        text.replies = vec![(9, 9 + " \n yes, no \n".len())];
        let whole = text.text.len();
        for (prompt, wanted) in [
            ("<u>a b<a>yes, no<e>more", Some((1, 19))),
            ("<u>a b<a> \n yes, no \n<e>more", Some((1, whole))),
            ("<u>a b<a> \n yes, no<e>", Some((1, 22))),
            ("<u>a b<a>yes,no<e>", Some((0, 9))),
            ("<u>ab<a>yes, no<e>", None),
        ] {
            assert_eq!(text.follow(prompt), wanted, "{prompt}");
        }
        let mut blank = known(&[("<u>a b<a>", &[1]), ("  ", &[2, 3])]);
        blank.replies = vec![(9, 11)];
        assert_eq!(blank.follow("<u>a b<a>"), Some((0, 9)), "the same question again");
        assert_eq!(blank.follow("<u>a b<a><e>"), Some((1, 9)), "the reply as a message, without its white space");
    }

    #[test]
    fn cuts_ascend() {
        let mut text = known(&[("abc", &[1, 2]), ("de", &[3])]);
        text.end_at(1, 1);
        text.end_at(4, 1);
        text.end_at(4, 2);
        text.end_at(3, 2);
        assert_eq!(text.ends, [(1, 1), (3, 2), (4, 2), (5, 3)]);
        let saved = text.to_snapshot();
        assert_eq!(KnownText::from_snapshot(&saved, &[1, 2, 3]), Some(text));
        assert_eq!(KnownText::from_snapshot(&saved, &[1, 2]), None);
    }
}
