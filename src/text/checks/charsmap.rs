//! SentencePiece's precompiled character map: `u32` bytes of a trie, the trie (`u32` each), then replacements that
//! end with NUL each. The trie is a double array (Darts): a unit says where its children lie, relative to itself.
//!
//! The library follows it without looking, so every way through it must stay inside.

/// Bytes of the longest replacement; Unicode's own have 33.
const LONGEST: usize = 64;
/// A block of children: one for each byte.
const BLOCK: usize = 256;

/// Checks a map in base64. Gives the bytes of its longest replacement.
pub(super) fn check(base64: &str) -> Result<usize, String> {
    let bytes = decode(base64).ok_or("the character map is no base64")?;
    let broken = |what: &str| format!("the character map is broken: {what}");
    let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| broken("it has no size"))?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > rest.len() || !size.is_multiple_of(4 * BLOCK) || size == 0 {
        return Err(broken(&format!("a trie of {size} bytes in {}", rest.len())));
    }
    let (trie, replacements) = rest.split_at(size);
    let replacements = std::str::from_utf8(replacements).map_err(|_| broken("replacements that are not UTF-8"))?;
    let (units, _) = trie.as_chunks::<4>();
    let units: Vec<u32> = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let mut longest = 0;
    for (at, &unit) in units.iter().enumerate() {
        // The first unit is where every search begins; of the others, those that hold a value have no children.
        if at > 0 && unit >> 31 == 1 {
            continue;
        }
        let offset = u64::from(unit >> 10) << ((unit & 1 << 9) >> 6);
        let children = at as u64 ^ offset;
        // The number of units is a multiple of a block, so that the children of an inner unit are all inside.
        let Some(&first) = usize::try_from(children).ok().and_then(|children| units.get(children)) else {
            return Err(broken(&format!("unit {at} has its children at {children}, and there are {}", units.len())));
        };
        if unit >> 8 & 1 == 1 {
            let from = (first & !(1 << 31)) as usize;
            let text = replacements.get(from..).ok_or_else(|| broken(&format!("a replacement at byte {from}")))?;
            longest = longest.max(text.find('\0').unwrap_or(text.len()));
        }
    }
    if longest > LONGEST {
        return Err(broken(&format!("a replacement has {longest} bytes, and {LONGEST} at most are supported")));
    }
    Ok(longest)
}

/// The bytes of standard base64 with padding, as the library takes it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (groups, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let last = at + 1 == groups.len();
        let padding = if last { group.iter().rev().take_while(|&&letter| letter == b'=').count() } else { 0 };
        if padding > 2 {
            return None;
        }
        let mut bits = 0;
        for &letter in &group[..4 - padding] {
            bits = bits << 6 | u32::from(value(letter)?);
        }
        bits <<= 6 * padding;
        // Bits that are no byte must be 0.
        if bits & ((1 << (8 * padding)) - 1) != 0 {
            return None;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Base64 of a map.
    pub fn encode(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let padded = [group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
            let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
            for at in 0..=group.len() {
                text.push(char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]));
            }
            text.push_str(&"=="[..3 - group.len()]);
        }
        text
    }

    /// A map of the letter `a` to `replacement`: the root's children at 0, those of `a` in the next block.
    pub fn map(replacement: &str) -> Vec<u8> {
        let mut units = vec![0u32; 2 * BLOCK];
        let a = usize::from(b'a');
        units[a] = u32::from(b'a') | 1 << 8 | ((a ^ BLOCK) as u32) << 10;
        units[BLOCK] = 1 << 31;
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, replacement.as_bytes(), b"\0"].concat()
    }

    #[test]
    fn base64_is_read_both_ways() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"\xff\x00\xfe\xfd"] {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
        }
        for text in ["a", "ab==c", "a===", "YQ=a", "YR==", "Y Q="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_map_that_leads_outside_is_refused() {
        assert_eq!(check(&encode(&map("bcé"))), Ok(4));
        let unit = |at: usize, value: u32| {
            let mut map = map("é");
            map[4 + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
            encode(&map)
        };
        let long = "x".repeat(LONGEST + 1);
        for (broken, what) in [
            ("AAAA".to_owned(), "no size"),
            (encode(&[0; 8]), "a trie of 0 bytes"),
            (encode(&[0, 4, 0, 0, 1]), "a trie of 1024 bytes in 1"),
            (unit(0, 0x7fff_fc00), "unit 0"),
            (unit(5, 700 << 10), "unit 5"),
            (unit(BLOCK, 1 << 31 | 1), "at byte 1"),
            (unit(BLOCK, 1 << 31 | 99), "at byte 99"),
            (encode(&map(&long)), "65 bytes"),
            ("?".into(), "base64"),
        ] {
            let error = check(&broken).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }
}
