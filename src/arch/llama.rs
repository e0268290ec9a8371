//! Transformers, what hybrids are measured against: llama, qwen2, qwen3, mistral, ministral3, smollm3, granite, and
//! qwen3_moe, with experts. Source: transformers' modules of these names.

use super::blocks::{
    Attention, GATE_UP_DOWN, HeadDefaults, LM_HEAD, MixtureDefaults, Names, RotaryDefaults, RotaryFields,
    SoftmaxMixture, Tie, attention_layers, head_sizes, plain_swiglu, rotary, sparse_layers,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, Config, Head, Model, TensorShapes};
use crate::graph::{GraphBuilder, Part};

/// What sets them apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// None of what follows.
    Llama,
    /// Biases on q, k and v.
    Qwen2,
    /// RMS norms on the heads of q and k.
    Qwen3,
    /// These, and experts in place of feed-forwards.
    Qwen3Moe,
    /// A window in every layer, or in none.
    Mistral,
    /// The same, no window unless a config has one, and queries that grow with the position.
    Ministral3,
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
            Self::Ministral3 => (Some(8), Some(128), 262_144),
            Self::SmolLm3 => (Some(4), None, 32768),
        };
        let theta = if self == Self::SmolLm3 { 2e6 } else { 10000.0 };
        (HeadDefaults { kv_heads, head }, RotaryDefaults { theta, partial: None, context })
    }
}

/// Builds `model_type: "mistral3"`: the language model of one that sees, which is a Mistral or a Ministral 3.
pub(super) fn mistral3(config: &Config, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
    let text = config.nested("text_config").ok_or_else(|| config.invalid("text_config", "an object"))?;
    let kind = match text.string("model_type")? {
        "mistral" => Kind::Mistral,
        "ministral3" => Kind::Ministral3,
        _ => return Err(text.unsupported("model_type", "\"mistral\", \"ministral3\"").into()),
    };
    // Here the whole's flag counts, and the text's own where somebody set that alone.
    let tied = config.flag_or("tie_word_embeddings", true)? || text.flag_or("tie_word_embeddings", false)?;
    let model = build_text(kind, &text, tensors, &TextNames::of(tensors), tied)?;
    let ids = ["image_token_id", "image_token_index"].into_iter().find(|field| config.get(field).is_some());
    let ids = ids.map(|field| Ok::<_, ArchError>(config.token_ids(field)?.into_iter().map(move |id| (field, id))));
    let placeholder_ids = ids.transpose()?.into_iter().flatten().collect();
    Ok(Model { model_type: config.string("model_type")?.to_owned(), placeholder_ids, ..model })
}

/// Names of a language model's tensors in a checkpoint that holds more.
struct TextNames {
    /// In front of the model's tensors.
    prefix: &'static str,
    /// The tensor whose rows give logits.
    head: &'static str,
}

impl TextNames {
    /// Of a checkpoint that holds nothing else.
    const ALONE: Self = Self { prefix: "model.", head: LM_HEAD };
    /// As published, and as transformers 5 holds them.
    const NESTED: [Self; 2] = [
        Self { prefix: "language_model.model.", head: "language_model.lm_head.weight" },
        Self { prefix: "model.language_model.", head: LM_HEAD },
    ];

    /// The names of a nested model, by the tensors that are there.
    fn of(tensors: Option<&TensorShapes>) -> Self {
        let [published, held] = Self::NESTED;
        let known = |names: &Self| {
            tensors.is_some_and(|tensors| tensors.contains_key(&format!("{}embed_tokens.weight", names.prefix)))
        };
        if known(&held) { held } else { published }
    }
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
    let default = match kind {
        Kind::Mistral if !config.is_null(FIELD) => Some(4096),
        Kind::Mistral | Kind::Ministral3 => None,
        _ => return Ok(None),
    };
    let Some(seen) = config.size_opt(FIELD)?.or(default) else { return Ok(None) };
    match seen {
        1 => Err(config.invalid(FIELD, "at least 2, or null").into()),
        seen => Ok((seen < context).then_some(seen - 1)),
    }
}

/// Whether each layer rotates q and k.
fn rotated(kind: Kind, config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    if [Kind::SmolLm3, Kind::Ministral3].contains(&kind) {
        attention_layers(config, layers, &[("full_attention", true)])?;
    }
    if kind != Kind::SmolLm3 {
        return Ok(vec![true; layers]);
    }
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

/// Rotary fields of Ministral 3 where a config has none.
fn ministral3_rotary() -> serde_json::Value {
    serde_json::json!({
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
    })
}

/// Builds the graph of a model of its own.
pub(super) fn build(kind: Kind, config: &Config, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
    let tied = config.flag_or("tie_word_embeddings", kind == Kind::SmolLm3)?;
    build_text(kind, config, tensors, &TextNames::ALONE, tied)
}

fn build_text(
    kind: Kind,
    config: &Config,
    tensors: Option<&TensorShapes>,
    &TextNames { prefix, head: words }: &TextNames,
    tied: bool,
) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let config = &match kind {
        Kind::Ministral3 => config.with_default("rope_parameters", ministral3_rotary()),
        _ => config.clone(),
    };
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
    let eps_default = if kind == Kind::Ministral3 { 1e-5 } else { 1e-6 };
    let eps = config.positive_or("rms_norm_eps", eps_default)? as f32;
    let (mut defaults, rotary_defaults) = kind.defaults();
    if kind == Kind::Ministral3 && config.is_null("head_dim") {
        defaults.head = None;
    }
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

    let growth = match kind {
        Kind::Ministral3 => RotaryFields::of(config)?.growth(rotary_defaults.context)?,
        _ => None,
    };

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &rotary_defaults)?);
    let tie = Tie::of(tied, tensors, format!("{prefix}embed_tokens.weight"), words);
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, multiplier("embedding_multiplier")?);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("{prefix}layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let rows = [("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)];
        let biases = rows.map(|(p, rows)| names.vector(&format!("self_attn.{p}_proj.bias"), rows));
        let qk_norm = ["q_norm", "k_norm"].map(|norm| names.vector(&format!("self_attn.{norm}.weight"), head));
        let attention = Attention {
            qkv_bias: (kind == Kind::Qwen2).then(|| biases.into()),
            qk_norm: matches!(kind, Kind::Qwen3 | Kind::Qwen3Moe).then_some((qk_norm, eps)),
            scale: attention_scale,
            growth,
            window,
            ..Attention::plain(&names, "self_attn.", hidden, sizes, rotated[layer].then_some(rotary))
        };
        let mixed = attention.build(&mut g, &names, normed);
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), residual_scale);

        let norm = g.vector(names.vector("post_attention_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = match mixture.as_ref().filter(|_| sparse[layer]) {
            Some(mixture) => mixture.build(&mut g, &names, tensors, normed, hidden),
            None => plain_swiglu(&mut g, &names, normed, "mlp.", GATE_UP_DOWN, [width, hidden]),
        };
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), residual_scale);
    }
    let norm = g.vector(Part::all(format!("{prefix}norm.weight"), &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(words, &[vocabulary, hidden]).scaled(logits_scale);
    Head::parse(config)?.build(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, rotary_defaults.context)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::arch::{ArchOptions, build};
    use crate::graph::Op;
    use crate::graph::ops::Growth;

    /// A Ministral 3 inside of a model that also sees.
    fn nested() -> Value {
        json!({
            "model_type": "mistral3", "image_token_index": 10, "vision_config": {"model_type": "pixtral"},
            "text_config": {
                "model_type": "ministral3", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2,
                "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            },
        })
    }

    fn built(config: &Value, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
        build(&Config::parse(&config.to_string()).expect("a config"), tensors, &ArchOptions::default())
    }

    #[test]
    fn a_nested_model_has_the_names_of_its_checkpoint() {
        for names in TextNames::NESTED {
            let tensors = [format!("{}embed_tokens.weight", names.prefix), names.head.to_owned()];
            let tensors = tensors.map(|name| (name, vec![50, 24])).into();
            let model = built(&nested(), Some(&tensors)).expect("a model");
            let of =
                |name: &str| model.graph.weights.iter().find(|w| w.name == name).expect(name).parts[0].tensor.clone();
            assert_eq!(
                [of("embed"), of("lm_head")],
                [format!("{}embed_tokens.weight", names.prefix), names.head.into()]
            );
        }
        let model = built(&nested(), None).expect("a model");
        assert_eq!((model.model_type.as_str(), model.placeholder_ids), ("mistral3", vec![("image_token_index", 10)]));
    }

    #[test]
    fn another_model_inside_is_refused() {
        for (model_type, text) in [("text_config", json!(null)), ("model_type", json!({"model_type": "qwen2"}))] {
            let mut config = nested();
            config["text_config"] = text;
            let error = built(&config, None).expect_err(model_type).to_string();
            assert!(error.contains(&format!("`{model_type}`")), "{error}");
        }
    }

    #[test]
    fn queries_grow_as_the_config_says() {
        let mut config = nested();
        let growth = |config: &Value| {
            let model = built(config, None).expect("a model");
            let ops = model.graph.ops.iter();
            let ropes = ops.filter_map(|op| match op {
                Op::Rope(rope) => Some(rope.growth),
                _ => None,
            });
            ropes.take(2).collect::<Vec<_>>()
        };
        // By default, and of queries alone.
        assert_eq!(growth(&config), [Some(Growth { beta: 0.1, original: 16384 }), None]);
        config["text_config"]["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e4});
        assert_eq!(growth(&config), [None, None]);
    }
}
