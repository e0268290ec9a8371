//! A graph compiled for the CPU: its ops in order, over planned buffers.

use std::collections::BTreeSet;

use super::memory::{Memory, zeros};
use super::rows::{Input, Output};
use super::simd::Integers;
use super::spans::SpanRows;
use super::weights::Weights;
use crate::backend::checks::{check_graph, check_step, misuse};
use crate::backend::{ProgramSpec, Result, StepTable, TOKEN_OF_SLOT};
use crate::graph::{BufferPlan, Graph, Op, Rows, ValueId, View, plan};

/// A compiled graph.
pub(super) struct Program {
    graph: Graph,
    spec: ProgramSpec,
    plan: BufferPlan,
    buffers: Vec<Vec<f32>>,
}

/// Everything that a step is run with, besides the buffers.
pub(super) struct StepInputs<'a> {
    /// All weights.
    pub weights: &'a Weights,
    /// All slots.
    pub memory: &'a mut Memory,
    /// The step, checked by [`Program::check`].
    pub table: &'a StepTable,
    /// The token of every row, from [`Program::check`].
    pub tokens: &'a [u32],
    /// Fast paths where there are any, else references only.
    pub fast: bool,
    /// What quantised weights are multiplied by in the fast paths.
    pub integers: Option<Integers>,
}

/// Everything that an op of a step may read or change, but for the value it makes.
pub(super) struct Operands<'a> {
    /// The graph that the op is part of.
    pub graph: &'a Graph,
    /// All weights.
    pub weights: &'a Weights,
    /// All slots.
    pub memory: &'a mut Memory,
    /// The step.
    pub table: &'a StepTable,
    /// The token of every row.
    pub tokens: &'a [u32],
    /// The spans of the step.
    pub spans: &'a [SpanRows],
    /// The position of every row.
    pub positions: &'a [u32],
    /// Fast paths where there are any, else references only.
    pub fast: bool,
    /// What quantised weights are multiplied by in the fast paths.
    pub integers: Option<Integers>,
    /// Tokens chosen so far.
    pub sampled: &'a mut Vec<u32>,
    plan: &'a BufferPlan,
    buffers: &'a [Vec<f32>],
}

impl<'a> Operands<'a> {
    /// Columns of a value.
    pub fn input(&self, view: View) -> Input<'a> {
        let buffer = self.plan.of_value[&view.value];
        Input::new(&self.buffers[buffer], self.plan.buffers[buffer].pitch, view.offset, view.width)
    }

    /// All columns of a value.
    pub fn whole(&self, value: ValueId) -> Input<'a> {
        self.input(self.graph.whole(value))
    }
}

/// An op that the CPU runs; each in its own file.
pub(super) trait Run {
    /// Computes the op's value into `out`, or changes what is remembered.
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()>;
}

impl Program {
    /// Checks a graph against the weights and the memory, and makes its buffers.
    pub fn new(graph: &Graph, spec: &ProgramSpec, weights: &Weights, memory: &Memory) -> Result<Self> {
        check_graph(graph, &memory.layout, |id, recipe| weights.check(id, recipe))?;

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
            Op::Embed(op) => Some(op.table),
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
        let StepInputs { weights, memory, table, tokens, fast, integers } = step;
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
            let step = &mut Operands {
                graph,
                weights,
                memory,
                table,
                tokens,
                spans: &spans,
                positions: &positions,
                fast,
                integers,
                plan,
                buffers,
                sampled: &mut sampled,
            };
            match op {
                Op::Embed(op) => op.run(step, out),
                Op::Norm(op) => op.run(step, out),
                Op::Linear(op) => op.run(step, out),
                Op::Gate(op) => op.run(step, out),
                Op::Activation(op) => op.run(step, out),
                Op::Add(op) => op.run(step, out),
                Op::Conv(op) => op.run(step, out),
                Op::ConvAppend(op) => op.run(step, out),
                Op::Rope(op) => op.run(step, out),
                Op::Attention(op) => op.run(step, out),
                Op::KvAppend(op) => op.run(step, out),
                Op::SelectiveScan(op) => op.run(step, out),
                Op::SsdScan(op) => op.run(step, out),
                Op::GatedDelta(op) => op.run(step, out),
                Op::MoeRoute(op) => op.run(step, out),
                Op::MoeApply(op) => op.run(step, out),
                Op::Gather(op) => op.run(step, out),
                Op::Sample(op) => op.run(step, out),
            }?;
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
