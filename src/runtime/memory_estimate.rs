//! Estimate of the memory that a model takes, made before anything is allocated.

use std::collections::BTreeSet;

use super::{EngineError, PREFILL_ROWS};
use crate::arch::Model;
use crate::backend::webgpu::scratch_bytes;
use crate::backend::{BackendError, BackendInfo, ProgramSpec};
use crate::checkpoint::{self, Checkpoint, WeightChoice};
use crate::graph::{Graph, Op, Rows, StateKind, WeightDesc};
use crate::state::{KvFormat, StateLayout};

/// Bytes of weights as they are stored.
pub fn weight_bytes(descs: &[WeightDesc]) -> u64 {
    descs.iter().map(WeightDesc::bytes).sum()
}

/// Bytes of what a step of [`PREFILL_ROWS`] rows that asks for one row of logits works with: activations, before ops
/// are fused, and what the kernels of chunked scans, of experts and of attention in slices leave for one another.
pub fn workspace_bytes(graph: &Graph) -> u64 {
    let groups: Vec<Vec<usize>> = (0..graph.ops.len()).map(|op| vec![op]).collect();
    let plan = crate::graph::plan(graph, &groups, &BTreeSet::new());
    let rows = |rows| if rows == Rows::All { PREFILL_ROWS as u64 } else { 1 };
    let activations: u64 = plan.buffers.iter().map(|buffer| buffer.pitch as u64 * rows(buffer.rows) * 4).sum();
    let spec = ProgramSpec { rows: PREFILL_ROWS, outputs: 1, keep: BTreeSet::new() };
    activations + scratch_bytes(graph, &spec)
}

/// Bytes that a transformer of a model's size keeps of each token: in every layer that mixes tokens, keys and values as
/// wide as the model's own widest ones (as the stream between its layers where it has none), in the same format.
pub fn transformer_bytes_per_token(model: &Model, kv: KvFormat) -> u64 {
    let count = |kind: fn(&Op) -> bool| model.graph.ops.iter().filter(|op| kind(op)).count();
    let attention = count(|op| matches!(op, Op::Attention(_)));
    let scans = count(|op| matches!(op, Op::SelectiveScan(_) | Op::SsdScan(_) | Op::GatedDelta(_)));
    let convolutions = count(|op| matches!(op, Op::Conv(_)));
    // A layer may hold an attention and a scan side by side; a scan has a convolution in front.
    let layers = model.layers.min(attention + scans.max(convolutions));
    let own = model.graph.states.iter().filter_map(|state| match &state.kind {
        StateKind::Kv(kv) => Some(kv.heads * (kv.key_width + kv.value_width)),
        _ => None,
    });
    let stream = model.graph.ops.iter().find_map(|op| match op {
        Op::Embed(embed) => Some(2 * model.graph.value(embed.out).width),
        _ => None,
    });
    let width = own.max().or(stream).unwrap_or(0);
    (layers * width * kv.bytes()) as u64
}

/// The finest of what there is that fits into `memory` bytes with the slots' memory and the workspace: weights as the
/// checkpoint has them, 8 bits, 4 bits. Where nothing fits it is 4 bits: to be refused by its size, or by the device.
pub(super) fn fitting(
    checkpoint: &Checkpoint,
    model: &Model,
    layout: &StateLayout,
    memory: Option<u64>,
) -> Result<WeightChoice, EngineError> {
    let Some(memory) = memory else { return Ok(WeightChoice::Auto) };
    let others = layout.allocated() + workspace_bytes(&model.graph);
    for choice in [WeightChoice::Auto, WeightChoice::Q8] {
        let weights = weight_bytes(&checkpoint::stored(checkpoint, &model.graph, choice)?);
        if weights + others <= memory {
            return Ok(choice);
        }
    }
    Ok(WeightChoice::Q4)
}

/// Refuses what would take more than `budget` bytes, and memories of which a part is larger than the device can
/// hold in one piece.
pub(super) fn check(
    model: &Model,
    descs: &[WeightDesc],
    layout: &StateLayout,
    info: &BackendInfo,
    budget: Option<u64>,
) -> Result<(), EngineError> {
    for state in &layout.states {
        let bytes = layout.largest_piece(state);
        if bytes > info.max_binding {
            return Err(EngineError::Backend(BackendError::Limit {
                what: format!(
                    "the memory `{}` of a context of {}",
                    state.name,
                    layout.context - model.prefix_tokens.len()
                ),
                needed: format!("one buffer of {bytes} bytes"),
                available: format!("{} bytes a buffer; choose a shorter context", info.max_binding),
            }));
        }
    }
    let Some(budget) = budget else { return Ok(()) };
    let (weights, state, workspace) = (weight_bytes(descs), layout.allocated(), workspace_bytes(&model.graph));
    let needed = weights + state + workspace;
    if needed > budget {
        let (slots, context) = (layout.slots, layout.context - model.prefix_tokens.len());
        return Err(EngineError::Budget { needed, budget, weights, state, workspace, slots, context });
    }
    Ok(())
}
