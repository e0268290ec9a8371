//! The most by which the parts of a tokenizer make a text longer.

use super::pattern::Pattern;

/// Factors of replacements (one whose text the next one replaces counts with it), and of all parts together.
const MOST_REPLACED: usize = 16;
const MOST_TOGETHER: usize = 1 << 11;
/// Bytes put in front of each piece of a text.
const LONGEST_PREPENDED: usize = 16;
/// Parts that make every byte longer.
const MOST_BYTE_LEVELS: usize = 2;
const MOST_METASPACES: usize = 2;

/// Counted in bytes of UTF-8, from the parts in their order.
#[derive(Default)]
pub(super) struct Growth {
    /// Texts that earlier parts put in, each with the factor by which it may have made a text longer.
    put: Vec<(String, usize)>,
    prepended: usize,
    precompiled: usize,
    /// Of a normal form: 3 for NFC and NFD, 11 for the compatible ones (U+FDFA has 3 bytes, and becomes 33).
    form: usize,
    cased: bool,
    byte_levels: usize,
    metaspaces: usize,
}

impl Growth {
    /// A part that replaces. What it matches may be what an earlier one has put in: then their factors multiply.
    pub fn replace(&mut self, pattern: Pattern<'_>, content: &str) -> Result<(), String> {
        let own = match pattern {
            Pattern::Text(text) => content.len().div_ceil(text.len().max(1)),
            // It may match nothing, between any two bytes.
            Pattern::Regex(_) => content.len() + 1,
        };
        let feeds = |put: &str| match pattern {
            Pattern::Text(text) => put.chars().any(|letter| text.contains(letter)),
            Pattern::Regex(_) => !put.is_empty(),
        };
        let before = self.put.iter().filter(|(put, _)| feeds(put)).map(|(_, factor)| *factor).max();
        let factor = own.max(1).saturating_mul(before.unwrap_or(1));
        if factor > MOST_REPLACED {
            return Err(format!(
                "replacements make a text up to {factor} times as long, and {MOST_REPLACED} times is supported"
            ));
        }
        self.put.push((content.to_owned(), factor));
        Ok(())
    }

    /// A part that puts a text in front.
    pub fn prepend(&mut self, text: &str) -> Result<(), String> {
        // With nothing in front the library loses its place in a text, and slices beyond its end.
        if text.is_empty() {
            return Err("an empty text is put in front of a text".into());
        }
        self.prepended += text.len();
        self.put.push((text.to_owned(), 1));
        if self.prepended > LONGEST_PREPENDED {
            return Err(format!("more than {LONGEST_PREPENDED} bytes are put in front of a text"));
        }
        Ok(())
    }

    /// A part whose longest replacement of a character has `longest` bytes.
    pub fn precompiled(&mut self, longest: usize) -> Result<(), String> {
        if self.precompiled > 0 {
            return Err("there are two character maps".into());
        }
        self.precompiled = longest.max(1);
        Ok(())
    }

    /// A part that is known by its name.
    pub fn named(&mut self, name: &str) -> Result<(), String> {
        match name {
            "NFC" | "NFD" | "Bert" | "BertNormalizer" => self.form = self.form.max(3),
            "NFKC" | "NFKD" => self.form = 11,
            _ => {}
        }
        self.cased |= matches!(name, "Lowercase" | "Bert" | "BertNormalizer");
        self.byte_levels += usize::from(name == "ByteLevel");
        self.metaspaces += usize::from(name == "Metaspace");
        if self.byte_levels > MOST_BYTE_LEVELS || self.metaspaces > MOST_METASPACES {
            return Err(format!("there are more than {MOST_BYTE_LEVELS} of it"));
        }
        Ok(())
    }

    /// All of it as a factor, each piece of a text being a byte at least.
    pub fn factor(&self) -> Result<usize, String> {
        let replaced = self.put.iter().map(|(_, factor)| *factor).max().unwrap_or(1);
        // A character map does what a normal form does: one of them has nothing left for the other.
        let mapped = self.form.max(self.precompiled).max(1);
        let doubled = self.byte_levels + 2 * self.metaspaces + usize::from(self.cased);
        let factor = replaced.saturating_mul(mapped).saturating_mul(1 << doubled);
        if factor > MOST_TOGETHER {
            return Err(format!(
                "the parts together make a text up to {factor} times as long, and {MOST_TOGETHER} times is supported"
            ));
        }
        Ok(factor)
    }
}
