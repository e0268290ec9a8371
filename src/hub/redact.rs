//! Text of a server, a proxy or the environment, made fit to be printed.

use std::fmt;

/// Longest text that is printed, in characters.
const LONGEST: usize = 600;

/// A text without secrets: addresses in it have lost their user, password, query and fragment, and characters
/// that could steer a terminal are escaped. Errors and notices hold foreign text only in this form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Words among which addresses may stand.
    pub(super) fn new(text: &str) -> Self {
        let mut words = String::new();
        // What may end an address within a sentence.
        for piece in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`<>()".contains(c)) {
            let word = piece.trim_end_matches(|c: char| c.is_whitespace() || "\"'`<>()".contains(c));
            let is_address = word.contains("://");
            words.push_str(&if is_address { address(word) } else { word.to_owned() });
            words.push_str(&piece[word.len()..]);
        }
        Self(printable(&words))
    }

    /// A single address, be it whole or not.
    pub(super) fn address(text: &str) -> Self {
        Self(printable(&address(text)))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address up to its query, without what stands before the host. Where it is not certain which part a secret
/// is, more goes rather than less.
fn address(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (&text[..scheme.len() + 3], rest));
    let (shown, hidden) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (user, place) = shown.rsplit_once('@').map_or((None, shown), |(user, place)| (Some(user), place));
    let host = place.split('/').next().unwrap_or_default();
    let port = host.rsplit_once(']').map_or(host, |(_, port)| port).split_once(':').map_or("", |(_, port)| port);
    // A password may hold a `?`, which makes of its first half what looks like a host and a port.
    let torn = hidden.contains('@') && !shown.contains('/');
    let place = if torn || !port.bytes().all(|b| b.is_ascii_digit()) { "***" } else { place };
    format!("{scheme}{}{place}", if user.is_some() { "***@" } else { "" })
}

/// A text on one line, in which nothing is a command to a terminal or turns the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if steers { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (text, wanted) in [
            ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
            ("http://127.0.0.1:80/a", "http://127.0.0.1:80/a"),
            ("http://[::1]:80/a", "http://[::1]:80/a"),
            ("https://me:hush@hub.example:443/a", "https://***@hub.example:443/a"),
            ("https://hush@hub.example", "https://***@hub.example"),
            ("https://me:hu/sh@hub.example/a", "https://***@hub.example/a"),
            ("https://me:hu@sh@hub.example/a", "https://***@hub.example/a"),
            ("https://me:hush?sh@hub.example/a", "https://***"),
            ("https://me:12?hush@hub.example/a", "https://***"),
            ("https://me:hush#sh@hub.example/a", "https://***"),
            ("https://cdn.example/x?Signature=hush", "https://cdn.example/x"),
            ("https://cdn.example/x?Signature=hu@sh", "https://cdn.example/x"),
            ("https://cdn.example/x#hush", "https://cdn.example/x"),
            ("me:hush@proxy.example:80", "***@proxy.example:80"),
            ("/x?Signature=hush", "/x"),
        ] {
            assert_eq!(Shown::address(text).to_string(), wanted);
        }
    }

    #[test]
    fn addresses_are_found_among_words() {
        let text = "it leads to `https://me:hush@a.example/x?hush`, (socks5://me:hush@b) \"http://c?hush\" and on";
        let wanted = "it leads to `https://***@a.example/x`, (socks5://***@b) \"http://c\" and on";
        assert_eq!(Shown::new(text).to_string(), wanted);
        assert_eq!(Shown::new("no address: 7 of 8 bytes?").to_string(), "no address: 7 of 8 bytes?");
    }

    #[test]
    fn terminals_are_not_steered() {
        let shown = Shown::new("a\u{1b}[2Jb\r\nc\u{202e}d").to_string();
        assert_eq!(shown, "a\\u{1b}[2Jb\\u{d}\\u{a}c\\u{202e}d");
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
