//! Operations on texts that Python has and Rust has not.

use super::lexer::is_space;

/// Without the characters at its ends; without `chars`, without white space.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let gone = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(gone) } else { text };
    if right { text.trim_end_matches(gone) } else { text }
}

/// The first letter upper case, the others lower.
pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

/// Python's `str.title`: a letter behind none is upper case.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match (c.is_alphabetic(), inside) {
            (true, false) => out.extend(c.to_uppercase()),
            (true, true) => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Parts between white space, at most `most` splits. What is left then keeps the white space at its far end.
pub(super) fn split_space(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut parts = vec![];
    let mut rest = strip(text, None, !from_right, from_right);
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        if from_right {
            let start = rest.char_indices().rfind(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
            parts.push(&rest[start..]);
            rest = rest[..start].trim_end_matches(is_space);
        } else {
            let end = rest.find(is_space).unwrap_or(rest.len());
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(is_space);
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// Lines, at all of Python's line ends.
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = vec![];
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, c)| *c == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[start..if keep_ends { end } else { at }]);
        start = end;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

/// Characters to put on each side of a text, divided as Python's `center` does.
pub(super) fn sides(length: usize, width: usize) -> (usize, usize) {
    let pad = width.saturating_sub(length);
    let left = pad / 2 + (pad & width & 1);
    (left, pad - left)
}

/// Escaped for HTML, as `markupsafe` does.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Without tags and comments, white space in one, the commonest entities as characters.
pub(super) fn without_tags(text: &str) -> String {
    let mut kept = text.to_owned();
    for (begin, end) in [("<!--", "-->"), ("<", ">")] {
        let mut out = String::new();
        let mut rest = kept.as_str();
        while let Some(at) = rest.find(begin) {
            let Some(close) = rest[at..].find(end) else { break };
            out.push_str(&rest[..at]);
            rest = &rest[at + close + end.len()..];
        }
        out.push_str(rest);
        kept = out;
    }
    let joined = split_space(&kept, usize::MAX, false).join(" ");
    unescaped(&joined)
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = rest.find(';').filter(|end| *end < 12).and_then(|end| Some((end, entity(&rest[1..end])?)));
        match known {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    if let Some(code) = name.strip_prefix('#') {
        let hex = code.strip_prefix(['x', 'X']);
        let code = hex.map_or_else(|| code.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "copy" => '©',
        "reg" => '®',
        "hellip" => '…',
        "mdash" => '—',
        "ndash" => '–',
        _ => return None,
    })
}

/// Percent signs for what an address cannot hold; `safe` stays.
pub(super) fn quoted_address(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(byte.into()),
            byte if safe.contains(char::from(byte)) => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The place of a part in characters, between two places.
pub(super) fn find(text: &str, part: &str, bounds: (usize, usize), last: bool) -> Option<usize> {
    if bounds.0 > bounds.1 {
        return None;
    }
    let window = between(text, bounds);
    let at = if last { window.rfind(part) } else { window.find(part) }?;
    Some(bounds.0 + window[..at].chars().count())
}

/// The characters between two places.
pub(super) fn between(text: &str, (start, end): (usize, usize)) -> &str {
    let place = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    let (start, end) = (place(start), place(end));
    if start < end { &text[start..end] } else { "" }
}
