//! Fusion: the groups of ops that one kernel runs. The table, for programs of few rows (decode), where starting
//! kernels costs more than what they recompute; programs of many rows run op by op. Plain norms of one or two ops are in
//! groups where the form `within` runs.
//!
//! | group | kernel |
//! |---|---|
//! | norm, linear | `linear_rows.norm` |
//! | norm of several groups, linear | `linear_rows.group_norm` |
//! | add, norm, linear | `linear_rows.add_norm` (the sum is kept where it is read again) |
//! | norm, norm, add, linear | `linear_rows.norms` |
//! | gate, linear | `linear_rows.gate` |
//! | activation, linear | `linear_rows.activation` |
//! | conv, linear | `linear_rows.conv` (the convolution again in the next group) |
//! | any of these, or a linear alone, then add | the same kernel |
//! | linear, linear, add, where the matrices have one format | `linear_pair.plain` |
//! | gate, linear, linear, add, likewise | `linear_pair.gate` |
//! | conv, conv_append | `conv_decode` |
//! | conv, conv_append, norm x 3, linear, selective_scan, gate | `selective_scan.decode` |
//! | ssd_scan, gate, where a norm follows | `ssd_scan.decode` |
//! | norm, norm, gated_delta, norm, gate | `gated_delta.decode` |
//! | norm, rope, kv_append | `rope_normed` |
//! | rope, rope, kv_append | `rope_append` |
//!
//! Mixers are found as the regions that families declare, the others by makers and readers of values.
//!
//! A group holds the ops that it fuses. Its oracle is the composition of their CPU references. Nothing is fused in a
//! program that keeps values for reading which a fused group would make, or would not: those that a kernel of their own
//! makes, such as the rows of the last norm, change nothing.

mod linear;
mod mixers;
mod rope;

use std::collections::BTreeSet;

use super::forms::{Form, Forms};
use super::limits::MATVEC_ROWS;
use super::weights::Weights;
use crate::backend::{ProgramSpec, Result};
use crate::graph::ops::{Add, Norm, NormKind};
use crate::graph::regions::{GatedDeltaOps, Mamba1Ops, Mamba2Ops};
use crate::graph::{Graph, Op, Uses, ValueId};
use crate::state::StateLayout;

pub(super) use linear::{FusedLinear, Input, LinearPair, PairInput};
pub(super) use mixers::ConvDecode;
pub(super) use rope::{RopeAppend, RopeNormed};

/// Ops that one or more dispatches run together.
pub(super) enum Kernel<'a> {
    Single(usize, &'a Op),
    Linear(FusedLinear<'a>),
    LinearPair(LinearPair<'a>),
    ConvDecode(ConvDecode<'a>),
    /// A Mamba-1 mixer behind its x_proj.
    ScanDecode(Mamba1Ops<'a>),
    /// Scan and gate of a Mamba-2 mixer.
    SsdDecode(Mamba2Ops<'a>),
    /// A gated delta mixer behind its convolution.
    DeltaDecode(GatedDeltaOps<'a>),
    RopeNormed(RopeNormed<'a>),
    RopeAppend(RopeAppend<'a>),
}

impl Kernel<'_> {
    /// Indexes of its ops, the one that makes its result last.
    pub fn ops(&self) -> Vec<usize> {
        match self {
            Self::Single(op, _) => vec![*op],
            Self::Linear(group) => group.ops(),
            Self::LinearPair(group) => group.ops(),
            Self::ConvDecode(group) => vec![group.append.index, group.conv.index],
            Self::ScanDecode(mixer) => {
                let norms = [mixer.dt_norm.index, mixer.b_norm.index, mixer.c_norm.index];
                let others = [mixer.dt_proj.index, mixer.scan.index, mixer.gate.index];
                [mixer.conv.index, mixer.append.index].into_iter().chain(norms).chain(others).collect()
            }
            Self::SsdDecode(group) => vec![group.scan.index, group.gate.index],
            Self::DeltaDecode(mixer) => {
                let norms = [mixer.q_norm.index, mixer.k_norm.index];
                norms.into_iter().chain([mixer.rule.index, mixer.norm.index, mixer.gate.index]).collect()
            }
            Self::RopeNormed(group) => vec![group.norm.index, group.append.index, group.rope.index],
            Self::RopeAppend(group) => vec![group.query.index, group.key.index, group.append.index],
        }
    }

    /// Index of the op in whose turn it runs: the one that needs all the others, or that the others wait for.
    fn turn(&self) -> usize {
        match self {
            Self::Single(op, _) => *op,
            Self::Linear(group) => group.add.map_or(group.linear.index, |add| add.index),
            Self::LinearPair(group) => group.add.index,
            Self::ConvDecode(group) => group.conv.index,
            Self::ScanDecode(group) => group.gate.index,
            Self::SsdDecode(group) => group.gate.index,
            Self::DeltaDecode(group) => group.gate.index,
            Self::RopeNormed(group) => group.rope.index,
            Self::RopeAppend(group) => group.query.index.max(group.key.index),
        }
    }
}

/// A graph whose ops are on their way into groups.
struct Fusion<'a> {
    uses: Uses<'a>,
    spec: &'a ProgramSpec,
    layout: &'a StateLayout,
    weights: &'a Weights,
    /// Whether plain norms stay kernels of their own.
    norms_apart: bool,
    kernels: Vec<Kernel<'a>>,
    /// Ops that are in a group.
    taken: BTreeSet<usize>,
    /// Convolutions that the kernel of a Mamba-1 step makes; a linear layer that reads one makes it again.
    convolutions: BTreeSet<usize>,
}

/// Groups the ops of a graph, in an order in which they can run.
pub(super) fn fuse<'a>(
    graph: &'a Graph,
    spec: &'a ProgramSpec,
    layout: &'a StateLayout,
    weights: &'a Weights,
    forms: Forms,
) -> Result<Vec<Kernel<'a>>> {
    let ops = graph.ops.iter().enumerate();
    let apart = || graph.ops.iter().enumerate().map(|(index, op)| Kernel::Single(index, op)).collect();
    // Inputs are those of tests of single ops, or of a draft.
    let is_draft = graph.ops.iter().any(|op| matches!(op, Op::Sample(sample) if sample.draft));
    if spec.rows > MATVEC_ROWS || !(graph.inputs.is_empty() || is_draft) {
        return Ok(apart());
    }
    let (kernels, taken, convolutions) = (vec![], BTreeSet::new(), BTreeSet::new());
    let (uses, norms_apart) = (Uses::new(graph), forms.has(Form::Apart));
    let mut fusion = Fusion { uses, spec, layout, weights, norms_apart, kernels, taken, convolutions };
    fusion.regions()?;
    // Either linear would otherwise take the addition for itself.
    for add in fusion.uses.nodes::<Add>() {
        let pair = fusion.linear_pair(add);
        fusion.take(pair.map(Kernel::LinearPair));
    }
    for index in 0..graph.ops.len() {
        if fusion.taken.contains(&index) {
            continue;
        }
        let kernel = fusion.around_linear(index).or_else(|| fusion.around_attention(index));
        let kernel = kernel.or_else(|| fusion.conv_decode(index).map(Kernel::ConvDecode));
        fusion.take(kernel);
    }
    let Fusion { mut kernels, taken, uses, .. } = fusion;
    let made_in_group = |&value: &ValueId| uses.maker(value).is_none_or(|maker| taken.contains(&maker));
    if spec.keep.iter().any(made_in_group) {
        return Ok(apart());
    }
    kernels.extend(ops.filter(|(index, _)| !taken.contains(index)).map(|(index, op)| Kernel::Single(index, op)));
    kernels.sort_by_key(Kernel::turn);
    Ok(kernels)
}

impl<'a> Fusion<'a> {
    fn take(&mut self, kernel: Option<Kernel<'a>>) {
        if let Some(kernel) = kernel {
            self.taken.extend(kernel.ops());
            self.kernels.push(kernel);
        }
    }

    /// Whether a norm takes in a value, and so the addition that makes it.
    fn read_by_norm(&self, value: ValueId) -> bool {
        !self.norms_apart
            && self
                .uses
                .readers(value)
                .iter()
                .any(|&reader| self.uses.node(reader).is_some_and(|norm| is_plain(norm.op)))
    }
}

/// Whether a norm is a plain RMS norm over all columns; its weight is as wide as its input.
fn is_plain(norm: &Norm) -> bool {
    norm.kind == NormKind::Rms && norm.groups == 1 && norm.weight.is_some() && norm.bias.is_none()
}
