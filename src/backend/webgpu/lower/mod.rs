//! From ops to dispatches: which kernel, which buffers, which parameters, how many workgroups.

mod delta;
mod experts;
mod linear;
mod mixing;
mod pointwise;
mod sample;
mod scan;

use std::collections::BTreeMap;

use super::fuse::{Kernel, fuse};
use super::gpu::Gpu;
use super::memory::{Memory, Piece};
use super::program::{Pending, Place, Program, bind};
use super::scratch::{self, SCRATCHES};
use super::weights::Weights;
use crate::backend::{BackendError, ProgramSpec, Result, StepTable};
use crate::graph::{Graph, Op, RotaryId, Rows, StateId, ValueId, View, pitch, plan};

pub(super) use linear::FEW_ROWS;

/// Lanes of the kernels that take one element an invocation.
const ELEMENTS: usize = 64;

/// Buffers that programs share: they never run at the same time.
#[derive(Default)]
pub(super) struct Workspace {
    buffers: Vec<wgpu::Buffer>,
    rotaries: BTreeMap<u32, wgpu::Buffer>,
}

impl Workspace {
    /// A buffer of at least `bytes` that `taken` does not hold yet: the tightest there is, or a new one.
    fn take(&mut self, gpu: &Gpu, bytes: u64, taken: &mut Vec<usize>) -> Result<wgpu::Buffer> {
        let free = (0..self.buffers.len()).filter(|i| !taken.contains(i) && self.buffers[*i].size() >= bytes);
        let index = match free.min_by_key(|&i| self.buffers[i].size()) {
            Some(index) => index,
            None => {
                self.buffers.push(gpu.storage("workspace", bytes)?);
                self.buffers.len() - 1
            }
        };
        taken.push(index);
        Ok(self.buffers[index].clone())
    }
}

/// A graph on its way to becoming a program.
struct Lowering<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    weights: &'a Weights,
    vectors: wgpu::Buffer,
    memory: &'a Memory,
    spec: &'a ProgramSpec,
    table: wgpu::Buffer,
    places: BTreeMap<ValueId, Place>,
    rotaries: BTreeMap<u32, wgpu::Buffer>,
    /// What the kernels of one op hand on to one another; ops in sequence share it.
    scratch: [Option<wgpu::Buffer>; SCRATCHES],
    sampled: Option<wgpu::Buffer>,
    pending: Vec<Pending>,
}

/// Compiles a graph.
pub(super) fn lower(
    gpu: &Gpu,
    graph: &Graph,
    spec: &ProgramSpec,
    weights: &mut Weights,
    memory: &Memory,
    workspace: &mut Workspace,
) -> Result<Program> {
    let vectors = weights.vectors(gpu)?;
    let wanted = |op: &usize| {
        // Without outputs, what only serves them is not compiled.
        let rows = graph.ops[*op].writes().map(|v| graph.value(v).rows);
        spec.outputs > 0 || !(rows == Some(Rows::Outputs) || matches!(graph.ops[*op], Op::Sample { .. }))
    };
    let mut kernels = fuse(graph, spec, &memory.layout, weights);
    kernels.retain(|kernel| kernel.ops().iter().all(wanted));
    let groups: Vec<Vec<usize>> = kernels.iter().map(Kernel::ops).collect();
    let mut keep = spec.keep.clone();
    keep.extend(graph.logits);
    let plan = plan(graph, &groups, &keep);

    let mut taken = Vec::new();
    let mut buffers = Vec::new();
    for planned in &plan.buffers {
        let rows = capacity(spec, planned.rows);
        buffers.push(workspace.take(gpu, (rows * planned.pitch * 4) as u64, &mut taken)?);
    }
    let places = plan.of_value.iter().map(|(&value, &index)| {
        let v = graph.value(value);
        (value, Place { buffer: buffers[index].clone(), pitch: pitch(v.width), width: v.width, rows: v.rows })
    });
    let mut lowering = Lowering {
        gpu,
        graph,
        weights,
        vectors,
        memory,
        spec,
        table: gpu.storage("step table", (StepTable::len(spec.rows, spec.outputs) * 4) as u64)?,
        places: places.collect(),
        rotaries: std::mem::take(&mut workspace.rotaries),
        scratch: [const { None }; SCRATCHES],
        sampled: None,
        pending: vec![],
    };
    for which in 0..SCRATCHES {
        let bytes = graph.ops.iter().map(|op| scratch::of_op(graph, spec, op)[which]).max().unwrap_or(0);
        if bytes > 0 {
            lowering.scratch[which] = Some(workspace.take(gpu, bytes, &mut taken)?);
        }
    }
    // Only what looks up tokens can feed a slot its own.
    let feeds = graph.ops.iter().any(|op| matches!(op, Op::Embed { .. }));
    let frozen = if feeds { lowering.freeze() } else { Ok(()) };
    let result = frozen.and_then(|()| kernels.iter().try_for_each(|kernel| lowering.kernel(kernel)));
    workspace.rotaries = std::mem::take(&mut lowering.rotaries);
    result?;
    let Lowering { pending, table, mut places, sampled, .. } = lowering;
    // The others are overwritten before a step ends.
    places.retain(|value, _| keep.contains(value) || graph.inputs.contains(value));
    Ok(Program { spec: spec.clone(), dispatches: bind(gpu, pending)?, table, places, sampled })
}

/// Rows that a program's buffers hold: few rows come in powers of two, as their kernels do.
pub(super) fn capacity(spec: &ProgramSpec, rows: Rows) -> usize {
    let rows = match rows {
        Rows::All => spec.rows,
        Rows::Outputs => spec.outputs,
    };
    if rows <= FEW_ROWS { rows.next_power_of_two() } else { rows }
}

/// So many workgroups, wrapped into two dimensions: one holds 65535 at most.
pub(super) fn wrapped(workgroups: usize) -> [u32; 3] {
    const MOST: usize = 65535;
    let x = workgroups.clamp(1, MOST);
    [x as u32, workgroups.div_ceil(x).max(1) as u32, 1]
}

impl Lowering<'_> {
    fn kernel(&mut self, kernel: &Kernel) -> Result<()> {
        match *kernel {
            Kernel::Single(op) => self.op(&self.graph.ops[op]),
            Kernel::Linear { linear, input, add } => self.fused_linear(linear, input, add),
            Kernel::LinearPair(pair) => self.linear_pair(pair),
            Kernel::ConvDecode { conv, .. } => self.conv(&self.graph.ops[conv], true),
            Kernel::ScanDecode(ops) => self.scan_decode(ops),
            Kernel::DeltaDecode(ops) => self.delta_decode(ops),
            Kernel::SsdDecode { scan, gate } => self.ssd_decode(scan, gate),
            Kernel::RopeNormed { norm, rope, append } => self.rope_normed(norm, rope, append),
            Kernel::RopeAppend { query, key, append } => self.rope_append(query, key, append),
        }
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        match *op {
            Op::Embed { table, scale, out } => self.embed(table, scale, out),
            Op::Linear { x, weight, bias, out } => self.linear(x, weight, bias, out),
            Op::Norm { x, kind, groups, eps, weight, bias, out } => self.norm(x, kind, groups, eps, weight, bias, out),
            Op::Gate { gate, x, function, out } => self.gate(gate, x, function, out),
            Op::Activation { x, function, scale, out } => self.activation(x, function, scale, out),
            Op::Add { a, b, scale, out } => self.add(a, b, scale, out),
            Op::Gather { x, out } => self.gather(x, out),
            Op::Rope { x, heads, rotary, out } => self.rope(x, heads, rotary, out),
            Op::Conv { .. } => self.conv(op, false),
            Op::ConvAppend { x, state } => self.conv_append(x, state),
            Op::Attention { .. } => self.attention(op),
            Op::KvAppend { k, v, state } => self.kv_append(k, v, state),
            Op::SelectiveScan { .. } => self.selective_scan(op),
            Op::SsdScan { .. } => self.ssd_scan(op),
            Op::Sample { logits } => self.sample(logits),
            Op::GatedDelta { .. } => self.gated_delta(op),
            Op::MoeRoute { .. } => self.moe_route(op),
            Op::MoeApply { .. } => self.moe_apply(op),
        }
    }

    /// Appends a dispatch.
    fn dispatch<P: bytemuck::Pod>(
        &mut self,
        op: &'static str,
        shader: &str,
        constants: &[(&'static str, f64)],
        params: &P,
        buffers: &[&wgpu::Buffer],
        workgroups: [u32; 3],
    ) -> Result<()> {
        let pipeline = self.gpu.pipeline(shader, constants)?;
        let buffers = std::iter::once(&self.table).chain(buffers.iter().copied()).cloned().collect();
        self.pending.push(Pending { op, pipeline, params: bytemuck::bytes_of(params).to_vec(), buffers, workgroups });
        Ok(())
    }

    fn scratch(&self, which: usize) -> Result<wgpu::Buffer> {
        let missing = || BackendError::Misuse(format!("an op without its scratch {which}"));
        self.scratch[which].clone().ok_or_else(missing)
    }

    /// A binding for a result that is not wanted.
    fn nowhere(&self) -> Result<wgpu::Buffer> {
        self.gpu.storage("nowhere", 16)
    }

    fn place(&self, value: ValueId) -> Result<Place> {
        let missing = || BackendError::Misuse(format!("`{}` has no buffer", self.graph.value(value).name));
        self.places.get(&value).cloned().ok_or_else(missing)
    }

    /// A view's buffer, pitch and offset.
    fn source(&self, view: View) -> Result<(wgpu::Buffer, u32, u32)> {
        let place = self.place(view.value)?;
        Ok((place.buffer, place.pitch as u32, view.offset as u32))
    }

    /// Rows the program is compiled for.
    fn rows(&self, rows: Rows) -> usize {
        capacity(self.spec, rows)
    }

    /// Workgroups for one invocation an element of `width` columns.
    fn elements(&self, rows: Rows, width: usize) -> [u32; 3] {
        wrapped((self.rows(rows) * width).div_ceil(ELEMENTS))
    }

    fn vector_at(&self, weight: Option<crate::graph::WeightId>) -> Result<u32> {
        weight.map_or(Ok(super::params::NONE), |w| self.weights.vector(w))
    }

    fn fixed(&self, state: StateId) -> Result<wgpu::Buffer> {
        match self.memory.piece(state) {
            Piece::Fixed(buffer) => Ok(buffer.clone()),
            Piece::Kv { .. } => Err(BackendError::Misuse(format!("`{}` is a KV state", self.graph.state(state).name))),
        }
    }

    /// The table of angles of a rotary, for every position of the context.
    fn angles(&mut self, rotary: RotaryId) -> Result<wgpu::Buffer> {
        if let Some(buffer) = self.rotaries.get(&rotary.0) {
            return Ok(buffer.clone());
        }
        let table = self.graph.rotary(rotary).table(self.memory.layout.context);
        let buffer = self.gpu.storage("rotary", (table.len() * 4) as u64)?;
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&table));
        self.rotaries.insert(rotary.0, buffer.clone());
        Ok(buffer)
    }
}

/// 1 for rows that are outputs, as the kernels have it.
fn outputs(rows: Rows) -> u32 {
    u32::from(rows == Rows::Outputs)
}
