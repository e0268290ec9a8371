//! Record of a conversion, kept in the folder that it fills: source, options, and the files that are finished.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use selvedge::checkpoint::{Checkpoint, ConvertOptions, SourceError, adapter};
use selvedge::formats::ROUNDING_VERSION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) use selvedge::checkpoint::CONVERSION_RECORD as RECORD;
/// Most bytes of a record that is read.
pub(super) const LARGEST: u64 = 1 << 26;

/// Version of the record's own layout.
const VERSION: u32 = 1;
/// Bytes of weights up to which all of them are hashed. Larger models are sampled in every tensor.
const HASHED_WHOLE: u64 = 1 << 30;
/// Bytes of a sample; a tensor has three.
const SAMPLE: u64 = 1 << 12;
/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// Identity and state of a conversion.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    source: Source,
    options: Options,
    /// Files that this conversion has begun, and what they are once they are finished.
    pub(super) files: BTreeMap<String, Option<Written>>,
}

/// A finished file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// Fingerprint of the model that is converted; the place where it lies is no part of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// SHA-256 of config.json.
    config: String,
    /// SHA-256 of names, dtypes, shapes and places of all tensors.
    tensors: String,
    /// Files of weights.
    files: BTreeMap<String, Weights>,
    /// SHA-256 of each adapter that is merged, in order.
    #[serde(default)]
    adapters: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Weights {
    size: u64,
    /// SHA-256 of the tensors' bytes, or of samples of each, see [`HASHED_WHOLE`].
    sha256: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Options {
    weights: String,
    rounding: String,
    /// Bytes.
    shard: u64,
    /// See [`ROUNDING_VERSION`].
    quantiser: u32,
}

impl Record {
    /// The record of a conversion that has not begun. `files` gives the bytes of the model's files of weights.
    pub(super) async fn new(
        checkpoint: &Checkpoint,
        files: &dyn selvedge::checkpoint::Source,
        adapters: &[PathBuf],
        options: &ConvertOptions,
    ) -> Result<Self, SourceError> {
        let options = Options {
            weights: options.storage.choice.name(),
            rounding: options.storage.rounding.name().into(),
            shard: options.shard,
            quantiser: ROUNDING_VERSION,
        };
        let mut source = Source::of(checkpoint, files).await?;
        for folder in adapters {
            source.adapters.push(hash_of(folder)?);
        }
        Ok(Self { version: VERSION, source, options, files: BTreeMap::new() })
    }

    /// Reads a record; an error says why it is none.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut this: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        // Records of earlier versions have other names for the same roundings.
        for (old, new) in [("searched", "mse"), ("plain", "absmax")] {
            if this.options.rounding == old {
                this.options.rounding = new.into();
            }
        }
        if this.version != VERSION {
            return Err(format!("it has version {}, and this program knows version {VERSION}", this.version));
        }
        Ok(this)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Differences of source and options between an earlier conversion and this one, for people; none if this one can
    /// go on with the files of the earlier.
    pub(super) fn differences(&self, earlier: &Self) -> Vec<String> {
        let mut found = vec![];
        let (before, now) = (&earlier.options, &self.options);
        for (name, before, now) in [
            ("--weights", before.weights.clone(), now.weights.clone()),
            ("--rounding", before.rounding.clone(), now.rounding.clone()),
            ("--shard", mebibytes(before.shard), mebibytes(now.shard)),
            ("the version of the rounding", before.quantiser.to_string(), now.quantiser.to_string()),
        ] {
            if before != now {
                found.push(format!("{name} was {before} and is {now}"));
            }
        }
        let (before, now) = (&earlier.source, &self.source);
        if before.config != now.config {
            found.push("the source has another config.json".into());
        }
        let names: BTreeSet<&String> = before.files.keys().chain(now.files.keys()).collect();
        let other = names.into_iter().filter(|name| before.files.get(*name) != now.files.get(*name));
        let other: Vec<&str> = other.map(String::as_str).collect();
        match other.as_slice() {
            [] if before.adapters != now.adapters => found.push("other adapters are merged".into()),
            [] if before.tensors != now.tensors => found.push("the source's tensors lie otherwise".into()),
            [] => {}
            [name] => found.push(format!("the source's {name} holds other weights")),
            [name, rest @ ..] => found.push(format!("the source's {name} and {} more hold other weights", rest.len())),
        }
        found
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

impl Source {
    async fn of(checkpoint: &Checkpoint, files: &dyn selvedge::checkpoint::Source) -> Result<Self, SourceError> {
        let mut table = Sha256::new();
        let mut ranges: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
        for (name, info) in checkpoint.tensors() {
            table.update(format!("{name:?} {} {:?}", info.dtype, info.shape));
            for (file, range) in info.places() {
                table.update(format!(" {file:?} {range:?}\n"));
                ranges.entry(file).or_default().push(range);
            }
        }
        let total: u64 = ranges.values().flatten().map(|range| range.end - range.start).sum();
        let mut weights = BTreeMap::new();
        for (file, mut ranges) in ranges {
            ranges.sort_by_key(|range| range.start);
            let size = files.size(file).await?.unwrap_or(0);
            let mut hash = Sha256::new();
            for range in ranges {
                let parts = if total > HASHED_WHOLE { samples(range) } else { vec![range] };
                for part in parts {
                    for from in part.clone().step_by(BLOCK) {
                        hash.update(&files.read(file, from..part.end.min(from + BLOCK as u64)).await?);
                    }
                }
            }
            weights.insert(file.to_owned(), Weights { size, sha256: hexadecimal(hash) });
        }
        let config = hexadecimal(Sha256::new_with_prefix(checkpoint.config()));
        Ok(Self { config, tensors: hexadecimal(table), files: weights, adapters: vec![] })
    }
}

/// Hash of an adapter's files.
fn hash_of(folder: &Path) -> Result<String, SourceError> {
    let mut hash = Sha256::new();
    for name in [adapter::CONFIG, adapter::WEIGHTS] {
        let path = folder.join(name);
        let fault = |error: io::Error| SourceError::Io { file: path.display().to_string(), message: error.to_string() };
        let (mut file, mut block) = (File::open(&path).map_err(fault)?, vec![0; BLOCK]);
        loop {
            match file.read(&mut block).map_err(fault)? {
                0 => break,
                length => hash.update(&block[..length]),
            }
        }
    }
    Ok(hexadecimal(hash))
}

/// Beginning, middle and end of a range, or all of a short one.
fn samples(range: Range<u64>) -> Vec<Range<u64>> {
    let length = range.end - range.start;
    if length <= 3 * SAMPLE {
        return vec![range];
    }
    let middle = range.start + (length - SAMPLE) / 2;
    [range.start, middle, range.end - SAMPLE].map(|from| from..from + SAMPLE).to_vec()
}

/// A hash as text.
pub(super) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_the_old_name_of_a_rounding_is_the_same_record() {
        let record = |rounding: &str| {
            let source =
                Source { config: String::new(), tensors: String::new(), files: BTreeMap::new(), adapters: vec![] };
            let options = Options { weights: "q4".into(), rounding: rounding.into(), shard: 1, quantiser: 1 };
            Record { version: VERSION, source, options, files: BTreeMap::new() }
        };
        for (old, new) in [("searched", "mse"), ("plain", "absmax")] {
            let read = Record::parse(&record(old).to_json().expect("JSON")).expect("a record");
            assert_eq!(read, record(new));
        }
        assert_eq!(record("mse").differences(&record("absmax")), ["--rounding was absmax and is mse"]);
    }

    #[test]
    fn samples_lie_in_the_range() {
        for (range, count) in [(5..5, 1), (5..6, 1), (0..3 * SAMPLE, 1), (7..7 + 3 * SAMPLE + 1, 3), (9..1 << 40, 3)] {
            let found = samples(range.clone());
            assert_eq!(found.len(), count, "{range:?}");
            assert_eq!((found[0].start, found[count - 1].end), (range.start, range.end));
            assert!(found.is_sorted_by(|a, b| a.end <= b.start), "{found:?}");
        }
    }
}
