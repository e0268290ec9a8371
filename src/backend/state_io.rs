//! A slot's memory out of a backend and into it again: what it consists of, where that lies, what must fit.
//!
//! Every backend lays out its buffers as [`StateLayout`] says, in bytes that mean the same everywhere. A backend
//! only reads and writes bytes of its buffers ([`StateIo`]); all else is here, once.

use std::future::Future;
use std::ops::Range;

use half::f16;

use super::checks::{check_rows, check_slot, misuse};
use super::{BackendError, Parts, Result};
use crate::graph::{KvSpec, StateKind, StateSpec};
use crate::state::{
    Addressing, KvFormat, PAGE_ROWS, Run, SAMPLER_WORDS, SamplerState, SlotId, SlotState, StateLayout, StateTensor,
    kv_f16,
};

/// A buffer with a part of all slots' memory. The number is the state's, in the graph's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateBuffer {
    /// Rows of keys: `[kv_rows, heads * key_width]` in the layout's format.
    Keys(usize),
    /// Rows of values: `[kv_rows, heads * value_width]` in the layout's format.
    Values(usize),
    /// A convolution or recurrent state: `f32 [slots + 1, elements]`.
    Slots(usize),
    /// The records of the slots' samplers: `u32 [slots + 1, SAMPLER_WORDS]`.
    Samplers,
    /// How often each slot chose each token: `u32 [slots + 1, vocabulary]`.
    Counts,
}

impl StateBuffer {
    /// The number of its state, where it belongs to one.
    pub fn state(self) -> Option<usize> {
        match self {
            Self::Keys(state) | Self::Values(state) | Self::Slots(state) => Some(state),
            Self::Samplers | Self::Counts => None,
        }
    }
}

/// Bytes of a slot's record.
const RECORD: usize = SAMPLER_WORDS * size_of::<u32>();

/// A backend's state buffers.
pub(super) trait StateIo {
    /// Recurrent states whose channels are not last lie with their last two axes exchanged.
    const EXCHANGED: bool = false;

    /// The layout of all slots.
    fn layout(&self) -> &StateLayout;

    /// The pages of each slot, in order; the initial state, which is last, has none.
    fn pages(&self) -> &[Vec<u32>];

    /// Whether a slot has chosen a token since it was reset.
    fn has_token(&self, slot: usize) -> bool;

    /// Reads bytes of a buffer.
    fn read(&self, buffer: StateBuffer, start: usize, bytes: usize) -> impl Future<Output = Result<Vec<u8>>>;

    /// Replaces bytes of a buffer.
    fn write(&mut self, buffer: StateBuffer, start: usize, bytes: &[u8]) -> Result<()>;
}

/// Copies a slot's memory out; `position` is the slot's next position.
pub(super) async fn snapshot(io: &impl StateIo, slot: SlotId, position: usize) -> Result<SlotState> {
    let mut state = snapshot_rows(io, slot, 0..position).await?;
    state.sampler = snapshot_sampler(io, slot).await?;
    Ok(state)
}

/// Copies a block out, with the rows of `positions` in these pages. A block has no sampler.
pub(super) async fn snapshot_block(
    io: &impl StateIo,
    block: &[u8],
    pages: &[u32],
    positions: Range<usize>,
) -> Result<SlotState> {
    // As if it were the memory of the first slot.
    let slot = SlotId(0);
    let view = BlockView { io, extents: slot_extents(io.layout(), slot), block, pages: [pages.to_vec()] };
    snapshot_rows(&view, slot, positions).await
}

/// The memory of a slot but for its sampler; of global attention the rows of `positions`.
async fn snapshot_rows(io: &impl StateIo, slot: SlotId, positions: Range<usize>) -> Result<SlotState> {
    let (layout, position) = (io.layout(), positions.end);
    check_rows(layout, io.pages(), slot, position)?;
    let mut tensors = vec![];
    for (index, state) in layout.states.iter().enumerate() {
        let StateKind::Kv(kv) = &state.kind else {
            tensors.push(snapshot_slot(io, index, state, slot).await?);
            continue;
        };
        let mut runs = runs(io, kv, slot, position);
        if layout.kv(kv).addressing == Addressing::Pages {
            runs = runs.into_iter().filter_map(|run| run.from(positions.start)).collect();
        }
        for pool in pools(index, state, kv) {
            let row = pool.row_bytes(layout.kv_format);
            let (mut data, mut positions) = (vec![], vec![]);
            for run in &runs {
                let bytes = io.read(pool.buffer, run.row * row, run.rows * row).await?;
                match layout.kv_format {
                    KvFormat::F32 => data.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)),
                    KvFormat::F16 => {
                        data.extend(bytemuck::pod_collect_to_vec::<u8, f16>(&bytes).into_iter().map(f16::to_f32));
                    }
                }
                positions.extend(run.positions());
            }
            let shape = vec![positions.len(), kv.heads, pool.columns / kv.heads.max(1)];
            tensors.push(StateTensor { name: pool.name, shape, positions, data });
        }
    }
    Ok(SlotState { position, tensors, sampler: SamplerState::default() })
}

async fn snapshot_slot(io: &impl StateIo, index: usize, state: &StateSpec, slot: SlotId) -> Result<StateTensor> {
    let (shape, bytes) = (StateLayout::shape(&state.kind), StateLayout::elements(&state.kind) * size_of::<f32>());
    let bytes = io.read(StateBuffer::Slots(index), slot.0 as usize * bytes, bytes).await?;
    let mut data = bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
    if is_exchanged(io, &state.kind) {
        let mut stored = shape.clone();
        let axes = stored.len();
        stored.swap(axes - 2, axes - 1);
        data = exchange(&data, &stored);
    }
    Ok(StateTensor { name: state.name.clone(), shape, positions: vec![], data })
}

async fn snapshot_sampler(io: &impl StateIo, slot: SlotId) -> Result<SamplerState> {
    let index = slot.0 as usize;
    let record = io.read(StateBuffer::Samplers, index * RECORD, RECORD).await?;
    let mut words = [0; SAMPLER_WORDS];
    words.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, u32>(&record));
    let mut state = SamplerState::from_words(&words);
    if !io.has_token(index) {
        state.last = None;
    }
    if state.sampler.penalises() {
        let bytes = io.layout().vocabulary * size_of::<u32>();
        state.counts = bytemuck::pod_collect_to_vec(&io.read(StateBuffer::Counts, index * bytes, bytes).await?);
    }
    Ok(state)
}

/// Puts a memory into a slot whose pages are set. Nothing is changed when it does not fit. Whether the slot
/// [has a token](StateIo::has_token) is the caller's to note.
pub(super) fn restore(io: &mut impl StateIo, slot: SlotId, saved: &SlotState, parts: Parts) -> Result<()> {
    check(io, slot, saved, parts)?;
    let layout = io.layout().clone();
    let index = slot.0 as usize;
    for (number, state) in layout.states.iter().enumerate() {
        let StateKind::Kv(kv) = &state.kind else {
            let tensor = find(saved, &state.name)?;
            let exchanged = is_exchanged(io, &state.kind).then(|| exchange(&tensor.data, &tensor.shape));
            let bytes = bytemuck::cast_slice(exchanged.as_deref().unwrap_or(&tensor.data));
            io.write(StateBuffer::Slots(number), index * bytes.len(), bytes)?;
            continue;
        };
        if parts == Parts::OutsidePages && layout.kv(kv).addressing == Addressing::Pages {
            continue;
        }
        let runs = runs(io, kv, slot, saved.position);
        for pool in pools(number, state, kv) {
            let tensor = find(saved, &pool.name)?;
            for run in &runs {
                let first = place(tensor, run.position as u32)?;
                // It may remember more than this layout does, but nothing between two neighbours.
                let numbers = &tensor.data[first * pool.columns..][..run.rows * pool.columns];
                let start = run.row * pool.row_bytes(layout.kv_format);
                match layout.kv_format {
                    KvFormat::F32 => io.write(pool.buffer, start, bytemuck::cast_slice(numbers))?,
                    KvFormat::F16 => {
                        let halves: Vec<f16> = numbers.iter().map(|&x| kv_f16(x)).collect();
                        io.write(pool.buffer, start, bytemuck::cast_slice(&halves))?;
                    }
                }
            }
        }
    }
    io.write(StateBuffer::Samplers, index * RECORD, bytemuck::cast_slice(&saved.sampler.words()))?;
    if saved.sampler.sampler.penalises() {
        let counts: &[u8] = bytemuck::cast_slice(&saved.sampler.counts);
        io.write(StateBuffer::Counts, index * counts.len(), counts)?;
    }
    Ok(())
}

/// Checks that a saved memory is whole, of this layout, and has a place in the slot.
fn check(io: &impl StateIo, slot: SlotId, saved: &SlotState, parts: Parts) -> Result<()> {
    let layout = io.layout();
    check_rows(layout, io.pages(), slot, saved.position)?;
    for (index, state) in layout.states.iter().enumerate() {
        let StateKind::Kv(kv) = &state.kind else {
            check_shape(find(saved, &state.name)?, &StateLayout::shape(&state.kind))?;
            continue;
        };
        if parts == Parts::OutsidePages && layout.kv(kv).addressing == Addressing::Pages {
            continue;
        }
        for pool in pools(index, state, kv) {
            let tensor = find(saved, &pool.name)?;
            check_shape(tensor, &[tensor.positions.len(), kv.heads, pool.columns / kv.heads.max(1)])?;
            if !tensor.positions.is_sorted_by(|a, b| a < b) {
                return misuse(format!("the positions of `{}` do not ascend", pool.name));
            }
            for run in runs(io, kv, slot, saved.position) {
                for position in run.positions() {
                    place(tensor, position)?;
                }
            }
        }
    }
    check_sampler(layout, &saved.sampler)
}

fn check_sampler(layout: &StateLayout, state: &SamplerState) -> Result<()> {
    state.sampler.check().map_err(|error| BackendError::Misuse(format!("a slot's memory has a {error}")))?;
    let vocabulary = layout.vocabulary;
    if let Some(token) = state.last.filter(|&token| token as usize >= vocabulary) {
        return misuse(format!("a slot's memory chose token {token} of {vocabulary}"));
    }
    let (counts, wanted) = (state.counts.len(), if state.sampler.penalises() { vocabulary } else { 0 });
    if counts != wanted {
        return misuse(format!("a slot's memory counts {counts} tokens, must count {wanted}"));
    }
    Ok(())
}

/// Consecutive bytes of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The buffer.
    pub buffer: StateBuffer,
    /// Its first byte.
    pub start: usize,
    /// Count of bytes.
    pub bytes: usize,
}

/// What a slot remembers outside its pages, in the order of a block.
pub(super) fn slot_extents(layout: &StateLayout, slot: SlotId) -> Vec<Extent> {
    let (mut extents, slot) = (vec![], slot.0 as usize);
    for (index, state) in layout.states.iter().enumerate() {
        let StateKind::Kv(kv) = &state.kind else {
            let bytes = StateLayout::elements(&state.kind) * size_of::<f32>();
            extents.push(Extent { buffer: StateBuffer::Slots(index), start: slot * bytes, bytes });
            continue;
        };
        if let Addressing::Ring { rows } = layout.kv(kv).addressing {
            extents.extend(pools(index, state, kv).map(|pool| {
                let row = pool.row_bytes(layout.kv_format);
                Extent { buffer: pool.buffer, start: (kv.pinned + slot * rows) * row, bytes: rows * row }
            }));
        }
    }
    extents
}

/// The rows of a page in the pools of every global attention.
pub(super) fn page_extents(layout: &StateLayout, page: u32) -> Vec<Extent> {
    let mut extents = vec![];
    for (index, state) in layout.states.iter().enumerate() {
        if let StateKind::Kv(kv) = &state.kind
            && layout.kv(kv).addressing == Addressing::Pages
        {
            extents.extend(pools(index, state, kv).map(|pool| {
                let row = pool.row_bytes(layout.kv_format);
                let start = (kv.pinned + page as usize * PAGE_ROWS) * row;
                Extent { buffer: pool.buffer, start, bytes: PAGE_ROWS * row }
            }));
        }
    }
    extents
}

/// The extents of two pages, checked, in pairs.
pub(super) fn page_copies(layout: &StateLayout, from: u32, to: u32) -> Result<Vec<(Extent, Extent)>> {
    if let Some(page) = [from, to].into_iter().find(|&page| page as usize >= layout.pages) {
        return misuse(format!("page {page} of {}", layout.pages));
    }
    Ok(page_extents(layout, from).into_iter().zip(page_extents(layout, to)).collect())
}

/// The extents of a user's slot, each with its place in a block.
pub(super) fn block_extents(layout: &StateLayout, slot: SlotId) -> Result<Vec<(Extent, usize)>> {
    if slot == layout.initial_slot() {
        return misuse("the initial state in a block".into());
    }
    check_slot(layout, slot)?;
    let mut offset = 0;
    let place = |extent: Extent| {
        let at = offset;
        offset += extent.bytes;
        (extent, at)
    };
    Ok(slot_extents(layout, slot).into_iter().map(place).collect())
}

/// A block read as the memory of a slot: rings and states come from the block, pages and pinned rows from where they
/// lie.
struct BlockView<'b, Io> {
    io: &'b Io,
    extents: Vec<Extent>,
    block: &'b [u8],
    pages: [Vec<u32>; 1],
}

impl<Io: StateIo> StateIo for BlockView<'_, Io> {
    const EXCHANGED: bool = Io::EXCHANGED;

    fn layout(&self) -> &StateLayout {
        self.io.layout()
    }

    fn pages(&self) -> &[Vec<u32>] {
        &self.pages
    }

    fn has_token(&self, _: usize) -> bool {
        false
    }

    async fn read(&self, buffer: StateBuffer, start: usize, bytes: usize) -> Result<Vec<u8>> {
        let mut offset = 0;
        for extent in &self.extents {
            let within = start.checked_sub(extent.start).filter(|&at| at + bytes <= extent.bytes);
            if extent.buffer == buffer
                && let Some(at) = within
            {
                return match self.block.get(offset + at..offset + at + bytes) {
                    Some(found) => Ok(found.to_vec()),
                    None => misuse(format!("a block of {} bytes, too few for its layout", self.block.len())),
                };
            }
            offset += extent.bytes;
        }
        self.io.read(buffer, start, bytes).await
    }

    fn write(&mut self, _: StateBuffer, _: usize, _: &[u8]) -> Result<()> {
        misuse("writing to a block".into())
    }
}

/// Rows of keys or of values of a KV state.
struct Pool {
    /// In a saved memory.
    name: String,
    buffer: StateBuffer,
    /// Numbers of a row.
    columns: usize,
}

impl Pool {
    fn row_bytes(&self, format: KvFormat) -> usize {
        self.columns * format.bytes()
    }
}

fn pools(index: usize, state: &StateSpec, kv: &KvSpec) -> [Pool; 2] {
    let pool =
        |suffix, buffer, width| Pool { name: format!("{}.{suffix}", state.name), buffer, columns: kv.heads * width };
    [pool("k", StateBuffer::Keys(index), kv.key_width), pool("v", StateBuffer::Values(index), kv.value_width)]
}

/// Where the rows lie that a slot remembers of a KV state when `position` is the next.
fn runs(io: &impl StateIo, kv: &KvSpec, slot: SlotId, position: usize) -> Vec<Run> {
    io.layout().kv(kv).runs(slot, &io.pages()[slot.0 as usize], position)
}

/// A tensor of a saved memory.
fn find<'s>(saved: &'s SlotState, name: &str) -> Result<&'s StateTensor> {
    saved.tensor(name).ok_or_else(|| BackendError::Misuse(format!("a slot's memory without `{name}`")))
}

/// The row of a position in a saved tensor.
fn place(tensor: &StateTensor, position: u32) -> Result<usize> {
    let lacks = |_| BackendError::Misuse(format!("`{}` lacks position {position}", tensor.name));
    tensor.positions.binary_search(&position).map_err(lacks)
}

/// Checks that a tensor of a saved memory is what its name and its shape say.
fn check_shape(tensor: &StateTensor, shape: &[usize]) -> Result<()> {
    let (name, got, numbers) = (&tensor.name, &tensor.shape, tensor.data.len());
    // A shape that somebody else wrote may hold anything.
    if tensor.shape == shape && shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis)) == Some(numbers) {
        return Ok(());
    }
    misuse(format!("`{name}` is {got:?} with {numbers} numbers, must be {shape:?}"))
}

/// Whether a backend stores a state with its last two axes exchanged.
fn is_exchanged<Io: StateIo>(_: &Io, kind: &StateKind) -> bool {
    match kind {
        StateKind::Recurrent { shape, channels_last: false } => Io::EXCHANGED && shape.len() >= 2,
        _ => false,
    }
}

/// Row-major data of a shape, with the last two axes exchanged.
fn exchange(data: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[.., rows, columns] = shape else { return data.to_vec() };
    let mut out = Vec::with_capacity(data.len());
    for block in data.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| block[row * columns + column]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::exchange;

    #[test]
    fn two_exchanges_are_none() {
        let data: Vec<f32> = (0..24).map(|n| n as f32).collect();
        let once = exchange(&data, &[2, 3, 4]);
        assert_eq!(once[..4], [0.0, 4.0, 8.0, 1.0]);
        assert_eq!(exchange(&once, &[2, 4, 3]), data);
    }
}
