//! LFM3: short gated convolutions, attention in windows and attention over all, each of the two rotated in its own way, with
//! normed heads and a gate for each; norms before and behind every block. Source: transformers' `lfm3`.

use super::blocks::{
    Attention, HeadDefaults, LM_HEAD, Names, RotaryDefaults, RotaryFields, ShortConv, Tie, head_sizes, logits,
    plain_swiglu,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{GraphBuilder, Part, RotaryId, ValueId};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 1e6, partial: None, context: 128_000 };

/// The mixer of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Mixer {
    Conv,
    /// Attention over the last `sliding_window` positions.
    Sliding,
    /// Attention over all.
    Full,
}

impl Mixer {
    /// What `layer_types` calls each.
    const NAMES: [(&str, Self); 3] =
        [("conv", Self::Conv), ("sliding_attention", Self::Sliding), ("full_attention", Self::Full)];

    /// Of every layer.
    fn of_layers(config: &Config, layers: usize) -> Result<Vec<Self>, ArchError> {
        const FIELD: &str = "layer_types";
        let Some(types) = config.strings(FIELD)? else {
            let usual = |layer: usize| match layer % 4 {
                2 => Self::Full,
                0 if layer > 0 => Self::Sliding,
                _ => Self::Conv,
            };
            return Ok((0..layers).map(usual).collect());
        };
        if types.len() != layers {
            return Err(config.invalid(FIELD, format!("a list of {layers} layers")).into());
        }
        let known = |name: &String| Self::NAMES.iter().find(|(known, _)| known == name).map(|&(_, mixer)| mixer);
        let found: Option<Vec<Self>> = types.iter().map(known).collect();
        let supported = || Self::NAMES.map(|(name, _)| name).join(", ");
        found.ok_or_else(|| config.unsupported(FIELD, supported()).into())
    }
}

/// Rotary fields where a config has none.
fn usual_rotary() -> serde_json::Value {
    serde_json::json!({
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
    })
}

/// Rows of the gates of an attention's heads. Published checkpoints call them otherwise than transformers' own modules.
fn gate_rows(names: &Names, tensors: Option<&TensorShapes>, heads: usize, hidden: usize) -> Part {
    const PUBLISHED: &str = "self_attn.gate_proj.weight";
    const HELD: &str = "self_attn.g_proj.weight";
    let held = tensors.is_some_and(|tensors| tensors.contains_key(&names.tensor(HELD)));
    names.matrix(if held { HELD } else { PUBLISHED }, heads, hidden)
}

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    config.expect("attention_bias", &false.into())?;
    let config = &config.with_default("rope_parameters", usual_rotary());
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let width = config.size_within_or("intermediate_size", WIDTH, 7680)?;
    let conv = ShortConv::parse(config, 7)?;
    // Two names of one field.
    let eps = config.positive_or("norm_eps", config.positive_or("rms_norm_eps", 1e-5)?)? as f32;
    let sizes @ (heads, _, head) =
        head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(4), head: Some(128) })?;
    let context = config.size_or("max_position_embeddings", ROTARY.context)?;
    let mixers = Mixer::of_layers(config, layers)?;
    let (sandwiched, gated) = (config.flag_or("use_sandwich_norm", true)?, config.flag_or("use_attention_gate", true)?);

    let mut g = GraphBuilder::new();
    let rotary = |g: &mut GraphBuilder, mixer, kind| -> Result<Option<RotaryId>, ArchError> {
        if !mixers.contains(&mixer) {
            return Ok(None);
        }
        Ok(Some(g.rotary(RotaryFields::of_kind(config, kind)?.rotary(head, &ROTARY)?)))
    };
    let [of_window, of_all] =
        [rotary(&mut g, Mixer::Sliding, "sliding_attention")?, rotary(&mut g, Mixer::Full, "full_attention")?];
    // transformers counts the token itself.
    let window = match mixers.contains(&Mixer::Sliding) {
        true if config.is_null("sliding_window") => {
            return Err(config
                .invalid("sliding_window", "a number of positions, for layers of sliding_attention")
                .into());
        }
        true => match config.size_or("sliding_window", 256)? {
            1 => return Err(config.invalid("sliding_window", "at least 2").into()),
            seen => (seen < context).then_some(seen - 1),
        },
        false => None,
    };
    let tie = Tie::new(config.flag_or("tie_word_embeddings", true)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for (layer, &mixer) in mixers.iter().enumerate() {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = |g: &mut GraphBuilder, tensor: &str, value: &str, x: ValueId| {
            let weight = g.vector(names.vector(&format!("{tensor}.weight"), hidden));
            g.rms_norm(names.value(value), g.whole(x), weight, eps)
        };
        let behind = |g: &mut GraphBuilder, tensor: &str, x: ValueId| match sandwiched {
            true => norm(g, tensor, tensor, x),
            false => x,
        };
        let normed = norm(&mut g, "operator_norm", "in_norm", stream);
        let mixed = match mixer {
            Mixer::Conv => conv.build(&mut g, &names, normed, hidden),
            Mixer::Sliding | Mixer::Full => {
                let (rotary, window) = if mixer == Mixer::Full { (of_all, None) } else { (of_window, window) };
                let qk_norm = ["q", "k"].map(|p| names.vector(&format!("self_attn.{p}_norm.weight"), head));
                let attention = Attention {
                    qk_norm: Some((qk_norm, eps)),
                    window,
                    gate: gated.then(|| vec![gate_rows(&names, tensors, heads, hidden)]),
                    ..Attention::plain(&names, "self_attn.", hidden, sizes, rotary)
                };
                attention.build(&mut g, &names, normed)
            }
        };
        let mixed = behind(&mut g, "post_operator_norm", mixed);
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let normed = norm(&mut g, "ffn_norm", "ffn_norm", residual);
        let ffn = plain_swiglu(&mut g, &names, normed, "feed_forward.", ["w1", "w3", "w2"], [width, hidden]);
        let ffn = behind(&mut g, "post_ffn_norm", ffn);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    // The final norm, despite its name.
    let norm = g.vector(Part::all("model.embedding_norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
