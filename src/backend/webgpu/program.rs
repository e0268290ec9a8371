//! A compiled graph: a flat list of dispatches over buffers that are made once.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::gpu::{Gpu, Pipeline};
use super::kernels::{Interface, OfStep, Permutation};
use crate::backend::{BackendError, ProgramSpec, Result, StepTable};
use crate::graph::{Rows, ValueId};

/// One kernel start.
pub(super) struct Dispatch {
    pub op: &'static str,
    /// Which of the program's ops or fused groups it is of.
    pub node: usize,
    pub pipeline: Rc<Pipeline>,
    pub bind_group: wgpu::BindGroup,
    pub workgroups: [u32; 3],
}

/// Where a value lies.
#[derive(Clone)]
pub(super) struct ValueBuffer {
    pub buffer: wgpu::Buffer,
    pub pitch: usize,
    pub width: usize,
    pub rows: Rows,
}

/// A graph compiled for one row bucket.
pub(super) struct Program {
    pub spec: ProgramSpec,
    pub dispatches: Vec<Dispatch>,
    pub table: wgpu::Buffer,
    pub places: BTreeMap<ValueId, ValueBuffer>,
    /// `u32 [outputs]`, where the graph samples.
    pub sampled: Option<wgpu::Buffer>,
}

impl Program {
    /// Whether a step fits.
    pub fn check(&self, table: &StepTable) -> Result<()> {
        let (rows, outputs) = (table.rows.len(), table.outputs.len());
        if rows > self.spec.rows || outputs > self.spec.outputs {
            let (r, o) = (self.spec.rows, self.spec.outputs);
            let what = format!("a step of {rows} rows and {outputs} outputs for a program of {r} and {o}");
            return Err(BackendError::Misuse(what));
        }
        Ok(())
    }

    /// Records all dispatches into one pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        encode(&self.dispatches, encoder);
    }
}

/// Records dispatches into one pass.
pub(super) fn encode<'a>(dispatches: impl IntoIterator<Item = &'a Dispatch>, encoder: &mut wgpu::CommandEncoder) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatches.into_iter().for_each(|one| dispatch(one, &mut pass));
}

/// Records one dispatch.
pub(super) fn dispatch(dispatch: &Dispatch, pass: &mut wgpu::ComputePass<'_>) {
    let [x, y, z] = dispatch.workgroups;
    pass.set_pipeline(&dispatch.pipeline.pipeline);
    pass.set_bind_group(0, &dispatch.bind_group, &[]);
    pass.dispatch_workgroups(x, y, z);
}

/// Most workgroups along a dimension, as WebGPU promises.
pub(super) const MOST_WORKGROUPS: usize = 65535;

/// How many workgroups a kernel starts.
#[derive(Clone, Copy)]
pub(super) enum Grid {
    /// Enough for one invocation each of so many elements.
    Invocations(usize),
    /// So many, wrapped into two dimensions.
    Workgroups(usize),
    /// Columns and rows of a tiled result.
    Tiles(usize, usize),
}

impl Grid {
    /// For workgroups of `lanes` invocations.
    fn workgroups(self, lanes: usize) -> [u32; 3] {
        let count = match self {
            Self::Invocations(count) => count.div_ceil(lanes),
            Self::Workgroups(count) => count,
            Self::Tiles(columns, rows) => return [columns as u32, rows as u32, 1],
        };
        let x = count.clamp(1, MOST_WORKGROUPS);
        [x as u32, count.div_ceil(x).max(1) as u32, 1]
    }
}

/// A dispatch before its parameters have a place.
pub(super) struct Pending {
    pub op: &'static str,
    pub node: usize,
    pub pipeline: Rc<Pipeline>,
    pub params: Vec<u8>,
    /// From binding 1 on.
    pub buffers: Vec<wgpu::Buffer>,
    pub workgroups: [u32; 3],
}

impl Pending {
    /// A dispatch that has nothing to do with a step.
    pub fn new<I: Interface>(
        gpu: &Gpu,
        op: &'static str,
        shader: &Permutation<I>,
        params: &I::Params,
        buffers: I::Buffers<'_>,
        grid: Grid,
    ) -> Result<Self> {
        let workgroups = grid.workgroups(I::WORKGROUP);
        let pipeline = gpu.pipeline(&shader.name, &shader.overrides)?;
        let buffers = I::list(buffers).into_iter().cloned().collect();
        Ok(Self { op, node: 0, pipeline, params: bytemuck::bytes_of(params).to_vec(), buffers, workgroups })
    }

    /// A dispatch that works on the step of a table.
    pub fn of_step<I: OfStep>(
        gpu: &Gpu,
        op: &'static str,
        shader: &Permutation<I>,
        params: &I::Params,
        table: &wgpu::Buffer,
        buffers: I::Buffers<'_>,
        grid: Grid,
    ) -> Result<Self> {
        let mut pending = Self::new(gpu, op, shader, params, buffers, grid)?;
        pending.buffers.insert(0, table.clone());
        Ok(pending)
    }
}

/// Gives all dispatches their parameters, in one uniform buffer, and their bind groups.
pub(super) fn bind(gpu: &Gpu, pending: Vec<Pending>) -> Result<Vec<Dispatch>> {
    let align = gpu.device.limits().min_uniform_buffer_offset_alignment as usize;
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for dispatch in &pending {
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        offsets.push(bytes.len() as u64);
        bytes.extend_from_slice(&dispatch.params);
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let uniforms = gpu.buffer("parameters", bytes.len() as u64, usage)?;
    gpu.queue.write_buffer(&uniforms, 0, &bytes);

    let mut dispatches = Vec::with_capacity(pending.len());
    for (dispatch, offset) in pending.into_iter().zip(offsets) {
        let shader = dispatch.pipeline.shader;
        let (got, wanted) = (dispatch.buffers.len() + 1, shader.bindings.len());
        if got != wanted {
            let what = format!("{got} bindings for shader `{}`, which has {wanted}", shader.name);
            return Err(BackendError::Misuse(what));
        }
        let size = wgpu::BufferSize::new(dispatch.params.len() as u64);
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &uniforms, offset, size });
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: params }];
        entries.extend(
            dispatch.buffers.iter().enumerate().map(|(i, buffer)| wgpu::BindGroupEntry {
                binding: i as u32 + 1,
                resource: buffer.as_entire_binding(),
            }),
        );
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &dispatch.pipeline.layout,
            entries: &entries,
        });
        gpu.counters.borrow_mut().objects += 1;
        let Pending { op, node, pipeline, workgroups, .. } = dispatch;
        dispatches.push(Dispatch { op, node, pipeline, bind_group, workgroups });
    }
    gpu.check("binding a program")?;
    Ok(dispatches)
}
