//! The two hashes by which the hub names files: the SHA-256 of large ones, git's own hash of small ones.

use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::Digest as _;

/// Hash of a file's bytes, given in order. An entity tag tells which hash.
#[derive(Clone)]
pub(super) enum Digest {
    Sha256(Sha256),
    Git(Sha1),
    /// A server that names files in a way of its own: only their size can be checked.
    Unknown,
}

impl Digest {
    /// The hash behind an entity tag, for a file of `size` bytes.
    pub(super) fn of(etag: &str, size: u64) -> Self {
        let hexadecimal = etag.bytes().all(|b| b.is_ascii_hexdigit());
        match etag.len() {
            64 if hexadecimal => Self::Sha256(Sha256::new()),
            // What git hashes begins with the object's kind and size.
            40 if hexadecimal => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
            _ => Self::Unknown,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    /// True if the bytes so far are those that an entity tag promises, or if the tag is no hash.
    pub(super) fn matches(&self, etag: &str) -> bool {
        self.clone().finish().is_none_or(|hash| hash.eq_ignore_ascii_case(etag))
    }

    /// The hash in hexadecimal.
    pub(super) fn finish(self) -> Option<String> {
        let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => Some(hexadecimal(&hash.finalize())),
            Self::Git(hash) => Some(hexadecimal(&hash.finalize())),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(etag: &str, bytes: &[u8]) -> Option<String> {
        let mut digest = Digest::of(etag, bytes.len() as u64);
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        digest.update(first);
        digest.update(rest);
        digest.finish()
    }

    #[test]
    fn hashes_are_those_of_git_and_of_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [git, sha256] {
            assert_eq!(hash(etag, b"hello\n").as_deref(), Some(etag));
            assert_ne!(hash(etag, b"jello\n").as_deref(), Some(etag));
        }
        assert_eq!(hash("some-other-tag", b"hello\n"), None);
    }
}
