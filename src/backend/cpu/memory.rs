//! What all slots remember: pools of keys and values, convolution columns, recurrent states.

use std::future::{Future, ready};
use std::sync::Arc;

use bytemuck::Zeroable;
use half::f16;

use super::simd::{self, Lanes};
use crate::backend::blocks::Blocks;
use crate::backend::checks::{check_mask, check_rows, check_slot, misuse};
use crate::backend::state_io::{Extent, StateBuffer, StateIo, block_extents, page_copies};
use crate::backend::{BackendError, BlockId, Result};
use crate::graph::{StateId, StateKind};
use crate::state::{
    KvFormat, KvLayout, SAMPLER_WORDS, Sampler, SamplerState, SlotId, StateLayout, kv_f16, token_counts,
};

/// `rows * width` zeros, or an error instead of an abort.
pub(super) fn zeros<T: Zeroable>(rows: usize, width: usize, what: &str) -> Result<Vec<T>> {
    let made = rows.checked_mul(width).map(bytemuck::try_zeroed_vec);
    made.and_then(|made: Result<Vec<T>, ()>| made.ok()).ok_or_else(|| BackendError::OutOfMemory {
        what: format!("`{what}`"),
        bytes: (rows as u64).saturating_mul(width as u64).saturating_mul(size_of::<T>() as u64),
    })
}

/// Rows of keys, or of values, of one KV state.
pub(super) struct Pool {
    /// Numbers of a row: `heads * width`.
    pub width: usize,
    numbers: PoolNumbers,
}

enum PoolNumbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Pool {
    fn new(rows: usize, width: usize, format: KvFormat, what: &str) -> Result<Self> {
        let numbers = match format {
            KvFormat::F32 => PoolNumbers::F32(zeros(rows, width, what)?),
            KvFormat::F16 => PoolNumbers::F16(zeros(rows, width, what)?),
        };
        Ok(Self { width, numbers })
    }

    /// Copies columns `from ..` of a row out, as many as `out` holds.
    #[inline(always)]
    pub fn read<V: Lanes>(&self, row: usize, from: usize, out: &mut [f32]) {
        let at = row * self.width + from;
        match &self.numbers {
            PoolNumbers::F32(n) => out.copy_from_slice(&n[at..at + out.len()]),
            PoolNumbers::F16(n) => simd::widen::<V, f16>(&n[at..at + out.len()], out),
        }
    }

    /// Stores a row, rounded to the pool's format.
    pub fn write(&mut self, row: usize, data: &[f32]) {
        let at = row * self.width;
        match &mut self.numbers {
            PoolNumbers::F32(n) => n[at..at + data.len()].copy_from_slice(data),
            PoolNumbers::F16(n) => {
                for (stored, &x) in n[at..at + data.len()].iter_mut().zip(data) {
                    *stored = kv_f16(x);
                }
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.numbers {
            PoolNumbers::F32(n) => bytemuck::cast_slice(n),
            PoolNumbers::F16(n) => bytemuck::cast_slice(n),
        }
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.numbers {
            PoolNumbers::F32(n) => bytemuck::cast_slice_mut(n),
            PoolNumbers::F16(n) => bytemuck::cast_slice_mut(n),
        }
    }
}

/// Keys and values of one KV state, of all slots.
pub(super) struct KvPools {
    /// Where rows lie.
    pub layout: KvLayout,
    /// KV heads.
    pub heads: usize,
    /// Keys: rows of `heads * key_width`.
    pub keys: Pool,
    /// Values: rows of `heads * value_width`.
    pub values: Pool,
}

/// A convolution or recurrent state of all slots, the initial state's behind them: `[slots + 1, elements]`.
pub(super) struct SlotStates {
    elements: usize,
    data: Vec<f32>,
}

impl SlotStates {
    /// One slot's.
    pub fn of(&self, slot: usize) -> &[f32] {
        &self.data[slot * self.elements..][..self.elements]
    }

    /// One slot's, to be changed.
    pub fn of_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.data[slot * self.elements..][..self.elements]
    }

    /// Several slots', to be changed at the same time; in the order of `slots`, which are all different.
    pub fn several_mut(&mut self, slots: impl Iterator<Item = usize> + Clone) -> Vec<&mut [f32]> {
        let mut found: Vec<(usize, &mut [f32])> = self
            .data
            .chunks_exact_mut(self.elements)
            .enumerate()
            .filter_map(|(slot, state)| Some((slots.clone().position(|s| s == slot)?, state)))
            .collect();
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, state)| state).collect()
    }
}

enum State {
    Kv(KvPools),
    Slots(SlotStates),
}

/// The memory of all slots.
pub(super) struct Memory {
    /// As it was asked for.
    pub layout: StateLayout,
    states: Vec<State>,
    pages: Vec<Vec<u32>>,
    /// How each slot chooses its tokens.
    pub samplers: Vec<SamplerState>,
    blocks: Blocks<Vec<u8>>,
}

impl Memory {
    /// Zeros for every slot and the initial state.
    pub fn new(layout: &StateLayout) -> Result<Self> {
        let state = |spec: &crate::graph::StateSpec| match &spec.kind {
            StateKind::Kv(kv) => {
                let rows = layout.kv_rows(kv);
                let pool = |width| Pool::new(rows, kv.heads * width, layout.kv_format, &spec.name);
                let (keys, values) = (pool(kv.key_width)?, pool(kv.value_width)?);
                Ok(State::Kv(KvPools { layout: layout.kv(kv), heads: kv.heads, keys, values }))
            }
            kind => {
                let elements = StateLayout::elements(kind);
                Ok(State::Slots(SlotStates { elements, data: zeros(layout.slots + 1, elements, &spec.name)? }))
            }
        };
        Ok(Self {
            layout: layout.clone(),
            states: layout.states.iter().map(state).collect::<Result<_>>()?,
            pages: vec![vec![]; layout.slots + 1],
            samplers: vec![SamplerState::default(); layout.slots + 1],
            blocks: Blocks::default(),
        })
    }

    /// Bytes of all pools, states and blocks.
    pub fn bytes(&self) -> usize {
        let bytes = |state: &State| match state {
            State::Kv(kv) => kv.keys.as_bytes().len() + kv.values.as_bytes().len(),
            State::Slots(slots) => size_of_val(slots.data.as_slice()),
        };
        self.states.iter().map(bytes).sum::<usize>() + self.blocks.buffers().map(Vec::len).sum::<usize>()
    }

    /// The pools of a KV state.
    pub fn kv(&self, id: StateId) -> Result<&KvPools> {
        match self.states.get(id.0 as usize) {
            Some(State::Kv(kv)) => Ok(kv),
            _ => Err(BackendError::Misuse(format!("state {} is not a KV state", id.0))),
        }
    }

    /// The pools of a KV state and all page tables.
    pub fn kv_mut(&mut self, id: StateId) -> Result<(&mut KvPools, &[Vec<u32>])> {
        match self.states.get_mut(id.0 as usize) {
            Some(State::Kv(kv)) => Ok((kv, &self.pages)),
            _ => Err(BackendError::Misuse(format!("state {} is not a KV state", id.0))),
        }
    }

    /// A convolution or recurrent state.
    pub fn slots(&self, id: StateId) -> Result<&SlotStates> {
        match self.states.get(id.0 as usize) {
            Some(State::Slots(slots)) => Ok(slots),
            _ => Err(BackendError::Misuse(format!("state {} is not a convolution or recurrent state", id.0))),
        }
    }

    /// A convolution or recurrent state, to be changed.
    pub fn slots_mut(&mut self, id: StateId) -> Result<&mut SlotStates> {
        match self.states.get_mut(id.0 as usize) {
            Some(State::Slots(slots)) => Ok(slots),
            _ => Err(BackendError::Misuse(format!("state {} is not a convolution or recurrent state", id.0))),
        }
    }

    /// The bytes of a state's buffer.
    fn bytes_of(&self, buffer: StateBuffer) -> Result<&[u8]> {
        match (buffer, buffer.state().and_then(|state| self.states.get(state))) {
            (StateBuffer::Keys(_), Some(State::Kv(kv))) => Ok(kv.keys.as_bytes()),
            (StateBuffer::Values(_), Some(State::Kv(kv))) => Ok(kv.values.as_bytes()),
            (StateBuffer::Slots(_), Some(State::Slots(slots))) => Ok(bytemuck::cast_slice(&slots.data)),
            _ => no_buffer(buffer),
        }
    }

    fn bytes_of_mut(&mut self, buffer: StateBuffer) -> Result<&mut [u8]> {
        match (buffer, buffer.state().and_then(|state| self.states.get_mut(state))) {
            (StateBuffer::Keys(_), Some(State::Kv(kv))) => Ok(kv.keys.as_bytes_mut()),
            (StateBuffer::Values(_), Some(State::Kv(kv))) => Ok(kv.values.as_bytes_mut()),
            (StateBuffer::Slots(_), Some(State::Slots(slots))) => Ok(bytemuck::cast_slice_mut(&mut slots.data)),
            _ => no_buffer(buffer),
        }
    }

    /// The page tables of all slots.
    pub fn pages(&self) -> &[Vec<u32>] {
        &self.pages
    }

    /// Gives a slot its page table.
    pub fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<()> {
        let slot = check_slot(&self.layout, slot)?;
        if let Some(page) = pages.iter().find(|&&page| page as usize >= self.layout.pages) {
            return Err(BackendError::Misuse(format!("page {page} of {}", self.layout.pages)));
        }
        self.pages[slot] = pages.to_vec();
        Ok(())
    }

    /// Makes a slot's convolution and recurrent states the initial state's.
    pub fn reset(&mut self, slot: SlotId) -> Result<()> {
        let (slot, initial) = (check_slot(&self.layout, slot)?, self.layout.slots);
        for state in &mut self.states {
            if let State::Slots(states) = state {
                let from = initial * states.elements;
                states.data.copy_within(from..from + states.elements, slot * states.elements);
            }
        }
        self.samplers[slot] = SamplerState::default();
        Ok(())
    }

    /// Tells how a slot chooses its tokens from now on.
    pub fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        let slot = check_slot(&self.layout, slot)?;
        let counts = if sampler.penalises() { token_counts(self.layout.vocabulary, seen) } else { vec![] };
        self.samplers[slot].begin(sampler, counts);
        Ok(())
    }

    /// Tells which tokens a slot may choose.
    pub fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<()> {
        let slot = check_slot(&self.layout, slot)?;
        check_mask(&self.layout, mask)?;
        self.samplers[slot].mask = mask.map(<[u32]>::to_vec);
        Ok(())
    }

    /// Copies a slot's rings and states into a block.
    pub fn save_block(&mut self, slot: SlotId) -> Result<BlockId> {
        let extents = block_extents(&self.layout, slot)?;
        let mut block = match self.blocks.spare() {
            Some(block) => block,
            None => zeros(1, self.layout.block_bytes() as usize, "block")?,
        };
        for (Extent { buffer, start, bytes }, at) in extents {
            block[at..at + bytes].copy_from_slice(&self.bytes_of(buffer)?[start..start + bytes]);
        }
        Ok(self.blocks.add(block))
    }

    /// Copies a block into a slot's rings and states.
    pub fn load_block(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        self.rewind(slot, block)?;
        self.samplers[slot.0 as usize] = SamplerState::default();
        Ok(())
    }

    /// The same, and the slot goes on choosing tokens as it did.
    pub fn rewind(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let (extents, block) = (block_extents(&self.layout, slot)?, self.blocks.get(block)?);
        for (Extent { buffer, start, bytes }, at) in extents {
            self.bytes_of_mut(buffer)?[start..start + bytes].copy_from_slice(&block[at..at + bytes]);
        }
        Ok(())
    }

    /// How a slot chooses its tokens, to be changed.
    pub fn sampler_mut(&mut self, slot: SlotId) -> Result<&mut SamplerState> {
        let slot = check_slot(&self.layout, slot)?;
        Ok(&mut self.samplers[slot])
    }

    /// Ends a block.
    pub fn free_block(&mut self, block: BlockId) {
        self.blocks.free(block);
    }

    /// The bytes of a block.
    pub fn block(&self, block: BlockId) -> Result<Arc<Vec<u8>>> {
        self.blocks.get(block)
    }

    /// Copies the rows of a page to another one; gives the count of bytes.
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<usize> {
        let copies = page_copies(&self.layout, from, to)?;
        for (from, to) in &copies {
            self.bytes_of_mut(from.buffer)?.copy_within(from.start..from.start + from.bytes, to.start);
        }
        Ok(copies.iter().map(|(from, _)| from.bytes).sum())
    }

    /// Checks that every position below `end` of a slot has a row in every KV pool.
    pub fn check_rows(&self, slot: SlotId, end: usize) -> Result<()> {
        check_rows(&self.layout, &self.pages, slot, end)
    }
}

impl StateIo for Memory {
    fn layout(&self) -> &StateLayout {
        &self.layout
    }

    fn pages(&self) -> &[Vec<u32>] {
        &self.pages
    }

    fn has_token(&self, slot: usize) -> bool {
        self.samplers[slot].last.is_some()
    }

    fn read(&self, buffer: StateBuffer, start: usize, bytes: usize) -> impl Future<Output = Result<Vec<u8>>> {
        let slot = start / bytes.max(1);
        ready(match buffer {
            StateBuffer::Samplers => Ok(bytemuck::cast_slice(&self.samplers[slot].words()).to_vec()),
            StateBuffer::Counts => Ok(bytemuck::cast_slice(&self.samplers[slot].counts).to_vec()),
            buffer => self.bytes_of(buffer).map(|all| all[start..start + bytes].to_vec()),
        })
    }

    fn write(&mut self, buffer: StateBuffer, start: usize, bytes: &[u8]) -> Result<()> {
        let slot = start / bytes.len().max(1);
        match buffer {
            StateBuffer::Samplers => {
                let mut words = [0; SAMPLER_WORDS];
                words.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, u32>(bytes));
                self.samplers[slot] = SamplerState::from_words(&words);
            }
            StateBuffer::Counts => self.samplers[slot].counts = bytemuck::pod_collect_to_vec(bytes),
            buffer => self.bytes_of_mut(buffer)?[start..start + bytes.len()].copy_from_slice(bytes),
        }
        Ok(())
    }
}

fn no_buffer<T>(buffer: StateBuffer) -> Result<T> {
    misuse(format!("no state has the buffer {buffer:?}"))
}
