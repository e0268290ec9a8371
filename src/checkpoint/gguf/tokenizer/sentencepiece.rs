//! SentencePiece BPE, `llama` in the metadata: tokens have scores, and merges are found from them, as transformers does
//! (`SentencePieceExtractor` and `LlamaConverter` of `convert_slow_tokenizer.py`).

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::super::head::{Metadata, Value as Entry};
use super::vocabulary::{Kind, Vocabulary};
use super::{Made, token_id, tokenizer_json};

const SCORES: &str = "tokenizer.ggml.scores";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Letters of tokens times bytes of tokens that are looked up for merges; 256k tokens of published vocabularies take a tenth.
const MOST_WORK: usize = 1 << 28;
/// Merges that are made; 256k tokens of published vocabularies have half a million.
const MOST_MERGES: usize = 1 << 22;

/// The tokenizer of a metadata.
pub(super) fn tokenizer(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Made, String> {
    let prefix = metadata.flag(SPACE_PREFIX)?.unwrap_or(true);
    let unknown = token_id(metadata, UNKNOWN, vocabulary)?.unwrap_or(0);
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": vocabulary.id(vocabulary.text(unknown)).map(|id| vocabulary.text(id)),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": true,
        "ignore_merges": false,
    });
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders = vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    let merges = merges(vocabulary, &ranks(metadata, vocabulary)?)?;
    let tokenizer = tokenizer_json(vocabulary, normalizer, Value::Null, decoder, model, merges);
    Ok(Made { tokenizer, add_bos: true, special: &[("bos_token", 1), ("eos_token", 2), ("unk_token", 0)] })
}

/// Scores of tokens by id; the highest is merged first. Files without scores, or with one for all, have the tokens in the
/// order of their merges.
fn ranks(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<f32>, String> {
    let scores: Vec<f32> = match metadata.get(SCORES) {
        None => vec![],
        Some(Entry::Numbers(scores)) => scores.clone(),
        Some(Entry::Integers(scores)) => scores.iter().map(|&score| score as f32).collect(),
        Some(other) => return Err(format!("`{SCORES}` is {other}, must be a list of numbers")),
    };
    let count = vocabulary.tokens.len();
    if !scores.is_empty() && scores.len() != count {
        return Err(format!("`{SCORES}` has {} entries for {count} tokens", scores.len()));
    }
    if scores.iter().any(|score| score.is_nan()) {
        return Err(format!("`{SCORES}` holds what is no number"));
    }
    let mut normal = vocabulary.ids().filter(|&id| vocabulary.kind(id) == Kind::Normal);
    let first = normal.next().and_then(|id| scores.get(id as usize));
    let differ = first.is_some_and(|first| normal.any(|id| scores[id as usize] != *first));
    // Up to 2^24 tokens are read, all of which this type tells apart.
    Ok(if differ { scores } else { (0..count).map(|id| -(id as f32)).collect() })
}

/// Every way to make a token out of two, best first.
fn merges(vocabulary: &Vocabulary, ranks: &[f32]) -> Result<Vec<Value>, String> {
    // Only pieces of text are merged: others would be found in a text that spells them.
    let piece = |text: &str| {
        vocabulary.id(text).filter(|&id| matches!(vocabulary.kind(id), Kind::Normal | Kind::UserDefined | Kind::Unused))
    };
    let mut work = 0_usize;
    let mut found = vec![];
    for id in vocabulary.ids() {
        let text = vocabulary.text(id);
        if piece(text).is_none() {
            continue;
        }
        let letters = text.chars().count();
        work = work.saturating_add(letters.saturating_mul(text.len()));
        if work > MOST_WORK {
            return Err(format!(
                "`tokenizer.ggml.tokens` holds tokens too long to find merges of: id {id} has {} bytes",
                text.len()
            ));
        }
        let splits = text.char_indices().skip(1).enumerate();
        let mut own: Vec<Merge> = splits
            .filter_map(|(before, (at, _))| {
                let (left, right) = (piece(&text[..at])?, piece(&text[at..])?);
                Some(Merge { rank: ranks[id as usize], left, right, letters: [before + 1, letters - before - 1] })
            })
            .collect();
        own.sort_by_key(|merge| (merge.left, merge.right));
        found.append(&mut own);
        if found.len() > MOST_MERGES {
            return Err(format!("`tokenizer.ggml.tokens` has more than {MOST_MERGES} ways to make a token out of two"));
        }
    }
    found.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| Reverse(a.letters).cmp(&Reverse(b.letters))));
    Ok(found.iter().map(|merge| json!([vocabulary.text(merge.left), vocabulary.text(merge.right)])).collect())
}

/// Two tokens that make a third.
struct Merge {
    /// Score of the third.
    rank: f32,
    left: u32,
    right: u32,
    /// Letters of each half.
    letters: [usize; 2],
}
