//! Byte-level BPE, `gpt2` in the metadata: tokens are written with a letter a byte, and merges are listed.

use serde_json::{Value, json};

use super::super::head::Metadata;
use super::pretokenizer::PreTokenizer;
use super::vocabulary::Vocabulary;
use super::{Made, tokenizer_json};

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// The tokenizer of a metadata.
pub(super) fn tokenizer(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Made, String> {
    let name = metadata.text(PRE)?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        format!("`{PRE}` is not there, which names how a text is split: the file is from an old converter, convert the model again")
    })?;
    let pre_tokenizer = PreTokenizer::named(name).ok_or_else(|| {
        let read: Vec<&str> = PreTokenizer::names().collect();
        format!("`{PRE}` is {name:?}, which is not read; read are {}", read.join(", "))
    })?;
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": pre_tokenizer.ignore_merges,
    });
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let merges = merges(metadata, vocabulary)?;
    let (normalizer, splits) = (pre_tokenizer.normalizer(), pre_tokenizer.json());
    let tokenizer = tokenizer_json(vocabulary, normalizer, splits, decoder, model, merges);
    Ok(Made { tokenizer, add_bos: pre_tokenizer.add_bos, special: &[] })
}

/// The merges as pairs. A token has no space, but the first half may be one in files that are not byte-level.
fn merges(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<Value>, String> {
    let merges = metadata.texts(MERGES)?.ok_or_else(|| format!("`{MERGES}` is not there"))?;
    let pair = |merge: &String| {
        let halves = merge.split_once(' ');
        let known = halves.filter(|(left, right)| {
            let whole = [*left, *right].concat();
            [*left, *right, whole.as_str()].iter().all(|text| vocabulary.id(text).is_some())
        });
        let (left, right) = known
            .ok_or_else(|| format!("`{MERGES}` holds {merge:?}, which does not make a token out of two tokens"))?;
        Ok(json!([left, right]))
    };
    merges.iter().map(pair).collect()
}
