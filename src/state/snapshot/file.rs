//! The file of a snapshot.
//!
//! A safetensors file whose metadata has one entry, `selvedge_state`: JSON with the layout's version, the checksum,
//! the model's fingerprint and everything of the snapshot that is no array. Its tensors:
//!
//! | name | numbers | |
//! |---|---|---|
//! | `tokens` | U32 `[tokens]` | ids read, then ids chosen and not read |
//! | `sampler` | U32 [`[SAMPLER_WORDS]`](SAMPLER_WORDS) | the slot's record |
//! | `sampler.counts` | U32 `[seen, 2]` | token and count, of those with a count; only where something is penalised |
//! | `sampler.vocabulary` | U32 `[1]` | tokens that are counted; likewise |
//! | `state.NAME` | F32, keys and values kept in f16: F16 | one tensor of the memory, its shape as in [`StateTensor`] |
//! | `state.NAME`, `state.NAME.scales` | I8, F32 | a recurrent state whose file is rounded: a scale a row of the last axis |
//! | `state.NAME.positions` | U32 `[runs, 2]` | first position and rows of each run; keys and values only |
//! | `checkpoints.I.NAME`, its positions and scales | as `state.NAME` | of the checkpoint of that number |
//!
//! The checksum is the XXH3 (128 bits) of the whole file with 32 zeros in its own place. Nothing is compressed:
//! f16 keys and f32 states of trained models are nearly random in all but their exponents (`docs/state.md`).

use std::borrow::Cow;
use std::collections::HashMap;

use half::f16;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{
    CheckpointKind, Fingerprint, SavedCheckpoint, Snapshot, SnapshotBytes, SnapshotError, SnapshotText, rounded,
};
use crate::hash::{Hash, Hasher};
use crate::state::{KvFormat, SAMPLER_WORDS, SamplerState, SlotState, StateTensor};

/// Version of the layout that this program writes, and the only one that it reads.
const VERSION: u64 = 2;
/// The metadata's entry.
const ENTRY: &str = "selvedge_state";
/// In front of the checksum's digits, as the header holds them: JSON within a JSON string.
const BEFORE_CHECKSUM: &[u8] = br#"\"checksum\":\""#;
/// End of the names of convolution columns.
const CONV: &str = ".conv";
/// Arrays that belong to a tensor: the ends of their names.
const BESIDE: [&str; 2] = [".positions", ".scales"];
/// Digits of the checksum.
const DIGITS: usize = 32;
/// Most checkpoints of a file.
const MOST_CHECKPOINTS: usize = 1 << 16;

type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// Everything of a snapshot that is no array.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    version: u64,
    checksum: Hash,
    /// Hash of the token ids and the text: what is used before the whole file is read.
    pub text_hash: Hash,
    pub fingerprint: Fingerprint,
    pub weights: String,
    pub kv_format: KvFormat,
    /// Position after the tokens read, prefix tokens included.
    position: usize,
    pub read: usize,
    pub first: usize,
    /// A token was chosen in the slot.
    has_token: bool,
    pub kind: CheckpointKind,
    rounded: bool,
    /// Tokens read at each checkpoint, and its kind.
    checkpoints: Vec<(usize, CheckpointKind)>,
    pub text: Option<SnapshotText>,
    note: Option<String>,
}

/// A tensor on its way into a file.
struct Array<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl Snapshot {
    /// The file's bytes. The same snapshot gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let head = Head {
            version: VERSION,
            checksum: Hash::default(),
            text_hash: text_hash(bytemuck::cast_slice(&self.tokens), self.text.as_ref()),
            fingerprint: self.fingerprint.clone(),
            weights: self.weights.clone(),
            kv_format: self.kv_format,
            position: self.state.position,
            read: self.read,
            first: self.first,
            has_token: self.state.sampler.last.is_some(),
            kind: self.kind,
            rounded: self.rounded,
            checkpoints: self.checkpoints.iter().map(|checkpoint| (checkpoint.read, checkpoint.kind)).collect(),
            text: self.text.clone(),
            note: self.note.clone(),
        };
        let fault = |what: String| SnapshotError::Inconsistent(what);
        let entry = serde_json::to_string(&head).map_err(|e| fault(e.to_string()))?;
        let arrays = self.arrays();
        let views = arrays.iter().map(|array| {
            let view = TensorView::new(array.dtype, array.shape.clone(), &array.bytes);
            Ok((array.name.as_str(), view.map_err(|e| fault(format!("`{}`: {e}", array.name)))?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([(ENTRY.to_owned(), entry)]);
        let mut bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fault(e.to_string()))?;
        let at = checksum_at(&bytes).ok_or_else(|| fault("its header has no checksum".into()))?;
        let checksum = Hash::of(&bytes).to_string();
        bytes[at..at + DIGITS].copy_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    /// Reads a file. Everything is checked that the file alone can tell: that no byte has changed, that shapes and
    /// numbers agree, that tokens and positions explain each other. Whether it fits a model is for
    /// [`Snapshot::check`] and for the engine that restores it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (file, head) = open(bytes)?;
        let array = |name: &str| file.tensor(name).map_err(|_| inconsistent(format!("it has no `{name}`")));
        let tokens = words(&array("tokens")?, "tokens")?;
        if head.read > tokens.len() || head.position < head.read {
            let what = format!("{} tokens, {} of them read, end at {}", tokens.len(), head.read, head.position);
            return Err(inconsistent(what));
        }
        if head.first > head.read {
            return Err(inconsistent(format!("{} tokens read, and its rows begin at {}", head.read, head.first)));
        }
        let places = &head.checkpoints;
        if places.len() > MOST_CHECKPOINTS || !places.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(inconsistent("its checkpoints do not ascend".into()));
        }
        if places.iter().any(|&(read, _)| read == 0 || read >= head.read) {
            return Err(inconsistent("a checkpoint does not lie within the tokens read".into()));
        }
        if text_hash(bytemuck::cast_slice(&tokens), head.text.as_ref()) != head.text_hash {
            return Err(inconsistent("its text is not that of its hash".into()));
        }
        let mut state =
            SlotState { position: head.position, tensors: tensors(&file, "state.")?, sampler: sampler(&file)? };
        if !head.has_token {
            state.sampler.last = None;
        }
        let checkpoints = head.checkpoints.iter().enumerate().map(|(i, &(read, kind))| {
            let tensors = tensors(&file, &format!("checkpoints.{i}."))?;
            Ok(SavedCheckpoint { read, kind, tensors })
        });
        Ok(Self {
            checkpoints: checkpoints.collect::<Result<_>>()?,
            fingerprint: head.fingerprint,
            weights: head.weights,
            kv_format: head.kv_format,
            tokens,
            read: head.read,
            first: head.first,
            state,
            kind: head.kind,
            rounded: head.rounded,
            text: head.text,
            note: head.note,
        })
    }

    /// Bytes of the file by kind.
    pub fn bytes(&self) -> SnapshotBytes {
        let mut bytes = SnapshotBytes::default();
        for array in self.arrays() {
            let size = array.bytes.len() as u64;
            let kind = match array.name.as_str() {
                name if name.starts_with("checkpoints.") => &mut bytes.checkpoints,
                name if !name.starts_with("state.") => &mut bytes.other,
                name if name.ends_with(".positions") || name.ends_with(".k") || name.ends_with(".v") => &mut bytes.kv,
                name if name.ends_with(CONV) => &mut bytes.conv,
                _ => &mut bytes.recurrent,
            };
            *kind += size;
        }
        bytes
    }

    fn arrays(&self) -> Vec<Array<'_>> {
        let words = |name: &str, shape: Vec<usize>, words: Vec<u32>| Array {
            name: name.into(),
            dtype: Dtype::U32,
            shape,
            bytes: Cow::Owned(bytemuck::cast_slice(&words).to_vec()),
        };
        let sampler = &self.state.sampler;
        let mut arrays = vec![
            words("tokens", vec![self.tokens.len()], self.tokens.clone()),
            words("sampler", vec![SAMPLER_WORDS], sampler.words().to_vec()),
        ];
        if sampler.sampler.penalises() {
            let counted = sampler.counts.iter().enumerate().filter(|(_, count)| **count > 0);
            let pairs: Vec<u32> = counted.flat_map(|(token, &count)| [token as u32, count]).collect();
            let length = u32::try_from(sampler.counts.len()).unwrap_or(u32::MAX);
            arrays.push(words("sampler.counts", vec![pairs.len() / 2, 2], pairs));
            arrays.push(words("sampler.vocabulary", vec![1], vec![length]));
        }
        let of_state = self.state.tensors.iter().map(|tensor| ("state.".to_owned(), tensor));
        let of_checkpoints = self.checkpoints.iter().enumerate();
        let of_checkpoints =
            of_checkpoints.flat_map(|(i, c)| c.tensors.iter().map(move |t| (format!("checkpoints.{i}."), t)));
        for (prefix, tensor) in of_state.chain(of_checkpoints) {
            let name = format!("{prefix}{}", tensor.name);
            let is_kv = !tensor.positions.is_empty() || is_kv(&tensor.name);
            let (dtype, bytes) = match self.kv_format {
                _ if self.rounded && is_recurrent(&tensor.name) => {
                    let (codes, scales) = rounded::encode(tensor);
                    arrays.push(Array {
                        name: format!("{name}.scales"),
                        dtype: Dtype::F32,
                        shape: vec![scales.len()],
                        bytes: Cow::Owned(bytemuck::cast_slice(&scales).to_vec()),
                    });
                    (Dtype::I8, Cow::Owned(bytemuck::cast_slice(&codes).to_vec()))
                }
                KvFormat::F16 if is_kv => {
                    let halves: Vec<f16> = tensor.data.iter().map(|&x| f16::from_f32(x)).collect();
                    (Dtype::F16, Cow::Owned(bytemuck::cast_slice(&halves).to_vec()))
                }
                _ => (Dtype::F32, Cow::Borrowed(bytemuck::cast_slice(&tensor.data))),
            };
            if is_kv {
                let runs = runs(&tensor.positions);
                arrays.push(words(&format!("{name}.positions"), vec![runs.len() / 2, 2], runs));
            }
            arrays.push(Array { name, dtype, shape: tensor.shape.clone(), bytes });
        }
        arrays
    }
}

/// Hash of the bytes of token ids and of the text that they stand for.
pub(super) fn text_hash(tokens: &[u8], text: Option<&SnapshotText>) -> Hash {
    let mut hash = Hasher::default();
    hash.add(tokens);
    if let Some(SnapshotText { text, ends, replies }) = text {
        hash.name(text);
        for pair in ends.iter().chain(replies) {
            hash.add(&(pair.0 as u64).to_le_bytes());
            hash.add(&(pair.1 as u64).to_le_bytes());
        }
    }
    hash.finish()
}

fn inconsistent(what: String) -> SnapshotError {
    SnapshotError::Inconsistent(what)
}

fn is_kv(name: &str) -> bool {
    name.ends_with(".k") || name.ends_with(".v")
}

fn is_recurrent(name: &str) -> bool {
    !is_kv(name) && !name.ends_with(CONV)
}

/// Reads the entry in a file's metadata, and checks its version.
pub(super) fn head(metadata: &Metadata) -> Result<Head> {
    let not = |what: String| SnapshotError::NotASnapshot(what);
    let entry = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
    let entry = entry.ok_or_else(|| not(format!("a safetensors file without `{ENTRY}` in its metadata")))?;
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let Version { version } = serde_json::from_str(entry).map_err(|e| not(format!("its `{ENTRY}`: {e}")))?;
    if version != VERSION {
        return Err(SnapshotError::Version { found: version, known: VERSION });
    }
    serde_json::from_str(entry).map_err(|e| not(format!("its `{ENTRY}`: {e}")))
}

/// Checks a file's version and checksum.
fn open(bytes: &[u8]) -> Result<(SafeTensors<'_>, Head)> {
    let not = |what: String| SnapshotError::NotASnapshot(what);
    let file = SafeTensors::deserialize(bytes).map_err(|e| not(format!("no whole safetensors file ({e})")))?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| not(e.to_string()))?;
    let head = head(&metadata)?;
    let at = checksum_at(bytes).ok_or_else(|| not("its header has no checksum".into()))?;
    let mut hash = Hasher::default();
    hash.add(&bytes[..at]);
    hash.add(&[b'0'; DIGITS]);
    hash.add(&bytes[at + DIGITS..]);
    let computed = hash.finish();
    if computed != head.checksum {
        let (found, computed) = (head.checksum.to_string(), computed.to_string());
        return Err(SnapshotError::Damaged { found, computed });
    }
    Ok((file, head))
}

/// The place of the checksum's digits in a file. Quotes in a note are escaped once more, so that no note holds the
/// bytes in front of it.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes.first_chunk::<8>().copied()?);
    let header = bytes.get(8..usize::try_from(length).ok()?.checked_add(8)?)?;
    let at = header.windows(BEFORE_CHECKSUM.len()).position(|window| window == BEFORE_CHECKSUM)?;
    let at = 8 + at + BEFORE_CHECKSUM.len();
    (at + DIGITS <= 8 + header.len()).then_some(at)
}

/// The runs of ascending positions: first position and length of each.
fn runs(positions: &[u32]) -> Vec<u32> {
    let mut runs: Vec<u32> = vec![];
    for &position in positions {
        match runs.as_mut_slice() {
            [.., first, count] if *first + *count == position => *count += 1,
            _ => runs.extend([position, 1]),
        }
    }
    runs
}

/// The positions of runs, of which there must be `rows`.
fn positions(runs: &[u32], rows: usize) -> Option<Vec<u32>> {
    let mut positions: Vec<u32> = vec![];
    for run in runs.chunks_exact(2) {
        let end = run[0].checked_add(run[1])?;
        if run[1] as usize > rows - positions.len() || positions.last().is_some_and(|&last| last >= run[0]) {
            return None;
        }
        positions.extend(run[0]..end);
    }
    (positions.len() == rows).then_some(positions)
}

fn words(view: &TensorView<'_>, name: &str) -> Result<Vec<u32>> {
    if view.dtype() != Dtype::U32 {
        return Err(inconsistent(format!("`{name}` is {:?} and must be U32", view.dtype())));
    }
    Ok(bytemuck::pod_collect_to_vec(view.data()))
}

fn sampler(file: &SafeTensors<'_>) -> Result<SamplerState> {
    let array = |name: &str| file.tensor(name).map_err(|_| inconsistent(format!("it has no `{name}`")));
    let record = words(&array("sampler")?, "sampler")?;
    let record: &[u32; SAMPLER_WORDS] = record
        .as_slice()
        .try_into()
        .map_err(|_| inconsistent(format!("a record of {} words, which must be {SAMPLER_WORDS}", record.len())))?;
    let mut state = SamplerState::from_words(record);
    state.sampler.check().map_err(|e| inconsistent(e.to_string()))?;
    if state.sampler.penalises() {
        /// Tokens of the largest vocabulary that is believed.
        const LARGEST: u32 = 1 << 24;
        let vocabulary = words(&array("sampler.vocabulary")?, "sampler.vocabulary")?;
        let &[vocabulary @ 0..=LARGEST] = vocabulary.as_slice() else {
            return Err(inconsistent(format!("a vocabulary of {vocabulary:?} tokens")));
        };
        state.counts = vec![0; vocabulary as usize];
        for pair in words(&array("sampler.counts")?, "sampler.counts")?.chunks_exact(2) {
            let count = state.counts.get_mut(pair[0] as usize);
            *count.ok_or_else(|| inconsistent(format!("token {} of {vocabulary}", pair[0])))? = pair[1];
        }
    }
    Ok(state)
}

/// The tensors whose names begin with `prefix`, in the order of their names.
fn tensors(file: &SafeTensors<'_>, prefix: &str) -> Result<Vec<StateTensor>> {
    let mut names: Vec<&str> = file.names().into_iter().filter(|name| name.starts_with(prefix)).collect();
    names.retain(|name| !BESIDE.iter().any(|end| name.ends_with(end)));
    names.sort_unstable();
    names.into_iter().map(|name| tensor(file, name, &name[prefix.len()..])).collect()
}

fn tensor(file: &SafeTensors<'_>, name: &str, own: &str) -> Result<StateTensor> {
    let view = file.tensor(name).map_err(|e| inconsistent(e.to_string()))?;
    let data = match view.dtype() {
        Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
        Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(view.data()).into_iter().map(f16::to_f32).collect(),
        Dtype::I8 => {
            let scales = file.tensor(&format!("{name}.scales")).ok().filter(|scales| scales.dtype() == Dtype::F32);
            let scales: Vec<f32> = scales.map_or(vec![], |scales| bytemuck::pod_collect_to_vec(scales.data()));
            let decoded = rounded::decode(view.data(), &scales, view.shape());
            decoded.ok_or_else(|| inconsistent(format!("`{name}` has {} scales", scales.len())))?
        }
        other => return Err(inconsistent(format!("`{name}` is {other:?} and must be F32, F16 or I8"))),
    };
    let shape = view.shape().to_vec();
    let found = match file.tensor(&format!("{name}.positions")) {
        Err(_) => vec![],
        Ok(view) => {
            // A row has a number at least, or a small file would claim billions of them.
            let rows = shape.first().copied().unwrap_or(0).min(data.len());
            let runs = words(&view, name)?;
            positions(&runs, rows)
                .ok_or_else(|| inconsistent(format!("the positions of `{name}` are not its {rows} rows")))?
        }
    };
    Ok(StateTensor { name: own.to_owned(), shape, positions: found, data })
}

#[cfg(test)]
mod tests {
    use super::super::{CheckpointKind, Fingerprint, SavedCheckpoint, Snapshot, SnapshotError, SnapshotText};
    use super::VERSION;
    use crate::hash::Hash;
    use crate::state::{KvFormat, Sampler, SamplerState, SlotState, StateTensor};

    fn tensor(name: &str, shape: &[usize], positions: Vec<u32>) -> StateTensor {
        let count: usize = shape.iter().product();
        let data = (0..count).map(|i| i as f32 * 0.5 - 1.0).collect();
        StateTensor { name: name.into(), shape: shape.to_vec(), positions, data }
    }

    fn snapshot(kv_format: KvFormat, penalises: bool) -> Snapshot {
        let repetition = if penalises { 1.5 } else { 1.0 };
        let counts = if penalises { vec![0, 3, 0, 1 << 31, 0] } else { vec![] };
        let sampler =
            Sampler { temperature: 0.5, seed: u64::MAX - 3, stop_token_ids: vec![2], repetition, ..Sampler::default() };
        Snapshot {
            fingerprint: Fingerprint {
                architecture: "hymba".into(),
                config: Hash::of(b"config"),
                weights: Hash::of(b"weights"),
                tokenizer: Some(Hash::of(b"tokenizer")),
            },
            weights: "auto".into(),
            kv_format,
            tokens: vec![4, 0, 3, 1, 1],
            read: 4,
            first: 0,
            state: SlotState {
                position: 6,
                tensors: vec![
                    tensor("layers.0.conv", &[3, 2], vec![]),
                    tensor("layers.0.kv.k", &[5, 1, 4], vec![0, 1, 3, 4, 5]),
                    tensor("layers.0.kv.v", &[5, 1, 4], vec![0, 1, 3, 4, 5]),
                    tensor("layers.0.ssm", &[2, 3], vec![]),
                ],
                sampler: SamplerState { sampler, chosen: 2, last: Some(1), counts, ..SamplerState::default() },
            },
            kind: CheckpointKind::Branch,
            rounded: false,
            checkpoints: vec![SavedCheckpoint {
                read: 2,
                kind: CheckpointKind::Reply,
                tensors: vec![tensor("layers.0.ssm", &[2, 3], vec![])],
            }],
            text: Some(SnapshotText { text: "a \"text\"".into(), ends: vec![(1, 1), (8, 7)], replies: vec![(1, 3)] }),
            note: Some(r#"{"checksum":"00000000000000000000000000000000"}"#.into()),
        }
    }

    fn all() -> impl Iterator<Item = Snapshot> {
        let formats = [KvFormat::F32, KvFormat::F16];
        formats.into_iter().flat_map(|format| [false, true].map(|penalises| snapshot(format, penalises)))
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        for snapshot in all() {
            let bytes = snapshot.to_bytes().expect("a file");
            assert_eq!(bytes, snapshot.to_bytes().expect("the same file"));
            assert_eq!(Snapshot::from_bytes(&bytes).expect("a snapshot"), snapshot);
        }
        let empty =
            Snapshot { tokens: vec![], read: 0, checkpoints: vec![], note: None, ..snapshot(KvFormat::F32, false) };
        let bytes = empty.to_bytes().expect("a file");
        assert_eq!(Snapshot::from_bytes(&bytes).expect("a snapshot"), empty);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for snapshot in all() {
            let bytes = snapshot.to_bytes().expect("a file");
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    assert!(Snapshot::from_bytes(&changed).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_found() {
        let bytes = snapshot(KvFormat::F16, true).to_bytes().expect("a file");
        for end in 0..bytes.len() {
            assert!(Snapshot::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Snapshot::from_bytes(&[bytes.as_slice(), b"\0"].concat()).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused_though_its_checksum_is_right() {
        let good = snapshot(KvFormat::F32, false);
        for (what, bad) in [
            ("tokens", Snapshot { read: 6, ..good.clone() }),
            ("end at", Snapshot { state: SlotState { position: 3, ..good.state.clone() }, ..good.clone() }),
            (
                "checkpoint",
                Snapshot {
                    checkpoints: vec![SavedCheckpoint { read: 5, kind: CheckpointKind::System, tensors: vec![] }],
                    ..good.clone()
                },
            ),
        ] {
            let bytes = bad.to_bytes().expect("a file");
            let error = Snapshot::from_bytes(&bytes).expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        }
        // Rows that are claimed and not there.
        let mut bad = good.clone();
        bad.state.tensors[1].positions = vec![0, 1];
        let bytes = bad.to_bytes().expect("a file");
        let error = Snapshot::from_bytes(&bytes).expect_err("rows without positions").to_string();
        assert!(error.contains("positions"), "{error}");
    }

    #[test]
    fn other_files_are_told_apart() {
        let error = Snapshot::from_bytes(b"GGUF\0\0\0\0").expect_err("no snapshot");
        assert!(matches!(error, SnapshotError::NotASnapshot(_)), "{error}");
        let bytes = snapshot(KvFormat::F32, false).to_bytes().expect("a file");
        let before = br#"\"version\":"#;
        let at = bytes.windows(before.len()).position(|window| window == before).expect("a version") + before.len();
        let mut later = bytes.clone();
        later[at] = b'9';
        assert_eq!(Snapshot::from_bytes(&later), Err(SnapshotError::Version { found: 9, known: VERSION }));
    }

    #[test]
    fn another_model_is_refused_by_name() {
        let good = snapshot(KvFormat::F32, false);
        let same = good.fingerprint.clone();
        assert_eq!(good.check(&same, "auto"), Ok(()));
        for (what, here) in [
            ("architecture", Fingerprint { architecture: "lfm2".into(), ..same.clone() }),
            ("config.json", Fingerprint { config: Hash::of(b"other"), ..same.clone() }),
            ("other weights", Fingerprint { weights: Hash::of(b"other"), ..same.clone() }),
            ("another tokenizer", Fingerprint { tokenizer: None, ..same.clone() }),
        ] {
            let error = good.check(&here, "auto").expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        }
        let error = good.check(&same, "q4").expect_err("other formats").to_string();
        assert!(error.contains("another format") && error.contains("q4"), "{error}");
    }
}
