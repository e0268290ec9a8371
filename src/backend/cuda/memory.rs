//! The slots on the device: KV pools, convolution columns, recurrent states, page tables, samplers.

use std::rc::Rc;

use half::f16;
use selvedge_cuda::ops::{self, KvRows};
use selvedge_cuda::{Buffer, Device};

use super::naming;
use crate::backend::refusals::{check_rows, check_shape, check_slot, find, misuse};
use crate::backend::{Result, StepTable};
use crate::graph::{KvSpec, StateId, StateKind};
use crate::state::{
    Addressing, KvFormat, KvLayout, LAST_TOKEN, PAGE_ROWS, Run, SAMPLER_WORDS, Sampler, SlotId, SlotState, StateLayout,
    StateTensor, kv_f16, token_counts,
};

// The kernels find rows by the same rule.
const _: () = assert!(PAGE_ROWS == selvedge_cuda::PAGE_ROWS);

/// One state of all slots.
enum Piece {
    /// `[rows, heads * width]` each.
    Kv { keys: Buffer, values: Buffer },
    /// `f32 [slots + 1, elements]`, the origin last.
    Slots(Buffer),
}

/// Keys and values of one KV state, for the kernels.
pub(super) struct Pools {
    /// Of the keys.
    pub keys: u64,
    /// Of the values.
    pub values: u64,
    /// Where rows lie.
    pub rows: KvRows,
    /// How numbers are stored.
    pub format: ops::KvFormat,
}

/// The memory of all slots.
pub(super) struct Memory {
    /// As it was asked for.
    pub layout: StateLayout,
    device: Rc<Device>,
    pieces: Vec<Piece>,
    /// `u32 [slots + 1, pages_per_slot]`; that of the origin is never used.
    pages: Buffer,
    page_tables: Vec<Vec<u32>>,
    /// How each slot chooses its tokens: `u32 [slots + 1, SAMPLER_WORDS]`
    samplers: Buffer,
    /// How often each slot chose each token: `u32 [slots + 1, vocabulary]`
    counts: Buffer,
    /// Which slots have chosen a token.
    has_token: Vec<bool>,
}

impl Memory {
    /// Zeros for every slot and the origin.
    pub fn new(device: Rc<Device>, layout: &StateLayout) -> Result<Self> {
        let mut pieces = Vec::new();
        for state in &layout.states {
            let allocate = |numbers: usize, bytes: usize| device.allocate(numbers * bytes).map_err(naming(&state.name));
            pieces.push(match &state.kind {
                StateKind::Kv(kv) => {
                    let (rows, format) = (layout.kv_rows(kv) * kv.heads, layout.kv_format.bytes());
                    Piece::Kv {
                        keys: allocate(rows * kv.key_width, format)?,
                        values: allocate(rows * kv.value_width, format)?,
                    }
                }
                kind => Piece::Slots(allocate((layout.slots + 1) * StateLayout::elements(kind), size_of::<f32>())?),
            });
        }
        let slots = layout.slots + 1;
        let pages = device.allocate(slots * layout.pages_per_slot() * size_of::<u32>()).map_err(naming("pages"))?;
        let samplers = device.allocate(slots * SAMPLER_WORDS * size_of::<u32>()).map_err(naming("samplers"))?;
        let counts = slots * layout.vocabulary.max(1) * size_of::<u32>();
        let counts = device.allocate(counts).map_err(naming("token counts"))?;
        Ok(Self {
            layout: layout.clone(),
            device,
            pieces,
            pages,
            page_tables: vec![vec![]; slots],
            samplers,
            counts,
            has_token: vec![false; slots],
        })
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        fn of_piece(piece: &Piece) -> Vec<&Buffer> {
            match piece {
                Piece::Kv { keys, values } => vec![keys, values],
                Piece::Slots(buffer) => vec![buffer],
            }
        }
        self.pieces.iter().flat_map(of_piece).chain([&self.pages, &self.samplers, &self.counts])
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.buffers().map(Buffer::len).sum()
    }

    /// Buffers on the device.
    pub fn objects(&self) -> u64 {
        self.buffers().count() as u64
    }

    /// Address of the slots' samplers.
    pub fn samplers(&self) -> u64 {
        self.samplers.address()
    }

    /// Address of how often each slot chose each token.
    pub fn counts(&self) -> u64 {
        self.counts.address()
    }

    /// Tells how a slot chooses its tokens from now on. The token chosen last stays.
    pub fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        let index = check_slot(&self.layout, slot)?;
        let (words, at) = (sampler.words(), index * SAMPLER_WORDS * size_of::<u32>());
        let (head, tail) = (&words[..LAST_TOKEN], &words[LAST_TOKEN + 1..]);
        self.device.write(&mut self.samplers, at, bytemuck::cast_slice(head))?;
        let after = at + (LAST_TOKEN + 1) * size_of::<u32>();
        self.device.write(&mut self.samplers, after, bytemuck::cast_slice(tail))?;
        if sampler.penalises() {
            let counts = token_counts(self.layout.vocabulary, seen);
            let at = index * size_of_val(counts.as_slice());
            self.device.write(&mut self.counts, at, bytemuck::cast_slice(&counts))?;
        }
        Ok(())
    }

    /// The pools of a KV state.
    pub fn pools(&self, id: StateId, kv: &KvSpec) -> Result<Pools> {
        let Some(Piece::Kv { keys, values }) = self.pieces.get(id.0 as usize) else {
            return misuse(format!("state {} is not a KV state", id.0));
        };
        let layout = self.layout.kv(kv);
        let ring = match layout.addressing {
            Addressing::Pages => 0,
            Addressing::Ring { rows } => rows as u32,
        };
        let rows = KvRows {
            pages: self.pages.address(),
            pages_per_slot: self.layout.pages_per_slot() as u32,
            pinned: layout.pinned as u32,
            ring,
        };
        let format = match self.layout.kv_format {
            KvFormat::F32 => ops::KvFormat::F32,
            KvFormat::F16 => ops::KvFormat::F16,
        };
        Ok(Pools { keys: keys.address(), values: values.address(), rows, format })
    }

    /// The address of a convolution or recurrent state.
    pub fn slots(&self, id: StateId) -> Result<u64> {
        match self.pieces.get(id.0 as usize) {
            Some(Piece::Slots(buffer)) => Ok(buffer.address()),
            _ => misuse(format!("state {} is not a convolution or recurrent state", id.0)),
        }
    }

    /// Gives a slot its page table.
    pub fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<()> {
        let (index, per_slot) = (check_slot(&self.layout, slot)?, self.layout.pages_per_slot());
        if pages.len() > per_slot {
            return misuse(format!("{} pages for a slot of {per_slot}", pages.len()));
        }
        if let Some(page) = pages.iter().find(|&&page| page as usize >= self.layout.pages) {
            return misuse(format!("page {page} of {}", self.layout.pages));
        }
        let start = index * per_slot * size_of::<u32>();
        self.device.write(&mut self.pages, start, bytemuck::cast_slice(pages))?;
        self.page_tables[index] = pages.to_vec();
        Ok(())
    }

    /// Makes a slot's convolution and recurrent states the origin's.
    pub fn reset(&mut self, slot: SlotId) -> Result<()> {
        let (index, origin) = (check_slot(&self.layout, slot)?, self.layout.slots);
        for (state, piece) in self.layout.states.iter().zip(&mut self.pieces) {
            if let Piece::Slots(buffer) = piece
                && index != origin
            {
                let bytes = StateLayout::elements(&state.kind) * size_of::<f32>();
                self.device.copy_within(buffer, origin * bytes..(origin + 1) * bytes, index * bytes)?;
            }
        }
        self.has_token[index] = false;
        let at = index * SAMPLER_WORDS * size_of::<u32>();
        Ok(self.device.write(&mut self.samplers, at, bytemuck::cast_slice(&[0u32; SAMPLER_WORDS]))?)
    }

    /// Checks that every position below `end` of a slot has a row in every KV pool.
    pub fn check_rows(&self, slot: SlotId, end: usize) -> Result<()> {
        check_rows(&self.layout, &self.page_tables, slot, end)
    }

    /// Whether a token was sampled in a slot since it was reset.
    pub fn has_token(&self, slot: u32) -> bool {
        self.has_token.get(slot as usize).is_some_and(|&has| has)
    }

    /// Notes that a step samples in the slots of its outputs.
    pub fn sampled(&mut self, table: &StepTable) {
        for &row in &table.outputs {
            let [_, slot, ..] = table.rows[row as usize];
            self.has_token[slot as usize] = true;
        }
    }

    fn runs(&self, layout: &KvLayout, slot: SlotId, position: usize) -> Vec<Run> {
        layout.runs(slot, &self.page_tables[slot.0 as usize], position)
    }

    /// Copies a slot's memory out.
    pub fn export(&self, slot: SlotId, position: usize) -> Result<SlotState> {
        self.check_rows(slot, position)?;
        let mut tensors = Vec::new();
        for (state, piece) in self.layout.states.iter().zip(&self.pieces) {
            match (&state.kind, piece) {
                (StateKind::Kv(kv), Piece::Kv { keys, values }) => {
                    let runs = self.runs(&self.layout.kv(kv), slot, position);
                    let positions: Vec<u32> = runs.iter().flat_map(Run::positions).collect();
                    for (suffix, pool, width) in [("k", keys, kv.key_width), ("v", values, kv.value_width)] {
                        let mut data = Vec::new();
                        for run in &runs {
                            data.extend(self.read_rows(pool, run, kv.heads * width)?);
                        }
                        let (name, shape) =
                            (format!("{}.{suffix}", state.name), vec![positions.len(), kv.heads, width]);
                        tensors.push(StateTensor { name, shape, positions: positions.clone(), data });
                    }
                }
                (kind, Piece::Slots(buffer)) => {
                    let mut data = vec![0.0; StateLayout::elements(kind)];
                    let start = slot.0 as usize * size_of_val(data.as_slice());
                    self.device.read(buffer, start, bytemuck::cast_slice_mut(&mut data))?;
                    let (name, shape) = (state.name.clone(), StateLayout::shape(kind));
                    tensors.push(StateTensor { name, shape, positions: vec![], data });
                }
                (_, Piece::Kv { .. }) => return misuse(format!("`{}` changed its kind", state.name)),
            }
        }
        Ok(SlotState { position, tensors })
    }

    fn read_rows(&self, pool: &Buffer, run: &Run, columns: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; run.rows * columns * self.layout.kv_format.bytes()];
        let start = run.row * columns * self.layout.kv_format.bytes();
        self.device.read(pool, start, &mut bytes)?;
        Ok(match self.layout.kv_format {
            KvFormat::F32 => bytemuck::pod_collect_to_vec(&bytes),
            KvFormat::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(&bytes).into_iter().map(f16::to_f32).collect(),
        })
    }

    /// Puts a memory into a slot. Nothing is changed when it does not fit.
    pub fn import(&mut self, slot: SlotId, saved: &SlotState) -> Result<()> {
        self.check_rows(slot, saved.position)?;
        // First what is to be written where, then the writing.
        let mut writes: Vec<(usize, bool, usize, Vec<u8>)> = Vec::new();
        for (index, state) in self.layout.states.iter().enumerate() {
            let StateKind::Kv(kv) = &state.kind else {
                let tensor = find(saved, &state.name)?;
                check_shape(tensor, &StateLayout::shape(&state.kind))?;
                let bytes = bytemuck::cast_slice::<f32, u8>(&tensor.data).to_vec();
                writes.push((index, false, slot.0 as usize * bytes.len(), bytes));
                continue;
            };
            let runs = self.runs(&self.layout.kv(kv), slot, saved.position);
            for (suffix, is_value, width) in [("k", false, kv.key_width), ("v", true, kv.value_width)] {
                let tensor = find(saved, &format!("{}.{suffix}", state.name))?;
                check_shape(tensor, &[tensor.positions.len(), kv.heads, width])?;
                let columns = kv.heads * width;
                for run in &runs {
                    let mut rows = Vec::with_capacity(run.rows * columns);
                    for position in run.positions() {
                        // It may hold more than is remembered here.
                        let Ok(row) = tensor.positions.binary_search(&position) else {
                            return misuse(format!("`{}` lacks position {position}", tensor.name));
                        };
                        rows.extend_from_slice(&tensor.data[row * columns..][..columns]);
                    }
                    let start = run.row * columns * self.layout.kv_format.bytes();
                    let bytes = match self.layout.kv_format {
                        KvFormat::F32 => bytemuck::cast_slice(&rows).to_vec(),
                        KvFormat::F16 => {
                            let halves: Vec<f16> = rows.iter().map(|&x| kv_f16(x)).collect();
                            bytemuck::cast_slice(&halves).to_vec()
                        }
                    };
                    writes.push((index, is_value, start, bytes));
                }
            }
        }
        for (index, is_value, start, bytes) in writes {
            let buffer = match &mut self.pieces[index] {
                Piece::Kv { values, .. } if is_value => values,
                Piece::Kv { keys, .. } => keys,
                Piece::Slots(buffer) => buffer,
            };
            self.device.write(buffer, start, &bytes)?;
        }
        self.has_token[slot.0 as usize] = false;
        Ok(())
    }
}
