//! What the kernels of one op leave for one another: how much, and where in it what begins. Sizes follow from
//! the graph and the rows a program is compiled for.

use super::lower::{FEW_ROWS, capacity};
use crate::backend::{CHUNK_ROWS, ProgramSpec, StepTable};
use crate::graph::{Graph, Op, Rows, StateId, pitch};
use crate::state::StateLayout;

/// Most buffers of the kind that one op has.
pub(super) const SCRATCHES: usize = 3;
/// Pairs of one workgroup of `moe_apply/tile.wgsl`.
const TILE_ROWS: usize = 32;
/// Words of the lists in front of the tiles, and of a tile.
pub(super) const TILE_WORDS: usize = 4;

/// Bytes of all scratches of a program's ops, which share them.
pub fn scratch_bytes(graph: &Graph, spec: &ProgramSpec) -> u64 {
    let largest = |which: usize| graph.ops.iter().map(|op| of_op(graph, spec, op)[which]).max().unwrap_or(0);
    (0..SCRATCHES).map(largest).sum()
}

/// Bytes of each scratch that an op needs.
pub(super) fn of_op(graph: &Graph, spec: &ProgramSpec, op: &Op) -> [u64; SCRATCHES] {
    let numbers = match *op {
        Op::MoeApply { .. } => experts(graph, spec, op),
        Op::GatedDelta { heads, state, .. } => [delta(graph, spec, state, heads)[2], 0, 0],
        // What is handed from chunk to chunk: states, and a decay for each channel or head.
        Op::SelectiveScan { x: decays, state, .. } => [long_chunks(spec) * (states(graph, state) + decays.width), 0, 0],
        Op::SsdScan { heads, state, .. } => [long_chunks(spec) * (states(graph, state) + heads), 0, 0],
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

/// Where in the scratch of a gated delta rule the inverses begin, where the gates, and where it ends, in numbers.
pub(super) fn delta(graph: &Graph, spec: &ProgramSpec, state: StateId, heads: usize) -> [usize; 3] {
    let (long, rows) = (long_chunks(spec), capacity(spec, Rows::All));
    let inverses = long * states(graph, state);
    let gates = inverses + long * heads * (CHUNK_ROWS * CHUNK_ROWS) as usize;
    [inverses, gates, gates + rows * heads * 2]
}

/// Most tiles of `pairs` pairs of rows and experts: all but one of an expert's are full.
pub(super) fn most_tiles(pairs: usize, experts: usize) -> usize {
    pairs / TILE_ROWS + pairs.min(experts)
}

/// Numbers of what is hidden, of the pairs' results, and of the lists.
fn experts(graph: &Graph, spec: &ProgramSpec, op: &Op) -> [usize; SCRATCHES] {
    let &Op::MoeApply { routes, up, experts, out, .. } = op else { return [0; SCRATCHES] };
    let (value, top) = (graph.value(out), graph.value(routes).width / 2);
    let (rows, hidden) = (capacity(spec, value.rows), pitch(graph.weight(up).rows / experts));
    let pairs = rows * top;
    let many = usize::from(rows > FEW_ROWS);
    let lists = TILE_WORDS * (1 + most_tiles(pairs, experts)) + pairs;
    [pairs * hidden, many * pairs * pitch(value.width), many * lists]
}
