//! The slots on the device: KV pools, convolution columns, recurrent states, page tables, samplers.
//!
//! Recurrent states lie with their channels side by side, the last two axes exchanged where need be (`[.., N, P]`
//! for a logical `[.., P, N]`), so that neighbouring invocations, which have neighbouring channels, read
//! neighbouring words.

use std::sync::Arc;

use super::gpu::Gpu;
use crate::backend::blocks::Blocks;
use crate::backend::checks::{check_mask, check_slot, misuse};
use crate::backend::state_io::{self, Extent, StateBuffer, StateIo, block_extents, page_copies, page_extents};
use crate::backend::webgpu::kernels::sample::VERIFYING;
use crate::backend::{BackendError, BlockId, Parts, Result};
use crate::constants::{DRAWN, FINISHED, MASKED};
use crate::graph::{StateId, StateKind};
use crate::state::{
    LAST_TOKEN, SAMPLER_WORDS, Sampler, SlotId, SlotState, StateLayout, mask_words, token_biases, token_counts,
};

/// One state of all slots.
pub(super) enum SlotBuffers {
    /// Keys and values.
    Kv { keys: wgpu::Buffer, values: wgpu::Buffer },
    /// Columns or recurrent state, slot after slot, the initial state last.
    Fixed(wgpu::Buffer),
}

/// All slots.
pub(super) struct Memory {
    pub layout: StateLayout,
    pub states: Vec<SlotBuffers>,
    /// `u32 [slots, pages_per_slot]`
    pub pages: wgpu::Buffer,
    page_tables: Vec<Vec<u32>>,
    /// Which slots have chosen a token since they were reset.
    pub has_token: Vec<bool>,
    /// How each slot chooses its tokens: `u32 [slots + 1, SAMPLER_WORDS]`
    pub samplers: wgpu::Buffer,
    /// How often each slot chose each token: `u32 [slots + 1, vocabulary]`
    pub counts: wgpu::Buffer,
    /// What is added to each slot's logits: `f32 [slots + 1, vocabulary]`
    pub biases: wgpu::Buffer,
    /// Which tokens each slot may choose: `u32 [slots + 1, mask_words(vocabulary)]`
    pub masks: wgpu::Buffer,
    /// As large as the largest state of one slot but KV, and as the rows of a page: WebGPU copies nothing within one
    /// buffer.
    detour: wgpu::Buffer,
    blocks: Blocks<wgpu::Buffer>,
}

impl Memory {
    pub fn new(gpu: &Gpu, layout: &StateLayout) -> Result<Self> {
        let mut states = Vec::new();
        for state in &layout.states {
            states.push(match &state.kind {
                StateKind::Kv(kv) => {
                    let rows = layout.kv_rows(kv) as u64;
                    let pool = |what: &str, width: usize| {
                        if !(kv.heads * width).is_multiple_of(2) {
                            let what = format!("`{}.{what}` of odd width {}", state.name, kv.heads * width);
                            return Err(BackendError::Unsupported { backend: "webgpu", what });
                        }
                        let bytes = rows * (kv.heads * width * layout.kv_format.bytes()) as u64;
                        gpu.storage(&format!("{}.{what}", state.name), bytes)
                    };
                    SlotBuffers::Kv { keys: pool("k", kv.key_width)?, values: pool("v", kv.value_width)? }
                }
                kind => {
                    let bytes = ((layout.slots + 1) * StateLayout::elements(kind) * 4) as u64;
                    SlotBuffers::Fixed(gpu.storage(&state.name, bytes)?)
                }
            });
        }
        let table = layout.slots * layout.pages_per_slot();
        let slots = layout.slots + 1;
        let largest = layout.states.iter().map(|s| StateLayout::elements(&s.kind) * 4).max().unwrap_or(0);
        let page = page_extents(layout, 0).iter().map(|extent| extent.bytes).max().unwrap_or(0);
        Ok(Self {
            layout: layout.clone(),
            states,
            pages: gpu.storage("pages", table as u64 * 4)?,
            page_tables: vec![vec![]; slots],
            has_token: vec![false; slots],
            samplers: gpu.storage("samplers", (slots * SAMPLER_WORDS * 4) as u64)?,
            counts: gpu.storage("token counts", (slots * layout.vocabulary * 4) as u64)?,
            biases: gpu.storage("token biases", (slots * layout.vocabulary * 4) as u64)?,
            masks: gpu.storage("token masks", (slots * mask_words(layout.vocabulary) * 4) as u64)?,
            detour: gpu.storage("detour", largest.max(page) as u64)?,
            blocks: Blocks::default(),
        })
    }

    /// The buffers of a state.
    pub fn state(&self, id: StateId) -> &SlotBuffers {
        &self.states[id.0 as usize]
    }

    pub fn set_pages(&mut self, gpu: &Gpu, slot: SlotId, pages: &[u32]) -> Result<()> {
        let per_slot = self.layout.pages_per_slot();
        if slot.0 as usize >= self.layout.slots || pages.len() > per_slot {
            let what = format!("{} pages for slot {} of {}", pages.len(), slot.0, self.layout.slots);
            return Err(BackendError::Misuse(what));
        }
        if let Some(page) = pages.iter().find(|&&p| p as usize >= self.layout.pages) {
            return Err(BackendError::Misuse(format!("page {page} of {}", self.layout.pages)));
        }
        self.page_tables[slot.0 as usize] = pages.to_vec();
        gpu.queue.write_buffer(&self.pages, u64::from(slot.0) * per_slot as u64 * 4, bytemuck::cast_slice(pages));
        Ok(())
    }

    pub fn reset(&mut self, gpu: &Gpu, slot: SlotId) -> Result<()> {
        let index = check_slot(&self.layout, slot)?;
        self.has_token[index] = false;
        self.write_sampler(gpu, slot, 0, &[0; SAMPLER_WORDS]);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (state, buffers) in self.layout.states.iter().zip(&self.states) {
            if let SlotBuffers::Fixed(buffer) = buffers {
                let bytes = (StateLayout::elements(&state.kind) * 4) as u64;
                let (initial, to) = (u64::from(self.layout.initial_slot().0) * bytes, u64::from(slot.0) * bytes);
                encoder.copy_buffer_to_buffer(buffer, initial, &self.detour, 0, Some(bytes));
                encoder.copy_buffer_to_buffer(&self.detour, 0, buffer, to, Some(bytes));
            }
        }
        gpu.submit([encoder.finish()]);
        gpu.check("resetting a slot")
    }

    pub fn set_sampler(&self, gpu: &Gpu, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        if slot.0 as usize > self.layout.slots {
            return Err(BackendError::Misuse(format!(
                "slot {} of {} and the initial state",
                slot.0, self.layout.slots
            )));
        }
        // The token chosen last stays: the slot may have to read it yet.
        let words = sampler.words();
        self.write_sampler(gpu, slot, 0, &words[..LAST_TOKEN]);
        self.write_sampler(gpu, slot, LAST_TOKEN + 1, &words[LAST_TOKEN + 1..]);
        if sampler.penalises() {
            let counts = token_counts(self.layout.vocabulary, seen);
            let at = u64::from(slot.0) * (self.layout.vocabulary * 4) as u64;
            gpu.queue.write_buffer(&self.counts, at, bytemuck::cast_slice(&counts));
        }
        if !sampler.biases.is_empty() {
            let biases = token_biases(self.layout.vocabulary, &sampler.biases);
            let at = u64::from(slot.0) * (self.layout.vocabulary * 4) as u64;
            gpu.queue.write_buffer(&self.biases, at, bytemuck::cast_slice(&biases));
        }
        gpu.check("setting a slot's sampler")
    }

    /// Tells which tokens a slot may choose.
    pub fn set_mask(&self, gpu: &Gpu, slot: SlotId, mask: Option<&[u32]>) -> Result<()> {
        let index = check_slot(&self.layout, slot)?;
        check_mask(&self.layout, mask)?;
        if let Some(mask) = mask {
            gpu.queue.write_buffer(&self.masks, (index * size_of_val(mask)) as u64, bytemuck::cast_slice(mask));
        }
        self.write_sampler(gpu, slot, MASKED as usize, &[u32::from(mask.is_some())]);
        gpu.check("setting a slot's mask")
    }

    /// Copies a slot's rings and states into a block.
    pub fn save_block(&mut self, gpu: &Gpu, slot: SlotId) -> Result<BlockId> {
        let extents = block_extents(&self.layout, slot)?;
        let block = match self.blocks.spare() {
            Some(block) => block,
            None => gpu.storage("block", self.layout.block_bytes())?,
        };
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (Extent { buffer, start, bytes }, at) in extents {
            encoder.copy_buffer_to_buffer(self.buffer(buffer)?, start as u64, &block, at as u64, Some(bytes as u64));
        }
        gpu.submit([encoder.finish()]);
        gpu.check("saving a slot")?;
        Ok(self.blocks.add(block))
    }

    /// Copies a block into a slot's rings and states.
    pub fn load_block(&mut self, gpu: &Gpu, slot: SlotId, block: BlockId) -> Result<()> {
        self.has_token[check_slot(&self.layout, slot)?] = false;
        self.write_sampler(gpu, slot, 0, &[0; SAMPLER_WORDS]);
        self.rewind(gpu, slot, block)
    }

    /// The same, and the slot goes on choosing tokens as it did.
    pub fn rewind(&self, gpu: &Gpu, slot: SlotId, block: BlockId) -> Result<()> {
        let (extents, block) = (block_extents(&self.layout, slot)?, self.blocks.get(block)?);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (Extent { buffer, start, bytes }, at) in extents {
            encoder.copy_buffer_to_buffer(&block, at as u64, self.buffer(buffer)?, start as u64, Some(bytes as u64));
        }
        gpu.submit([encoder.finish()]);
        gpu.check("restoring a slot")
    }

    /// Whether each output row of a slot chooses, and nothing becomes of it in the slot.
    pub fn set_verifying(&self, gpu: &Gpu, slot: SlotId, verifying: bool) -> Result<()> {
        check_slot(&self.layout, slot)?;
        self.write_sampler(gpu, slot, MASKED as usize, &[if verifying { VERIFYING as u32 } else { 0 }]);
        gpu.check("setting a slot's sampler")
    }

    /// Tells a slot what it has chosen.
    pub fn set_chosen(&mut self, gpu: &Gpu, slot: SlotId, chosen: u32, last: u32, finished: bool) -> Result<()> {
        self.has_token[check_slot(&self.layout, slot)?] = true;
        self.write_sampler(gpu, slot, DRAWN as usize, &[chosen]);
        self.write_sampler(gpu, slot, FINISHED as usize, &[u32::from(finished), last]);
        gpu.check("setting a slot's sampler")
    }

    /// Ends a block.
    pub fn free_block(&mut self, block: BlockId) {
        self.blocks.free(block);
    }

    /// A block's buffer.
    pub fn block(&self, block: BlockId) -> Result<Arc<wgpu::Buffer>> {
        self.blocks.get(block)
    }

    /// Copies the rows of a page to another one; gives the count of bytes.
    pub fn copy_page(&self, gpu: &Gpu, from: u32, to: u32) -> Result<usize> {
        let copies = page_copies(&self.layout, from, to)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (from, to) in &copies {
            let (buffer, bytes) = (self.buffer(from.buffer)?, Some(from.bytes as u64));
            encoder.copy_buffer_to_buffer(buffer, from.start as u64, &self.detour, 0, bytes);
            encoder.copy_buffer_to_buffer(&self.detour, 0, buffer, to.start as u64, bytes);
        }
        gpu.submit([encoder.finish()]);
        gpu.check("copying a page")?;
        Ok(copies.iter().map(|(from, _)| from.bytes).sum())
    }

    fn buffer(&self, buffer: StateBuffer) -> Result<&wgpu::Buffer> {
        match (buffer, buffer.state().and_then(|state| self.states.get(state))) {
            (StateBuffer::Keys(_), Some(SlotBuffers::Kv { keys, .. })) => Ok(keys),
            (StateBuffer::Values(_), Some(SlotBuffers::Kv { values, .. })) => Ok(values),
            (StateBuffer::Slots(_), Some(SlotBuffers::Fixed(buffer))) => Ok(buffer),
            (StateBuffer::Samplers, _) => Ok(&self.samplers),
            (StateBuffer::Counts, _) => Ok(&self.counts),
            _ => misuse(format!("no state has the buffer {buffer:?}")),
        }
    }

    /// Puts a memory into a slot.
    pub fn restore(&mut self, gpu: &Gpu, slot: SlotId, saved: &SlotState, parts: Parts) -> Result<()> {
        state_io::restore(&mut Io { gpu, memory: self }, slot, saved, parts)?;
        self.has_token[slot.0 as usize] = saved.sampler.last.is_some();
        gpu.submit([]);
        gpu.check("restoring a slot")
    }

    fn write_sampler(&self, gpu: &Gpu, slot: SlotId, first: usize, words: &[u32]) {
        let at = (slot.0 as usize * SAMPLER_WORDS + first) * 4;
        gpu.queue.write_buffer(&self.samplers, at as u64, bytemuck::cast_slice(words));
    }
}

/// The state buffers, on their device.
pub(super) struct Io<'m> {
    pub gpu: &'m Gpu,
    pub memory: &'m Memory,
}

impl StateIo for Io<'_> {
    const EXCHANGED: bool = true;

    fn layout(&self) -> &StateLayout {
        &self.memory.layout
    }

    fn pages(&self) -> &[Vec<u32>] {
        &self.memory.page_tables
    }

    fn has_token(&self, slot: usize) -> bool {
        self.memory.has_token[slot]
    }

    async fn read(&self, buffer: StateBuffer, start: usize, bytes: usize) -> Result<Vec<u8>> {
        self.gpu.download(self.memory.buffer(buffer)?, start as u64, bytes as u64).await
    }

    fn write(&mut self, buffer: StateBuffer, start: usize, bytes: &[u8]) -> Result<()> {
        self.gpu.queue.write_buffer(self.memory.buffer(buffer)?, start as u64, bytes);
        Ok(())
    }
}
