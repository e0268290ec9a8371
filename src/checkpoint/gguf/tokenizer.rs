//! Tokenizer files from the metadata.

use std::collections::BTreeMap;

use super::head::Metadata;

/// The files, by name.
pub(super) fn files(_: &Metadata) -> Result<BTreeMap<String, Vec<u8>>, String> {
    Ok(BTreeMap::new())
}
