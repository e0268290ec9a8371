//! A reply, split as it comes: the thinking, the answer, and where a stop string ends it.
//!
//! Thinking opens at the very beginning of a reply, or the prompt has opened it; once it is closed, the rest is the
//! answer. So a marker that an answer mentions hides nothing. Stop strings are looked for in the answer alone.

use std::ops::{Deref, Range};

use super::markers::ThinkingMarkers;
use super::{ControlToken, Detokenizer, TextError, Tokenizer};

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Between the markers of thinking, such as `<think>` and `</think>`.
    Thinking(String),
    /// Everything else.
    Answer(String),
}

/// Reads a reply token by token.
pub struct ReplyParser<T> {
    detokenizer: Detokenizer<T>,
    tokenizer: T,
    splitter: ReplySplitter,
}

impl<T: Deref<Target = Tokenizer> + Clone> ReplyParser<T> {
    /// The reply to a prompt. `stops` are texts that end the answer; they may be special tokens.
    pub fn new(tokenizer: T, prompt: &str, stops: Vec<String>) -> Self {
        let added: Vec<&str> = tokenizer.added_tokens().map(|(text, _)| text).collect();
        let splitter = ReplySplitter::with_markers(prompt, stops, ThinkingMarkers::of_added_tokens(&added));
        Self { detokenizer: Detokenizer::new(tokenizer.clone()), tokenizer, splitter }
    }

    /// What closes the thinking that is open; `None` where none is.
    pub fn opened(&self) -> Option<&str> {
        match self.splitter.state {
            State::Thinking { pair, .. } => Some(&self.splitter.markers[pair].close.text),
            State::Start { .. } | State::Answer => None,
        }
    }

    /// The tokens that may open thinking at the beginning of the reply, each with the one that closes it; none where the
    /// thinking is open, and none for markers that are no tokens.
    pub fn thinking_tokens(&self) -> Vec<(u32, u32)> {
        if !matches!(self.splitter.state, State::Start { .. }) {
            return vec![];
        }
        let pairs = self.splitter.markers.iter().filter_map(|pair| {
            let token = |text: &str| self.tokenizer.added_token(text);
            Some((token(&pair.open.text)?, token(&pair.close.text)?))
        });
        pairs.collect()
    }

    /// The same, with special tokens that are shown in the answer: the markers of tool calls.
    pub fn with_shown(mut self, tokens: &[&str]) -> Self {
        self.splitter.shown = tokens.iter().map(|&token| token.to_owned()).collect();
        self
    }

    /// The pieces that are certain with this token, and the control token that it is, if it is one.
    pub fn push(&mut self, id: u32) -> Result<(Vec<Piece>, Option<ControlToken>), TextError> {
        let control = self.tokenizer.control_token(id);
        let pieces = match &control {
            Some(token) if token.special || self.splitter.is_marker(&token.text) => {
                // A character that is not whole by now never will be.
                let mut pieces = self.splitter.push(&self.detokenizer.flush()?);
                pieces.extend(self.splitter.push_control(&token.text, token.special));
                pieces
            }
            _ => self.splitter.push(&self.detokenizer.push(id)?),
        };
        Ok((pieces, control))
    }

    /// True once a stop string came. Text behind it is no part of the reply.
    pub fn stopped(&self) -> bool {
        self.splitter.stopped()
    }

    /// The rest, when no more tokens come.
    pub fn finish(mut self) -> Result<Vec<Piece>, TextError> {
        let mut pieces = self.splitter.push(&self.detokenizer.finish()?);
        pieces.extend(self.splitter.finish());
        Ok(pieces)
    }
}

/// Splits a reply. Text that may be the beginning of a marker or of a stop string waits until that is decided.
#[derive(Clone, Debug)]
pub struct ReplySplitter {
    markers: Vec<ThinkingMarkers>,
    stops: Vec<String>,
    /// Special tokens that are text in the answer.
    shown: Vec<String>,
    waiting: String,
    /// Parts of `waiting` that are special tokens: a stop string may hold them, but they are not shown.
    hidden: Vec<Range<usize>>,
    /// Bytes at the beginning of `waiting` that are the white space before the answer.
    lead: usize,
    state: State,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// White space at most so far: of the reply, or since the thinking was closed.
    Start { thought: bool },
    /// In the thinking that this pair of markers encloses; `begun` when it is more than white space.
    Thinking { pair: usize, begun: bool },
    /// In the answer.
    Answer,
}

impl ReplySplitter {
    /// A reply to a prompt, of a model whose markers are ordinary text; some prompts open the thinking themselves.
    pub fn new(prompt: &str, stops: Vec<String>) -> Self {
        Self::with_markers(prompt, stops, ThinkingMarkers::of_added_tokens(&[]))
    }

    fn with_markers(prompt: &str, stops: Vec<String>, markers: Vec<ThinkingMarkers>) -> Self {
        let prompt = prompt.trim_end();
        let state = match markers.iter().position(|pair| prompt.ends_with(&pair.open.text)) {
            Some(pair) => State::Thinking { pair, begun: false },
            None => State::Start { thought: false },
        };
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        let (waiting, hidden, shown) = (String::new(), vec![], vec![]);
        Self { markers, stops, shown, waiting, hidden, lead: 0, state, stopped: false }
    }

    /// True once a stop string came. Text behind it is no part of the reply.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The pieces that are certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = vec![];
        if !self.stopped {
            self.waiting.push_str(text);
            self.advance(&mut pieces);
        }
        pieces
    }

    /// True for a token whose content is a marker of thinking.
    fn is_marker(&self, text: &str) -> bool {
        self.markers.iter().any(|pair| pair.open.text == text || pair.close.text == text)
    }

    /// The pieces that are certain with a control token. As a marker that is out of place it is like any other.
    fn push_control(&mut self, text: &str, special: bool) -> Vec<Piece> {
        let mut pieces = vec![];
        if self.stopped {
            return pieces;
        }
        if matches!(self.state, State::Start { .. }) && !self.waiting.trim().is_empty() {
            // What waited was the beginning of a marker in text, and is none.
            self.begin_answer(&mut pieces);
        }
        let thinks = matches!(self.state, State::Thinking { .. });
        let special = special && (thinks || !self.shown.iter().any(|shown| shown == text));
        let opens = |pair: &ThinkingMarkers| pair.open.text == text;
        let closes = |pair: &ThinkingMarkers| pair.close.text == text;
        match self.state {
            State::Start { thought: false } if self.markers.iter().any(opens) => {
                self.waiting.clear();
                let pair = self.markers.iter().position(opens).unwrap_or_default();
                self.state = State::Thinking { pair, begun: false };
            }
            // Opened where nobody saw it, or closed twice.
            State::Start { .. } if self.markers.iter().any(closes) => {
                self.waiting.clear();
                self.state = State::Start { thought: true };
            }
            State::Start { .. } if special => self.stopped |= self.stops.iter().any(|stop| stop == text),
            State::Thinking { pair, .. } if closes(&self.markers[pair]) => {
                let rest = std::mem::take(&mut self.waiting);
                emit(Piece::Thinking, rest, &mut pieces);
                self.state = State::Start { thought: true };
            }
            // Opened twice.
            State::Thinking { pair, begun: false } if opens(&self.markers[pair]) => self.waiting.clear(),
            State::Thinking { .. } if special => {}
            State::Answer if special => {
                let from = self.waiting.len();
                self.waiting.push_str(text);
                self.hidden.push(from..self.waiting.len());
                self.advance(&mut pieces);
            }
            _ => pieces.extend(self.push(text)),
        }
        pieces
    }

    /// The pieces that still wait when no more text comes.
    pub fn finish(mut self) -> Vec<Piece> {
        let mut pieces = vec![];
        match self.state {
            State::Thinking { .. } => emit(Piece::Thinking, self.waiting, &mut pieces),
            State::Start { .. } => {
                self.begin_answer(&mut pieces);
                self.emit_answer(self.waiting.len(), &mut pieces);
            }
            State::Answer => self.emit_answer(self.waiting.len(), &mut pieces),
        }
        pieces
    }

    /// Decides on as much of what waits as can be decided.
    fn advance(&mut self, pieces: &mut Vec<Piece>) {
        loop {
            match self.state {
                State::Start { thought } => {
                    let text = self.waiting.trim_start();
                    if text.is_empty() {
                        return;
                    }
                    let space = self.waiting.len() - text.len();
                    let opening = self.markers.iter().map(|pair| &pair.open).filter(|_| !thought);
                    let closing = self.markers.iter().map(|pair| &pair.close);
                    let candidates = opening.chain(closing).filter(|marker| !marker.token);
                    let candidates: Vec<&str> = candidates.map(|marker| marker.text.as_str()).collect();
                    if let Some(marker) = candidates.iter().find(|marker| text.starts_with(**marker)) {
                        let pair = self.markers.iter().position(|pair| pair.open.text == *marker);
                        let end = space + marker.len();
                        self.state = match pair {
                            Some(pair) => State::Thinking { pair, begun: false },
                            None => State::Start { thought: true },
                        };
                        self.waiting.drain(..end);
                    } else if candidates.iter().any(|marker| marker.starts_with(text)) {
                        return;
                    } else {
                        return self.begin_answer(pieces);
                    }
                }
                State::Thinking { pair, begun } => {
                    let ThinkingMarkers { open, close } = &self.markers[pair];
                    if !begun {
                        // White space waits: behind it the thinking may be opened once more.
                        let text = self.waiting.trim_start();
                        if text.is_empty() || !open.token && open.text.starts_with(text) && text != open.text {
                            return;
                        }
                        if !open.token && text.starts_with(open.text.as_str()) {
                            let end = self.waiting.len() - text.len() + open.text.len();
                            self.waiting.drain(..end);
                            continue;
                        }
                    }
                    let closed = if close.token { None } else { self.waiting.find(&close.text) };
                    if let Some(at) = closed {
                        let rest = self.waiting.split_off(at + close.text.len());
                        let mut thought = std::mem::replace(&mut self.waiting, rest);
                        thought.truncate(at);
                        emit(Piece::Thinking, thought, pieces);
                        self.state = State::Start { thought: true };
                        continue;
                    }
                    let keep = if close.token { 0 } else { overlap(&self.waiting, &close.text) };
                    let rest = self.waiting.split_off(self.waiting.len() - keep);
                    let thought = std::mem::replace(&mut self.waiting, rest);
                    let begun = begun || !thought.trim().is_empty();
                    self.state = State::Thinking { pair, begun };
                    return emit(Piece::Thinking, thought, pieces);
                }
                State::Answer => {
                    if let Some(at) = self.find_stop() {
                        self.emit_answer(at, pieces);
                        self.waiting.clear();
                        self.stopped = true;
                        return;
                    }
                    let keep = self.stops.iter().map(|stop| overlap(&self.waiting, stop)).max().unwrap_or(0);
                    return self.emit_answer(self.waiting.len() - keep, pieces);
                }
            }
        }
    }

    /// The text that waits is the beginning of the answer.
    fn begin_answer(&mut self, pieces: &mut Vec<Piece>) {
        self.lead = self.waiting.len() - self.waiting.trim_start().len();
        self.state = State::Answer;
        self.advance(pieces);
    }

    /// The beginning of the stop string that is complete first, wherever the text is cut into pieces.
    /// White space before the answer is no answer, and does not end it.
    fn find_stop(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| {
            let from = if stop.trim().is_empty() { self.lead } else { 0 };
            let at = from + self.waiting[from..].find(stop)?;
            Some((at + stop.len(), at))
        });
        found.min().map(|(_, at)| at)
    }

    /// Gives out the answer up to a byte of what waits.
    fn emit_answer(&mut self, until: usize, pieces: &mut Vec<Piece>) {
        let mut text = String::new();
        let mut from = 0;
        for hidden in self.hidden.iter().filter(|hidden| hidden.start < until) {
            text.push_str(&self.waiting[from..hidden.start]);
            from = hidden.end;
        }
        text.push_str(self.waiting.get(from..until).unwrap_or_default());
        self.waiting.drain(..until);
        self.lead = self.lead.saturating_sub(until);
        self.hidden.retain(|hidden| hidden.end > until);
        for hidden in &mut self.hidden {
            *hidden = hidden.start.saturating_sub(until)..hidden.end - until;
        }
        emit(Piece::Answer, text, pieces);
    }
}

fn emit(piece: fn(String) -> Piece, text: String, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(piece(text));
    }
}

/// Bytes at the end of `text` that may be the beginning of `marker`.
fn overlap(text: &str, marker: &str) -> usize {
    let lengths = marker.char_indices().map(|(at, _)| at).rev();
    lengths.into_iter().find(|&length| text.ends_with(&marker[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    fn joined(pieces: Vec<Piece>) -> (String, String) {
        let (mut thinking, mut answer) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Thinking(text) => thinking.push_str(&text),
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        (thinking, answer)
    }

    /// The thinking and the answer, given in pieces of `size` characters.
    fn split(prompt: &str, reply: &str, stops: &[&str], size: usize) -> (String, String, bool) {
        let mut splitter = ReplySplitter::new(prompt, stops.iter().map(|&stop| stop.to_owned()).collect());
        let letters: Vec<char> = reply.chars().collect();
        let mut pieces: Vec<Piece> =
            letters.chunks(size).flat_map(|text| splitter.push(&text.iter().collect::<String>())).collect();
        let stopped = splitter.stopped();
        pieces.extend(splitter.finish());
        let (thinking, answer) = joined(pieces);
        (thinking, answer, stopped)
    }

    #[test]
    fn however_the_text_is_cut_the_parts_are_the_same() {
        let stops = ["</s>", "<extra_id_1>", "\n\n", "\nUser:", "abcdef", "cd"];
        for (prompt, reply, thinking, answer, stopped) in [
            ("", "é < 3 <extra_id_2> é", "", "é < 3 <extra_id_2> é", false),
            ("", "yes\n<extra_id_1>User\nmore", "", "yes\n", true),
            ("", "<think>so é</think>yes</s> no", "so é", "yes", true),
            ("<think>\n", "so</think>yes</", "so", "yes</", false),
            // A marker amid an answer is text; so is one after the thinking.
            (
                "",
                "The `<think>` tag opens it, </think> closes it.",
                "",
                "The `<think>` tag opens it, </think> closes it.",
                false,
            ),
            ("", "<think>a</think>b <think> c </think>", "a", "b <think> c </think>", false),
            ("", "<th is no tag", "", "<th is no tag", false),
            ("", "<think", "", "<think", false),
            // The thinking is no place for stop strings.
            ("", "<think>a</s>b\n\nUser: c</think>yes", "a</s>b\n\nUser: c", "yes", false),
            ("[THINK]", "a</s></think>[/THINK]yes\n\nno", "a</s></think>", "yes", true),
            // Never closed, closed without being opened, empty, twice.
            ("", " \n<think>\nnever", "\nnever", "", false),
            ("", "\n</think>\n\nyes", "", "\n\nyes", false),
            ("", "<think></think>yes", "", "yes", false),
            ("<think>", "<think>a</think></think>yes", "a", "yes", false),
            ("", "<think>\n<think>a</think>yes", "a", "yes", false),
            ("<think>\n\n</think>\n\n", "yes", "", "yes", false),
            // White space before the answer ends nothing; a stop string that begins with it does.
            ("", "\n\nyes\n\nno", "", "\n\nyes", true),
            ("", "\nUser: no", "", "", true),
            // The stop string that is complete first.
            ("", "xabcdef", "", "xab", true),
            ("", "yes abc", "", "yes abc", false),
        ] {
            for size in 1..12 {
                let expected = (thinking.to_owned(), answer.to_owned(), stopped);
                assert_eq!(split(prompt, reply, &stops, size), expected, "{reply:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn each_published_dialect_is_read() {
        for pair in ThinkingMarkers::of_added_tokens(&[]) {
            let (open, close) = (pair.open.text, pair.close.text);
            for size in [1, 3, 100] {
                let whole = split("", &format!("{open}a{close}b"), &[], size);
                assert_eq!(whole, ("a".into(), "b".into(), false), "{open}");
                let opened = split(&format!("...{open}\n"), &format!("a{close}b"), &[], size);
                assert_eq!(opened, ("a".into(), "b".into(), false), "{open}");
            }
        }
    }

    /// One token a byte, and added tokens: `(content, special)`.
    fn tokenizer(added: &[(&str, bool)]) -> Tokenizer {
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        let vocabulary: serde_json::Map<String, Value> =
            letters.iter().zip(0..).map(|(letter, id)| (letter.to_string(), json!(id))).collect();
        let token = |(index, (content, special)): (usize, &(&str, bool))| {
            json!({"id": 256 + index, "content": content, "special": special, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        };
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": added.iter().enumerate().map(token).collect::<Vec<_>>(),
            "pre_tokenizer": bytes, "decoder": bytes,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        });
        Tokenizer::from_bytes(file.to_string().as_bytes(), None).expect("a tokenizer")
    }

    /// A part of a reply: a control token, or text spelled out.
    enum Part {
        Token(&'static str),
        Text(&'static str),
    }
    use Part::{Text, Token};

    fn parsed(tokenizer: &Tokenizer, prompt: &str, stops: &[&str], reply: &[Part]) -> (String, String, bool) {
        let mut parser = ReplyParser::new(tokenizer, prompt, stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut pieces = vec![];
        for part in reply {
            let ids: Vec<u32> = match part {
                Token(text) => vec![tokenizer.added_token(text).expect("a control token")],
                Text(text) => {
                    let letters = text.chars().map(|letter| tokenizer.encode(&letter.to_string()).expect("ids"));
                    letters.flatten().collect()
                }
            };
            for id in ids {
                pieces.extend(parser.push(id).expect("pieces").0);
            }
        }
        let stopped = parser.stopped();
        pieces.extend(parser.finish().expect("pieces"));
        let (thinking, answer) = joined(pieces);
        (thinking, answer, stopped)
    }

    #[test]
    fn markers_that_are_tokens_are_read_as_tokens() {
        for special in [true, false] {
            let tokenizer = tokenizer(&[("<think>", special), ("</think>", special), ("<|im_end|>", true)]);
            let check = |prompt: &str, reply: &[Part], thinking: &str, answer: &str| {
                let got = parsed(&tokenizer, prompt, &["</s>"], reply);
                assert_eq!(got, (thinking.to_owned(), answer.to_owned(), false), "special: {special}");
            };
            let (open, close) = (|| Token("<think>"), || Token("</think>"));
            check("", &[open(), Text("Hm </s> é"), close(), Text("\n\nYes.")], "Hm </s> é", "\n\nYes.");
            check("", &[Text("\n"), open(), Text("\n\n"), close(), Text("\n\nYes.")], "\n\n", "\n\nYes.");
            check("<think>\n", &[Text("Hm"), close(), Text("Yes.")], "Hm", "Yes.");
            check("<think>\n\n</think>\n\n", &[Text("Yes.")], "", "Yes.");
            check("", &[open(), Text("Hm")], "Hm", "");
            check("", &[close(), Text("Yes.")], "", "Yes.");
            check("", &[open(), close(), Text("Yes.")], "", "Yes.");
            check("<think>", &[open(), Text("Hm"), close(), close(), Text("Yes.")], "Hm", "Yes.");
            // Spelled out, they are text, wherever they stand.
            check("", &[Text("<think> opens it.")], "", "<think> opens it.");
            check("", &[open(), Text("a</think>b"), close(), Text("Yes</think>.")], "a</think>b", "Yes</think>.");
            // As tokens amid an answer they open nothing; special ones are not shown, others are.
            let shown = if special { "The  tag." } else { "The <think> tag." };
            check("", &[Text("The "), open(), Text(" tag.")], "", shown);
            check("", &[Text("<th"), open(), Text(".")], "", if special { "<th." } else { "<th<think>." });
            // A character that a marker cuts off.
            check("", &[open(), Text("a"), close(), Token("<|im_end|>"), Text("é")], "a", "é");
        }
    }

    #[test]
    fn other_dialects_are_read_as_tokens_too() {
        let added = [
            ("<|START_THINKING|>", true),
            ("<|END_THINKING|>", true),
            ("<|my_thought|>", false),
            ("<|/my_thought|>", false),
        ];
        let tokenizer = tokenizer(&added);
        for (open, close) in [(added[0].0, added[1].0), (added[2].0, added[3].0)] {
            let reply = [Token(open), Text("Hm</think>"), Token(close), Text("Yes.")];
            assert_eq!(parsed(&tokenizer, "", &[], &reply), ("Hm</think>".into(), "Yes.".into(), false));
        }
    }

    #[test]
    fn a_stop_string_may_be_a_control_token_or_hold_one() {
        let tokenizer = tokenizer(&[("<|end|>", true), ("<tool>", false), ("<think>", true), ("</think>", true)]);
        for (stops, reply, answer) in [
            (&["<|end|>"][..], &[Text("Yes"), Token("<|end|>"), Text("no")][..], "Yes"),
            (&["<|end|>\nUser"], &[Text("Yes"), Token("<|end|>"), Text("\nUser: no")], "Yes"),
            (&["s<|end|>"], &[Text("Yes"), Token("<|end|>"), Text("no")], "Ye"),
            (&["<tool>"], &[Text("Yes"), Token("<tool>"), Text("no")], "Yes"),
            (
                &["<|end|>"],
                &[Token("<think>"), Token("<|end|>"), Token("</think>"), Text("Yes"), Token("<|end|>")],
                "Yes",
            ),
            (&["<|end|>"], &[Token("<|end|>"), Text("no")], ""),
            (&["日本"], &[Text("a 日"), Text("本")], "a "),
        ] {
            let (_, got, stopped) = parsed(&tokenizer, "", stops, reply);
            assert_eq!((got.as_str(), stopped), (answer, true), "{stops:?}");
        }
        let reply = [Text("a"), Token("<|end|>"), Text("\nUse"), Token("<tool>"), Text(" b")];
        assert_eq!(parsed(&tokenizer, "", &["<|end|>\nUser"], &reply).1, "a\nUse<tool> b");
    }

    #[test]
    fn special_tokens_that_are_shown_are_text_of_the_answer() {
        let tokenizer = tokenizer(&[("<think>", true), ("</think>", true), ("<|call|>", true), ("<|end|>", true)]);
        let reply = [
            Token("<think>"),
            Token("<|call|>"),
            Text("a"),
            Token("</think>"),
            Token("<|call|>"),
            Text("[b"),
            Token("<|end|>"),
        ];
        let mut parser = ReplyParser::new(&tokenizer, "", vec!["[c".into()]).with_shown(&["<|call|>"]);
        let mut pieces = vec![];
        for part in reply {
            let ids = match part {
                Token(text) => vec![tokenizer.added_token(text).expect("a control token")],
                Text(text) => tokenizer.encode(text).expect("ids"),
            };
            ids.into_iter().for_each(|id| pieces.extend(parser.push(id).expect("pieces").0));
        }
        pieces.extend(parser.finish().expect("pieces"));
        assert_eq!(joined(pieces), ("a".into(), "<|call|>[b".into()));
    }

    #[test]
    fn control_tokens_are_told() {
        let tokenizer = tokenizer(&[("<tool_call>", false), ("<|end|>", true)]);
        let mut parser = ReplyParser::new(&tokenizer, "", vec![]);
        let (pieces, control) = parser.push(257).expect("pieces");
        assert_eq!((pieces, control), (vec![], Some(ControlToken { id: 257, text: "<|end|>".into(), special: true })));
        let (pieces, control) = parser.push(256).expect("pieces");
        assert_eq!(pieces, [Piece::Answer("<tool_call>".into())]);
        assert_eq!(control.map(|token| (token.text, token.special)), Some(("<tool_call>".into(), false)));
        assert_eq!(parser.push(5).expect("pieces").1, None);
    }

    proptest::proptest! {
        #[test]
        fn a_reply_without_markers_comes_whole(text in r"\PC{0,40}|[<>/think \n]{0,40}", stop in "[a-z<>]{1,4}", size in 1usize..5) {
            let (thinking, answer, stopped) = split("", &text, &[&stop], size);
            if !text.contains('<') {
                proptest::prop_assert_eq!(thinking, "");
                let until = text.find(&stop);
                proptest::prop_assert_eq!(&answer, &text[..until.unwrap_or(text.len())]);
                proptest::prop_assert_eq!(stopped, until.is_some());
            }
        }
    }
}
