//! Norms over columns.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, ValueId, View, WeightId};

/// The statistics that a norm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`. Zhang and Sennrich 2019, arXiv 1910.07467.
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps)`, biased variance. Ba et al. 2016, arXiv 1607.06450.
    Layer,
    /// `x / sqrt(sum(x^2) + eps)`
    L2,
}

/// `out = norm(x) * weight + bias`, where each of `groups` equal runs of columns is normed for itself.
///
/// Weight and bias are as wide as `x`, or as one group and shared by all of them; a missing one is 1 or 0.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[width]`
    pub x: View,
    /// Statistics.
    pub kind: NormKind,
    /// Equal runs of columns.
    pub groups: usize,
    /// Added below the root.
    pub eps: f32,
    /// `[width]` or `[width / groups]`
    pub weight: Option<WeightId>,
    /// `[width]` or `[width / groups]`
    pub bias: Option<WeightId>,
    /// `[width]`
    pub out: ValueId,
}

impl Norm {
    /// Columns of a group.
    pub fn group(&self) -> usize {
        self.x.width / self.groups
    }

    /// Numbers of the weight from one group to the next: 0 where all groups share them.
    pub fn weight_pitch(&self, graph: &Graph) -> usize {
        let length = self.weight.map_or(0, |weight| graph.weight(weight).len());
        if length == self.x.width && self.groups > 1 { self.group() } else { 0 }
    }
}

impl Primitive for Norm {
    const NAME: &'static str = "norm";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        self.weight.into_iter().chain(self.bias).collect()
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let (width, groups) = (self.x.width, self.groups);
        divides("groups", groups, width)?;
        for weight in self.weights() {
            let got = graph.weight(weight).len();
            if got != width && got != width / groups {
                return Err(format!("a weight of {got} fits neither {width} columns nor one of {groups} groups"));
            }
        }
        equal("width of the result", graph.width(self.out), width)
    }
}

impl GraphBuilder {
    /// RMS norm over all columns.
    pub fn rms_norm(&mut self, name: impl Into<String>, x: View, weight: WeightId, eps: f32) -> ValueId {
        self.norm(name, x, NormKind::Rms, 1, eps, Some(weight), None)
    }

    /// See [`Norm`].
    pub fn norm(
        &mut self,
        name: impl Into<String>,
        x: View,
        kind: NormKind,
        groups: usize,
        eps: f32,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
    ) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Norm { x, kind, groups, eps, weight, bias, out });
        out
    }
}
