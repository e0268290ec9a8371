//! Tensors of a checkpoint that no weight of a model is made of.
//!
//! | which | what becomes of it |
//! |---|---|
//! | buffers that are computed (`inv_freq`, `position_ids`), counters, scales of activations | nothing |
//! | parts that a text does not need: vision towers, heads for later tokens | a notice |
//! | parts of what is read (a bias, a norm, a scale), adapters, further layers | an error: they change the result |
//! | anything else | a notice that names it |

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, CheckpointError, Dtype, LISTED, TensorInfo, gguf};
use crate::graph::Graph;

/// Ends of the names of tensors that are not needed. The tables of rotary embeddings are computed from the config;
/// batches are counted in training alone; FP8's scales of inputs are for arithmetic in FP8.
const IDLE: [&str; 9] = [
    "rotary_emb.inv_freq",
    "rotary_emb.original_inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
    "num_batches_tracked",
    "position_ids",
    ".input_scale",
    ".activation_scale",
    ".input_global_scale",
];
/// Ends of the names of scales for keys and values in FP8.
const KV_SCALES: [&str; 3] = [".k_scale", ".v_scale", ".output_scale"];
const KV_SCALE: &str = "scales for keys and values in FP8: they are kept in 16 or 32 bits here, which need none";
/// Beginnings of the names of parts beside the text model.
const ASIDE: [(&str, &str); 8] = [
    ("model.visual.", "a vision tower: pictures are not read"),
    ("visual.", "a vision tower: pictures are not read"),
    ("model.vision_tower.", "a vision tower: pictures are not read"),
    ("vision_tower.", "a vision tower: pictures are not read"),
    ("model.multi_modal_projector.", "a vision tower: pictures are not read"),
    ("multi_modal_projector.", "a vision tower: pictures are not read"),
    ("mtp.", "heads for later tokens: texts are the same without them"),
    ("model.mtp.", "heads for later tokens: texts are the same without them"),
];
/// Beginnings of a name's components by which PEFT's adapters are known.
const ADAPTER: [&str; 8] = ["lora_", "ia3_l", "oft_", "hada_", "lokr_", "vera_lambda", "base_layer", "modules_to_save"];

/// Names that a graph's weights are made of.
struct Read<'a> {
    names: BTreeSet<&'a str>,
    /// In front of a layer's number, the last number.
    layers: BTreeMap<&'a str, usize>,
}

/// Kind of an unread tensor.
enum Kind {
    Idle,
    Aside(&'static str),
    Other,
    /// The result would differ with it: why.
    Needed(String),
}

impl<'a> Read<'a> {
    fn of(graph: &'a Graph) -> Self {
        let parts = graph.weights.iter().flat_map(|weight| &weight.parts);
        let names: BTreeSet<&str> = parts.map(|part| part.tensor.as_str()).collect();
        let mut layers = BTreeMap::new();
        for (prefix, index) in names.iter().filter_map(|name| layer(name)) {
            let last = layers.entry(prefix).or_insert(index);
            *last = index.max(*last);
        }
        Self { names, layers }
    }

    /// Names of the checkpoint that are not among them.
    fn missed<'c>(&self, checkpoint: &'c Checkpoint) -> impl Iterator<Item = (&'c str, Kind)> {
        let unread = checkpoint.tensors().iter().filter(|(name, _)| !self.names.contains(name.as_str()));
        unread.map(|(name, info)| (name.as_str(), self.kind(name, info)))
    }

    fn kind(&self, name: &str, info: &TensorInfo) -> Kind {
        let ends = |end: &&str| name.ends_with(*end);
        // Masks and counters are of these types, weights and codes of others.
        let buffer = matches!(&info.dtype, Dtype::Other(dtype) if dtype == "BOOL" || dtype == "I64");
        if IDLE.iter().any(ends) || info.shape.contains(&0) {
            return Kind::Idle;
        }
        if KV_SCALES.iter().any(ends) {
            return Kind::Aside(KV_SCALE);
        }
        if let Some((_, what)) = ASIDE.iter().find(|(begin, _)| name.starts_with(begin)) {
            return Kind::Aside(what);
        }
        if let Some((prefix, index)) = layer(name)
            && let Some(&last) = self.layers.get(prefix)
        {
            return match index > last {
                true => Kind::Needed(format!(
                    "lies in layer {index}, but the last one that config.json describes is {last}; is its number of layers right?"
                )),
                false if buffer => Kind::Other,
                false => Kind::Needed(part_of(name)),
            };
        }
        let inside = |(at, _): (usize, &str)| self.names.contains(format!("{}.weight", &name[..at]).as_str());
        match name.match_indices('.').any(inside) && !buffer {
            true => Kind::Needed(part_of(name)),
            false => Kind::Other,
        }
    }
}

/// Why a tensor of a module that is read is needed.
fn part_of(name: &str) -> String {
    let what = match name.rsplit('.').next() {
        Some("bias") => "is a bias that, by config.json, is not there",
        _ => "is part of a layer that is read, but no part that config.json describes",
    };
    format!("{what}; without it the model gives something else: do config and weights belong together?")
}

/// The text in front of the number of a layer's tensor, and the number.
fn layer(name: &str) -> Option<(&str, usize)> {
    const WORD: &str = "layers.";
    let begin = name.match_indices(WORD).map(|(at, _)| at).find(|&at| at == 0 || name[..at].ends_with('.'))?;
    let (prefix, rest) = name.split_at(begin + WORD.len());
    Some((prefix, rest.split_once('.')?.0.parse().ok()?))
}

fn refuse(checkpoint: &Checkpoint, mut names: Vec<&str>, why: String) -> CheckpointError {
    let count = names.len();
    names.truncate(LISTED);
    let file = names.first().and_then(|name| checkpoint.tensor(name)).map_or("", |info| &info.file);
    let names = names.into_iter().map(str::to_owned).collect();
    CheckpointError::Unread { file: checkpoint.describe(file), names, count, why }
}

/// Refuses an adapter, merged or not: its tensors change others, or stand for them.
pub(super) fn refuse_adapters(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let adapted = |name: &str| {
        name.starts_with("base_model.model.") || name.split('.').any(|part| ADAPTER.iter().any(|p| part.starts_with(p)))
    };
    let names: Vec<&str> = checkpoint.tensors().keys().map(String::as_str).filter(|name| adapted(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let why = "belongs to an adapter (LoRA or one of its kin), which lies in a folder of its own beside a model: PEFT's `save_pretrained` writes it so, and its `merge_and_unload` makes one model of both";
    Err(refuse(checkpoint, names, why.into()))
}

/// Refuses tensors without which a model gives something else.
pub(super) fn refuse_needed(checkpoint: &Checkpoint, graph: &Graph) -> Result<(), CheckpointError> {
    let read = Read::of(graph);
    let mut needed = read.missed(checkpoint).filter_map(|(name, kind)| match kind {
        Kind::Needed(why) => Some((name, why)),
        _ => None,
    });
    let Some((first, why)) = needed.next() else { return Ok(()) };
    let names = std::iter::once(first).chain(needed.map(|(name, _)| name)).collect();
    Err(refuse(checkpoint, names, why))
}

/// Sentences about the tensors that a model does not read and can do without.
pub fn notices(checkpoint: &Checkpoint, graph: &Graph) -> Vec<String> {
    let (mut asides, mut others) = (BTreeMap::<&str, usize>::new(), vec![]);
    let read = Read::of(graph);
    for (name, kind) in read.missed(checkpoint) {
        match kind {
            Kind::Aside(what) => *asides.entry(what).or_default() += 1,
            Kind::Other => others.push(name.to_owned()),
            Kind::Idle | Kind::Needed(_) => {}
        }
    }
    let tensors = |count: usize| if count == 1 { "1 tensor".to_owned() } else { format!("{count} tensors") };
    let mut notices: Vec<String> =
        asides.into_iter().map(|(what, count)| format!("{} of {what}", tensors(count))).collect();
    if !others.is_empty() {
        let count = others.len();
        others.truncate(LISTED);
        let names = super::error::shorten(&others, count);
        notices.push(format!("{} of the checkpoint that the model does not read: {names}", tensors(count)));
    }
    notices.extend(gguf::notice(checkpoint, &read.names));
    notices
}
