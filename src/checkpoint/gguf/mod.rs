//! GGUF: a model in one file or several, as llama.cpp keeps it. Opened, it is a checkpoint like any other: with the
//! `config.json`, the tensors' names, shapes and order, and the tokenizer's files that transformers would have.
//!
//! | file | content |
//! |---|---|
//! | `file_names` | names of files: models, files of one model |
//! | `head` | the head of a file: metadata, places of tensors |
//! | `types` | ggml's types of numbers, and the planes that they become |
//! | `config` | `config.json` from the metadata, family by family |
//! | `names` | names, shapes, order of tensors |
//! | `rows` | rows of a tensor, put in order and unpacked |
//! | `tokenizer` | `tokenizer.json` and its like from the metadata |

mod config;
mod file_names;
mod head;
mod names;
mod rows;
mod tokenizer;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, CheckpointError, Dtype, Source, TensorInfo};

pub use config::architectures;
use file_names::{MOST_FILES, numbered, split};
pub use file_names::{files_of, first_of, is_gguf, is_model, is_type, stem, type_of};
pub(super) use head::MAGIC;
use head::{Head, Tensor};
pub use head::{Metadata, Value};
pub use rows::Packed;
pub use types::GgmlType;

/// Most factors of rotary wavelengths.
const MOST_FACTORS: u64 = 1 << 16;
/// Names that an error lists.
const LISTED: usize = 8;

/// A model of GGUF files.
pub(super) struct Opened {
    /// Text of `config.json`.
    pub config: String,
    /// Other small files, by the names that transformers gives them.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The tensors.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// The GGUF file of a place: the one that was named, or the only model that lies there.
pub(super) fn only(source: &dyn Source) -> Result<Option<String>, CheckpointError> {
    if let Some(named) = source.gguf() {
        return Ok(Some(named.to_owned()));
    }
    let names = source.list();
    let here = names.iter().filter(|name| is_model(name) && !name.contains('/'));
    let models: BTreeSet<String> = here.map(|name| first_of(name)).collect();
    match models.len() {
        0 | 1 => Ok(models.into_iter().next()),
        count => {
            let named: Vec<String> = models.into_iter().take(LISTED).collect();
            let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
            let what = format!("holds {count} GGUF models; name one of them: {}{more}", named.join(", "));
            Err(CheckpointError::Text { file: source.describe(""), what })
        }
    }
}

/// The heads of all files of a model, the first one first.
async fn heads(source: &dyn Source, file: &str) -> Result<Vec<(String, Head)>, CheckpointError> {
    let first = first_of(file);
    let mut heads = vec![(first.clone(), head::read(source, &first).await?)];
    let fail = |what: String| CheckpointError::Gguf { file: source.describe(&first), what };
    let metadata = &heads[0].1.metadata;
    let files = metadata.count("split.count").map_err(fail)?.unwrap_or(1).max(1);
    let promised = metadata.count("split.tensors.count").map_err(fail)?;
    if files == 1 {
        return Ok(heads);
    }
    let Some((_, _, count)) = split(&first).filter(|_| files <= MOST_FILES) else {
        return Err(fail(format!(
            "it is one of {files} files, and its name does not end in `-00001-of-{files:05}.gguf`"
        )));
    };
    if count != files {
        return Err(fail(format!("it is one of {files} files, by its name of {count}")));
    }
    for number in 2..=files {
        let name = numbered(&first, number);
        if source.size(&name).await?.is_none() {
            return Err(fail(format!(
                "it is one of {files} files, and `{name}` is not there; is the download complete?"
            )));
        }
        // The first file tells of the model.
        let head = Head { metadata: Metadata::default(), ..head::read(source, &name).await? };
        heads.push((name, head));
    }
    let found = heads.iter().map(|(_, head)| head.tensors.len()).sum::<usize>();
    match promised.filter(|&promised| promised != found) {
        Some(promised) => Err(fail(format!("its {files} files hold {found} tensors, and should hold {promised}"))),
        None => Ok(heads),
    }
}

/// Factors of rotary wavelengths, which are a tensor in these files and part of the config elsewhere.
async fn rope_factors(source: &dyn Source, file: &str, tensor: &Tensor) -> Result<Vec<f32>, CheckpointError> {
    let fail = |what: String| CheckpointError::Gguf { file: source.describe(file), what };
    let bytes = tensor.range.end - tensor.range.start;
    if tensor.kind.dtype() != Dtype::F32 || bytes > 4 * MOST_FACTORS {
        return Err(fail(format!(
            "tensor `{}` is {} {:?}, must be a few numbers in F32",
            tensor.name, tensor.kind, tensor.shape
        )));
    }
    let bytes = source.read(file, tensor.range.clone()).await?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Config and sizes of a model whose heads are read.
async fn describe(source: &dyn Source, heads: &[(String, Head)]) -> Result<(String, config::Sizes), CheckpointError> {
    let all = heads.iter().flat_map(|(file, head)| head.tensors.iter().map(move |tensor| (file, tensor)));
    let factors = match all.clone().find(|(_, tensor)| tensor.name == "rope_freqs.weight") {
        Some((file, tensor)) => Some(rope_factors(source, file, tensor).await?),
        None => None,
    };
    let tensors: Vec<&Tensor> = all.map(|(_, tensor)| tensor).collect();
    let fail = |what: String| CheckpointError::Gguf { file: source.describe(&heads[0].0), what };
    let (config, sizes) = config::config(&heads[0].1.metadata, &tensors, factors.as_deref()).map_err(fail)?;
    Ok((format!("{config:#}\n"), sizes))
}

/// The text of `config.json` alone.
pub(super) async fn read_config(source: &dyn Source, file: &str) -> Result<String, CheckpointError> {
    Ok(describe(source, &heads(source, file).await?).await?.0)
}

/// Reads the heads of a model's files.
pub(super) async fn open(source: &dyn Source, file: &str) -> Result<Opened, CheckpointError> {
    let heads = heads(source, file).await?;
    let fail = |what: String| CheckpointError::Gguf { file: source.describe(&heads[0].0), what };
    let (config, sizes) = describe(source, &heads).await?;
    let mut found: BTreeMap<&str, names::Placed> = BTreeMap::new();
    for (file, head) in &heads {
        for tensor in &head.tensors {
            if found.insert(&tensor.name, (file, tensor)).is_some() {
                return Err(fail(format!("two of its files hold tensor `{}`", tensor.name)));
            }
        }
    }
    let tensors = names::tensors(&sizes, &found).map_err(fail)?;
    let files = tokenizer::files(&heads[0].1.metadata).map_err(fail)?;
    Ok(Opened { config, files, tensors })
}

/// A sentence about those of the tensors that are read whose numbers are rounded again.
pub(super) fn notice(checkpoint: &Checkpoint, used: &BTreeSet<&str>) -> Option<String> {
    let packed = used.iter().filter_map(|name| checkpoint.tensor(name)?.packed.as_deref());
    let kinds: Vec<GgmlType> = packed.map(|packed| packed.kind).filter(|kind| kind.is_rounded()).collect();
    let names: BTreeSet<String> = kinds.iter().map(ToString::to_string).collect();
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| {
        let plural = if kinds.len() == 1 { "tensor" } else { "tensors" };
        format!("{} {plural} in {} are rounded again, to 8 bits a number", kinds.len(), names.join(" and "))
    })
}
