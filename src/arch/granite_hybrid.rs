//! Granite-4.0-H and its attention-only siblings: Mamba-2 or attention in each layer, a feed-forward
//! behind each, in some with experts beside it, and four multipliers; and their forerunners, attention with experts in every
//! layer. Those of the residual branches stay where the branch is added:
//! folded into weights they would round. Source: transformers' `granitemoehybrid`, `granitemoe` and `granitemoeshared`.

use super::blocks::{
    Attention, Experts, HeadDefaults, LM_HEAD, Mamba2, Names, RotaryDefaults, Tie, attention_layers, expert_counts,
    head_sizes, logits, rotary, router, swiglu,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, Config, Model, TensorShapes};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Part, Routing, ValueId};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 10000.0, partial: None, context: 2048 };
/// Experts and those chosen, where a config says nothing.
const EXPERTS: [usize; 2] = [8, 2];

/// What sets the families apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Mamba-2 or attention, with positions or without, a feed-forward everywhere.
    Hybrid,
    /// Attention with positions, and experts alone.
    Experts,
    /// The same, in some beside a feed-forward.
    Shared,
}

impl Kind {
    /// Inner width of the feed-forwards; `None`: there are none.
    fn shared(self, config: &Config) -> Result<Option<usize>, ArchError> {
        const FIELD: &str = "shared_intermediate_size";
        Ok(match self {
            Self::Hybrid => Some(config.size_within_or(FIELD, WIDTH, 1024)?),
            Self::Experts => None,
            Self::Shared => Some(config.count_or(FIELD, 0, WIDTH)?).filter(|&width| width > 0),
        })
    }

    /// Whether each layer is attention.
    fn attention_layers(self, config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
        match self {
            Self::Hybrid => Ok(attention_layers(config, layers, &KINDS)?.unwrap_or_else(|| vec![false; layers])),
            Self::Experts | Self::Shared => Ok(vec![true; layers]),
        }
    }

    /// Whether attention rotates queries and keys.
    fn rotates(self, config: &Config) -> Result<bool, ArchError> {
        const FIELD: &str = "position_embedding_type";
        match config.get(FIELD).and_then(|v| v.as_str()) {
            _ if self != Self::Hybrid => Ok(true),
            Some("rope") => Ok(true),
            Some("nope") | None => Ok(false),
            Some(_) => Err(config.unsupported(FIELD, "\"rope\", \"nope\"").into()),
        }
    }
}

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mamba_proj_bias"] {
        config.expect(field, &false.into())?;
    }
    Ok(())
}

/// What `layer_types` calls a layer, and whether it is attention.
const KINDS: [(&str, bool); 4] =
    [("mamba", false), ("attention", true), ("linear_attention", false), ("full_attention", true)];

/// The experts beside each layer's feed-forward.
struct Mixture {
    experts: usize,
    /// Experts that a row chooses.
    top: usize,
    /// Inner width of an expert.
    width: usize,
}

impl Mixture {
    fn parse(config: &Config, layers: usize) -> Result<Option<Self>, ArchError> {
        if config.is_null("num_local_experts") || config.count_or("num_local_experts", EXPERTS[0], usize::MAX)? == 0 {
            return Ok(None);
        }
        let [experts, top] = expert_counts(config, "num_local_experts", "num_experts_per_tok", EXPERTS, layers)?;
        Ok(Some(Self { experts, top, width: config.size_within_or("intermediate_size", WIDTH, 11008)? }))
    }

    fn build(&self, g: &mut GraphBuilder, names: &Names, normed: ValueId, hidden: usize) -> ValueId {
        let &Self { experts, top, width } = self;
        let all = |what: &str, rows, columns| {
            vec![Part::all(names.tensor(&format!("block_sparse_moe.{what}_linear.weight")), &[experts, rows, columns])]
        };
        let mixture = Experts {
            experts,
            choice: ExpertChoice::of_all(top),
            routing: Routing::Softmax { normed: true },
            bias: None,
            up: all("input", 2 * width, hidden),
            down: all("output", hidden, width),
            function: Function::Silu,
            gated: true,
        };
        let router_rows = names.matrix("block_sparse_moe.router.layer.weight", experts, hidden);
        let logits = router(g, names, normed, vec![router_rows]);
        mixture.build(g, names, g.whole(logits), normed)
    }
}

/// Builds the graph.
pub(super) fn build(kind: Kind, config: &Config, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let shared = kind.shared(config)?;
    let eps = config.positive_or("rms_norm_eps", 1e-6)? as f32;
    let sizes @ (.., head) = head_sizes(config, hidden, &["head_dim"], HeadDefaults::default())?;
    let attention_layers = kind.attention_layers(config, layers)?;
    let mamba = match attention_layers.iter().all(|&a| a) {
        true => None,
        false => Some(Mamba2::parse(config, config.expanded("mamba_expand", hidden, 2.0, WIDTH)?)?),
    };
    let mixture = Mixture::parse(config, layers)?;
    if kind != Kind::Hybrid && mixture.is_none() {
        return Err(config.invalid("num_local_experts", "at least 1").into());
    }
    let multiplier = |field: &str| config.number_or(field, 1.0).map(|n| n as f32);
    let residual_scale = multiplier("residual_multiplier")?;
    let attention_scale = multiplier("attention_multiplier")?;
    let logits_scale = (1.0 / config.positive_or("logits_scaling", 1.0)?) as f32;

    let mut g = GraphBuilder::new();
    let rotary = match kind.rotates(config)? {
        true => Some(g.rotary(rotary(config, head, &ROTARY)?)),
        false => None,
    };
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, multiplier("embedding_multiplier")?);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let mixed = match mamba.as_ref().filter(|_| !attention_layers[layer]) {
            Some(mamba) => mamba.mixer(&mut g, &names, "mamba.", normed, eps, false),
            None => {
                let plain = Attention::plain(&names, "self_attn.", hidden, sizes, rotary);
                Attention { scale: attention_scale, ..plain }.build(&mut g, &names, normed)
            }
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), residual_scale);

        let norm = g.vector(names.vector("post_attention_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let routed = mixture.as_ref().map(|mixture| mixture.build(&mut g, &names, normed, hidden));
        let shared = shared.map(|width| {
            let gate_up = vec![names.matrix("shared_mlp.input_linear.weight", 2 * width, hidden)];
            let down = names.matrix("shared_mlp.output_linear.weight", hidden, width);
            swiglu(&mut g, &names, normed, width, gate_up, down)
        });
        let ffn = match (routed, shared) {
            (Some(routed), Some(shared)) => g.add(names.value("mixture"), g.whole(routed), g.whole(shared), 1.0),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => unreachable!("a hybrid has feed-forwards, the others experts"),
        };
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), residual_scale);
    }
    let norm = g.vector(Part::all("model.norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]).scaled(logits_scale);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
