//! The spans of a step, as the ops see them.

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
