//! Time of each kernel, by the device's own clock: every dispatch in a pass of its own between two timestamps.

use std::collections::BTreeMap;

use super::gpu::Gpu;
use super::program::{Program, dispatch};
use crate::backend::{KernelTime, Result};

/// Timestamps that a query set holds, as WebGPU has it.
const MOST_QUERIES: usize = 4096;

/// Timestamps of steps that were not read yet.
#[derive(Default)]
pub(super) struct Profiler {
    unread: Vec<Unread>,
}

/// Timestamps of some dispatches of a step: two each.
struct Unread {
    rows: usize,
    names: Vec<(&'static str, &'static str)>,
    stamps: wgpu::Buffer,
}

impl Profiler {
    /// Records a program's dispatches, each between two timestamps.
    pub fn encode(&mut self, gpu: &Gpu, program: &Program, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for dispatches in program.dispatches.chunks(MOST_QUERIES / 2) {
            let count = 2 * dispatches.len() as u32;
            let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let stamps = gpu.buffer("profile", u64::from(count) * 8, usage)?;
            for (index, one) in (0..).zip(dispatches) {
                let timestamps = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * index),
                    end_of_pass_write_index: Some(2 * index + 1),
                };
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timestamps) };
                dispatch(one, &mut encoder.begin_compute_pass(&descriptor));
            }
            encoder.resolve_query_set(&queries, 0..count, &stamps, 0);
            let names = dispatches.iter().map(|one| (one.op, one.pipeline.shader.name)).collect();
            self.unread.push(Unread { rows: program.spec.rows, names, stamps });
        }
        Ok(())
    }

    /// The times since they were read last, the longest first.
    pub async fn read(&mut self, gpu: &Gpu) -> Result<Vec<KernelTime>> {
        let mut totals = BTreeMap::new();
        let nanoseconds = f64::from(gpu.queue.get_timestamp_period());
        for Unread { rows, names, stamps } in std::mem::take(&mut self.unread) {
            let bytes = gpu.download(&stamps, 0, 16 * names.len() as u64).await?;
            let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
            for (&(op, shader), pair) in names.iter().zip(stamps.chunks_exact(2)) {
                let new = KernelTime { rows, op, kernel: shader, starts: 0, seconds: 0.0 };
                let total = totals.entry((rows, op, shader)).or_insert(new);
                total.starts += 1;
                total.seconds += pair[1].saturating_sub(pair[0]) as f64 * nanoseconds * 1e-9;
            }
        }
        let mut times: Vec<KernelTime> = totals.into_values().collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(times)
    }
}
