//! From a graph to launches: every op is one kernel, but for experts, which are two.

use std::collections::BTreeSet;
use std::rc::Rc;

use selvedge_cuda::ops::{self, Count, NO_WINDOW, Step};
use selvedge_cuda::{Buffer, Device, Launch, Upload};

use super::memory::Memory;
use super::naming;
use super::program::{Place, Program};
use super::weights::{Weight, Weights};
use crate::backend::refusals::misuse;
use crate::backend::{ProgramSpec, Result, StepTable};
use crate::graph::{
    BufferPlan, Function, Graph, NormKind, Op, Rotary, Routing, Rows, StateKind, StateSpec, ValueId, View, WeightId,
    pitch, plan,
};

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
    check(graph, weights, memory)?;
    let groups: Vec<Vec<usize>> = (0..graph.ops.len()).map(|op| vec![op]).collect();
    let keep: BTreeSet<ValueId> = spec.keep.iter().copied().chain(graph.logits).collect();
    let plan = plan(graph, &groups, &keep);
    let allocate = |numbers: usize| device.allocate(numbers * size_of::<f32>()).map_err(naming("activations"));
    let rows_of = |rows| if rows == Rows::All { spec.rows } else { spec.outputs };
    let mut buffers = plan.buffers.iter().map(|b| allocate(rows_of(b.rows) * b.pitch)).collect::<Result<Vec<_>>>()?;
    // What the experts of one op have between their halves; the ops share it.
    let hidden = graph.ops.iter().map(|op| match *op {
        Op::MoeApply { routes, up, experts, out, .. } => {
            let pairs = rows_of(graph.value(out).rows) * (graph.value(routes).width / 2);
            pairs * pitch(graph.weight(up).rows / experts)
        }
        _ => 0,
    });
    let hidden = hidden.max().unwrap_or(0);
    if hidden > 0 {
        buffers.push(allocate(hidden)?);
    }
    let words = StepTable::len(spec.rows, spec.outputs);
    let table = allocate(words)?;
    let samples = graph.ops.iter().any(|op| matches!(op, Op::Sample { .. }));
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
        results: results.as_ref().map_or(0, Buffer::address),
    };
    let mut launches = Vec::new();
    if graph.ops.iter().any(|op| matches!(op, Op::Embed { .. })) {
        // Only what looks up tokens can feed a slot its own.
        let nothing = ops::View { address: 0, pitch: 0, width: 0 };
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
        (value, Place { buffer, pitch, width: description.width, rows: description.rows, input })
    };
    let places = places.map(place).collect();
    let lookups = graph.ops.iter().filter_map(|op| match op {
        Op::Embed { table, .. } => Some(graph.weight(*table).rows),
        _ => None,
    });
    let (ids, upload) = (lookups.min(), Upload::new(device, words)?);
    Ok(Program { spec: spec.clone(), launches, table, upload, buffers, rotaries: tables, results, places, ids })
}

/// Checks a graph against the weights and the memory: the kernels trust its shapes.
fn check(graph: &Graph, weights: &Weights, memory: &Memory) -> Result<()> {
    if let Err(error) = graph.validate() {
        return misuse(error.to_string());
    }
    for (index, recipe) in graph.weights.iter().enumerate() {
        let desc = &weights.get(WeightId(index as u32))?.desc;
        let name = &recipe.name;
        if (desc.rows, desc.columns) != (recipe.rows, recipe.columns) {
            let (got, wanted) = ([desc.rows, desc.columns], [recipe.rows, recipe.columns]);
            return misuse(format!("weight `{name}` was created as {got:?}, its recipe says {wanted:?}"));
        }
        if desc.class != recipe.class {
            let (got, wanted) = (desc.class, recipe.class);
            return misuse(format!("weight `{name}` was created as {got:?}, its recipe says {wanted:?}"));
        }
    }
    let known = &memory.layout.states;
    let same = |(a, b): (&StateSpec, &StateSpec)| a.kind == b.kind;
    if graph.states.len() != known.len() || !graph.states.iter().zip(known).all(same) {
        return misuse("the graph's states are not those that were allocated".into());
    }
    Ok(())
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
    results: u64,
}

impl Lowering<'_> {
    fn view(&self, view: View) -> ops::View {
        let buffer = self.plan.of_value[&view.value];
        ops::View {
            address: self.buffers[buffer].address() + (view.offset * size_of::<f32>()) as u64,
            pitch: self.plan.buffers[buffer].pitch as u32,
            width: view.width as u32,
        }
    }

    fn whole(&self, value: ValueId) -> ops::View {
        self.view(self.graph.whole(value))
    }

    /// The choice of tokens from logits.
    fn choice(&self, logits: ops::View) -> ops::Sample {
        let (samplers, counts) = (self.memory.samplers(), self.memory.counts());
        ops::Sample { step: self.step, logits, samplers, counts, results: self.results }
    }

    /// Which rows a value has, and how many at most.
    fn rows(&self, value: ValueId) -> (Count, u32) {
        match self.graph.value(value).rows {
            Rows::All => (Count::Rows, self.spec.rows as u32),
            Rows::Outputs => (Count::Outputs, self.spec.outputs as u32),
        }
    }

    fn op(&self, op: &Op) -> Result<Vec<Launch>> {
        let Self { device, graph, weights, memory, step, .. } = *self;
        let all = self.spec.rows as u32;
        let launch = match *op {
            Op::Embed { table, scale, out } => {
                let (weight, samplers) = (weights.get(table)?, memory.samplers());
                let (ids, table_pitch) = (weight.desc.rows as u32, weight.pitch as u32);
                let out = self.whole(out);
                ops::Embed { step, table: weight.address(), samplers, out, ids, table_pitch, scale }.launch(
                    device,
                    weight.format(),
                    all,
                )
            }
            Op::Norm { x, kind, groups, eps, weight, bias, out } => {
                let (count, rows) = self.rows(out);
                let kind = match kind {
                    NormKind::Rms => ops::NormKind::Rms,
                    NormKind::Layer => ops::NormKind::Layer,
                    NormKind::L2 => ops::NormKind::L2,
                };
                let width_of = |id: Option<WeightId>| id.map_or(1, |id| graph.weight(id).len() as u32);
                ops::Norm {
                    step,
                    x: self.view(x),
                    out: self.whole(out),
                    weight: weights.vector_or_null(weight)?,
                    bias: weights.vector_or_null(bias)?,
                    count,
                    group: (x.width / groups) as u32,
                    weight_width: width_of(weight),
                    bias_width: width_of(bias),
                    kind,
                    eps,
                }
                .launch(device, rows)
            }
            Op::Linear { x, weight, bias, out } => {
                let (count, rows) = self.rows(out);
                let (weight, bias) = (weights.get(weight)?, weights.vector_or_null(bias)?);
                let (x, out, weight_pitch) = (self.whole(x), self.whole(out), weight.pitch as u32);
                ops::Linear { step, x, out, weight: weight.address(), bias, weight_pitch, count }.launch(
                    device,
                    weight.format(),
                    rows,
                )
            }
            Op::Gate { gate, x, function, out } => {
                let (count, rows) = self.rows(out);
                let (gate, x, out) = (self.view(gate), self.view(x), self.whole(out));
                ops::Gate { step, gate, x, out, count, function: pointwise(function) }.launch(device, rows)
            }
            Op::Activation { x, function, scale, out } => {
                let (count, rows) = self.rows(out);
                let (x, out) = (self.view(x), self.whole(out));
                ops::Activation { step, x, out, count, function: pointwise(function), scale }.launch(device, rows)
            }
            Op::Add { a, b, scale, out } => {
                let (count, rows) = self.rows(out);
                let (a, b, out) = (self.view(a), self.view(b), self.whole(out));
                ops::Add { step, a, b, out, count, scale }.launch(device, rows)
            }
            Op::Conv { x, weight, bias, state, function, out } => ops::Conv {
                step,
                x: self.view(x),
                out: self.whole(out),
                weight: weights.vector(weight)?,
                bias: weights.vector_or_null(bias)?,
                state: memory.slots(state)?,
                taps: self.taps(state)?,
                function: pointwise(function),
            }
            .launch(device, all),
            Op::ConvAppend { x, state } => {
                let kept = self.taps(state)? - 1;
                ops::ConvAppend { step, x: self.view(x), state: memory.slots(state)?, kept }.launch(device, all)
            }
            Op::Rope { x, heads, rotary, out } => {
                let pairs = graph.rotary(rotary).inverse_frequencies.len() as u32;
                let (table, head) = (self.rotaries[rotary.0 as usize].address(), (x.width / heads) as u32);
                let (x, out) = (self.view(x), self.whole(out));
                ops::Rope { step, x, out, table, head, pairs }.launch(device, all)
            }
            Op::Attention { q, k, v, state, heads, scale, window, decode_window, out } => {
                let Some(kv) = graph.kv(state) else { return misuse("attention over what is not KV".into()) };
                let pools = memory.pools(state, kv)?;
                let window_of = |window: Option<usize>| window.map_or(NO_WINDOW, |window| window as u32);
                ops::Attention {
                    step,
                    q: self.view(q),
                    k: self.view(k),
                    v: self.view(v),
                    out: self.whole(out),
                    keys: pools.keys,
                    values: pools.values,
                    kv: pools.rows,
                    heads: heads as u32,
                    kv_heads: kv.heads as u32,
                    key_width: kv.key_width as u32,
                    value_width: kv.value_width as u32,
                    window: window_of(window),
                    decode_window: window_of(decode_window),
                    scale,
                }
                .launch(device, pools.format, all)
            }
            Op::KvAppend { k, v, state } => {
                let Some(kv) = graph.kv(state) else { return misuse("keys for what is not KV".into()) };
                let pools = memory.pools(state, kv)?;
                let (k, v) = (self.view(k), self.view(v));
                ops::KvAppend { step, k, v, keys: pools.keys, values: pools.values, kv: pools.rows }.launch(
                    device,
                    pools.format,
                    all,
                )
            }
            Op::SelectiveScan { x, dt, b, c, a, d, state, out } => ops::SelectiveScan {
                step,
                x: self.view(x),
                dt: self.view(dt),
                b: self.view(b),
                c: self.view(c),
                out: self.whole(out),
                a: weights.vector(a)?,
                d: weights.vector(d)?,
                state: memory.slots(state)?,
            }
            .launch(device, all),
            Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit: (least, most), heads, groups, state, out } => {
                ops::SsdScan {
                    step,
                    x: self.view(x),
                    dt: self.view(dt),
                    b: self.view(b),
                    c: self.view(c),
                    out: self.whole(out),
                    a: weights.vector(a)?,
                    d: weights.vector(d)?,
                    dt_bias: weights.vector(dt_bias)?,
                    state: memory.slots(state)?,
                    heads: heads as u32,
                    groups: groups as u32,
                    least,
                    most,
                }
                .launch(device, all)
            }
            Op::Gather { x, out } => {
                let (x, out) = (self.view(x), self.whole(out));
                ops::Gather { step, x, out }.launch(device, self.spec.outputs as u32)
            }
            Op::GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads, state, out } => ops::GatedDelta {
                step,
                q: self.view(q),
                k: self.view(k),
                v: self.view(v),
                beta: self.view(beta),
                dt: self.view(dt),
                out: self.whole(out),
                a: weights.vector(a)?,
                dt_bias: weights.vector(dt_bias)?,
                state: memory.slots(state)?,
                heads: heads as u32,
                key_heads: key_heads as u32,
                scale,
            }
            .launch(device, all),
            Op::MoeRoute { logits, bias, routing, groups, top_groups, out, .. } => {
                let (count, rows) = self.rows(out);
                let (sigmoid, normed, scale) = match routing {
                    Routing::Softmax => (0, 0, 1.0),
                    Routing::Sigmoid { normed, scale } => (1, u32::from(normed), scale),
                };
                let (logits, out, bias) = (self.view(logits), self.whole(out), weights.vector_or_null(bias)?);
                let (groups, top_groups) = (groups as u32, top_groups as u32);
                ops::MoeRoute { step, logits, out, bias, count, groups, top_groups, sigmoid, normed, scale }
                    .launch(device, rows)
            }
            Op::MoeApply { .. } => return self.moe_apply(op),
            Op::Sample { logits } => self.choice(self.whole(logits)).launch(device, self.spec.outputs as u32),
        };
        Ok(vec![launch?])
    }

    /// The one op that is two kernels.
    fn moe_apply(&self, op: &Op) -> Result<Vec<Launch>> {
        let &Op::MoeApply { x, routes, up, down, experts, function, gated, out } = op else { return Ok(vec![]) };
        let (count, rows) = self.rows(out);
        let (up, down) = (self.weights.get(up)?, self.weights.get(down)?);
        let Some(hidden) = self.buffers.last() else { return misuse("experts without a buffer between".into()) };
        let half = |weight: &Weight| ops::MoeApply {
            step: self.step,
            x: self.whole(x),
            routes: self.whole(routes),
            out: self.whole(out),
            weight: weight.address(),
            hidden: hidden.address(),
            weight_pitch: weight.pitch as u32,
            hidden_pitch: pitch(up.desc.rows / experts) as u32,
            experts: experts as u32,
            width: (weight.desc.rows / experts) as u32,
            inputs: weight.desc.columns as u32,
            count,
            function: pointwise(function),
            gated: u32::from(gated),
        };
        let first = half(up).launch_up(self.device, up.format(), rows)?;
        Ok(vec![first, half(down).launch_down(self.device, down.format(), rows)?])
    }

    fn taps(&self, state: crate::graph::StateId) -> Result<u32> {
        match self.graph.state(state).kind {
            StateKind::Conv { taps, .. } => Ok(taps as u32),
            _ => misuse(format!("`{}` is not a convolution's state", self.graph.state(state).name)),
        }
    }
}

fn pointwise(function: Function) -> ops::Function {
    match function {
        Function::Identity => ops::Function::Identity,
        Function::Silu => ops::Function::Silu,
        Function::SquaredRelu => ops::Function::SquaredRelu,
        Function::Sigmoid => ops::Function::Sigmoid,
    }
}
