//! Liveness and the memory plan: which values may lie in which buffer.
//!
//! A buffer is reused whole. An op's result never lies in a buffer that the same op reads: WebGPU
//! forbids one dispatch to bind a buffer both read-only and writable.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, Rows, ValueId};

/// One buffer of a plan: `f32 [rows, pitch]`, for all values that lie in it one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// Elements for one row, the largest of the values' pitches.
    pub pitch: usize,
    /// Which rows.
    pub rows: Rows,
}

/// Where each value lies.
#[derive(Clone, Debug, Default)]
pub struct BufferPlan {
    /// All buffers.
    pub buffers: Vec<PlannedBuffer>,
    /// The buffer of each value that needs one. Values used only inside a fused group have none.
    pub of_value: BTreeMap<ValueId, usize>,
}

/// Columns as stored: rows start on 32-byte boundaries, so that kernels read eight columns at a time.
pub fn pitch(width: usize) -> usize {
    width.next_multiple_of(8)
}

/// Plans the buffers of a graph whose ops run in `groups` (indices into `graph.ops`; a fused kernel
/// is one group). Values in `keep` stay readable after the last op.
pub fn plan(graph: &Graph, groups: &[Vec<usize>], keep: &BTreeSet<ValueId>) -> BufferPlan {
    let end = groups.len();
    // First and last group in which a value is alive; `None` while unseen.
    let mut life: BTreeMap<ValueId, (usize, usize)> = graph.inputs.iter().map(|&v| (v, (0, end))).collect();
    let mut inner: BTreeSet<ValueId> = BTreeSet::new();
    for (at, group) in groups.iter().enumerate() {
        for &op in group {
            for view in graph.ops[op].reads() {
                if let Some(span) = life.get_mut(&view.value) {
                    span.1 = span.1.max(at);
                }
            }
            if let Some(out) = graph.ops[op].writes() {
                life.insert(out, (at, if keep.contains(&out) { end } else { at }));
            }
        }
    }
    for (at, group) in groups.iter().enumerate() {
        let made: Vec<ValueId> = group.iter().filter_map(|&op| graph.ops[op].writes()).collect();
        let last = group.last().and_then(|&op| graph.ops[op].writes());
        inner.extend(made.into_iter().filter(|v| life[v].1 == at && Some(*v) != last && group.len() > 1));
    }

    let mut result = BufferPlan::default();
    let mut busy_until: Vec<usize> = Vec::new();
    let mut order: Vec<(ValueId, (usize, usize))> = life.into_iter().filter(|(v, _)| !inner.contains(v)).collect();
    order.sort_by_key(|&(value, (from, _))| (from, value));
    for (value, (from, to)) in order {
        let (width, rows) = (pitch(graph.value(value).width), graph.value(value).rows);
        // Among the free buffers: the one that has to grow least, then the tightest.
        let fit = |i: &usize| {
            let have = result.buffers[*i].pitch;
            (width.saturating_sub(have), have)
        };
        let free = (0..result.buffers.len())
            .filter(|&i| busy_until[i] < from && result.buffers[i].rows == rows)
            .min_by_key(fit);
        let index = free.unwrap_or_else(|| {
            result.buffers.push(PlannedBuffer { pitch: 0, rows });
            busy_until.push(0);
            result.buffers.len() - 1
        });
        result.buffers[index].pitch = result.buffers[index].pitch.max(width);
        busy_until[index] = to;
        result.of_value.insert(value, index);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Function, GraphBuilder};

    #[test]
    fn a_chain_takes_two_buffers_and_never_shares_one_within_an_op() {
        let mut b = GraphBuilder::new();
        let mut x = b.input("x", 5);
        for i in 0..6 {
            x = b.activation(format!("{i}"), b.whole(x), Function::Silu, 1.0);
        }
        let graph = b.finish().expect("a valid graph");
        let groups: Vec<Vec<usize>> = (0..graph.ops.len()).map(|i| vec![i]).collect();
        let plan = plan(&graph, &groups, &BTreeSet::from([x]));
        assert_eq!(plan.buffers.len(), 3, "the input keeps its own, the chain alternates between two");
        assert!(plan.buffers.iter().all(|b| b.pitch == 8));
        for op in &graph.ops {
            let out = plan.of_value[&op.writes().expect("an activation makes a value")];
            assert!(op.reads().iter().all(|v| plan.of_value[&v.value] != out));
        }
    }

    #[test]
    fn values_inside_a_fused_group_have_no_buffer() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", 8);
        let inner = b.activation("inner", b.whole(x), Function::Silu, 1.0);
        let out = b.activation("out", b.whole(inner), Function::Silu, 1.0);
        let graph = b.finish().expect("a valid graph");
        let plan = plan(&graph, &[vec![0, 1]], &BTreeSet::from([out]));
        assert!(!plan.of_value.contains_key(&inner));
        assert!(plan.of_value.contains_key(&out));
    }
}
