//! From ops to dispatches: which kernel, which buffers, which parameters, how many workgroups. One file an op; a fused
//! group lies in the file of the op that it is about.

mod activation;
mod add;
mod attention;
mod conv;
mod conv_append;
mod embed;
mod gate;
mod gated_delta;
mod gather;
mod kv_append;
mod linear;
mod linear_fused;
mod moe_apply;
mod moe_route;
mod norm;
mod pools;
mod rope;
mod sample;
mod selective_scan;
mod ssd_scan;

use std::collections::BTreeMap;

use super::fuse::{Kernel, fuse};
use super::gpu::Gpu;
use super::kernels::{OfStep, Permutation};
use super::limits::capacity;
use super::memory::{Memory, SlotBuffers};
use super::program::{Grid, Pending, Program, ValueBuffer, bind};
use super::scratch::{self, SCRATCHES};
use super::weights::Weights;
use crate::backend::checks::{check_graph, misuse};
use crate::backend::{BackendError, ProgramSpec, Result, StepTable};
use crate::constants::{FUNCTION_IDENTITY, FUNCTION_SIGMOID, FUNCTION_SILU, FUNCTION_SQUARED_RELU, NONE};
use crate::graph::{Function, Graph, Op, RotaryId, Rows, StateId, ValueId, View, WeightId, pitch, plan};

/// Spans that one start of a kernel has invocations for, where most steps have few of them; where there are more, each
/// invocation serves several.
const SPANS_AT_ONCE: usize = 16;

/// Buffers that programs share: they never run at the same time.
#[derive(Default)]
pub(super) struct Workspace {
    buffers: Vec<wgpu::Buffer>,
    rotaries: BTreeMap<u32, wgpu::Buffer>,
}

impl Workspace {
    /// Gives the buffers back now: a browser does so when it collects garbage, unless it is told.
    pub fn destroy(self) {
        self.buffers.iter().chain(self.rotaries.values()).for_each(wgpu::Buffer::destroy);
    }

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
    places: BTreeMap<ValueId, ValueBuffer>,
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
    check_graph(graph, &memory.layout, |id, recipe| weights.check(id, recipe))?;
    let vectors = weights.vectors(gpu)?;
    let wanted = |op: &usize| {
        // Without outputs, what only serves them is not compiled.
        let rows = graph.ops[*op].writes().map(|v| graph.value(v).rows);
        spec.outputs > 0 || !(rows == Some(Rows::Outputs) || matches!(graph.ops[*op], Op::Sample(_)))
    };
    let mut kernels = fuse(graph, spec, &memory.layout, weights, gpu.forms.get())?;
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
        (value, ValueBuffer { buffer: buffers[index].clone(), pitch: pitch(v.width), width: v.width, rows: v.rows })
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
    let feeds = graph.ops.iter().any(|op| matches!(op, Op::Embed(_)));
    let frozen = if feeds { lowering.freeze() } else { Ok(()) };
    let result =
        frozen.and_then(|()| kernels.iter().enumerate().try_for_each(|(node, kernel)| lowering.kernel(node, kernel)));
    workspace.rotaries = std::mem::take(&mut lowering.rotaries);
    result?;
    let Lowering { pending, table, mut places, sampled, .. } = lowering;
    // The others are overwritten before a step ends.
    places.retain(|value, _| keep.contains(value) || graph.inputs.contains(value));
    Ok(Program { spec: spec.clone(), dispatches: bind(gpu, pending)?, table, places, sampled })
}

impl Lowering<'_> {
    fn kernel(&mut self, node: usize, kernel: &Kernel<'_>) -> Result<()> {
        let before = self.pending.len();
        match kernel {
            Kernel::Single(_, op) => self.op(op),
            Kernel::Linear(group) => self.fused_linear(group),
            Kernel::LinearPair(group) => self.linear_pair(group),
            Kernel::ConvDecode(group) => self.conv_decode(group),
            Kernel::ScanDecode(group) => self.scan_decode(group),
            Kernel::DeltaDecode(group) => self.delta_decode(group),
            Kernel::SsdDecode(group) => self.ssd_decode(group),
            Kernel::RopeNormed(group) => self.rope_normed(group),
            Kernel::RopeAppend(group) => self.rope_append(group),
        }?;
        self.pending[before..].iter_mut().for_each(|pending| pending.node = node);
        if self.pending.len() == before {
            let names: Vec<_> = kernel.ops().into_iter().map(|op| self.graph.ops[op].name()).collect();
            return misuse(format!("the kernels of {} start nothing", names.join("+")));
        }
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Embed(op) => self.embed(op),
            Op::Norm(op) => self.norm(op),
            Op::Linear(op) => self.linear(op),
            Op::Gate(op) => self.gate(op),
            Op::Activation(op) => self.activation(op),
            Op::Add(op) => self.add(op),
            Op::Conv(op) => self.conv(op),
            Op::ConvAppend(op) => self.conv_append(op),
            Op::Rope(op) => self.rope(op),
            Op::Attention(op) => self.attention(op),
            Op::KvAppend(op) => self.kv_append(op),
            Op::SelectiveScan(op) => self.selective_scan(op),
            Op::SsdScan(op) => self.ssd_scan(op),
            Op::GatedDelta(op) => self.gated_delta(op),
            Op::MoeRoute(op) => self.moe_route(op),
            Op::MoeApply(op) => self.moe_apply(op),
            Op::Gather(op) => self.gather(op),
            Op::Sample(op) => self.sample(op),
        }
    }

    /// Appends a dispatch.
    fn dispatch<I: OfStep>(
        &mut self,
        op: &'static str,
        shader: &Permutation<I>,
        params: &I::Params,
        buffers: I::Buffers<'_>,
        grid: Grid,
    ) -> Result<()> {
        self.pending.push(Pending::of_step(self.gpu, op, shader, params, &self.table, buffers, grid)?);
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

    fn place(&self, value: ValueId) -> Result<ValueBuffer> {
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

    /// One invocation an element of `width` columns.
    fn elements(&self, rows: Rows, width: usize) -> Grid {
        Grid::Invocations(self.rows(rows) * width)
    }

    /// How reductions over a workgroup are made.
    fn reduce(&self) -> &'static str {
        if self.gpu.info.subgroups { "subgroup" } else { "tree" }
    }

    /// Chunks of spans that have several, at most.
    fn long_chunks(&self) -> usize {
        scratch::long_chunks(self.spec)
    }

    fn chunks_at(&self) -> u32 {
        (StepTable::chunks_at(self.spec.rows, self.spec.outputs) / 4) as u32
    }

    fn vector_at(&self, weight: Option<WeightId>) -> Result<u32> {
        weight.map_or(Ok(NONE), |w| self.weights.vector(w))
    }

    fn fixed(&self, state: StateId) -> Result<wgpu::Buffer> {
        match self.memory.state(state) {
            SlotBuffers::Fixed(buffer) => Ok(buffer.clone()),
            SlotBuffers::Kv { .. } => self.no_state(state, "kept whole for every slot"),
        }
    }

    fn d_conv(&self, state: StateId) -> Result<u32> {
        match self.graph.conv(state) {
            Some((_, d_conv)) => Ok(d_conv as u32),
            None => self.no_state(state, "of a convolution"),
        }
    }

    fn recurrent<const N: usize>(&self, state: StateId) -> Result<[usize; N]> {
        match self.graph.recurrent(state) {
            Some(shape) => Ok(shape),
            None => self.no_state(state, &format!("recurrent, of {N} axes")),
        }
    }

    fn no_state<T>(&self, state: StateId, wanted: &str) -> Result<T> {
        misuse(format!("`{}` is not a state {wanted}", self.graph.state(state).name))
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

/// How a kernel reads what `counts` tell the places of (widths, pitches, offsets), and how many numbers at once: words of
/// four, where each count is a multiple of that, or single numbers.
fn read(counts: &[u32]) -> (&'static str, u32) {
    if counts.iter().all(|count| count.is_multiple_of(4)) { ("vector", 4) } else { ("scalar", 1) }
}

/// The way to read and the counts in what is read at once.
fn in_words<const N: usize>(counts: [u32; N]) -> (&'static str, [u32; N]) {
    let (read, numbers) = read(&counts);
    (read, counts.map(|count| count / numbers))
}

/// 1 for rows that are outputs, as the kernels have it.
fn outputs(rows: Rows) -> u32 {
    u32::from(rows == Rows::Outputs)
}

/// The number of a function in the kernels.
fn number(function: Function) -> u32 {
    match function {
        Function::Identity => FUNCTION_IDENTITY,
        Function::Silu => FUNCTION_SILU,
        Function::SquaredRelu => FUNCTION_SQUARED_RELU,
        Function::Sigmoid => FUNCTION_SIGMOID,
    }
}

/// Upper limit of a scan's steps: WGSL has no infinity to compare with.
fn finite(limit: f32) -> f32 {
    limit.min(f32::MAX)
}
