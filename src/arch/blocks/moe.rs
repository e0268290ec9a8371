//! Mixtures of experts: a router, and of every row's chosen experts a weighted sum.

use super::Names;
use crate::arch::{ArchError, Config};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Part, Routing, ValueId};

/// Most experts of all layers together.
const MOST: usize = 1 << 17;

/// How many experts a config has in each of `layers` layers, and how many a row chooses; without either field, as in
/// `defaults`.
pub(crate) fn expert_counts(
    config: &Config,
    all: &str,
    chosen: &str,
    defaults: [usize; 2],
    layers: usize,
) -> Result<[usize; 2], ArchError> {
    let experts = config.size_within_or(all, MOST, defaults[0])?;
    config.product(all, &[experts, layers.max(1)], MOST)?;
    Ok([experts, config.size_within_or(chosen, experts, defaults[1].min(experts))?])
}

/// A mixture of experts of one layer.
pub(crate) struct Experts {
    pub experts: usize,
    /// The number of experts chosen, and among which.
    pub choice: ExpertChoice,
    pub routing: Routing,
    /// Rows that give the logits of the experts.
    pub router: Part,
    /// Added to what is compared.
    pub bias: Option<Part>,
    /// One expert's rows after the other's; if `gated`, what goes through the function comes first.
    pub up: Vec<Part>,
    /// The same, back.
    pub down: Vec<Part>,
    pub function: Function,
    pub gated: bool,
}

impl Experts {
    /// Appends it. The router reads `normed`, the experts read `x`.
    pub fn build(self, g: &mut GraphBuilder, names: &Names, normed: ValueId, x: ValueId) -> ValueId {
        let router = g.high_precision(names.value("router"), vec![self.router]);
        let logits = g.linear(names.value("router"), normed, router, None);
        let bias = self.bias.map(|part| g.vector(part));
        let routes = g.moe_route(names.value("routes"), g.whole(logits), bias, self.routing, self.choice);
        let up = g.matrix(names.value("experts_up"), self.up);
        let down = g.matrix(names.value("experts_down"), self.down);
        g.moe_apply(names.value("experts"), x, routes, [up, down], self.experts, self.function, self.gated)
    }
}
