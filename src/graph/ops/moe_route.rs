//! The choice of experts.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, ValueId, View, WeightId};

/// The way from a row's logits to the weights of its chosen experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Routing {
    /// The softmax: over the logits of the chosen ones if `normed`, else over all. Shazeer et al. 2017, arXiv
    /// 1701.06538.
    Softmax {
        /// Whether the weights of a row add up to 1.
        normed: bool,
    },
    /// `sigmoid(logit) * scale`, divided by the sum of the chosen ones' sigmoids (plus `epsilon`) if `normed`.
    /// DeepSeek-AI 2024, arXiv 2412.19437.
    Sigmoid {
        /// Whether to divide.
        normed: bool,
        /// Added to the sum that is divided by.
        epsilon: f32,
        /// Factor on every weight.
        scale: f32,
    },
}

/// The number of experts that a row chooses, and among which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertChoice {
    /// Equal runs of experts.
    pub n_group: usize,
    /// Runs whose experts are looked at.
    pub topk_group: usize,
    /// Experts chosen.
    pub top_k: usize,
}

impl ExpertChoice {
    /// `top_k` of all experts.
    pub fn of_all(top_k: usize) -> Self {
        Self { n_group: 1, topk_group: 1, top_k }
    }
}

/// Chooses `top_k` experts of every row, the largest first, the lower id on a tie.
///
/// Compared is the logit, or for [`Routing::Sigmoid`] its sigmoid, plus `bias`. Only the `topk_group` best of
/// `n_group` equal runs of experts are looked at; a run is worth the sum of its two best. `out` holds the `top_k` ids
/// (as numbers), then their `top_k` weights, which know nothing of `bias`.
#[derive(Clone, Debug)]
pub struct MoeRoute {
    /// `[experts]`
    pub logits: View,
    /// `[experts]`
    pub bias: Option<WeightId>,
    /// Weights from logits.
    pub routing: Routing,
    /// The number of experts, and among which.
    pub choice: ExpertChoice,
    /// `[2 * top_k]`
    pub out: ValueId,
}

impl Primitive for MoeRoute {
    const NAME: &'static str = "moe_route";

    fn reads(&self) -> Vec<View> {
        vec![self.logits]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        self.bias.into_iter().collect()
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let ExpertChoice { n_group, topk_group, top_k } = self.choice;
        divides("groups", n_group, self.logits.width)?;
        if !(1..=n_group).contains(&topk_group) {
            return Err(format!("{topk_group} of {n_group} groups cannot be chosen"));
        }
        let among = topk_group * (self.logits.width / n_group);
        if !(1..=among).contains(&top_k) {
            return Err(format!("{top_k} of {among} experts cannot be chosen"));
        }
        self.bias.map_or(Ok(()), |bias| graph.check_length("the bias", bias, self.logits.width))?;
        equal("width of the result", graph.width(self.out), 2 * top_k)
    }
}

impl GraphBuilder {
    /// See [`MoeRoute`].
    pub fn moe_route(
        &mut self,
        name: impl Into<String>,
        logits: View,
        bias: Option<WeightId>,
        routing: Routing,
        choice: ExpertChoice,
    ) -> ValueId {
        let out = self.value(name, 2 * choice.top_k, self.rows_of(logits));
        self.push(MoeRoute { logits, bias, routing, choice, out });
        out
    }
}
