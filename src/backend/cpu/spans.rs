//! The spans of a step, as the ops see them.

use super::memory::SlotStates;
use super::rows::Output;
use crate::backend::StepTable;

/// Consecutive rows of one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanRows {
    /// Whose.
    pub slot: usize,
    /// First row in the step.
    pub row: usize,
    /// Position of that row.
    pub position: usize,
    /// Rows.
    pub count: usize,
}

impl SpanRows {
    /// All spans of a table.
    pub fn all(table: &StepTable) -> Vec<Self> {
        let span = |&[slot, row, position, count]: &[u32; 4]| Self {
            slot: slot as usize,
            row: row as usize,
            position: position as usize,
            count: count as usize,
        };
        table.spans.iter().map(span).collect()
    }
}

/// A block of channels of one span, with everything it changes: what one thread takes of a scan.
pub(super) struct Task<'a> {
    /// The span.
    pub span: SpanRows,
    /// Which block of channels.
    pub block: usize,
    /// The block's part of the slot's state.
    pub state: &'a mut [f32],
    /// The block's columns of the span's rows.
    pub out: Vec<&'a mut [f32]>,
}

/// Cuts every span of a scan into blocks: `elements` numbers of state and `columns` columns of the
/// result each. The spans are in the order of their rows, and no two are of the same slot.
pub(super) fn tasks<'a>(
    spans: &[SpanRows],
    states: &'a mut SlotStates,
    elements: usize,
    out: &'a mut Output<'_>,
    columns: usize,
) -> Vec<Task<'a>> {
    let slots = spans.iter().map(|span| span.slot);
    let mut states: Vec<_> = states.several_mut(slots).into_iter().map(|state| state.chunks_mut(elements)).collect();
    let mut tasks = Vec::new();
    for (block, rows) in out.blocks(columns).into_iter().enumerate() {
        let mut rows = rows.into_iter();
        for (&span, states) in spans.iter().zip(&mut states) {
            let out = rows.by_ref().take(span.count).collect();
            tasks.extend(states.next().map(|state| Task { span, block, state, out }));
        }
    }
    tasks
}
