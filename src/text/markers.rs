//! Markers that models put around their thinking: one pair a dialect.

/// Words by which an added token is taken to be such a marker.
const WORDS: [&str; 3] = ["think", "thought", "reason"];

/// Published pairs, for tokenizers that write them as ordinary text.
/// Sources: the chat templates of Qwen3, DeepSeek-R1, Nemotron and others (`<think>`), Command A (`START_THINKING`),
/// Magistral (`[THINK]`), Seed-OSS (`seed:think`), Kimi-VL (`◁think▷`), Sky-T1 (`begin_of_thought`).
const PUBLISHED: [(&str, &str); 9] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
];

/// Halves of a pair that differ by a word.
const OPPOSITES: [(&str, &str); 5] =
    [("START", "END"), ("start", "end"), ("BEGIN", "END"), ("begin", "end"), ("open", "close")];

/// One of the two markers of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub text: String,
    /// The tokenizer has a token of its own for it. Then it is a marker as that token only: spelled out in other
    /// tokens it is text like any other.
    pub token: bool,
}

/// The pair of tokens that open and close the thinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThinkingMarkers {
    pub open: Marker,
    pub close: Marker,
}

impl ThinkingMarkers {
    /// The pairs of a tokenizer, given the contents of its added tokens: those that two of them make, then the
    /// published ones.
    pub fn of_added_tokens(added: &[&str]) -> Vec<Self> {
        let marker = |text: &str| Marker { text: text.to_owned(), token: added.contains(&text) };
        let mut pairs: Vec<Self> = vec![];
        let own = added.iter().filter(|text| WORDS.iter().any(|word| text.to_lowercase().contains(word)));
        let own = own.filter_map(|open| {
            let close = closing(open).into_iter().find(|close| added.contains(&close.as_str()))?;
            Some((marker(open), marker(&close)))
        });
        let published = PUBLISHED.iter().map(|(open, close)| (marker(open), marker(close)));
        for (open, close) in own.chain(published) {
            let pair = Self { open, close };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }
}

/// Texts that may close what `open` opens.
fn closing(open: &str) -> Vec<String> {
    let mut found: Vec<String> = OPPOSITES
        .iter()
        .filter(|(begin, _)| open.contains(begin))
        .map(|(begin, end)| open.replacen(begin, end, 1))
        .collect();
    let bare = |at: &usize| open[*at..].starts_with(char::is_alphanumeric);
    let name = open.char_indices().map(|(at, _)| at).find(bare);
    // A slash in front of the name, or directly after the bracket.
    let bracket = open.chars().next().map(char::len_utf8);
    for at in name.into_iter().chain(bracket) {
        found.push(format!("{}/{}", &open[..at], &open[at..]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_from_the_added_tokens_and_from_what_is_published() {
        let added =
            ["<|im_end|>", "<|inner_thought|>", "</|inner_thought|>", "<think_start>", "<think_end>", "<think>"];
        let pairs = ThinkingMarkers::of_added_tokens(&added);
        let found = |open: &str| {
            let pair = pairs.iter().find(|pair| pair.open.text == open)?;
            Some((pair.close.text.as_str(), pair.open.token, pair.close.token))
        };
        assert_eq!(found("<|inner_thought|>"), Some(("</|inner_thought|>", true, true)));
        assert_eq!(found("<think_start>"), Some(("<think_end>", true, true)));
        assert_eq!(found("<think>"), Some(("</think>", true, false)));
        assert_eq!(found("[THINK]"), Some(("[/THINK]", false, false)));
        assert_eq!(found("<|im_end|>"), None);
        assert_eq!(found("</|inner_thought|>"), None);
    }

    #[test]
    fn the_published_pairs_follow_the_rule_for_pairs() {
        for (open, close) in PUBLISHED {
            assert!(closing(open).iter().any(|found| found == close), "{open}");
        }
    }
}
