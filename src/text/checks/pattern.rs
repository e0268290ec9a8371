//! Patterns of splits and replacements.

/// Bytes of a pattern; published ones have up to 800.
const LONGEST: usize = 4096;

/// A pattern: text as it stands, or a regular expression.
#[derive(Clone, Copy)]
pub(super) enum Pattern<'a> {
    Text(&'a str),
    Regex(&'a str),
}

impl Pattern<'_> {
    /// Refuses expressions on which the library fails or takes exponential time. Invalid ones it refuses itself.
    pub fn check(self) -> Result<(), String> {
        let (Self::Text(text) | Self::Regex(text)) = self;
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a pattern has {} bytes; supported: 1 to {LONGEST}", text.len()));
        }
        match self {
            Self::Text(_) => Ok(()),
            Self::Regex(regex) => check_regex(regex),
        }
    }
}

/// A group, or the expression as a whole, as far as it was read.
#[derive(Default)]
struct Group {
    look: bool,
    /// Of this alternative: it has parts, all of them of variable length, one of them without an end.
    parts: bool,
    fixed: bool,
    endless: bool,
    /// An alternative before was so.
    ambiguous: bool,
}

impl Group {
    fn close_alternative(&mut self) {
        self.ambiguous |= self.parts && !self.fixed && self.endless;
        (self.parts, self.fixed, self.endless) = (false, false, false);
    }

    fn add(&mut self, variable: bool, endless: bool) {
        self.parts = true;
        self.fixed |= !variable;
        self.endless |= endless;
    }
}

/// Expressions with looks to the side go to an engine that tries every way. Endless repetitions directly within
/// endless repetitions have exponentially many ways there; elsewhere the time is linear.
fn check_regex(regex: &str) -> Result<(), String> {
    let letters: Vec<char> = regex.chars().collect();
    let tries = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "(?("].iter().any(|look| regex.contains(look));
    let mut groups = vec![Group::default()];
    let mut at = 0;
    while at < letters.len() {
        // One part: whether its length varies, and whether it has repetitions of which a second layer is exponential.
        let mut ambiguous = false;
        let mut look = false;
        match letters[at] {
            '\\' => {
                match letters.get(at + 1) {
                    // It moves a match's beginning, even behind its end, where the library slices.
                    Some('K') => return Err("`\\K` in a pattern is not supported".into()),
                    Some('1'..='9' | 'k') => return Err("references back in a pattern are not supported".into()),
                    _ => {}
                }
                at += 2;
                // A class such as `\p{L}`.
                if matches!(letters.get(at - 1), Some('p' | 'P' | 'x' | 'u')) && letters.get(at) == Some(&'{') {
                    at = letters[at..]
                        .iter()
                        .position(|&letter| letter == '}')
                        .map_or(letters.len(), |end| at + end + 1);
                }
            }
            '[' => at = class_end(&letters, at),
            '(' => {
                let rest: String = letters[at..].iter().take(4).collect();
                let look = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|start| rest.starts_with(start));
                groups.push(Group { look, ..Group::default() });
                at += 1;
                // The group's flags or name are no part of it.
                if letters.get(at) == Some(&'?') {
                    let end = letters[at..].iter().position(|letter| matches!(letter, ':' | '=' | '!' | '>' | ')'));
                    let end = end.map_or(letters.len(), |end| at + end);
                    at = if letters.get(end) == Some(&')') { end } else { end + 1 };
                }
                continue;
            }
            ')' => {
                at += 1;
                let Some(mut group) = groups.pop().filter(|_| !groups.is_empty()) else {
                    return Err("a pattern closes a group that is not open".into());
                };
                group.close_alternative();
                (ambiguous, look) = (group.ambiguous, group.look);
            }
            '|' => {
                at += 1;
                if let Some(group) = groups.last_mut() {
                    group.close_alternative();
                }
                continue;
            }
            _ => at += 1,
        }
        let (variable, endless, next) = quantifier(&letters, at);
        if tries && ambiguous && endless {
            return Err("a pattern repeats a repetition, which takes exponential time".into());
        }
        at = next;
        if let Some(group) = groups.last_mut().filter(|_| !look) {
            group.add(variable || ambiguous, endless || ambiguous);
        }
    }
    Ok(())
}

/// The quantifier at a place: it lets the length vary, it has no upper bound, and the index behind it.
fn quantifier(letters: &[char], at: usize) -> (bool, bool, usize) {
    let (variable, endless, end) = match letters.get(at) {
        Some('*' | '+') => (true, true, at + 1),
        Some('?') => (true, false, at + 1),
        Some('{') => match letters[at..].iter().position(|&letter| letter == '}') {
            Some(length) => {
                let inside: String = letters[at + 1..at + length].iter().collect();
                let number = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
                match inside.split_once(',') {
                    Some((least, "")) if number(least) => (true, true, at + length + 1),
                    // Large counts are as bad as none.
                    Some((_, most)) => (true, most.len() > 2, at + length + 1),
                    None => (false, false, at + length + 1),
                }
            }
            None => (false, false, at),
        },
        _ => return (false, false, at),
    };
    // Lazy or possessive.
    let more = usize::from(end > at && matches!(letters.get(end), Some('?' | '+')));
    (variable, endless, end + more)
}

/// Index behind the class that begins at `[`.
fn class_end(letters: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 1,
            '[' => {
                depth += 1;
                // A bracket directly behind the opening one is a member.
                let negated = usize::from(letters.get(at + 1) == Some(&'^'));
                if letters.get(at + 1 + negated) == Some(&']') {
                    at += 1 + negated;
                }
            }
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    letters.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_they_are_published_are_taken() {
        for regex in [
            r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
            r"(?=(\d{3})+(?!\d))|(?<=\d)x",
            r"(?:\p{L}\p{M}*)+(?!\S)",
            r"(\w+\s*)+",
            r" {2,}",
            r"[]a[b]+(?!c)",
        ] {
            assert_eq!(Pattern::Regex(regex).check(), Ok(()), "{regex}");
        }
    }

    #[test]
    fn patterns_that_explode_or_break_the_library_are_refused() {
        for (regex, what) in [
            (r"(a+)+(?!b)", "exponential"),
            (r"(?=b)((?:x|\s*)+y?)*z", "exponential"),
            (r"(?:(?:a+))*?(?<!b)", "exponential"),
            (r"([ab]{1,}c?){2,}(?!d)", "exponential"),
            (r"(?=ab\K)", r"`\K`"),
            (r"(a)\1", "references"),
            (r"a)", "not open"),
            ("", "0 bytes"),
        ] {
            let error = Pattern::Regex(regex).check().expect_err(regex);
            assert!(error.contains(what), "{regex}: {error}");
        }
        assert!(Pattern::Text("").check().is_err());
        assert!(Pattern::Text(&"a".repeat(LONGEST + 1)).check().is_err());
    }
}
