//! Quantising on the device: rows go up as a checkpoint has them, and a kernel writes them into the records of
//! their matrix, or into records that come back to be stored. The host, which in a browser is one thread of
//! WebAssembly, only moves bytes.

use super::gpu::Gpu;
use super::kernels::{params, quantise};
use super::packing::{Packing, QUAD, Segment};
use super::program::{Grid, Pending, bind, encode};
use crate::backend::{BackendError, Result};
use crate::formats::{GROUP, Quantised, Rounding, TRIED};
use crate::graph::{SourceBlock, WeightFormat};

/// Bytes of the kernel's words.
const WORD: usize = 4;
// The kernel fits the same groups in the same way.
const _: () = assert!(quantise::GROUP == GROUP && quantise::TRIED == TRIED);

/// Where rows wait to be quantised, and to come back; one buffer of each kind serves all blocks.
#[derive(Default)]
pub(super) struct Quantiser {
    source: Option<wgpu::Buffer>,
    made: Option<wgpu::Buffer>,
}

impl Quantiser {
    /// Sends rows of a block up, and enqueues the kernels that write them into the segments they lie in.
    pub fn run(&mut self, gpu: &Gpu, packing: Packing, segments: &[Segment], block: &SourceBlock<'_>) -> Result<()> {
        let format = match packing.format {
            WeightFormat::Quantised(format) if format != Quantised::Fp8 => format,
            _ => return Err(BackendError::Misuse("weights are quantised to q8, q4 and q4m alone".into())),
        };
        let source = self.upload(gpu, block.bytes)?;
        let groups = packing.columns.div_ceil(GROUP);
        let rows = block.bytes.len() / block.format.row_bytes(packing.columns).max(1);
        let shader = quantise::shader(format.name(), block.format.name());
        let mut pending = vec![];
        for segment in segments {
            let from = block.first.max(segment.first);
            let to = (block.first + rows).min(segment.first + segment.rows);
            if from >= to {
                continue;
            }
            let first = from - segment.first;
            let quads = (to - segment.first).div_ceil(QUAD) - first / QUAD;
            let params = params::Quantise {
                columns: packing.columns as u32,
                groups: groups as u32,
                record: (packing.quad_bytes() / WORD) as u32,
                scales_at: (packing.code_bytes(format) / WORD) as u32,
                first: first as u32,
                rows: (to - from) as u32,
                skipped: (from - block.first) as u32,
                mse_search: u32::from(block.rounding == Rounding::MseSearch),
                scale: block.scale,
            };
            let buffers = quantise::Buffers { source: &source, weight: &segment.buffer };
            let grid = Grid::Invocations(quads * groups);
            pending.push(Pending::new(gpu, "quantise", &shader, &params, buffers, grid)?);
        }
        let dispatches = bind(gpu, pending)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&dispatches, &mut encoder);
        gpu.submit([encoder.finish()]);
        Ok(())
    }

    /// Rows of a block, quantised, as [`quantise_row`](crate::formats::quantise_row) lays them out.
    pub async fn rows(
        &mut self,
        gpu: &Gpu,
        format: Quantised,
        columns: usize,
        block: &SourceBlock<'_>,
    ) -> Result<Vec<u8>> {
        let row = block.format.row_bytes(columns);
        if row == 0 || !block.bytes.len().is_multiple_of(row) {
            return Err(BackendError::Misuse("a block that is not whole rows".into()));
        }
        let rows = block.bytes.len() / row;
        let packing = Packing { format: WeightFormat::Quantised(format), columns };
        let bytes = (rows.div_ceil(QUAD) * packing.quad_bytes()) as u64;
        let made = large_enough(gpu, self.made.take(), "quantised rows", bytes)?;
        self.made = Some(made.clone());
        let segment = Segment { first: 0, rows, buffer: made.clone() };
        self.run(gpu, packing, &[segment], &SourceBlock { first: 0, ..*block })?;
        let quads = gpu.download(&made, 0, bytes).await?;
        gpu.check("quantising rows")?;
        Ok(packing.unpack(format, rows, &quads))
    }

    /// A buffer that holds the bytes once what was submitted before is done.
    fn upload(&mut self, gpu: &Gpu, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let source = large_enough(gpu, self.source.take(), "rows to quantise", bytes.len() as u64)?;
        // Writes are of whole words.
        let (words, rest) = bytes.split_at(bytes.len() / WORD * WORD);
        gpu.queue.write_buffer(&source, 0, words);
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last[..rest.len()].copy_from_slice(rest);
            gpu.queue.write_buffer(&source, words.len() as u64, &last);
        }
        self.source = Some(source.clone());
        Ok(source)
    }
}

/// A buffer of so many bytes: the one that there is, if it has them.
fn large_enough(gpu: &Gpu, there: Option<wgpu::Buffer>, name: &str, bytes: u64) -> Result<wgpu::Buffer> {
    match there.filter(|buffer| buffer.size() >= bytes) {
        Some(buffer) => Ok(buffer),
        None => gpu.storage(name, bytes),
    }
}
