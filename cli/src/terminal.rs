//! The two output streams: every message and every result of the commands is written here.
//!
//! Messages go to stderr and are never worth a failure: where stderr is full or closed they are lost, and the work
//! goes on. Results go to stdout; where that cannot be written the command ends.
//!
//! Names of models and files, texts of tokens and answers of servers may hold control characters, which a terminal
//! obeys: it moves the cursor, changes its title, or sends input of its own. So they are shown as `\u{1b}`:
//! in messages always (also with the characters that turn the direction of writing, so that no file name
//! looks like another one), in results where stdout is a terminal. To a file or a pipe a result goes as it is.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::CommandError;

/// A line on stderr, for people.
macro_rules! status {
    ($($argument:tt)*) => {
        $crate::terminal::message(format_args!($($argument)*), "\n")
    };
}
pub(crate) use status;

/// A message on stderr and its ending. Where stderr is closed or full, nothing happens.
pub(crate) fn message(message: fmt::Arguments<'_>, end: &str) {
    let text = escaped(&message.to_string(), is_unseen).into_owned() + end;
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A piece of a model's text on stderr.
pub(crate) fn aside(text: &str) {
    let mut out = io::stderr().lock();
    let text = if io::stderr().is_terminal() { escaped(text, is_control) } else { Cow::Borrowed(text) };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A message as part of another one, or of a progress bar.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen)
}

/// Writes a result, or a piece of one, to stdout at once.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    print_styled("", text)
}

/// The same after a sequence that the terminal is to obey.
pub(crate) fn print_styled(style: &str, text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let text = if out.is_terminal() { escaped(text, is_control) } else { Cow::Borrowed(text) };
    let written = out.write_all(style.as_bytes()).and_then(|()| out.write_all(text.as_bytes()));
    written.and_then(|()| out.flush()).map_err(CommandError::Stdout)
}

/// A result as JSON, for [`print()`].
pub(crate) fn json(result: &impl Serialize) -> Result<String, CommandError> {
    let json = serde_json::to_string_pretty(result).map_err(|e| CommandError::Stdout(e.into()))?;
    Ok(json + "\n")
}

/// Characters that a terminal obeys, but for line ends and tabs.
fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// Those, and the ones that turn the direction of writing (Unicode's embeddings, overrides and isolates).
fn is_unseen(c: char) -> bool {
    is_control(c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, escapes: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(escapes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if escapes(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        for (text, seen) in [
            ("plain é 日本 🦊\n\tindented", "plain é 日本 🦊\n\tindented"),
            ("\x1b]0;title\x07\x1b[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"),
            ("a\rb\0\x08\x7f", "a\\u{d}b\\u{0}\\u{8}\\u{7f}"),
            // The same sequences may begin with one character of C1.
            ("\u{9b}2J\u{90}x\u{9c}", "\\u{9b}2J\\u{90}x\\u{9c}"),
        ] {
            assert_eq!(escaped(text, is_control), seen);
            assert_eq!(escaped(text, is_unseen), seen);
        }
        let turned = "a\u{202e}fdp.exe\u{2069}";
        assert_eq!(escaped(turned, is_unseen), "a\\u{202e}fdp.exe\\u{2069}");
        assert_eq!(escaped(turned, is_control), turned, "an answer may be in any direction");
        // Hebrew and Arabic have marks that turn nothing.
        assert!(matches!(shown("שלום\u{200f}"), Cow::Borrowed(_)));
    }
}
