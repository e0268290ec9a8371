//! LFM2 and LFM2.5: short gated convolutions and attention with normed heads, and the same with experts behind the first
//! layers. Source: transformers' `lfm2` and `lfm2_moe`; the width of the feed-forward follows from three options in one
//! dialect of the former and is plain in the other.

use super::blocks::{
    self, Attention, Experts, HeadDefaults, LM_HEAD, Names, RotaryDefaults, ShortConv, Tie, expert_counts,
    gated_experts, head_sizes, logits, plain_swiglu, rotary, router,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, ConfigError, Model, TensorShapes};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Part, Routing, ValueId};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 1e6, partial: None, context: 128_000 };

/// What `layer_types` calls a layer, and whether it is attention.
const KINDS: [(&str, bool); 2] = [("conv", false), ("full_attention", true)];
/// What keeps a sum of sigmoids of zero from being divided by; no option of the config.
const ROUTING_EPS: f32 = 1e-6;

/// Whether each layer is attention.
fn attention_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    if let Some(found) = blocks::attention_layers(config, layers, &KINDS)? {
        return Ok(found);
    }
    if config.get("full_attn_idxs").is_none() {
        return Ok(vec![true; layers]);
    }
    let mut found = vec![false; layers];
    for index in config.indices("full_attn_idxs")? {
        *found.get_mut(index).ok_or_else(|| config.invalid("full_attn_idxs", format!("layers below {layers}")))? = true;
    }
    Ok(found)
}

/// Width of the feed-forward.
fn feed_forward(config: &Config) -> Result<usize, ArchError> {
    let field = if config.get("block_ff_dim").is_some() { "block_ff_dim" } else { "intermediate_size" };
    let width = config.size_within(field, WIDTH)?;
    if !config.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(width);
    }
    let width = 2 * width / 3;
    // A missing factor is 1 and rounds up below, a `null` does neither.
    if config.is_null("block_ffn_dim_multiplier") {
        return Ok(width);
    }
    let width = (config.positive_or("block_ffn_dim_multiplier", 1.0)? * width as f64) as usize;
    let multiple = config.size_within_or("block_multiple_of", WIDTH, 256)?;
    let adjusted = width.checked_next_multiple_of(multiple).filter(|adjusted| (1..=WIDTH).contains(adjusted));
    let wanted = || format!("a factor that gives 1 to {WIDTH} columns");
    Ok(adjusted.ok_or_else(|| config.invalid("block_ffn_dim_multiplier", wanted()))?)
}

/// The experts in place of the feed-forward of all layers but the first.
struct Mixture {
    /// Layers in front, with a feed-forward.
    dense: usize,
    experts: usize,
    /// Experts that a row chooses.
    top: usize,
    routing: Routing,
    /// Whether a bias is added to what is compared.
    biased: bool,
    /// Inner width of an expert.
    width: usize,
}

impl Mixture {
    fn parse(config: &Config, layers: usize) -> Result<Self, ArchError> {
        let dense = config.count_or("num_dense_layers", 2, LAYERS)?;
        let [experts, top] =
            expert_counts(config, "num_experts", "num_experts_per_tok", [32, 4], layers.saturating_sub(dense))?;
        let routing = Routing::Sigmoid {
            normed: config.flag_or("norm_topk_prob", true)?,
            epsilon: ROUTING_EPS,
            scale: config.positive_or("routed_scaling_factor", 1.0)? as f32,
        };
        let biased = config.flag_or("use_expert_bias", true)?;
        let width = config.size_within_or("moe_intermediate_size", WIDTH, 1792)?;
        Ok(Self { dense, experts, top, routing, biased, width })
    }

    fn build(
        &self,
        g: &mut GraphBuilder,
        names: &Names,
        tensors: Option<&TensorShapes>,
        normed: ValueId,
        hidden: usize,
    ) -> ValueId {
        let &Self { experts, top, routing, width, .. } = self;
        let names_of = ["w1", "w3", "w2"];
        let sizes = [experts, width, hidden];
        let [up, down] = gated_experts(names, tensors, "feed_forward.experts.", names_of, false, sizes);
        let mixture = Experts {
            experts,
            choice: ExpertChoice::of_all(top),
            routing,
            bias: self.biased.then(|| names.vector("feed_forward.expert_bias", experts)),
            up,
            down,
            function: Function::Silu,
            gated: true,
        };
        let logits = router(g, names, normed, vec![names.matrix("feed_forward.gate.weight", experts, hidden)]);
        mixture.build(g, names, g.whole(logits), normed)
    }
}

/// Builds `model_type: "lfm2"`.
pub(super) fn lfm2(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    config.expect("block_use_swiglu", &true.into())?;
    build(config, tensors, feed_forward(config)?, None)
}

/// Builds `model_type: "lfm2_moe"`, which has one dialect.
pub(super) fn lfm2_moe(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    if config.get("layer_types").is_none() {
        return Err(ConfigError::Missing("layer_types".into()).into());
    }
    let mixture = Mixture::parse(config, config.size_within("num_hidden_layers", LAYERS)?)?;
    build(config, tensors, config.size_within_or("intermediate_size", WIDTH, 7168)?, Some(mixture))
}

/// Builds the graph, with feed-forwards of `width` inner columns.
fn build(
    config: &Config,
    tensors: Option<&TensorShapes>,
    width: usize,
    mixture: Option<Mixture>,
) -> Result<Model, ArchError> {
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let conv = ShortConv::parse(config, 3)?;
    let eps = config.positive_or("norm_eps", 1e-5)? as f32;
    let sizes @ (heads, _, head) =
        head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(8), head: None })?;
    let attention_layers = attention_layers(config, layers)?;

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &ROTARY)?);
    // The older name is asked first.
    let tied = config.flag_or("tie_embedding", config.flag_or("tie_word_embeddings", true)?)?;
    let tie = Tie::new(tied, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("operator_norm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let mixed = if attention_layers[layer] {
            let qk_norm = ["q", "k"].map(|p| names.vector(&format!("self_attn.{p}_layernorm.weight"), head));
            let attention = Attention {
                qk_norm: Some((qk_norm, eps)),
                out: names.matrix("self_attn.out_proj.weight", hidden, heads * head),
                ..Attention::plain(&names, "self_attn.", hidden, sizes, Some(rotary))
            };
            attention.build(&mut g, &names, normed)
        } else {
            conv.build(&mut g, &names, normed, hidden)
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let norm = g.vector(names.vector("ffn_norm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = match mixture.as_ref().filter(|mixture| layer >= mixture.dense) {
            Some(mixture) => mixture.build(&mut g, &names, tensors, normed, hidden),
            None => plain_swiglu(&mut g, &names, normed, "feed_forward.", ["w1", "w3", "w2"], [width, hidden]),
        };
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    // The final norm, despite its name.
    let norm = g.vector(Part::all("model.embedding_norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
