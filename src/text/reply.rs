//! What a model says, split as it comes: the thinking, the answer, and where a stop string ends it.

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Between `<think>` and `</think>`.
    Thinking(String),
    /// Everything else.
    Answer(String),
}

/// Splits a reply. Text that may be the beginning of a tag or of a stop string waits until that is decided.
#[derive(Clone, Debug)]
pub struct ReplySplitter {
    stops: Vec<String>,
    waiting: String,
    thinking: bool,
    stopped: bool,
}

impl ReplySplitter {
    /// A reply to a prompt; some prompts open the thinking themselves.
    pub fn new(prompt: &str, stops: Vec<String>) -> Self {
        let thinking = prompt.trim_end().ends_with("<think>");
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, waiting: String::new(), thinking, stopped: false }
    }

    /// Whether a stop string came. What comes after it is no part of the reply.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The pieces that are certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = vec![];
        if self.stopped {
            return pieces;
        }
        self.waiting.push_str(text);
        loop {
            let tag = if self.thinking { "</think>" } else { "<think>" };
            let markers = || self.stops.iter().map(String::as_str).chain([tag]);
            let first = markers().filter_map(|marker| Some((self.waiting.find(marker)?, marker))).min();
            let Some((at, marker)) = first else {
                let keep = markers().map(|marker| overlap(&self.waiting, marker)).max().unwrap_or(0);
                let rest = self.waiting.split_off(self.waiting.len() - keep);
                let sure = std::mem::replace(&mut self.waiting, rest);
                self.emit(sure, &mut pieces);
                return pieces;
            };
            let (is_tag, end) = (marker == tag, at + marker.len());
            let rest = self.waiting.split_off(end);
            let mut sure = std::mem::replace(&mut self.waiting, rest);
            sure.truncate(at);
            self.emit(sure, &mut pieces);
            if !is_tag {
                self.stopped = true;
                self.waiting.clear();
                return pieces;
            }
            self.thinking = !self.thinking;
        }
    }

    /// What still waits when no more text comes.
    pub fn finish(mut self) -> Vec<Piece> {
        let mut pieces = vec![];
        let rest = std::mem::take(&mut self.waiting);
        self.emit(rest, &mut pieces);
        pieces
    }

    fn emit(&self, text: String, pieces: &mut Vec<Piece>) {
        if !text.is_empty() {
            pieces.push(if self.thinking { Piece::Thinking(text) } else { Piece::Answer(text) });
        }
    }
}

/// Bytes at the end of `text` that may be the beginning of `marker`.
fn overlap(text: &str, marker: &str) -> usize {
    let lengths = marker.char_indices().map(|(at, _)| at).rev();
    lengths.into_iter().find(|&length| text.ends_with(&marker[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thinking and the answer, given in pieces of `size` characters.
    fn split(prompt: &str, reply: &str, size: usize) -> (String, String, bool) {
        let mut splitter = ReplySplitter::new(prompt, vec!["</s>".into(), "<extra_id_1>".into()]);
        let letters: Vec<char> = reply.chars().collect();
        let mut pieces: Vec<Piece> =
            letters.chunks(size).flat_map(|text| splitter.push(&text.iter().collect::<String>())).collect();
        let stopped = splitter.stopped();
        pieces.extend(splitter.finish());
        let (mut thinking, mut answer) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Thinking(text) => thinking.push_str(&text),
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        (thinking, answer, stopped)
    }

    #[test]
    fn however_the_text_is_cut_the_parts_are_the_same() {
        for (prompt, reply, thinking, answer, stopped) in [
            ("", "é < 3 <extra_id_2> é", "", "é < 3 <extra_id_2> é", false),
            ("", "yes\n<extra_id_1>User\nmore", "", "yes\n", true),
            ("", "<think>so é</think>yes</s> no", "so é", "yes", true),
            ("<think>\n", "so</think>yes</", "so", "yes</", false),
        ] {
            for size in 1..12 {
                let expected = (thinking.to_owned(), answer.to_owned(), stopped);
                assert_eq!(split(prompt, reply, size), expected, "{reply:?} in pieces of {size}");
            }
        }
    }
}
