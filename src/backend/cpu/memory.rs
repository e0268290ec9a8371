//! What all slots remember: pools of keys and values, convolution columns, recurrent states.

use bytemuck::Zeroable;
use half::f16;

use super::sample::SlotSampler;
use super::simd::{self, Lanes, Portable};
use crate::backend::refusals::{check_rows, check_shape, check_slot, find};
use crate::backend::{BackendError, Result};
use crate::graph::{StateId, StateKind};
use crate::state::{KvFormat, KvLayout, Sampler, SlotId, SlotState, StateLayout, StateTensor, kv_f16, token_counts};

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

    fn bytes(&self) -> usize {
        match &self.numbers {
            PoolNumbers::F32(n) => size_of_val(n.as_slice()),
            PoolNumbers::F16(n) => size_of_val(n.as_slice()),
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

/// A convolution or recurrent state of all slots, the origin's behind them: `[slots + 1, elements]`.
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
    pub samplers: Vec<SlotSampler>,
}

impl Memory {
    /// Zeros for every slot and the origin.
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
            samplers: vec![SlotSampler::default(); layout.slots + 1],
        })
    }

    /// Bytes of all pools and states.
    pub fn bytes(&self) -> usize {
        let bytes = |state: &State| match state {
            State::Kv(kv) => kv.keys.bytes() + kv.values.bytes(),
            State::Slots(slots) => size_of_val(slots.data.as_slice()),
        };
        self.states.iter().map(bytes).sum()
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

    /// Makes a slot's convolution and recurrent states the origin's.
    pub fn reset(&mut self, slot: SlotId) -> Result<()> {
        let (slot, origin) = (check_slot(&self.layout, slot)?, self.layout.slots);
        for state in &mut self.states {
            if let State::Slots(states) = state {
                let from = origin * states.elements;
                states.data.copy_within(from..from + states.elements, slot * states.elements);
            }
        }
        self.samplers[slot] = SlotSampler::default();
        Ok(())
    }

    /// Tells how a slot chooses its tokens from now on.
    pub fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        let slot = check_slot(&self.layout, slot)?;
        let counts = if sampler.penalises() { token_counts(self.layout.vocabulary, seen) } else { vec![] };
        self.samplers[slot].begin(sampler, counts);
        Ok(())
    }

    /// Checks that every position below `end` of a slot has a row in every KV pool.
    pub fn check_rows(&self, slot: SlotId, end: usize) -> Result<()> {
        check_rows(&self.layout, &self.pages, slot, end)
    }

    /// Copies a slot's memory out.
    pub fn export(&self, slot: SlotId, position: usize) -> Result<SlotState> {
        self.check_rows(slot, position)?;
        let index = slot.0 as usize;
        let mut tensors = Vec::new();
        for (spec, state) in self.layout.states.iter().zip(&self.states) {
            match state {
                State::Kv(kv) => {
                    let positions = remembered(&kv.layout, position);
                    for (suffix, pool) in [("k", &kv.keys), ("v", &kv.values)] {
                        let mut data = vec![0.0; positions.len() * pool.width];
                        for (&position, out) in positions.iter().zip(data.chunks_exact_mut(pool.width)) {
                            pool.read::<Portable>(kv.layout.row(slot, &self.pages[index], position as usize), 0, out);
                        }
                        tensors.push(StateTensor {
                            name: format!("{}.{suffix}", spec.name),
                            shape: vec![positions.len(), kv.heads, pool.width / kv.heads],
                            positions: positions.clone(),
                            data,
                        });
                    }
                }
                State::Slots(states) => tensors.push(StateTensor {
                    name: spec.name.clone(),
                    shape: StateLayout::shape(&spec.kind),
                    positions: vec![],
                    data: states.of(index).to_vec(),
                }),
            }
        }
        Ok(SlotState { position, tensors })
    }

    /// Puts a memory into a slot. Nothing is changed when it does not fit.
    pub fn import(&mut self, slot: SlotId, state: &SlotState) -> Result<()> {
        self.check_rows(slot, state.position)?;
        let index = slot.0 as usize;
        for (spec, own) in self.layout.states.iter().zip(&self.states) {
            match own {
                State::Kv(kv) => {
                    let wanted = remembered(&kv.layout, state.position);
                    for (suffix, pool) in [("k", &kv.keys), ("v", &kv.values)] {
                        let name = format!("{}.{suffix}", spec.name);
                        let tensor = find(state, &name)?;
                        let shape = [tensor.positions.len(), kv.heads, pool.width / kv.heads];
                        check_shape(tensor, &shape)?;
                        if let Some(lost) = wanted.iter().find(|p| tensor.positions.binary_search(p).is_err()) {
                            return Err(BackendError::Misuse(format!("`{name}` lacks position {lost}")));
                        }
                    }
                }
                State::Slots(_) => check_shape(find(state, &spec.name)?, &StateLayout::shape(&spec.kind))?,
            }
        }
        let pages = &self.pages[index];
        for (spec, own) in self.layout.states.iter().zip(&mut self.states) {
            match own {
                State::Kv(kv) => {
                    let wanted = remembered(&kv.layout, state.position);
                    for (suffix, pool) in [("k", &mut kv.keys), ("v", &mut kv.values)] {
                        let tensor = find(state, &format!("{}.{suffix}", spec.name))?;
                        for (position, row) in tensor.positions.iter().zip(tensor.data.chunks_exact(pool.width)) {
                            if wanted.binary_search(position).is_ok() {
                                pool.write(kv.layout.row(slot, pages, *position as usize), row);
                            }
                        }
                    }
                }
                State::Slots(states) => states.of_mut(index).copy_from_slice(&find(state, &spec.name)?.data),
            }
        }
        self.samplers[index] = SlotSampler::default();
        Ok(())
    }
}

/// Positions that have a row when `position` is the next, ascending.
fn remembered(layout: &KvLayout, position: usize) -> Vec<u32> {
    (0..layout.pinned.min(position)).chain(layout.oldest(position)..position).map(|p| p as u32).collect()
}
