//! Scratch buffers of ops that are several kernels: sizes and offsets. They follow from the graph and the rows a
//! program is compiled for.

use super::kernels::moe_apply::group::{TILE_ROWS, TILE_WORDS};
use super::kernels::ssd_columns::steps::{PRODUCTS_OF_GROUP, STEPS_OF_HEAD};
use super::limits::{MATVEC_ROWS, MOST_SLICES, capacity};
use crate::backend::{CHUNK_ROWS, ProgramSpec, StepTable};
use crate::graph::ops::{GatedDelta, MoeApply};
use crate::graph::{Graph, Op, Rows, StateId, pitch};
use crate::state::StateLayout;

/// Most buffers of the kind that one op has.
pub(super) const SCRATCHES: usize = 3;

/// Bytes of all scratches of a program's ops, which share them, and of the programs of few rows beside it, which decode.
pub fn scratch_bytes(graph: &Graph, spec: &ProgramSpec) -> u64 {
    let few = ProgramSpec { rows: MATVEC_ROWS, ..spec.clone() };
    let largest = |which: usize| {
        let of = |spec| graph.ops.iter().map(move |op| of_op(graph, spec, op)[which]).max().unwrap_or(0);
        of(spec).max(of(&few))
    };
    (0..SCRATCHES).map(largest).sum()
}

/// Bytes of each scratch that an op needs.
pub(super) fn of_op(graph: &Graph, spec: &ProgramSpec, op: &Op) -> [u64; SCRATCHES] {
    let numbers = match op {
        // A slice of the keys: a highest score, a sum of weights, and values.
        Op::Attention(op) if spec.rows <= MATVEC_ROWS => {
            let (rows, width) = (capacity(spec, Rows::All), graph.value(op.out).width);
            [rows * MOST_SLICES * (2 * op.heads + width), 0, 0]
        }
        Op::MoeApply(op) => experts(graph, spec, op),
        Op::GatedDelta(op) => [delta(graph, spec, op).end, 0, 0],
        // What is handed from chunk to chunk: states, and a decay for each channel or head.
        Op::SelectiveScan(op) => [long_chunks(spec) * (states(graph, op.state) + op.x.width), 0, 0],
        Op::SsdScan(op) => {
            // And what the chunks' steps come to, in `ssd_columns`.
            let steps = op.heads * STEPS_OF_HEAD + op.groups * PRODUCTS_OF_GROUP;
            [long_chunks(spec) * (states(graph, op.state) + op.heads), long_chunks(spec) * steps, 0]
        }
        _ => [0; SCRATCHES],
    };
    numbers.map(|numbers| 4 * numbers as u64)
}

fn states(graph: &Graph, state: StateId) -> usize {
    StateLayout::elements(&graph.state(state).kind)
}

/// Chunks of spans that have several, at most.
pub(super) fn long_chunks(spec: &ProgramSpec) -> usize {
    if spec.rows > CHUNK_ROWS as usize { StepTable::most_long_chunks(spec.rows) } else { 0 }
}

/// Places in the scratch of a gated delta rule, in numbers. The states of chunks come first.
pub(super) struct DeltaScratch {
    /// Inverses of the chunks.
    pub inverses: usize,
    /// Gates of every row and head.
    pub gates: usize,
    /// Behind everything.
    pub end: usize,
}

/// The scratch of a gated delta rule.
pub(super) fn delta(graph: &Graph, spec: &ProgramSpec, op: &GatedDelta) -> DeltaScratch {
    let (long, rows) = (long_chunks(spec), capacity(spec, Rows::All));
    let inverses = long * states(graph, op.state);
    let gates = inverses + long * op.heads * (CHUNK_ROWS * CHUNK_ROWS) as usize;
    DeltaScratch { inverses, gates, end: gates + rows * op.heads * 2 }
}

/// Most tiles of `pairs` pairs of rows and experts: all but one of an expert's are full.
pub(super) fn most_tiles(pairs: usize, experts: usize) -> usize {
    pairs / TILE_ROWS + pairs.min(experts)
}

/// Numbers of what is hidden, of the pairs' results, and of the lists.
fn experts(graph: &Graph, spec: &ProgramSpec, op: &MoeApply) -> [usize; SCRATCHES] {
    let out = graph.value(op.out);
    let (rows, hidden) = (capacity(spec, out.rows), pitch(op.up_rows(graph)));
    let pairs = rows * op.top_k(graph);
    let tiled = usize::from(rows > MATVEC_ROWS);
    let lists = TILE_WORDS * (1 + most_tiles(pairs, op.experts)) + pairs;
    [pairs * hidden, tiled * pairs * pitch(out.width), tiled * lists]
}
