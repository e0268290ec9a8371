//! Engines with random weights, for benchmarks.

use crate::arch::{self, Config};
use crate::backend::Backend;
use crate::formats::{Quantised, Rounding};
use crate::graph::{Map, RowBlock, WeightClass, WeightDesc, WeightFormat, WeightId};
use crate::runtime::{Engine, EngineError, EngineOptions};

/// Bytes of a block of weights.
const BLOCK: usize = 16 << 20;
/// Longest sequence, in tokens: far beyond any model, and no sum of bytes overflows.
pub const LONGEST_CONTEXT: usize = 1 << 28;

impl Engine {
    /// An engine for a config with random weights, as the published ones would be stored: bf16 where
    /// `options.weights` does not say otherwise. It does the work of the real model and its tokens mean
    /// nothing, so its sequences may also be longer than the real model's.
    pub async fn load_random(
        config: &str,
        mut backend: Box<dyn Backend>,
        options: EngineOptions<'_>,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(config)?;
        options.check_speculation(&*backend)?;
        let mut model = arch::build(&config, None, &options.arch())?;
        options.purpose.check(&model.head)?;
        model.context = model.context.max(options.context.unwrap_or(0).min(LONGEST_CONTEXT));
        let mut weight_bytes = vec![];
        for (index, recipe) in model.graph.weights.iter().enumerate() {
            let (id, class) = (WeightId(index as u32), recipe.class);
            let (rows, columns) = (recipe.rows, recipe.columns);
            let format = options.weights.format(class, columns, [WeightFormat::Bf16]);
            let desc = WeightDesc { name: recipe.name.clone(), rows, columns, format, class };
            backend.create_weight(id, &desc)?;
            weight_bytes.push(desc.bytes());
            // One block of noise serves all rows: what is measured does not depend on the numbers.
            let row_bytes = desc.row_bytes();
            let step = (BLOCK / row_bytes.max(1)).clamp(1, rows.max(1));
            let scale = if class == WeightClass::Vector { 0.1 } else { 1.0 / (columns as f32).sqrt() };
            let negative = recipe.parts.iter().any(|p| p.map != Map::Identity);
            let noise = noise(format, step, columns, scale, negative);
            for first in (0..rows).step_by(step) {
                let bytes = &noise[..step.min(rows - first) * row_bytes];
                backend.write_weight(id, RowBlock { first, bytes }).await?;
            }
        }
        Self::assemble(backend, model, weight_bytes, None, vec![], options).await
    }
}

/// Numbers between -scale and scale; all negative where a map made them (decays).
fn noise(format: WeightFormat, rows: usize, columns: usize, scale: f32, negative: bool) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut numbers = (0..rows * columns).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let x = scale * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0);
        if negative { -x.abs() } else { x }
    });
    match format {
        WeightFormat::F32 => numbers.flat_map(f32::to_le_bytes).collect(),
        WeightFormat::F16 => numbers.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
        WeightFormat::Bf16 => numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        WeightFormat::FP8 => {
            let mut bytes = vec![0; rows * format.row_bytes(columns)];
            for row in bytes.chunks_exact_mut(format.row_bytes(columns).max(1)) {
                let numbers: Vec<f32> = numbers.by_ref().take(columns).collect();
                format.encode(&numbers, Rounding::Absmax, row);
            }
            bytes
        }
        // Codes as they come; scales with which they reach from -scale to scale.
        WeightFormat::Quantised(format) => {
            let [codes, scales, minimums] = format.planes(columns);
            let (steps, low) = if format == Quantised::Q8 { (127.0, 0.0) } else { (7.5, -scale) };
            let step = half::f16::from_f32(scale / steps).to_le_bytes();
            let low = half::f16::from_f32(low).to_le_bytes();
            let mut bytes = Vec::with_capacity(rows * format.row_bytes(columns));
            for _ in 0..rows {
                bytes.extend(numbers.by_ref().take(codes).map(|x| (x / scale * 127.0) as i8 as u8));
                bytes.extend(std::iter::repeat_n(step, scales / 2).flatten());
                bytes.extend(std::iter::repeat_n(low, minimums / 2).flatten());
            }
            bytes
        }
    }
}
