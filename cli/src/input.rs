//! Input from outside, with limits on its size.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

use crate::error::CommandError;

/// Most bytes of a line.
pub(crate) const LONGEST_LINE: usize = 1 << 20;

/// Most bytes of a too long line that are skipped until it ends. A longer one is an error: it is no text.
const LONGEST_REST: usize = 64 << 20;

/// Most bytes of a file with a text or with token ids.
const LARGEST_FILE: u64 = 256 << 20;

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its end.
    Text(String),
    /// One that is not taken, and the reason.
    Refused(String),
    /// The input is over.
    End,
}

/// The next line. One that is too long is passed over without being kept; one that is no UTF-8 is passed over too.
pub(crate) fn line(input: &mut impl BufRead) -> io::Result<Line> {
    let (mut kept, mut length) = (vec![], 0_usize);
    let ended = loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            break length > 0;
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        length += part.len();
        if length <= LONGEST_LINE {
            kept.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if end.is_some() {
            break true;
        }
        if length > LONGEST_LINE + LONGEST_REST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line does not end within {LONGEST_REST} bytes, so it is no text"),
            ));
        }
    };
    if !ended {
        return Ok(Line::End);
    }
    if length > LONGEST_LINE {
        return Ok(Line::Refused(format!("a line of {length} bytes is too long; at most {LONGEST_LINE} are taken")));
    }
    Ok(match String::from_utf8(kept) {
        Ok(text) => Line::Text(text),
        Err(error) => Line::Refused(format!("the line is not UTF-8: {}", error.utf8_error())),
    })
}

/// The bytes of a file.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>, CommandError> {
    let fault = CommandError::file(path);
    let mut bytes = vec![];
    File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(&fault)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let large = format!("the file has more than {LARGEST_FILE} bytes; give a part of it");
        return Err(fault(io::Error::new(io::ErrorKind::FileTooLarge, large)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, repeat};

    use super::*;

    fn lines(bytes: &[u8], buffer: usize) -> Vec<Line> {
        let mut input = BufReader::with_capacity(buffer, Cursor::new(bytes));
        let mut lines = vec![];
        loop {
            match line(&mut input).expect("readable") {
                Line::End => return lines,
                line => lines.push(line),
            }
        }
    }

    #[test]
    fn lines_come_one_by_one_however_they_are_cut() {
        let text = |text: &str| Line::Text(text.into());
        for buffer in [1, 3, 64] {
            assert_eq!(lines("é\n\n a\r\nlast".as_bytes(), buffer), [text("é"), text(""), text(" a\r"), text("last")]);
            assert!(lines(b"", buffer).is_empty());
            let mixed = lines(b"a\nb\xffc\nd\n", buffer);
            assert!(
                matches!(&mixed[..], [Line::Text(a), Line::Refused(why), Line::Text(d)]
                if a == "a" && d == "d" && why.contains("index 1")),
                "{mixed:?}"
            );
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let most = "x".repeat(LONGEST_LINE);
        let all = [most.as_str(), &(most.clone() + "y"), "short"].join("\n");
        let found = lines(all.as_bytes(), 8192);
        assert!(
            matches!(&found[..], [Line::Text(first), Line::Refused(why), Line::Text(last)]
            if *first == most && last == "short" && why.contains("1048577")),
            "{}",
            found.len()
        );
    }

    #[test]
    fn what_never_ends_is_an_error() {
        let error = line(&mut BufReader::new(repeat(0))).expect_err("no end");
        assert!(error.to_string().contains("does not end"), "{error}");
    }
}
