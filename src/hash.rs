//! Hashes of 128 bits: XXH3 (Collet, the xxHash specification).
//!
//! It tells bytes apart that differ by mistake or by training, and is no defence against somebody who looks for two
//! texts that agree.

use std::fmt;

use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128::Hasher as Xxh3;

/// A hash of 128 bits, 32 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash(pub u128);

impl Hash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Xxh3::oneshot(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let hash = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
        hash.map(Self).ok_or_else(|| serde::de::Error::custom("a hash must have 32 hexadecimal digits, in lower case"))
    }
}

/// A hash of bytes that come one block after the other.
#[derive(Clone)]
pub struct Hasher(Xxh3);

impl Default for Hasher {
    fn default() -> Self {
        Self(Xxh3::new())
    }
}

impl Hasher {
    /// Adds bytes. Where one block ends and the next begins makes no difference.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Adds a name, so that the same bytes under other names are something else.
    pub fn name(&mut self, name: &str) {
        self.add(&(name.len() as u64).to_le_bytes());
        self.add(name.as_bytes());
    }

    /// The hash of all bytes so far.
    pub fn finish(&self) -> Hash {
        Hash(self.0.finish_128())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Hasher({})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_make_no_difference_and_names_do() {
        let bytes: Vec<u8> = (0..3000).map(|i| (i * i % 251) as u8).collect();
        let mut in_blocks = Hasher::default();
        bytes.chunks(7).for_each(|block| in_blocks.add(block));
        assert_eq!(in_blocks.finish(), Hash::of(&bytes));
        let named = |name: &str| {
            let mut hash = Hasher::default();
            hash.name(name);
            hash.add(&bytes);
            hash.finish()
        };
        assert_ne!(named("a"), named("b"));
    }

    #[test]
    fn a_hash_is_the_published_one() {
        // The xxHash specification's value for no bytes, seed 0.
        assert_eq!(Hash::of(b"").to_string(), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = Hash::of(b"x");
        let text = serde_json::to_string(&hash).expect("text");
        assert_eq!(serde_json::from_str::<Hash>(&text).expect("a hash"), hash);
        for bad in
            ["\"\"", "\"12\"", "\"+0000000000000000000000000000000\"", "7", "\"AA000000000000000000000000000000\""]
        {
            assert!(serde_json::from_str::<Hash>(bad).is_err(), "{bad}");
        }
    }
}
