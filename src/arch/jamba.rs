//! Jamba: Mamba-1 with norms of dt, B and C in most layers, attention without positions in a few; behind each a
//! feed-forward or a mixture of experts, whose weights are those of a softmax over all. Lieber et al. 2024,
//! arXiv 2403.19887. Source: transformers' `jamba`.

use super::blocks::{
    Attention, Experts, GATE_UP_DOWN, HeadDefaults, LM_HEAD, Mamba1, Mamba1Sizes, Names, Tie, expert_counts,
    gated_experts, head_sizes, logits, plain_swiglu, router,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Map, Part, Routing, ValueId};

/// Of `max_position_embeddings`, where a config has none.
const CONTEXT: usize = 262_144;

/// Whether each layer is one of every `{kind}_layer_period`, from the `{kind}_layer_offset`th on.
fn every(config: &Config, kind: &str, period: usize, offset: usize, layers: usize) -> Result<Vec<bool>, ArchError> {
    let [period_field, offset_field] = ["period", "offset"].map(|what| format!("{kind}_layer_{what}"));
    let period = config.size_or(&period_field, period)?;
    let offset = config.count_or(&offset_field, offset, usize::MAX)?;
    if offset >= period {
        return Err(config.invalid(&offset_field, format!("below the {period} of {period_field}")).into());
    }
    Ok((0..layers).map(|layer| layer % period == offset).collect())
}

/// The Mamba-1 mixers of a model.
struct Mixer {
    sizes: Mamba1Sizes,
    eps: f32,
    /// Whether the convolution has a bias.
    conv_bias: bool,
    /// Whether the outer projections have biases.
    biased: bool,
}

impl Mixer {
    fn parse(config: &Config, hidden: usize, eps: f32) -> Result<Self, ArchError> {
        let sizes = Mamba1Sizes::parse(config, hidden)?;
        let (conv_bias, biased) = (config.flag_or("mamba_conv_bias", true)?, config.flag_or("mamba_proj_bias", false)?);
        Ok(Self { sizes, eps, conv_bias, biased })
    }

    /// Appends that of a layer, its projections included.
    fn build(&self, g: &mut GraphBuilder, names: &Names, normed: ValueId, hidden: usize) -> ValueId {
        let Mamba1Sizes { d_inner, d_state, d_conv, dt_rank } = self.sizes;
        let matrix = |what: &str, rows, columns| names.matrix(&format!("mamba.{what}"), rows, columns);
        let vector = |what: &str, length| names.vector(&format!("mamba.{what}"), length);
        let in_proj = g.matrix(names.value("in_proj"), vec![matrix("in_proj.weight", 2 * d_inner, hidden)]);
        let bias = self.biased.then(|| g.vector(vector("in_proj.bias", 2 * d_inner)));
        let projected = g.linear(names.value("in_proj"), normed, in_proj, bias);
        let [x, z] = g.split(projected, [d_inner, d_inner]);
        let mixer = Mamba1 {
            sizes: self.sizes,
            conv: Part::all(names.tensor("mamba.conv1d.weight"), &[d_inner, 1, d_conv]),
            conv_bias: self.conv_bias.then(|| vector("conv1d.bias", d_inner)),
            x_proj: matrix("x_proj.weight", self.sizes.selected(), d_inner),
            norms: [("dt", dt_rank), ("b", d_state), ("c", d_state)]
                .map(|(of, width)| vector(&format!("{of}_layernorm.weight"), width)),
            eps: self.eps,
            dt_proj: matrix("dt_proj.weight", d_inner, dt_rank),
            dt_bias: vector("dt_proj.bias", d_inner),
            a: matrix("A_log", d_inner, d_state).mapped(Map::NegExp),
            d: vector("D", d_inner),
        };
        let y = mixer.build(g, names, x, z);
        let out = g.matrix(names.value("out_proj"), vec![matrix("out_proj.weight", hidden, d_inner)]);
        let bias = self.biased.then(|| g.vector(vector("out_proj.bias", hidden)));
        g.linear(names.value("out_proj"), y, out, bias)
    }
}

/// The feed-forwards of a model's layers, all of one inner width.
struct FeedForwards {
    width: usize,
    /// Whether each layer has experts.
    sparse: Vec<bool>,
    /// Experts of a layer that has them, and how many of them a row chooses.
    counts: [usize; 2],
}

impl FeedForwards {
    fn parse(config: &Config, layers: usize) -> Result<Self, ArchError> {
        let mut sparse = every(config, "expert", 2, 1, layers)?;
        let width = config.size_within_or("intermediate_size", WIDTH, 14336)?;
        // Two names of one field, of which transformers asks the first.
        let all = if config.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
        // One expert is a feed-forward, whatever a row is said to choose.
        if config.size_or(all, 16)? == 1 {
            sparse = vec![false; layers];
            return Ok(Self { width, sparse, counts: [1, 1] });
        }
        let mixtures = sparse.iter().filter(|&&sparse| sparse).count();
        let counts = expert_counts(config, all, "num_experts_per_tok", [16, 2], mixtures)?;
        Ok(Self { width, sparse, counts })
    }

    /// Appends that of a layer.
    fn build(
        &self,
        g: &mut GraphBuilder,
        names: &Names,
        tensors: Option<&TensorShapes>,
        normed: ValueId,
        hidden: usize,
    ) -> ValueId {
        let &Self { width, counts: [experts, top], .. } = self;
        if !self.sparse[names.layer] {
            return plain_swiglu(g, names, normed, "feed_forward.", GATE_UP_DOWN, [width, hidden]);
        }
        let logits = router(g, names, normed, vec![names.matrix("feed_forward.router.weight", experts, hidden)]);
        let sizes = [experts, width, hidden];
        let [up, down] = gated_experts(names, tensors, "feed_forward.experts.", GATE_UP_DOWN, false, sizes);
        let mixture = Experts {
            experts,
            choice: ExpertChoice::of_all(top),
            routing: Routing::Softmax { normed: false },
            bias: None,
            up,
            down,
            function: Function::Silu,
            gated: true,
        };
        mixture.build(g, names, g.whole(logits), normed)
    }
}

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let eps = config.positive_or("rms_norm_eps", 1e-6)? as f32;
    let sizes = head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(8), head: None })?;
    let attention_layers = every(config, "attn", 8, 4, layers)?;
    let mixer = Mixer::parse(config, hidden, eps)?;
    let feed_forwards = FeedForwards::parse(config, layers)?;

    let mut g = GraphBuilder::new();
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let mixed = match attention_layers[layer] {
            true => Attention::plain(&names, "self_attn.", hidden, sizes, None).build(&mut g, &names, normed),
            false => mixer.build(&mut g, &names, normed, hidden),
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let norm = g.vector(names.vector("pre_ff_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = feed_forwards.build(&mut g, &names, tensors, normed, hidden);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    let norm = g.vector(Part::all("model.final_layernorm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, CONTEXT)
}
