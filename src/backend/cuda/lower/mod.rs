//! From a graph to launches: every op is one kernel, but for experts, which are two. One file an op.

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
mod moe_apply;
mod moe_route;
mod norm;
mod rope;
mod sample;
mod selective_scan;
mod ssd_scan;

use std::collections::BTreeSet;
use std::rc::Rc;

use selvedge_cuda::ops::{self as kernels, Count, Step};
use selvedge_cuda::{Buffer, Device, Launch, Upload};

use super::memory::Memory;
use super::naming;
use super::program::{Program, ValuePlace};
use super::weights::Weights;
use crate::backend::checks::{check_graph, misuse};
use crate::backend::{ProgramSpec, Result, StepTable};
use crate::graph::{BufferPlan, Function, Graph, Op, Rotary, Rows, StateId, ValueId, View, pitch, plan};

/// Tables of angles, each for one rotary embedding and every position; programs share them.
#[derive(Default)]
pub(super) struct Rotaries(Vec<(Rotary, Rc<Buffer>)>);

impl Rotaries {
    fn get(&mut self, device: &Device, rotary: &Rotary, positions: usize) -> Result<Rc<Buffer>> {
        if let Some((_, table)) = self.0.iter().find(|(known, _)| known == rotary) {
            return Ok(Rc::clone(table));
        }
        let numbers = rotary.table(positions);
        let mut table = device.allocate(size_of_val(numbers.as_slice())).map_err(naming("rotary angles"))?;
        device.write(&mut table, 0, bytemuck::cast_slice(&numbers))?;
        let table = Rc::new(table);
        self.0.push((rotary.clone(), Rc::clone(&table)));
        Ok(table)
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(_, table)| table.len()).sum()
    }
}

/// Compiles a graph whose weights are there, for slots that are allocated.
pub(super) fn lower(
    device: &Device,
    graph: &Graph,
    spec: &ProgramSpec,
    weights: &Weights,
    memory: &Memory,
    rotaries: &mut Rotaries,
) -> Result<Program> {
    check_graph(graph, &memory.layout, |id, recipe| weights.check(id, recipe))?;
    let groups: Vec<Vec<usize>> = (0..graph.ops.len()).map(|op| vec![op]).collect();
    let keep: BTreeSet<ValueId> = spec.keep.iter().copied().chain(graph.logits).collect();
    let plan = plan(graph, &groups, &keep);
    let allocate = |numbers: usize| device.allocate(numbers * size_of::<f32>()).map_err(naming("activations"));
    let rows_of = |rows| if rows == Rows::All { spec.rows } else { spec.outputs };
    let mut buffers = plan.buffers.iter().map(|b| allocate(rows_of(b.rows) * b.pitch)).collect::<Result<Vec<_>>>()?;
    // What the experts of one op have between their halves; the ops share it.
    let hidden = graph.ops.iter().map(|op| match op {
        Op::MoeApply(op) => rows_of(graph.value(op.out).rows) * op.top_k(graph) * pitch(op.up_rows(graph)),
        _ => 0,
    });
    let hidden = match hidden.max() {
        Some(numbers) if numbers > 0 => {
            buffers.push(allocate(numbers)?);
            buffers.last().map_or(0, Buffer::address)
        }
        _ => 0,
    };
    let words = StepTable::len(spec.rows, spec.outputs);
    let table = allocate(words)?;
    let samples = graph.ops.iter().any(|op| matches!(op, Op::Sample(_)));
    let results = if samples { Some(allocate(spec.outputs)?) } else { None };

    let mut tables = Vec::new();
    for rotary in &graph.rotaries {
        tables.push(rotaries.get(device, rotary, memory.layout.context)?);
    }
    let lowering = Lowering {
        device,
        graph,
        spec,
        weights,
        memory,
        plan: &plan,
        buffers: &buffers,
        rotaries: &tables,
        step: Step(table.address()),
        hidden,
        results: results.as_ref().map_or(0, Buffer::address),
    };
    let mut launches = Vec::new();
    if graph.ops.iter().any(|op| matches!(op, Op::Embed(_))) {
        // Only what looks up tokens can feed a slot its own.
        let nothing = kernels::View { address: 0, pitch: 0, width: 0 };
        launches.push(lowering.choice(nothing).freeze(device, spec.rows as u32)?);
    }
    for op in &graph.ops {
        launches.extend(lowering.op(op)?);
    }

    let known = keep.iter().chain(&graph.inputs);
    let places = known.filter_map(|&value| plan.of_value.get(&value).map(|&buffer| (value, buffer)));
    let place = |(value, buffer): (ValueId, usize)| {
        let (pitch, description) = (plan.buffers[buffer].pitch, graph.value(value));
        let input = graph.inputs.contains(&value);
        (value, ValuePlace { buffer, pitch, width: description.width, rows: description.rows, input })
    };
    let places = places.map(place).collect();
    let lookups = graph.ops.iter().filter_map(|op| match op {
        Op::Embed(op) => Some(graph.weight(op.table).rows),
        _ => None,
    });
    let (ids, upload) = (lookups.min(), Upload::new(device, words)?);
    Ok(Program { spec: spec.clone(), launches, table, upload, buffers, rotaries: tables, results, places, ids })
}

/// Everything that the launches of one program are made from.
struct Lowering<'a> {
    device: &'a Device,
    graph: &'a Graph,
    spec: &'a ProgramSpec,
    weights: &'a Weights,
    memory: &'a Memory,
    plan: &'a BufferPlan,
    buffers: &'a [Buffer],
    rotaries: &'a [Rc<Buffer>],
    step: Step,
    /// Between the two kernels of experts; 0 where no op has any.
    hidden: u64,
    /// The tokens chosen; 0 where none are.
    results: u64,
}

impl Lowering<'_> {
    fn view(&self, view: View) -> kernels::View {
        let buffer = self.plan.of_value[&view.value];
        kernels::View {
            address: self.buffers[buffer].address() + (view.offset * size_of::<f32>()) as u64,
            pitch: self.plan.buffers[buffer].pitch as u32,
            width: view.width as u32,
        }
    }

    fn whole(&self, value: ValueId) -> kernels::View {
        self.view(self.graph.whole(value))
    }

    /// The choice of tokens from logits.
    fn choice(&self, logits: kernels::View) -> kernels::Sample {
        let (samplers, counts) = (self.memory.samplers(), self.memory.counts());
        let (biases, masks) = (self.memory.biases(), self.memory.masks());
        kernels::Sample { step: self.step, logits, samplers, counts, biases, masks, results: self.results }
    }

    /// Which rows a value has, and how many at most.
    fn rows(&self, value: ValueId) -> (Count, u32) {
        match self.graph.value(value).rows {
            Rows::All => (Count::Rows, self.spec.rows as u32),
            Rows::Outputs => (Count::Outputs, self.spec.outputs as u32),
        }
    }

    /// Rows that a program is compiled for.
    fn all(&self) -> u32 {
        self.spec.rows as u32
    }

    fn op(&self, op: &Op) -> Result<Vec<Launch>> {
        let launch = match op {
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
            Op::MoeApply(op) => return self.moe_apply(op).map(Vec::from),
            Op::Gather(op) => self.gather(op),
            Op::Sample(op) => self.sample(op),
        };
        Ok(vec![launch?])
    }

    fn d_conv(&self, state: StateId) -> Result<u32> {
        match self.graph.conv(state) {
            Some((_, d_conv)) => Ok(d_conv as u32),
            None => misuse(format!("`{}` is not a state of a convolution", self.graph.state(state).name)),
        }
    }
}

fn pointwise(function: Function) -> kernels::Function {
    match function {
        Function::Identity => kernels::Function::Identity,
        Function::Silu => kernels::Function::Silu,
        Function::SquaredRelu => kernels::Function::SquaredRelu,
        Function::Sigmoid => kernels::Function::Sigmoid,
    }
}
