//! The chosen experts' feed-forward.

use super::{Function, Primitive};
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, ValueId, View, WeightId};

/// `out[r] = sum_e weight_e * down_e h_e` over the experts that `routes` (of [`MoeRoute`](super::MoeRoute)) chose, with
/// `h_e = function(up_e x[r])`; if `gated`, `up_e` has two halves and `h_e = function(first) * second`.
///
/// Both weights hold one expert's rows after the other's. Shazeer et al. 2017, arXiv 1701.06538.
#[derive(Clone, Debug)]
pub struct MoeApply {
    /// `[inputs]`
    pub x: ValueId,
    /// `[2 * top_k]`: ids, then weights.
    pub routes: ValueId,
    /// `[experts * (hidden or 2 * hidden), inputs]`
    pub up: WeightId,
    /// `[experts * outputs, hidden]`
    pub down: WeightId,
    /// Experts.
    pub experts: usize,
    /// Between the two weights.
    pub function: Function,
    /// Whether `up` has two halves.
    pub gated: bool,
    /// `[outputs]`
    pub out: ValueId,
}

impl MoeApply {
    /// Rows of an expert in `up`.
    pub fn up_rows(&self, graph: &Graph) -> usize {
        graph.weight(self.up).rows / self.experts
    }

    /// Experts that a row chooses.
    pub fn top_k(&self, graph: &Graph) -> usize {
        graph.width(self.routes) / 2
    }
}

impl Primitive for MoeApply {
    const NAME: &'static str = "moe_apply";

    fn reads(&self) -> Vec<View> {
        vec![View::entire(self.x), View::entire(self.routes)]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.up, self.down]
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let experts = self.experts;
        divides("ids and weights", 2, graph.width(self.routes))?;
        let (up, down) = (graph.weight(self.up), graph.weight(self.down));
        divides("experts", experts, up.rows)?;
        equal(&format!("columns of `{}`", up.name), up.columns, graph.width(self.x))?;
        let halves = if self.gated { 2 } else { 1 };
        equal(&format!("rows of an expert of `{}`", up.name), up.rows / experts, halves * down.columns)?;
        equal(&format!("rows of `{}`", down.name), down.rows, experts * graph.width(self.out))
    }
}

impl GraphBuilder {
    /// See [`MoeApply`].
    pub fn moe_apply(
        &mut self,
        name: impl Into<String>,
        x: ValueId,
        routes: ValueId,
        [up, down]: [WeightId; 2],
        experts: usize,
        function: Function,
        gated: bool,
    ) -> ValueId {
        let width = self.graph.weight(down).rows / experts;
        let out = self.value(name, width, self.graph.value(x).rows);
        self.push(MoeApply { x, routes, up, down, experts, function, gated, out });
        out
    }
}
