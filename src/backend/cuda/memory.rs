//! The slots on the device: KV pools, convolution columns, recurrent states, page tables, samplers.

use std::future::{Future, ready};
use std::rc::Rc;

use selvedge_cuda::ops::{self, KvRows};
use selvedge_cuda::{Buffer, Device};

use super::naming;
use crate::backend::blocks::Blocks;
use crate::backend::checks::{check_mask, check_rows, check_slot, misuse};
use crate::backend::state_io::{self, Extent, StateBuffer, StateIo, block_extents, page_copies};
use crate::backend::{BlockId, Parts, Result, StepTable};
use crate::constants::MASKED;
use crate::graph::{KvSpec, StateId, StateKind};
use crate::state::{
    Addressing, KvFormat, LAST_TOKEN, PAGE_ROWS, SAMPLER_WORDS, Sampler, SlotId, SlotState, StateLayout, mask_words,
    token_biases, token_counts,
};

// The kernels find rows by the same rule.
const _: () = assert!(PAGE_ROWS == selvedge_cuda::constants::PAGE_ROWS as usize);

/// One state of all slots.
enum Piece {
    /// `[rows, heads * width]` each.
    Kv { keys: Buffer, values: Buffer },
    /// `f32 [slots + 1, elements]`, the initial state last.
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
    /// `u32 [slots + 1, pages_per_slot]`; that of the initial state is never used.
    pages: Buffer,
    page_tables: Vec<Vec<u32>>,
    /// How each slot chooses its tokens: `u32 [slots + 1, SAMPLER_WORDS]`
    samplers: Buffer,
    /// How often each slot chose each token: `u32 [slots + 1, vocabulary]`
    counts: Buffer,
    /// What is added to each slot's logits: `f32 [slots + 1, vocabulary]`
    biases: Buffer,
    /// Which tokens each slot may choose: `u32 [slots + 1, mask_words(vocabulary)]`
    masks: Buffer,
    /// Which slots have chosen a token.
    has_token: Vec<bool>,
    blocks: Blocks<Buffer>,
}

impl Memory {
    /// Zeros for every slot and the initial state.
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
        let biases = device.allocate(counts).map_err(naming("token biases"))?;
        let counts = device.allocate(counts).map_err(naming("token counts"))?;
        let masks = slots * mask_words(layout.vocabulary.max(1)) * size_of::<u32>();
        let masks = device.allocate(masks).map_err(naming("token masks"))?;
        Ok(Self {
            layout: layout.clone(),
            device,
            pieces,
            pages,
            page_tables: vec![vec![]; slots],
            samplers,
            counts,
            biases,
            masks,
            has_token: vec![false; slots],
            blocks: Blocks::default(),
        })
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        fn of_piece(piece: &Piece) -> Vec<&Buffer> {
            match piece {
                Piece::Kv { keys, values } => vec![keys, values],
                Piece::Slots(buffer) => vec![buffer],
            }
        }
        self.pieces
            .iter()
            .flat_map(of_piece)
            .chain([&self.pages, &self.samplers, &self.counts, &self.biases, &self.masks])
            .chain(self.blocks.buffers())
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

    /// Address of what is added to each slot's logits.
    pub fn biases(&self) -> u64 {
        self.biases.address()
    }

    /// Address of which tokens each slot may choose.
    pub fn masks(&self) -> u64 {
        self.masks.address()
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
        if !sampler.biases.is_empty() {
            let biases = token_biases(self.layout.vocabulary, &sampler.biases);
            let at = index * size_of_val(biases.as_slice());
            self.device.write(&mut self.biases, at, bytemuck::cast_slice(&biases))?;
        }
        Ok(())
    }

    /// Tells which tokens a slot may choose.
    pub fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<()> {
        let index = check_slot(&self.layout, slot)?;
        check_mask(&self.layout, mask)?;
        if let Some(mask) = mask {
            self.device.write(&mut self.masks, index * size_of_val(mask), bytemuck::cast_slice(mask))?;
        }
        let at = (index * SAMPLER_WORDS + MASKED as usize) * size_of::<u32>();
        Ok(self.device.write(&mut self.samplers, at, bytemuck::bytes_of(&u32::from(mask.is_some())))?)
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

    /// Makes a slot's convolution and recurrent states the initial state's.
    pub fn reset(&mut self, slot: SlotId) -> Result<()> {
        let (index, initial) = (check_slot(&self.layout, slot)?, self.layout.slots);
        for (state, piece) in self.layout.states.iter().zip(&mut self.pieces) {
            if let Piece::Slots(buffer) = piece
                && index != initial
            {
                let bytes = StateLayout::elements(&state.kind) * size_of::<f32>();
                self.device.copy_within(buffer, initial * bytes..(initial + 1) * bytes, index * bytes)?;
            }
        }
        self.reset_sampler(index)
    }

    /// Copies a slot's rings and states into a block.
    pub fn save_block(&mut self, slot: SlotId) -> Result<BlockId> {
        let extents = block_extents(&self.layout, slot)?;
        let mut block = match self.blocks.spare() {
            Some(block) => block,
            None => self.device.allocate(self.layout.block_bytes() as usize).map_err(naming("block"))?,
        };
        for (Extent { buffer, start, bytes }, at) in extents {
            self.device.copy(self.buffer(buffer)?, start..start + bytes, &mut block, at)?;
        }
        Ok(self.blocks.add(block))
    }

    /// Copies a block into a slot's rings and states.
    pub fn load_block(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let (extents, block) = (block_extents(&self.layout, slot)?, self.blocks.get(block)?);
        let device = self.device.clone();
        for (Extent { buffer, start, bytes }, at) in extents {
            device.copy(&block, at..at + bytes, self.buffer_mut(buffer)?, start)?;
        }
        self.reset_sampler(slot.0 as usize)
    }

    /// Ends a block.
    pub fn free_block(&mut self, block: BlockId) {
        self.blocks.free(block);
    }

    /// The bytes of a block.
    pub fn read_block(&self, block: BlockId) -> Result<Vec<u8>> {
        let block = self.blocks.get(block)?;
        let mut bytes = vec![0; self.layout.block_bytes() as usize];
        self.device.read(&block, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies the rows of a page to another one; gives the count of bytes.
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<usize> {
        let (copies, device) = (page_copies(&self.layout, from, to)?, self.device.clone());
        for (from, to) in &copies {
            device.copy_within(self.buffer_mut(from.buffer)?, from.start..from.start + from.bytes, to.start)?;
        }
        Ok(copies.iter().map(|(from, _)| from.bytes).sum())
    }

    /// The slot chose nothing, and is greedy.
    fn reset_sampler(&mut self, slot: usize) -> Result<()> {
        self.has_token[slot] = false;
        let at = slot * SAMPLER_WORDS * size_of::<u32>();
        Ok(self.device.write(&mut self.samplers, at, bytemuck::cast_slice(&[0u32; SAMPLER_WORDS]))?)
    }

    fn buffer(&self, buffer: StateBuffer) -> Result<&Buffer> {
        match (buffer, buffer.state().and_then(|state| self.pieces.get(state))) {
            (StateBuffer::Keys(_), Some(Piece::Kv { keys, .. })) => Ok(keys),
            (StateBuffer::Values(_), Some(Piece::Kv { values, .. })) => Ok(values),
            (StateBuffer::Slots(_), Some(Piece::Slots(slots))) => Ok(slots),
            (StateBuffer::Samplers, _) => Ok(&self.samplers),
            (StateBuffer::Counts, _) => Ok(&self.counts),
            _ => misuse(format!("no state has the buffer {buffer:?}")),
        }
    }

    fn buffer_mut(&mut self, buffer: StateBuffer) -> Result<&mut Buffer> {
        match (buffer, buffer.state().and_then(|state| self.pieces.get_mut(state))) {
            (StateBuffer::Keys(_), Some(Piece::Kv { keys, .. })) => Ok(keys),
            (StateBuffer::Values(_), Some(Piece::Kv { values, .. })) => Ok(values),
            (StateBuffer::Slots(_), Some(Piece::Slots(slots))) => Ok(slots),
            (StateBuffer::Samplers, _) => Ok(&mut self.samplers),
            (StateBuffer::Counts, _) => Ok(&mut self.counts),
            _ => misuse(format!("no state has the buffer {buffer:?}")),
        }
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
        table.note_outputs(&mut self.has_token);
    }

    /// Puts a memory into a slot.
    pub fn restore(&mut self, slot: SlotId, saved: &SlotState, parts: Parts) -> Result<()> {
        state_io::restore(self, slot, saved, parts)?;
        self.has_token[slot.0 as usize] = saved.sampler.last.is_some();
        Ok(())
    }
}

impl StateIo for Memory {
    fn layout(&self) -> &StateLayout {
        &self.layout
    }

    fn pages(&self) -> &[Vec<u32>] {
        &self.page_tables
    }

    fn has_token(&self, slot: usize) -> bool {
        self.has_token[slot]
    }

    fn read(&self, buffer: StateBuffer, start: usize, bytes: usize) -> impl Future<Output = Result<Vec<u8>>> {
        let read = || {
            let mut found = vec![0; bytes];
            self.device.read(self.buffer(buffer)?, start, &mut found)?;
            Ok(found)
        };
        ready(read())
    }

    fn write(&mut self, buffer: StateBuffer, start: usize, bytes: &[u8]) -> Result<()> {
        let device = self.device.clone();
        Ok(device.write(self.buffer_mut(buffer)?, start, bytes)?)
    }
}
