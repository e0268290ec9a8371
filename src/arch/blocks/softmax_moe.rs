//! Mixtures of experts that a softmax chooses, alone or beside an expert of all rows, under the names that Qwen uses.

use super::{Experts, GATE_UP_DOWN, Names, expert_counts, gated_experts, plain_swiglu, router};
use crate::arch::config::{LAYERS, WIDTH};
use crate::arch::{ArchError, Config, TensorShapes};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Routing, ValueId};

/// Values of the fields about experts that a config lacks.
#[derive(Clone, Copy)]
pub(crate) struct MixtureDefaults {
    /// Experts, and how many of them a row chooses.
    pub counts: [usize; 2],
    /// Inner width of an expert.
    pub width: usize,
    /// Inner width of the expert of all rows; `None`: there is none.
    pub shared: Option<usize>,
    /// Whether a row's weights add up to 1.
    pub normed: bool,
    /// Whether the experts' tensors are one for all.
    pub packed: bool,
}

/// The mixtures of a model's layers.
pub(crate) struct SoftmaxMixture {
    experts: usize,
    /// Experts that a row chooses.
    top: usize,
    normed: bool,
    width: usize,
    shared: Option<usize>,
    packed: bool,
}

/// Whether each layer has experts in place of a feed-forward: every `decoder_sparse_step`th, without `mlp_only_layers`.
pub(crate) fn sparse_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    let step = config.size_within_or("decoder_sparse_step", LAYERS, 1)?;
    let dense = config.indices("mlp_only_layers")?;
    Ok((0..layers).map(|layer| !dense.contains(&layer) && (layer + 1).is_multiple_of(step)).collect())
}

impl SoftmaxMixture {
    /// Reads the sizes of the mixtures of `layers` layers.
    pub fn parse(config: &Config, layers: usize, defaults: &MixtureDefaults) -> Result<Self, ArchError> {
        // Two names of one field, of which transformers 5 writes the second for some.
        let all = if config.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
        let [experts, top] = expert_counts(config, all, "num_experts_per_tok", defaults.counts, layers)?;
        let shared = |width| config.size_within_or("shared_expert_intermediate_size", WIDTH, width);
        Ok(Self {
            experts,
            top,
            normed: config.flag_or("norm_topk_prob", defaults.normed)?,
            width: config.size_within_or("moe_intermediate_size", WIDTH, defaults.width)?,
            shared: defaults.shared.map(shared).transpose()?,
            packed: defaults.packed,
        })
    }

    /// Appends it to a layer.
    pub fn build(
        &self,
        g: &mut GraphBuilder,
        names: &Names,
        tensors: Option<&TensorShapes>,
        normed: ValueId,
        hidden: usize,
    ) -> ValueId {
        let &Self { experts, top, .. } = self;
        let matrix = |what: &str, rows, columns| names.matrix(&format!("mlp.{what}.weight"), rows, columns);
        // The gate of the shared expert is one row more of the router.
        let rows = [matrix("gate", experts, hidden)].into_iter();
        let gate_row = self.shared.map(|_| matrix("shared_expert_gate", 1, hidden));
        let logits = router(g, names, normed, rows.chain(gate_row).collect());
        let sizes = [experts, self.width, hidden];
        let [up, down] = gated_experts(names, tensors, "mlp.experts.", GATE_UP_DOWN, self.packed, sizes);
        let mixture = Experts {
            experts,
            choice: ExpertChoice::of_all(top),
            routing: Routing::Softmax { normed: self.normed },
            bias: None,
            up,
            down,
            function: Function::Silu,
            gated: true,
        };
        let routed = mixture.build(g, names, g.view(logits, 0, experts), normed);
        let Some(width) = self.shared else { return routed };
        let shared = plain_swiglu(g, names, normed, "mlp.shared_expert.", GATE_UP_DOWN, [width, hidden]);
        let gate = g.view(logits, experts, 1);
        let shared = g.gate(names.value("shared_gated"), gate, g.whole(shared), Function::Sigmoid);
        g.add(names.value("mixture"), g.whole(routed), g.whole(shared), 1.0)
    }
}
