//! The head of a GGUF file: metadata, and which tensor lies where. Nothing else of the file is touched.
//!
//! A file is `GGUF`, a version, the numbers of tensors and of metadata, the metadata (key, type, value), the tensors (name,
//! dimensions with the fastest first, type, offset), and behind padding to `general.alignment` the data. All numbers are
//! little-endian. Source: the format's specification (ggml, `docs/gguf.md`), versions 2 and 3.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::types::GgmlType;
use crate::checkpoint::{CheckpointError, Source, SourceError, kind};

/// First bytes of every file.
pub(crate) const MAGIC: &[u8] = b"GGUF";
/// Bytes of the head read at first; more where it is longer.
const FIRST: u64 = 1 << 20;
/// Most bytes of a head. Those of published models, with 256k tokens, have up to 20 MB.
const LONGEST: u64 = 1 << 28;
/// Most dimensions of a tensor.
const DIMENSIONS: u32 = 4;
/// Longest name of a tensor or key, in bytes.
const LONGEST_NAME: u64 = 1 << 16;
/// Most values of all lists together. Those of published models, with 256k tokens and as many merges, have a million.
const MOST_VALUES: u64 = 1 << 24;
/// Most numbers of a tensor, and of a row.
const MOST_NUMBERS: u64 = 1 << 48;
const WIDEST: u64 = 1 << 28;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i64),
    /// A number of 32 or 64 bits.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// A text. Bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list of integers.
    Integers(Vec<i64>),
    /// A list of numbers.
    Numbers(Vec<f32>),
    /// A list of flags.
    Flags(Vec<bool>),
    /// A list of texts.
    Texts(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{:?}", value.chars().take(40).collect::<String>()),
            Self::Integers(list) => write!(f, "a list of {} integers", list.len()),
            Self::Numbers(list) => write!(f, "a list of {} numbers", list.len()),
            Self::Flags(list) => write!(f, "a list of {} flags", list.len()),
            Self::Texts(list) => write!(f, "a list of {} texts", list.len()),
        }
    }
}

/// The metadata of a file, by key. Faults are sentences that name the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// A value, if the key is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Adds a value, or replaces it.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// A text, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(format!("`{key}` is {other}, must be a text")),
        }
    }

    /// An integer of at least 0, if the key is there.
    pub fn count(&self, key: &str) -> Result<Option<usize>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Integer(value)) if (0..1 << 32).contains(&value) => Ok(Some(value as usize)),
            Some(other) => Err(format!("`{key}` is {other}, must be an integer from 0 to 4294967295")),
        }
    }

    /// A number, if the key is there.
    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Number(value)) if value.is_finite() => Ok(Some(value)),
            Some(&Value::Integer(value)) => Ok(Some(value as f64)),
            Some(other) => Err(format!("`{key}` is {other}, must be a finite number")),
        }
    }

    /// A flag, if the key is there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Flag(value)) => Ok(Some(value)),
            Some(other) => Err(format!("`{key}` is {other}, must be true or false")),
        }
    }

    /// One integer of at least 0 a layer, from a list or from one for all; `None` without the key.
    pub fn per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, String> {
        let wrong =
            |found: &Value| format!("`{key}` is {found}, must be an integer or one for each of {layers} layers");
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(_)) => Ok(self.count(key)?.map(|one| vec![one; layers])),
            Some(found @ Value::Integers(list)) => {
                let counts: Option<Vec<usize>> =
                    list.iter().map(|&one| u32::try_from(one).ok().map(|n| n as usize)).collect();
                counts.filter(|counts| counts.len() >= layers).map(Some).ok_or_else(|| wrong(found))
            }
            Some(Value::Flags(list)) if list.len() >= layers => {
                Ok(Some(list.iter().map(|&flag| usize::from(flag)).collect()))
            }
            Some(found) => Err(wrong(found)),
        }
    }

    /// A list of texts, if the key is there.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(other) => Err(format!("`{key}` is {other}, must be a list of texts")),
        }
    }

    /// A list of integers, if the key is there.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(list)) => Ok(Some(list)),
            Some(other) => Err(format!("`{key}` is {other}, must be a list of integers")),
        }
    }

    /// A list of numbers, if the key is there.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f32]>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Numbers(list)) => Ok(Some(list)),
            Some(other) => Err(format!("`{key}` is {other}, must be a list of numbers")),
        }
    }
}

/// A tensor as the file lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name in llama.cpp's scheme: `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape with the slowest dimension first.
    pub shape: Vec<usize>,
    /// Type of its blocks.
    pub kind: GgmlType,
    /// Bytes of the file; of a type that is not known, only where they begin is true.
    pub range: Range<u64>,
}

/// The head of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the file's list.
    pub tensors: Vec<Tensor>,
}

/// Why a head is not read.
#[derive(Debug)]
enum Fault {
    /// It goes on behind the bytes given.
    Short,
    /// It contradicts itself.
    Wrong(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

/// Reads the head of a file.
pub(super) async fn read(source: &dyn Source, file: &str) -> Result<Head, CheckpointError> {
    let fail = |what: String| CheckpointError::Gguf { file: source.describe(file), what };
    let missing = || SourceError::Missing { file: source.describe(file) };
    let size = source.size(file).await?.ok_or_else(missing)?;
    let mut end = FIRST.min(size);
    let mut head = source.read(file, 0..end).await?;
    loop {
        match parse(&head, size) {
            Ok(found) => return Ok(found),
            Err(Fault::Wrong(what)) => return Err(fail(what)),
            Err(Fault::Short) if end == size => {
                return Err(fail(format!("its head does not end within its {size} bytes; is it complete?")));
            }
            Err(Fault::Short) if end >= LONGEST => {
                return Err(fail(format!("a head of more than {LONGEST} bytes is not read")));
            }
            Err(Fault::Short) => {
                let more = end..size.min(4 * end).min(LONGEST);
                end = more.end;
                let more = source.read(file, more).await?;
                head = Cow::Owned([head.as_ref(), more.as_ref()].concat());
            }
        }
    }
}

/// Bytes of a head, read from the front.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values of lists so far.
    values: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let found = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(Fault::Short)?;
        self.at += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N as u64)?.try_into().map_err(|_| Fault::Short)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, most: u64) -> Result<&'a [u8], Fault> {
        let length = self.u64()?;
        if length > most {
            return Err(Fault::Wrong(format!(
                "a text of {length} bytes at byte {}; at most {most} are read",
                self.at - 8
            )));
        }
        self.take(length)
    }

    fn name(&mut self) -> Result<String, Fault> {
        let at = self.at;
        let name = self.text(LONGEST_NAME)?;
        let name =
            std::str::from_utf8(name).map_err(|_| Fault::Wrong(format!("a name at byte {at} that is not UTF-8")))?;
        Ok(name.to_owned())
    }
}

/// Bytes of a value of a type of fixed width.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Parses and checks a head; `size` is the length of the file.
fn parse(bytes: &[u8], size: u64) -> Result<Head, Fault> {
    let mut cursor = Cursor { bytes, at: 0, values: 0 };
    if cursor.take(4)? != MAGIC {
        let what = kind::of_bytes(&bytes[..bytes.len().min(kind::FIRST)]);
        return Err(Fault::Wrong(what.unwrap_or("it does not begin with `GGUF`").into()));
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() < 16 && version > 15 => {
            return Err(Fault::Wrong(
                "its numbers are big-endian, which is not read: convert it on the machine it is for".into(),
            ));
        }
        version => return Err(Fault::Wrong(format!("version {version} of the format; 2 and 3 are read"))),
    }
    let (tensors, pairs) = (cursor.u64()?, cursor.u64()?);
    // An entry has at least a name's length, and a type or an offset.
    for (what, count, least) in [("tensors", tensors, 24), ("metadata", pairs, 12)] {
        if count.checked_mul(least).is_none_or(|bytes| bytes > size.min(LONGEST)) {
            return Err(Fault::Wrong(format!("{count} {what} do not fit into its {size} bytes; is it complete?")));
        }
    }
    let mut metadata = Metadata::default();
    for _ in 0..pairs {
        let key = cursor.name()?;
        let kind = cursor.u32()?;
        let value = value(&mut cursor, &key, kind, size)?;
        if metadata.values.insert(key.clone(), value).is_some() {
            return Err(Fault::Wrong(format!("its metadata names `{key}` twice")));
        }
    }
    let alignment = metadata.count("general.alignment")?.unwrap_or(32) as u64;
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(Fault::Wrong(format!("`general.alignment` is {alignment}, must be a power of two")));
    }
    let mut entries = vec![];
    for _ in 0..tensors {
        entries.push(entry(&mut cursor)?);
    }
    let data = (cursor.at as u64).next_multiple_of(alignment);
    let tensors = entries.into_iter().map(|entry| entry.place(data, alignment, size)).collect::<Result<Vec<_>, _>>()?;
    check_apart(&tensors)?;
    Ok(Head { metadata, tensors })
}

fn value(cursor: &mut Cursor, key: &str, kind: u32, size: u64) -> Result<Value, Fault> {
    match kind {
        8 => Ok(Value::Text(String::from_utf8_lossy(cursor.text(LONGEST)?).into_owned())),
        9 => list(cursor, key, size),
        kind if width(kind).is_some() => scalar(cursor, key, kind),
        kind => Err(Fault::Wrong(format!("`{key}` has a value of type {kind}, which is not known"))),
    }
}

fn scalar(cursor: &mut Cursor, key: &str, kind: u32) -> Result<Value, Fault> {
    Ok(match kind {
        0 => Value::Integer(cursor.array::<1>()?[0].into()),
        1 => Value::Integer(i8::from_le_bytes(cursor.array()?).into()),
        2 => Value::Integer(u16::from_le_bytes(cursor.array()?).into()),
        3 => Value::Integer(i16::from_le_bytes(cursor.array()?).into()),
        4 => Value::Integer(cursor.u32()?.into()),
        5 => Value::Integer(i32::from_le_bytes(cursor.array()?).into()),
        6 => Value::Number(f32::from_le_bytes(cursor.array()?).into()),
        7 => Value::Flag(cursor.array::<1>()?[0] != 0),
        // More than i64 holds is a seed or a hash, and no size: nothing here reads it.
        10 => Value::Integer(cursor.u64()?.min(i64::MAX as u64) as i64),
        11 => Value::Integer(i64::from_le_bytes(cursor.array()?)),
        12 => Value::Number(f64::from_le_bytes(cursor.array()?)),
        kind => return Err(Fault::Wrong(format!("`{key}` has a value of type {kind}, which is not known"))),
    })
}

fn list(cursor: &mut Cursor, key: &str, size: u64) -> Result<Value, Fault> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    cursor.values = cursor.values.saturating_add(count);
    let values = cursor.values;
    let most = |each: u64| match count.checked_mul(each) {
        Some(bytes) if bytes <= size && values <= MOST_VALUES => Ok(()),
        _ => {
            Err(Fault::Wrong(format!("`{key}` is a list of {count}, more than its {size} bytes hold or than is read")))
        }
    };
    match kind {
        8 => {
            most(8)?;
            let texts = (0..count).map(|_| Ok(String::from_utf8_lossy(cursor.text(LONGEST)?).into_owned()));
            texts.collect::<Result<_, Fault>>().map(Value::Texts)
        }
        9 => Err(Fault::Wrong(format!("`{key}` is a list of lists, which is not read"))),
        kind => {
            let Some(width) = width(kind) else {
                return Err(Fault::Wrong(format!("`{key}` is a list of values of type {kind}, which is not known")));
            };
            most(width)?;
            let bytes = cursor.take(width * count)?;
            let mut inner = Cursor { bytes, at: 0, values: 0 };
            let values = (0..count).map(|_| scalar(&mut inner, key, kind));
            let integer = |value| if let Value::Integer(value) = value { value } else { 0 };
            let number = |value| if let Value::Number(value) = value { value as f32 } else { 0.0 };
            match kind {
                6 | 12 => values.map(|value| value.map(number)).collect::<Result<_, _>>().map(Value::Numbers),
                7 => values
                    .map(|value| value.map(|value| value == Value::Flag(true)))
                    .collect::<Result<_, _>>()
                    .map(Value::Flags),
                _ => values.map(|value| value.map(integer)).collect::<Result<_, _>>().map(Value::Integers),
            }
        }
    }
}

/// A tensor's entry: its offset counts from the data.
struct Entry {
    name: String,
    shape: Vec<u64>,
    kind: GgmlType,
    offset: u64,
}

fn entry(cursor: &mut Cursor) -> Result<Entry, Fault> {
    let name = cursor.name()?;
    let dimensions = cursor.u32()?;
    if dimensions > DIMENSIONS {
        return Err(Fault::Wrong(format!(
            "tensor `{name}` has {dimensions} dimensions; at most {DIMENSIONS} are read"
        )));
    }
    let mut shape = (0..dimensions).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    Ok(Entry { name, shape, kind: GgmlType::new(cursor.u32()?), offset: cursor.u64()? })
}

impl Entry {
    fn place(self, data: u64, alignment: u64, size: u64) -> Result<Tensor, Fault> {
        let Self { name, shape, kind, offset } = self;
        let fail = |what: String| Fault::Wrong(format!("tensor `{name}`: {what}"));
        if offset % alignment != 0 {
            return Err(fail(format!("its offset {offset} is no multiple of the alignment {alignment}")));
        }
        let numbers = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let numbers = numbers.filter(|&numbers| numbers > 0 && numbers <= MOST_NUMBERS && !shape.is_empty());
        let Some(product) = numbers.filter(|_| shape.last().is_none_or(|&columns| columns <= WIDEST)) else {
            return Err(fail(format!("shape {shape:?} is that of no tensor that can be read")));
        };
        let bytes = match kind.block() {
            Some((numbers, bytes)) => {
                let columns = shape.last().copied().unwrap_or(1);
                if columns % numbers as u64 != 0 {
                    return Err(fail(format!(
                        "{kind} {shape:?} has rows of {columns} numbers, which are no blocks of {numbers}"
                    )));
                }
                (product / numbers as u64).checked_mul(bytes as u64)
            }
            None => Some(0),
        };
        let start = data.checked_add(offset);
        let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes)).filter(|&end| end <= size);
        let (Some(start), Some(end)) = (start, end) else {
            let wanted = bytes.map_or_else(|| "an impossible number of bytes".into(), |n| format!("{n} bytes"));
            return Err(fail(format!(
                "{kind} {shape:?} takes {wanted} from offset {offset}, more than its file's {size}; is it complete?"
            )));
        };
        if usize::try_from(product).is_err() {
            return Err(fail(format!("shape {shape:?} is too large for this machine")));
        }
        let shape = shape.iter().map(|&n| n as usize).collect();
        Ok(Tensor { name, shape, kind, range: start..end })
    }
}

/// Refuses tensors that share bytes or names.
fn check_apart(tensors: &[Tensor]) -> Result<(), Fault> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::Wrong(format!("it names tensor `{}` twice", pair[0])));
    }
    let mut places: Vec<&Tensor> = tensors.iter().filter(|tensor| !tensor.range.is_empty()).collect();
    places.sort_by_key(|tensor| tensor.range.start);
    match places.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        Some(pair) => Err(Fault::Wrong(format!("tensor `{}` begins within `{}`", pair[1].name, pair[0].name))),
        None => Ok(()),
    }
}
