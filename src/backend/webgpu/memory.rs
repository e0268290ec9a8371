//! The slots on the device: KV pools, convolution columns, recurrent states, page tables, samplers.
//!
//! Recurrent states lie with their channels side by side, the last two axes exchanged where need be (`[.., N, P]`
//! for a logical `[.., P, N]`), so that neighbouring invocations, which have neighbouring channels, read
//! neighbouring words.

use super::gpu::Gpu;
use crate::backend::{BackendError, Result};
use crate::graph::{KvSpec, StateId, StateKind};
use crate::state::{
    KvFormat, KvLayout, LAST_TOKEN, Run, SAMPLER_WORDS, Sampler, SlotId, SlotState, StateLayout, StateTensor, kv_f16,
    token_counts,
};

/// One state of all slots.
pub(super) enum Piece {
    /// Keys and values.
    Kv { keys: wgpu::Buffer, values: wgpu::Buffer },
    /// Columns or recurrent state, slot after slot, the origin last.
    Fixed(wgpu::Buffer),
}

/// All slots.
pub(super) struct Memory {
    pub layout: StateLayout,
    pub pieces: Vec<Piece>,
    /// `u32 [slots, pages_per_slot]`
    pub pages: wgpu::Buffer,
    page_tables: Vec<Vec<u32>>,
    /// How each slot chooses its tokens: `u32 [slots + 1, SAMPLER_WORDS]`
    pub samplers: wgpu::Buffer,
    /// How often each slot chose each token: `u32 [slots + 1, vocabulary]`
    pub counts: wgpu::Buffer,
    /// As large as the largest fixed piece of one slot: WebGPU copies nothing within one buffer.
    detour: wgpu::Buffer,
}

impl Memory {
    pub fn new(gpu: &Gpu, layout: &StateLayout) -> Result<Self> {
        let mut pieces = Vec::new();
        for state in &layout.states {
            pieces.push(match &state.kind {
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
                    Piece::Kv { keys: pool("k", kv.key_width)?, values: pool("v", kv.value_width)? }
                }
                kind => {
                    let bytes = ((layout.slots + 1) * StateLayout::elements(kind) * 4) as u64;
                    Piece::Fixed(gpu.storage(&state.name, bytes)?)
                }
            });
        }
        let table = layout.slots * layout.pages_per_slot();
        let slots = layout.slots + 1;
        let largest = layout.states.iter().map(|s| StateLayout::elements(&s.kind)).max().unwrap_or(0);
        Ok(Self {
            layout: layout.clone(),
            pieces,
            pages: gpu.storage("pages", table as u64 * 4)?,
            page_tables: vec![vec![]; layout.slots],
            samplers: gpu.storage("samplers", (slots * SAMPLER_WORDS * 4) as u64)?,
            counts: gpu.storage("token counts", (slots * layout.vocabulary * 4) as u64)?,
            detour: gpu.storage("detour", (largest * 4) as u64)?,
        })
    }

    /// The piece behind an id.
    pub fn piece(&self, id: StateId) -> &Piece {
        &self.pieces[id.0 as usize]
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

    pub fn reset(&self, gpu: &Gpu, slot: SlotId) -> Result<()> {
        self.write_sampler(gpu, slot, 0, &[0; SAMPLER_WORDS]);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (state, piece) in self.layout.states.iter().zip(&self.pieces) {
            if let Piece::Fixed(buffer) = piece {
                let bytes = (StateLayout::elements(&state.kind) * 4) as u64;
                let (origin, to) = (u64::from(self.layout.origin().0) * bytes, u64::from(slot.0) * bytes);
                encoder.copy_buffer_to_buffer(buffer, origin, &self.detour, 0, Some(bytes));
                encoder.copy_buffer_to_buffer(&self.detour, 0, buffer, to, Some(bytes));
            }
        }
        gpu.submit([encoder.finish()]);
        gpu.check("resetting a slot")
    }

    pub fn set_sampler(&self, gpu: &Gpu, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        if slot.0 as usize > self.layout.slots {
            return Err(BackendError::Misuse(format!("slot {} of {} and the origin", slot.0, self.layout.slots)));
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
        gpu.check("setting a slot's sampler")
    }

    fn write_sampler(&self, gpu: &Gpu, slot: SlotId, first: usize, words: &[u32]) {
        let at = (slot.0 as usize * SAMPLER_WORDS + first) * 4;
        gpu.queue.write_buffer(&self.samplers, at as u64, bytemuck::cast_slice(words));
    }

    fn runs(&self, layout: &KvLayout, slot: SlotId, position: usize) -> Vec<Run> {
        let pages = self.page_tables.get(slot.0 as usize).map_or(&[][..], Vec::as_slice);
        layout.runs(slot, pages, position)
    }

    pub async fn export(&self, gpu: &Gpu, slot: SlotId, position: usize) -> Result<SlotState> {
        let mut tensors = Vec::new();
        for (state, piece) in self.layout.states.iter().zip(&self.pieces) {
            match (&state.kind, piece) {
                (StateKind::Kv(kv), Piece::Kv { keys, values }) => {
                    for (suffix, buffer, width) in [("k", keys, kv.key_width), ("v", values, kv.value_width)] {
                        tensors.push(
                            self.export_kv(gpu, &format!("{}.{suffix}", state.name), kv, buffer, width, slot, position)
                                .await?,
                        );
                    }
                }
                (kind, Piece::Fixed(buffer)) => {
                    let elements = StateLayout::elements(kind);
                    let bytes = (elements * 4) as u64;
                    let data = gpu.download(buffer, u64::from(slot.0) * bytes, bytes).await?;
                    let data = bytemuck::pod_collect_to_vec::<u8, f32>(&data);
                    let (shape, data) = match kind {
                        StateKind::Conv { channels, taps } => (vec![taps - 1, *channels], data),
                        StateKind::Recurrent { shape, channels_last: true } => (shape.clone(), data),
                        StateKind::Recurrent { shape, channels_last: false } => {
                            (shape.clone(), exchange(&data, &exchanged(shape)))
                        }
                        StateKind::Kv(_) => unreachable!("a KV state is never fixed"),
                    };
                    tensors.push(StateTensor { name: state.name.clone(), shape, positions: vec![], data });
                }
                (_, Piece::Kv { .. }) => unreachable!("pieces follow the states"),
            }
        }
        Ok(SlotState { position, tensors })
    }

    async fn export_kv(
        &self,
        gpu: &Gpu,
        name: &str,
        kv: &KvSpec,
        buffer: &wgpu::Buffer,
        width: usize,
        slot: SlotId,
        position: usize,
    ) -> Result<StateTensor> {
        let columns = kv.heads * width;
        let row_bytes = (columns * self.layout.kv_format.bytes()) as u64;
        let (mut data, mut positions) = (Vec::new(), Vec::new());
        for run in self.runs(&self.layout.kv(kv), slot, position) {
            let bytes = gpu.download(buffer, run.row as u64 * row_bytes, run.rows as u64 * row_bytes).await?;
            match self.layout.kv_format {
                KvFormat::F32 => data.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)),
                KvFormat::F16 => {
                    let halves = bytemuck::pod_collect_to_vec::<u8, half::f16>(&bytes);
                    data.extend(halves.into_iter().map(half::f16::to_f32));
                }
            }
            positions.extend(run.positions());
        }
        Ok(StateTensor { name: name.to_owned(), shape: vec![positions.len(), kv.heads, width], positions, data })
    }

    pub fn import(&self, gpu: &Gpu, slot: SlotId, saved: &SlotState) -> Result<()> {
        let find = |name: &str, numbers: usize| match saved.tensor(name) {
            Some(tensor) if tensor.data.len() == numbers => Ok(tensor),
            Some(t) => Err(BackendError::Misuse(format!("`{name}` holds {} numbers, must be {numbers}", t.data.len()))),
            None => Err(BackendError::Misuse(format!("a saved state without `{name}`"))),
        };
        for (state, piece) in self.layout.states.iter().zip(&self.pieces) {
            match (&state.kind, piece) {
                (StateKind::Kv(kv), Piece::Kv { keys, values }) => {
                    for (suffix, buffer, width) in [("k", keys, kv.key_width), ("v", values, kv.value_width)] {
                        let columns = kv.heads * width;
                        let runs = self.runs(&self.layout.kv(kv), slot, saved.position);
                        let rows: usize = runs.iter().map(|r| r.rows).sum();
                        let tensor = find(&format!("{}.{suffix}", state.name), rows * columns)?;
                        let mut data = tensor.data.as_slice();
                        for run in runs {
                            let (these, rest) = data.split_at(run.rows * columns);
                            data = rest;
                            let offset = (run.row * columns * self.layout.kv_format.bytes()) as u64;
                            match self.layout.kv_format {
                                KvFormat::F32 => gpu.queue.write_buffer(buffer, offset, bytemuck::cast_slice(these)),
                                KvFormat::F16 => {
                                    let halves: Vec<half::f16> = these.iter().map(|&x| kv_f16(x)).collect();
                                    gpu.queue.write_buffer(buffer, offset, bytemuck::cast_slice(&halves));
                                }
                            }
                        }
                    }
                }
                (kind, Piece::Fixed(buffer)) => {
                    let elements = StateLayout::elements(kind);
                    let tensor = find(&state.name, elements)?;
                    let data = match kind {
                        StateKind::Recurrent { shape, channels_last: false } => exchange(&tensor.data, shape),
                        _ => tensor.data.clone(),
                    };
                    gpu.queue.write_buffer(
                        buffer,
                        u64::from(slot.0) * (elements * 4) as u64,
                        bytemuck::cast_slice(&data),
                    );
                }
                (_, Piece::Kv { .. }) => unreachable!("pieces follow the states"),
            }
        }
        gpu.submit([]);
        gpu.check("restoring a slot")
    }
}

/// A shape with its last two axes exchanged.
fn exchanged(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    let last = shape.len() - 1;
    shape.swap(last - 1, last);
    shape
}

/// Row-major data of a shape, with the last two axes exchanged.
fn exchange(data: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[.., rows, columns] = shape else { return data.to_vec() };
    let mut out = Vec::with_capacity(data.len());
    for block in data.chunks_exact(rows * columns) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| block[row * columns + column]));
        }
    }
    out
}
