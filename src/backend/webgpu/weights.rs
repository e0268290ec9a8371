//! Weights on the device. Matrices lie in segments cut at quads, none larger than a binding; all vectors
//! together lie in one buffer, so that a kernel needs one binding for however many it reads.

use std::collections::HashMap;

use super::gpu::Gpu;
use super::packing::{CHUNK, Packing, QUAD, Segment};
use super::quantise::Quantiser;
use crate::backend::checks::misuse;
use crate::backend::{BackendError, Result};
use crate::graph::{RowBlock, SourceBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe};

/// Bytes written before the host waits for the device to take them.
const IN_FLIGHT: u64 = 64 << 20;

/// A matrix `[rows, columns]`.
pub(super) struct Matrix {
    pub format: WeightFormat,
    pub rows: usize,
    pub columns: usize,
    pub chunks: usize,
    pub segments: Vec<Segment>,
    /// The quad within which the last block ended: see [`Packing::pack`].
    open: Vec<u8>,
}

impl Matrix {
    fn packing(&self) -> Packing {
        Packing { format: self.format, columns: self.columns }
    }

    /// The segment that holds a row.
    pub fn segment(&self, row: usize) -> Option<&Segment> {
        self.segments.iter().find(|s| (s.first..s.first + s.rows).contains(&row))
    }
}

enum Stored {
    Matrix(Matrix),
    Vector { at: usize, rows: usize, columns: usize },
}

/// All weights.
#[derive(Default)]
pub(super) struct Weights {
    stored: HashMap<WeightId, Stored>,
    /// The host's copy of the vectors; small.
    vectors: Vec<f32>,
    buffer: Option<wgpu::Buffer>,
    in_flight: u64,
    pub quantiser: Quantiser,
}

impl Weights {
    pub fn create(&mut self, gpu: &Gpu, id: WeightId, desc: &WeightDesc) -> Result<()> {
        if desc.class == WeightClass::Vector {
            let (at, rows, columns) = (self.vectors.len(), desc.rows, desc.columns);
            // So that kernels read them by chunks of eight columns.
            self.vectors.resize((at + rows * columns).next_multiple_of(CHUNK), 0.0);
            self.buffer = None;
            self.stored.insert(id, Stored::Vector { at, rows, columns });
            return Ok(());
        }
        let &WeightDesc { rows, columns, format, .. } = desc;
        let packing = Packing { format, columns };
        let mut matrix = Matrix { format, rows, columns, chunks: packing.chunks(), segments: vec![], open: vec![] };
        let quad = packing.quad_bytes() as u64;
        let most = (gpu.segment / quad.max(1)) as usize * QUAD;
        if most == 0 {
            return Err(BackendError::Limit {
                what: format!("four rows of `{}`", desc.name),
                needed: format!("{quad} bytes"),
                available: format!("{} bytes a segment", gpu.segment),
            });
        }
        for first in (0..desc.rows).step_by(most) {
            let rows = most.min(desc.rows - first);
            let buffer = gpu.storage(&desc.name, rows.div_ceil(QUAD) as u64 * quad)?;
            matrix.segments.push(Segment { first, rows, buffer });
        }
        self.stored.insert(id, Stored::Matrix(matrix));
        Ok(())
    }

    /// Format, rows and columns of a weight.
    pub fn shape(&self, id: WeightId) -> Option<(WeightFormat, usize, usize)> {
        Some(match self.stored.get(&id)? {
            Stored::Matrix(matrix) => (matrix.format, matrix.rows, matrix.columns),
            &Stored::Vector { rows, columns, .. } => (WeightFormat::F32, rows, columns),
        })
    }

    pub async fn write(&mut self, gpu: &Gpu, id: WeightId, block: RowBlock<'_>) -> Result<()> {
        let misuse = |what: &str| Err(BackendError::Misuse(format!("weight {}: {what}", id.0)));
        match self.stored.get_mut(&id) {
            None => misuse("written before it was created"),
            Some(&mut Stored::Vector { at, rows, columns }) => {
                let (numbers, rest) = block.bytes.as_chunks::<4>();
                let start = block.first * columns;
                if !rest.is_empty() || start + numbers.len() > rows * columns {
                    return misuse("a block that is not rows of it in f32");
                }
                for (to, from) in self.vectors[at + start..].iter_mut().zip(numbers) {
                    *to = f32::from_le_bytes(*from);
                }
                self.buffer = None;
                Ok(())
            }
            Some(Stored::Matrix(matrix)) => {
                let packing = matrix.packing();
                let row = packing.row_bytes();
                if row == 0 || !block.bytes.len().is_multiple_of(row) {
                    return misuse("a block that is not whole rows");
                }
                let rows = block.bytes.len() / row;
                if block.first + rows > matrix.rows {
                    return misuse("more rows than it has");
                }
                for segment in &matrix.segments {
                    let from = block.first.max(segment.first);
                    let to = (block.first + rows).min(segment.first + segment.rows);
                    if from >= to {
                        continue;
                    }
                    let source = &block.bytes[(from - block.first) * row..(to - block.first) * row];
                    let Some((at, packed)) = packing.pack(from - segment.first, source, &mut matrix.open) else {
                        return misuse("a block that does not follow the one before");
                    };
                    gpu.queue.write_buffer(&segment.buffer, at, &packed);
                }
                self.uploaded(gpu, block.bytes.len()).await
            }
        }
    }

    /// Fills rows of a quantised matrix from numbers that are not.
    pub async fn quantise(&mut self, gpu: &Gpu, id: WeightId, block: SourceBlock<'_>) -> Result<()> {
        let misuse = |what: &str| Err(BackendError::Misuse(format!("weight {}: {what}", id.0)));
        let Some(Stored::Matrix(matrix)) = self.stored.get(&id) else { return misuse("not a matrix on the device") };
        let row = block.format.row_bytes(matrix.columns);
        let whole = row > 0 && block.bytes.len().is_multiple_of(row);
        if !whole || block.first + block.bytes.len() / row > matrix.rows {
            return misuse("a block that is not rows of it");
        }
        self.quantiser.run(gpu, matrix.packing(), &matrix.segments, &block)?;
        self.uploaded(gpu, block.bytes.len()).await
    }

    /// Waits, now and then, until the device has taken what was sent.
    async fn uploaded(&mut self, gpu: &Gpu, bytes: usize) -> Result<()> {
        self.in_flight += bytes as u64;
        if self.in_flight > IN_FLIGHT {
            self.in_flight = 0;
            gpu.submit([]);
            gpu.finish().await?;
        }
        gpu.check("uploading weights")
    }

    /// Gives back what only loading needs.
    pub fn settle(&mut self) {
        self.quantiser = Quantiser::default();
    }

    /// Refuses a weight that does not have the shape and the class of its recipe: the kernels trust them.
    pub fn check(&self, id: WeightId, recipe: &WeightRecipe) -> Result<()> {
        let (vector, rows, columns) = match self.stored.get(&id) {
            None => return misuse(format!("weight `{}` was not created", recipe.name)),
            Some(&Stored::Vector { rows, columns, .. }) => (true, rows, columns),
            Some(Stored::Matrix(matrix)) => (false, matrix.rows, matrix.columns),
        };
        let same = (rows, columns) == (recipe.rows, recipe.columns);
        if same && vector == (recipe.class == WeightClass::Vector) {
            return Ok(());
        }
        let (kind, wanted) = (if vector { "vector" } else { "matrix" }, (recipe.rows, recipe.columns, recipe.class));
        misuse(format!(
            "weight `{}` was created as a {kind} {:?}, its recipe says {wanted:?}",
            recipe.name,
            [rows, columns]
        ))
    }

    /// The matrix behind an id.
    pub fn matrix(&self, id: WeightId) -> Result<&Matrix> {
        match self.stored.get(&id) {
            Some(Stored::Matrix(matrix)) => Ok(matrix),
            _ => Err(BackendError::Misuse(format!("weight {} is not a matrix on the device", id.0))),
        }
    }

    /// Where a vector begins in the buffer of vectors.
    pub fn vector(&self, id: WeightId) -> Result<u32> {
        match self.stored.get(&id) {
            Some(&Stored::Vector { at, .. }) => Ok(at as u32),
            _ => Err(BackendError::Misuse(format!("weight {} is not a vector on the device", id.0))),
        }
    }

    /// The buffer of all vectors, up to date.
    pub fn vectors(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        if let Some(buffer) = &self.buffer {
            return Ok(buffer.clone());
        }
        let buffer = gpu.storage("vectors", self.vectors.len() as u64 * 4)?;
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&self.vectors));
        self.buffer = Some(buffer.clone());
        Ok(buffer)
    }
}
