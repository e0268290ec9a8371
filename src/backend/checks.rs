//! What backends that check every call refuse, and in which words: calls that contradict an earlier one.

use std::collections::BTreeSet;

use super::{BackendError, ProgramId, ProgramSpec, Result, StepTable};
use crate::graph::{Graph, StateKind, StateSpec, WeightId, WeightRecipe};
use crate::state::{Addressing, PAGE_ROWS, SlotId, StateLayout, mask_words};

/// A fault of the caller.
pub(super) fn misuse<T>(what: String) -> Result<T> {
    Err(BackendError::Misuse(what))
}

pub(super) fn no_program(id: ProgramId) -> BackendError {
    BackendError::Misuse(format!("program {} was not compiled, or its weights or slots were replaced", id.0))
}

pub(super) fn not_allocated() -> BackendError {
    BackendError::Misuse("no slots were allocated".into())
}

/// Checks a graph before it is compiled: that it is valid, that its weights are those on the device, of which
/// `check_weight` decides, and that its states are those for which slots were allocated. Kernels trust its shapes.
pub(super) fn check_graph(
    graph: &Graph,
    layout: &StateLayout,
    check_weight: impl Fn(WeightId, &WeightRecipe) -> Result<()>,
) -> Result<()> {
    if let Err(error) = graph.validate() {
        return misuse(error.to_string());
    }
    for (index, recipe) in graph.weights.iter().enumerate() {
        check_weight(WeightId(index as u32), recipe)?;
    }
    if !graph.states.iter().map(|state| &state.kind).eq(layout.states.iter().map(|state| &state.kind)) {
        return misuse("the graph's states are not those that were allocated".into());
    }
    Ok(())
}

/// The index of a slot, the initial state's included.
pub(super) fn check_slot(layout: &StateLayout, slot: SlotId) -> Result<usize> {
    let index = slot.0 as usize;
    if index <= layout.slots {
        Ok(index)
    } else {
        misuse(format!("slot {index} of {} and the initial state", layout.slots))
    }
}

/// Checks that a mask has a bit for every token.
pub(super) fn check_mask(layout: &StateLayout, mask: Option<&[u32]>) -> Result<()> {
    let wanted = mask_words(layout.vocabulary);
    match mask {
        Some(mask) if mask.len() != wanted => misuse(format!("a mask of {} words, must have {wanted}", mask.len())),
        _ => Ok(()),
    }
}

/// Checks that every position below `end` of a slot has a row in every KV pool, when each slot has these pages.
pub(super) fn check_rows(layout: &StateLayout, pages: &[Vec<u32>], slot: SlotId, end: usize) -> Result<()> {
    let index = check_slot(layout, slot)?;
    if end > layout.context {
        return misuse(format!("{end} positions in a context of {}", layout.context));
    }
    let kv = |state: &StateSpec| if let StateKind::Kv(kv) = &state.kind { Some(layout.kv(kv)) } else { None };
    for kv in layout.states.iter().filter_map(kv) {
        let (after, pages) = (end.saturating_sub(kv.pinned), pages[index].len());
        if after > 0 && slot == layout.initial_slot() {
            return misuse(format!("position {} in the initial state", end - 1));
        }
        if kv.addressing == Addressing::Pages && after > pages * PAGE_ROWS {
            return misuse(format!("{end} positions in slot {index}, which has {pages} pages"));
        }
    }
    Ok(())
}

/// Checks that a step fits a program, that its parts agree with each other, and that its slots have rows, of which
/// `rows_of` decides.
pub(super) fn check_step(
    table: &StepTable,
    spec: &ProgramSpec,
    rows_of: impl Fn(SlotId, usize) -> Result<()>,
) -> Result<()> {
    let (rows, outputs) = (table.rows.len(), table.outputs.len());
    if rows > spec.rows || outputs > spec.outputs {
        let room = (spec.rows, spec.outputs);
        return misuse(format!("a step of {rows} rows and {outputs} outputs for a program of {room:?}"));
    }
    if let Some(row) = table.outputs.iter().find(|&&row| row as usize >= rows) {
        return misuse(format!("output row {row} of {rows}"));
    }
    let (mut slots, mut next) = (BTreeSet::new(), 0usize);
    for (index, &[slot, first, position, count]) in table.spans.iter().enumerate() {
        let (first, count) = (first as usize, count as usize);
        let own = table.rows.get(next..next.saturating_add(count)).unwrap_or(&[]);
        let fits = |(t, row): (usize, &[u32; 4])| row[1..] == [slot, position.wrapping_add(t as u32), index as u32];
        if first != next || own.is_empty() || !slots.insert(slot) || !own.iter().enumerate().all(fits) {
            return misuse(format!("span {index} of the step table contradicts its rows"));
        }
        next += count;
        rows_of(SlotId(slot), (position as usize).saturating_add(count))?;
    }
    if next != rows {
        return misuse(format!("{next} of {rows} rows of the step table belong to a span"));
    }
    Ok(())
}
