//! Transformers, what hybrids are measured against: llama, qwen2, qwen3, mistral, smollm3, granite, and qwen3_moe, with
//! experts. Source: transformers' modules of these names.

use super::blocks::{
    Attention, HeadDefaults, LM_HEAD, MixtureDefaults, Names, RotaryDefaults, SoftmaxMixture, Tie, attention_layers,
    head_sizes, rotary, sparse_layers, swiglu,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Head, Model, TensorShapes};
use crate::graph::{GraphBuilder, Part};

/// What sets them apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Llama,
    /// Biases on q, k and v.
    Qwen2,
    /// RMS norms on the heads of q and k.
    Qwen3,
    /// These, and experts in place of feed-forwards.
    Qwen3Moe,
    /// A window in every layer, or in none.
    Mistral,
    /// Layers without positions.
    SmolLm3,
    /// Multipliers of embedding, attention, residual branches and logits.
    Granite,
}

/// Sizes of the experts where a config says nothing.
const MIXTURE: MixtureDefaults =
    MixtureDefaults { counts: [128, 8], width: 768, shared: None, normed: false, packed: false };

impl Kind {
    /// Where a config says nothing.
    fn defaults(self) -> (HeadDefaults, RotaryDefaults) {
        let (kv_heads, head, context) = match self {
            Self::Llama | Self::Granite => (None, None, 2048),
            Self::Qwen2 => (Some(32), None, 32768),
            Self::Qwen3 => (Some(32), Some(128), 32768),
            Self::Qwen3Moe => (Some(4), None, 32768),
            Self::Mistral => (Some(8), None, 131_072),
            Self::SmolLm3 => (Some(4), None, 32768),
        };
        let theta = if self == Self::SmolLm3 { 2e6 } else { 10000.0 };
        (HeadDefaults { kv_heads, head }, RotaryDefaults { theta, partial: None, context })
    }
}

/// Builds `model_type: "llama"`.
pub(super) fn llama(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Llama, config, tensors)
}

/// Builds `model_type: "qwen2"`.
pub(super) fn qwen2(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Qwen2, config, tensors)
}

/// Builds `model_type: "qwen3"`.
pub(super) fn qwen3(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Qwen3, config, tensors)
}

/// Builds `model_type: "mistral"`.
pub(super) fn mistral(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Mistral, config, tensors)
}

/// Builds `model_type: "smollm3"`.
pub(super) fn smollm3(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::SmolLm3, config, tensors)
}

/// Builds `model_type: "granite"`.
pub(super) fn granite(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Granite, config, tensors)
}

/// Builds `model_type: "qwen3_moe"`.
pub(super) fn qwen3_moe(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    build(Kind::Qwen3Moe, config, tensors)
}

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mlp_bias", "use_sliding_window"] {
        config.expect(field, &false.into())?;
    }
    Ok(())
}

/// Positions before a token that it sees; `None`: all. transformers counts the token itself.
fn window(kind: Kind, config: &Config, context: usize) -> Result<Option<usize>, ArchError> {
    const FIELD: &str = "sliding_window";
    if kind != Kind::Mistral || config.is_null(FIELD) {
        return Ok(None);
    }
    match config.size_or(FIELD, 4096)? {
        1 => Err(config.invalid(FIELD, "at least 2, or null").into()),
        seen => Ok((seen < context).then_some(seen - 1)),
    }
}

/// Whether each layer rotates q and k.
fn rotated(kind: Kind, config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    if kind != Kind::SmolLm3 {
        return Ok(vec![true; layers]);
    }
    attention_layers(config, layers, &[("full_attention", true)])?;
    let listed = config.indices("no_rope_layers")?;
    if listed.is_empty() {
        let interval = config.size_or("no_rope_layer_interval", 4)?;
        return Ok((1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    }
    if listed.len() < layers {
        return Err(config.invalid("no_rope_layers", format!("a number for each of {layers} layers")).into());
    }
    Ok(listed.into_iter().take(layers).map(|rotates| rotates != 0).collect())
}

fn build(kind: Kind, config: &Config, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let (width, sparse) = match kind {
        Kind::Qwen3Moe => (config.size_within_or("intermediate_size", WIDTH, 6144)?, sparse_layers(config, layers)?),
        _ => (config.size_within("intermediate_size", WIDTH)?, vec![false; layers]),
    };
    let mixture = match sparse.iter().filter(|&&sparse| sparse).count() {
        0 => None,
        mixtures => Some(SoftmaxMixture::parse(config, mixtures, &MIXTURE)?),
    };
    let eps = config.positive_or("rms_norm_eps", 1e-6)? as f32;
    let (defaults, rotary_defaults) = kind.defaults();
    let sizes @ (heads, kv_heads, head) = head_sizes(config, hidden, &["head_dim"], defaults)?;
    let context = config.size_or("max_position_embeddings", rotary_defaults.context)?;
    let (window, rotated) = (window(kind, config, context)?, rotated(kind, config, layers)?);
    let multiplier = |field: &str| match kind {
        Kind::Granite => config.number_or(field, 1.0).map(|n| n as f32),
        _ => Ok(1.0),
    };
    let residual_scale = multiplier("residual_multiplier")?;
    let attention_scale = match kind {
        Kind::Granite => multiplier("attention_multiplier")?,
        _ => Attention::usual_scale(head),
    };
    let logits_scale = match kind {
        Kind::Granite => (1.0 / config.positive_or("logits_scaling", 1.0)?) as f32,
        _ => 1.0,
    };

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &rotary_defaults)?);
    let tied = config.flag_or("tie_word_embeddings", kind == Kind::SmolLm3)?;
    let tie = Tie::new(tied, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, multiplier("embedding_multiplier")?);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let rows = [("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)];
        let biases = rows.map(|(p, rows)| names.vector(&format!("self_attn.{p}_proj.bias"), rows));
        let qk_norm = ["q_norm", "k_norm"].map(|norm| names.vector(&format!("self_attn.{norm}.weight"), head));
        let attention = Attention {
            qkv_bias: (kind == Kind::Qwen2).then(|| biases.into()),
            qk_norm: matches!(kind, Kind::Qwen3 | Kind::Qwen3Moe).then_some((qk_norm, eps)),
            scale: attention_scale,
            window,
            ..Attention::plain(&names, "self_attn.", hidden, sizes, rotated[layer].then_some(rotary))
        };
        let mixed = attention.build(&mut g, &names, normed);
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), residual_scale);

        let norm = g.vector(names.vector("post_attention_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = match mixture.as_ref().filter(|_| sparse[layer]) {
            Some(mixture) => mixture.build(&mut g, &names, tensors, normed, hidden),
            None => {
                let gate_up = ["gate", "up"].map(|p| names.matrix(&format!("mlp.{p}_proj.weight"), width, hidden));
                let down = names.matrix("mlp.down_proj.weight", hidden, width);
                swiglu(&mut g, &names, normed, width, gate_up.into(), down)
            }
        };
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), residual_scale);
    }
    let norm = g.vector(Part::all("model.norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]).scaled(logits_scale);
    Head::parse(config)?.build(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, rotary_defaults.context)
}
