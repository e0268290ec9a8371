//! A graph compiled for the CPU: its ops in order, over planned buffers.

use std::collections::BTreeSet;

use super::activation::Activation;
use super::add::Add;
use super::attention::Attention;
use super::conv::Conv;
use super::conv_append::ConvAppend;
use super::embed::Embed;
use super::gate::Gate;
use super::gated_delta::GatedDelta;
use super::gather::Gather;
use super::kv_append::KvAppend;
use super::linear::Linear;
use super::memory::{Memory, zeros};
use super::moe_apply::MoeApply;
use super::moe_route::MoeRoute;
use super::norm::Norm;
use super::rope::Rope;
use super::rows::{Input, Output};
use super::sample::greedy;
use super::selective_scan::SelectiveScan;
use super::spans::SpanRows;
use super::ssd_scan::SsdScan;
use super::weights::Weights;
use crate::backend::refusals::{check_step, misuse};
use crate::backend::{ProgramSpec, Result, StepTable, TOKEN_OF_SLOT};
use crate::graph::{BufferPlan, Graph, Op, Rows, ValueId, View, WeightClass, WeightId, plan};

/// A compiled graph.
pub(super) struct Program {
    graph: Graph,
    spec: ProgramSpec,
    plan: BufferPlan,
    buffers: Vec<Vec<f32>>,
}

/// What one step is run with, besides the buffers.
pub(super) struct StepInputs<'a> {
    /// All weights.
    pub weights: &'a Weights,
    /// All slots.
    pub memory: &'a mut Memory,
    /// The step, checked by [`Program::check`].
    pub table: &'a StepTable,
    /// The token of every row, from [`Program::check`].
    pub tokens: &'a [u32],
    /// Fast paths where there are any, else twins only.
    pub fast: bool,
}

impl Program {
    /// Checks a graph against the weights and the memory, and makes its buffers.
    pub fn new(graph: &Graph, spec: &ProgramSpec, weights: &Weights, memory: &Memory) -> Result<Self> {
        if let Err(error) = graph.validate() {
            return misuse(error.to_string());
        }
        for (index, recipe) in graph.weights.iter().enumerate() {
            let weight = weights.get(WeightId(index as u32))?;
            if weight.len() != recipe.len() || weight.rows != recipe.rows {
                let (got, wanted) = ([weight.rows, weight.columns], [recipe.rows, recipe.columns]);
                return misuse(format!("weight `{}` was created as {got:?}, its recipe says {wanted:?}", recipe.name));
            }
            if recipe.class == WeightClass::Vector {
                weights.vector(WeightId(index as u32))?;
            }
        }
        let known = &memory.layout.states;
        let same = |(a, b): (&crate::graph::StateSpec, &crate::graph::StateSpec)| a.kind == b.kind;
        if graph.states.len() != known.len() || !graph.states.iter().zip(known).all(same) {
            return misuse("the graph's states are not those that were allocated".into());
        }

        let groups: Vec<Vec<usize>> = (0..graph.ops.len()).map(|op| vec![op]).collect();
        let keep: BTreeSet<ValueId> = spec.keep.iter().copied().chain(graph.logits).collect();
        let plan = plan(graph, &groups, &keep);
        let rows = |rows| if rows == Rows::All { spec.rows } else { spec.outputs };
        let buffer = |b: &crate::graph::PlannedBuffer| zeros(rows(b.rows), b.pitch, "activations");
        let buffers = plan.buffers.iter().map(buffer).collect::<Result<_>>()?;
        Ok(Self { graph: graph.clone(), spec: spec.clone(), plan, buffers })
    }

    /// Names of the ops, in order.
    pub fn ops(&self) -> impl Iterator<Item = &'static str> {
        self.graph.ops.iter().map(Op::name)
    }

    /// Bytes of the buffers.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(|b| size_of_val(b.as_slice())).sum()
    }

    /// Checks a step against this program and the slots, and resolves its tokens.
    pub fn check(&self, table: &StepTable, weights: &Weights, memory: &Memory) -> Result<Vec<u32>> {
        check_step(table, &self.spec, |slot, end| memory.check_rows(slot, end))?;
        let resolve = |&[token, slot, ..]: &[u32; 4]| match memory.samplers[slot as usize].last {
            _ if token != TOKEN_OF_SLOT => Ok(token),
            Some(sampled) => Ok(sampled),
            None => misuse(format!("no token was sampled in slot {slot}")),
        };
        let embeds = self.graph.ops.iter().filter_map(|op| match op {
            Op::Embed { table, .. } => Some(*table),
            _ => None,
        });
        let mut tokens = vec![];
        for embed in embeds {
            tokens = table.rows.iter().map(resolve).collect::<Result<Vec<u32>>>()?;
            let ids = weights.get(embed)?.rows;
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= ids) {
                return misuse(format!("token {token} in a table of {ids}"));
            }
        }
        Ok(tokens)
    }

    /// Runs a checked step; gives the sampled tokens.
    pub fn run(&mut self, step: StepInputs<'_>) -> Result<Vec<u32>> {
        let StepInputs { weights, memory, table, tokens, fast } = step;
        let spans = SpanRows::all(table);
        let positions: Vec<u32> = table.rows.iter().map(|&[_, _, position, _]| position).collect();
        let mut sampled = vec![];

        let Self { graph, plan, buffers, .. } = self;
        for op in &graph.ops {
            // The op's own buffer is taken out while the others are read.
            let (index, mut own, value) = match op.writes() {
                Some(value) => {
                    let index = plan.of_value[&value];
                    (Some(index), std::mem::take(&mut buffers[index]), graph.value(value))
                }
                None => (None, vec![], graph.value(op.reads()[0].value)),
            };
            let pitch = index.map_or(0, |i| plan.buffers[i].pitch);
            let out = &mut Output::new(&mut own, pitch, value.width, table.count(value.rows));
            let input = |view: View| {
                let buffer = plan.of_value[&view.value];
                Input::new(&buffers[buffer], plan.buffers[buffer].pitch, view.offset, view.width)
            };
            let whole = |value| input(graph.whole(value));

            match *op {
                Op::Embed { table, scale, .. } => {
                    Embed { table: weights.get(table)?, tokens, scale }.run(fast, out);
                }
                Op::Norm { x, kind, groups, eps, weight, bias, .. } => {
                    let (weight, bias) = (weights.vector_opt(weight)?, weights.vector_opt(bias)?);
                    Norm { x: input(x), kind, groups, eps, weight, bias }.run(fast, out);
                }
                Op::Linear { x, weight, bias, .. } => {
                    let linear =
                        Linear { x: whole(x), weight: weights.get(weight)?, first: 0, bias: weights.vector_opt(bias)? };
                    if fast { linear.fast(out) } else { linear.twin(out) }
                }
                Op::Gate { gate, x, function, .. } => {
                    let gate = Gate { gate: input(gate), x: input(x), function };
                    if fast { gate.fast(out) } else { gate.twin(out) }
                }
                Op::Activation { x, function, scale, .. } => {
                    let activation = Activation { x: input(x), function, scale };
                    if fast { activation.fast(out) } else { activation.twin(out) }
                }
                Op::Add { a, b, scale, .. } => Add { a: input(a), b: input(b), scale }.run(fast, out),
                Op::Conv { x, weight, bias, state, function, .. } => {
                    let (weight, bias) = (weights.vector(weight)?, weights.vector_opt(bias)?);
                    let conv = Conv { x: input(x), weight, bias, state: memory.slots(state)?, function };
                    if fast { conv.fast(&spans, out) } else { conv.twin(&spans, out) }
                }
                Op::ConvAppend { x, state } => {
                    ConvAppend { x: input(x) }.twin(&spans, memory.slots_mut(state)?);
                }
                Op::Rope { x, heads, rotary, .. } => {
                    let rotary = graph.rotary(rotary);
                    Rope { x: input(x), heads, rotary, positions: &positions }.run(fast, out);
                }
                Op::Attention { q, k, v, state, heads, scale, window, decode_window, .. } => {
                    let (q, k, v) = (input(q), input(k), input(v));
                    let (pools, pages) = (memory.kv(state)?, memory.pages());
                    let attention = Attention { q, k, v, pools, pages, heads, scale, window, decode_window };
                    if fast { attention.fast(&spans, out) } else { attention.twin(&spans, out) }
                }
                Op::KvAppend { k, v, state } => {
                    let (pools, pages) = memory.kv_mut(state)?;
                    KvAppend { k: input(k), v: input(v) }.twin(&spans, pools, pages);
                }
                Op::SelectiveScan { x, dt, b, c, a, d, state, .. } => {
                    let (a, d) = (weights.vector(a)?, weights.vector(d)?);
                    let scan = SelectiveScan { x: input(x), dt: input(dt), b: input(b), c: input(c), a, d };
                    let states = memory.slots_mut(state)?;
                    if fast { scan.fast(&spans, states, out) } else { scan.twin(&spans, states, out) }
                }
                Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, .. } => {
                    let (a, d, dt_bias) = (weights.vector(a)?, weights.vector(d)?, weights.vector(dt_bias)?);
                    let (x, dt, b, c) = (input(x), input(dt), input(b), input(c));
                    let scan = SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups };
                    let states = memory.slots_mut(state)?;
                    if fast { scan.fast(&spans, states, out) } else { scan.twin(&spans, states, out) }
                }
                Op::GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads, state, .. } => {
                    let (q, k, v, beta, dt) = (input(q), input(k), input(v), input(beta), input(dt));
                    let (a, dt_bias) = (weights.vector(a)?, weights.vector(dt_bias)?);
                    let delta = GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads };
                    let states = memory.slots_mut(state)?;
                    if fast { delta.fast(&spans, states, out) } else { delta.twin(&spans, states, out) }
                }
                Op::MoeRoute { logits, bias, routing, groups, top_groups, top, .. } => {
                    let (logits, bias) = (input(logits), weights.vector_opt(bias)?);
                    MoeRoute { logits, bias, routing, groups, top_groups, top }.run(fast, out);
                }
                Op::MoeApply { x, routes, up, down, experts, function, gated, .. } => {
                    let (x, routes) = (whole(x), whole(routes));
                    let (up, down) = (weights.get(up)?, weights.get(down)?);
                    let apply = MoeApply { x, routes, up, down, experts, function, gated };
                    if fast { apply.fast(out) } else { apply.twin(out) }
                }
                Op::Gather { x, .. } => Gather { x: input(x), rows: &table.outputs }.twin(out),
                Op::Sample { logits } => {
                    let logits = whole(logits);
                    for (output, &row) in table.outputs.iter().enumerate() {
                        let (logits, [_, slot, _, span]) = (logits.row(output), table.rows[row as usize]);
                        let [_, first, _, count] = table.spans[span as usize];
                        // Rows before a span's last choose for the host alone.
                        let last = row + 1 == first + count;
                        let slot = &mut memory.samplers[slot as usize];
                        sampled.push(if last { slot.choose(logits) } else { greedy(logits) });
                    }
                }
            }
            if let Some(index) = index {
                buffers[index] = own;
            }
        }
        Ok(sampled)
    }

    /// The buffer of a value, if it can be read or written between steps, with pitch and width.
    fn buffer_of(&self, value: ValueId) -> Result<(usize, usize, usize)> {
        let known =
            self.graph.inputs.contains(&value) || self.graph.logits == Some(value) || self.spec.keep.contains(&value);
        match self.plan.of_value.get(&value) {
            Some(&buffer) if known => Ok((buffer, self.plan.buffers[buffer].pitch, self.graph.value(value).width)),
            _ => misuse(format!("value {} is not kept by the program", value.0)),
        }
    }

    /// The first `rows` rows of a kept value.
    pub fn read(&self, value: ValueId, rows: usize) -> Result<Vec<f32>> {
        let (buffer, pitch, width) = self.buffer_of(value)?;
        let buffer = &self.buffers[buffer];
        if rows > buffer.len() / pitch {
            return misuse(format!("{rows} rows of value {}, which has {}", value.0, buffer.len() / pitch));
        }
        Ok(buffer.chunks_exact(pitch).take(rows).flat_map(|row| &row[..width]).copied().collect())
    }

    /// Fills the first rows of an input.
    pub fn write(&mut self, value: ValueId, data: &[f32]) -> Result<()> {
        let (buffer, pitch, width) = self.buffer_of(value)?;
        let buffer = &mut self.buffers[buffer];
        let is_input = self.graph.inputs.contains(&value);
        if !is_input || !data.len().is_multiple_of(width) || data.len() / width > buffer.len() / pitch {
            let room = buffer.len() / pitch;
            return misuse(format!("{} numbers for value {} of {room} rows of {width}", data.len(), value.0));
        }
        for (row, data) in buffer.chunks_exact_mut(pitch).zip(data.chunks_exact(width)) {
            row[..width].copy_from_slice(data);
        }
        Ok(())
    }
}
