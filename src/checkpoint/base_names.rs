//! Tensor names of a base model: transformers' `AutoModel` and sentence-transformers (Qwen3-Embedding, for one) write a model
//! without the prefix that the same tensors have in a model with a head.

use std::collections::BTreeMap;

use super::TensorInfo;

/// The prefix of a model's tensors beside those of its head.
const PREFIXES: [&str; 2] = ["model.", "backbone."];
/// Tensors of a base model's first layer.
const EMBEDDINGS: [&str; 3] = ["embed_tokens.weight", "embeddings.weight", "language_model.embed_tokens.weight"];
/// Beginnings of the names of heads, which have no prefix in any case.
const HEADS: [&str; 2] = ["lm_head.", "score."];

/// Gives the tensors of a base model the names that they have in a model with a head.
pub(super) fn complete(tensors: &mut BTreeMap<String, TensorInfo>) {
    let has_prefix = |name: &String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if tensors.keys().any(has_prefix) || !EMBEDDINGS.iter().any(|name| tensors.contains_key(*name)) {
        return;
    }
    let name = |name: String| match HEADS.iter().any(|head| name.starts_with(head)) {
        true => name,
        false => format!("{}{name}", PREFIXES[0]),
    };
    *tensors = std::mem::take(tensors).into_iter().map(|(old, info)| (name(old), info)).collect();
}
