//! The header of a safetensors file: which tensor lies where. Nothing else of the file is touched.
//!
//! A file is `u64 n`, then `n` bytes of JSON `{name: {dtype, shape, data_offsets: [from, to]}}`, then the data
//! without holes. Read here and not by the `safetensors` crate, because that one counts bytes in `usize`
//! (shards above 4 GiB fail in a browser), refuses a whole file for one unknown dtype, lets a repeated name
//! overwrite the first, and does not say where an offset is wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{CheckpointError, Dtype, Source, TensorInfo, kind};

/// Longest header that is read, as the format's own readers have it.
const LONGEST_HEADER: u64 = 100_000_000;

/// The beginning of a file whose header has this text: the data begins behind it, on an 8-byte boundary.
pub fn head(mut header: String) -> Vec<u8> {
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// The tensors of a file, by their place in it.
pub(super) async fn read_header(source: &dyn Source, file: &str) -> Result<Vec<(String, TensorInfo)>, CheckpointError> {
    let fail = |what: String| CheckpointError::Header { file: source.describe(file), what };
    let size = source.size(file).await?.ok_or_else(|| fail("there is no such file".into()))?;
    if size < 8 {
        return Err(fail(format!("{size} bytes are too few for the length of a header")));
    }
    let length = source.read(file, 0..8).await?;
    let length: [u8; 8] = length.as_ref().try_into().map_err(|_| fail("the length of the header is cut".into()))?;
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(8);
    if length == 0 || length > LONGEST_HEADER || data > size {
        let first = source.read(file, 0..size.min(kind::FIRST as u64)).await?;
        if let Some(what) = kind::of_bytes(&first) {
            return Err(fail(what.into()));
        }
    }
    if length > LONGEST_HEADER {
        return Err(fail(format!("a header of {length} bytes; at most {LONGEST_HEADER} are read")));
    }
    if data > size {
        return Err(fail(format!("the header should end at byte {data}, but the file has {size}; is it complete?")));
    }
    let header = source.read(file, 8..data).await?;
    parse(&header, file, data, size).map_err(fail)
}

/// Parses and checks a header. `data` is the byte at which the data begins, `size` the length of the file.
fn parse(header: &[u8], file: &str, data: u64, size: u64) -> Result<Vec<(String, TensorInfo)>, String> {
    let Entries(entries) = serde_json::from_slice(header).map_err(|e| format!("its header: {e}"))?;
    let mut seen = BTreeSet::new();
    if let Some((name, _)) = entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(format!("it names tensor `{name}` twice"));
    }
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let info = entry.check(file, data, size).map_err(|what| format!("tensor `{name}`: {what}"))?;
        tensors.push((name, info));
    }
    tensors.sort_by_key(|(_, info)| (info.range.start, info.range.end));
    let mut end = data;
    let mut before = "the header";
    for (name, TensorInfo { range, .. }) in &tensors {
        if range.start < end {
            return Err(format!(
                "tensor `{name}` begins at byte {}, inside `{before}`, which ends at {end}",
                range.start
            ));
        }
        if range.start > end {
            return Err(format!(
                "{} bytes between `{before}` and tensor `{name}` belong to no tensor",
                range.start - end
            ));
        }
        (end, before) = (range.end, name);
    }
    if end < size {
        return Err(format!("{} bytes after `{before}` belong to no tensor", size - end));
    }
    Ok(tensors)
}

/// A tensor's entry in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn check(self, file: &str, data: u64, size: u64) -> Result<TensorInfo, String> {
        let Self { dtype, shape, data_offsets: (from, to) } = self;
        if from > to {
            return Err(format!("its bytes {from}..{to} run backwards"));
        }
        let absolute = |offset: u64| offset.checked_add(data).filter(|&at| at <= size);
        let (Some(start), Some(end)) = (absolute(from), absolute(to)) else {
            return Err(format!(
                "its bytes {from}..{to} lie outside of the file's {} of data; is it complete?",
                size - data
            ));
        };
        let numbers = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        if let Some(bits) = bits(&dtype) {
            let bytes = numbers.and_then(|n| n.checked_mul(bits)).filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
            if bytes != Some(to - from) {
                let wanted = bytes.map_or_else(|| "an impossible number of bytes".into(), |n| format!("{n} bytes"));
                return Err(format!("{dtype} {shape:?} takes {wanted}, but it has {}", to - from));
            }
        }
        let shape: Result<Vec<usize>, _> = shape.iter().map(|&n| usize::try_from(n)).collect();
        let shape = shape.map_err(|_| "a dimension too large for this machine".to_owned())?;
        let range = Range { start, end };
        Ok(TensorInfo {
            dtype: Dtype::named(dtype),
            shape,
            file: file.into(),
            range,
            planes: vec![],
            packed: None,
            merged: None,
        })
    }
}

/// Bits of one number of the dtypes that the format defines; `None` for those it does not.
fn bits(dtype: &str) -> Option<u64> {
    let known: safetensors::Dtype = serde_json::from_value(dtype.into()).ok()?;
    Some(known.bitsize() as u64)
}

/// The tensors of a header in the order of the text, repeated names among them.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = vec![];
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map.next_value().map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                    entries.push((name, entry));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
