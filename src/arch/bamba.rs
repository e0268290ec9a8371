//! Bamba: Mamba-2 in most layers, attention with half of each head rotated in a few, a feed-forward behind each. Source:
//! transformers' `bamba`.

use super::blocks::{
    Attention, GATE_UP_DOWN, HeadDefaults, LM_HEAD, Mamba2, Names, RotaryDefaults, Tie, head_sizes, logits,
    plain_swiglu, rotary,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{GraphBuilder, Part};

/// The part of a head that is rotated: no option of the config, but of its rotary object.
const ROTATED: f64 = 0.5;
/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 10000.0, partial: Some(ROTATED), context: 262_144 };

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mlp_bias"] {
        config.expect(field, &false.into())?;
    }
    // transformers passes over another.
    config.expect("partial_rotary_factor", &ROTATED.into())?;
    if config.is_null("partial_rotary_factor") {
        return Err(config.unsupported("partial_rotary_factor", "0.5").into());
    }
    Ok(())
}

/// Whether each layer is attention: those that `attn_layer_indices` names.
fn attention_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    const FIELD: &str = "attn_layer_indices";
    let mut found = vec![false; layers];
    for index in config.indices(FIELD)? {
        *found.get_mut(index).ok_or_else(|| config.invalid(FIELD, format!("layers below {layers}")))? = true;
    }
    Ok(found)
}

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let width = config.size_within_or("intermediate_size", WIDTH, 14336)?;
    let eps = config.positive_or("rms_norm_eps", 1e-5)? as f32;
    let sizes @ (.., head) = head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(8), head: None })?;
    let attention_layers = attention_layers(config, layers)?;
    let mamba = match attention_layers.iter().all(|&attention| attention) {
        true => None,
        false => Some(Mamba2::parse(config, config.expanded("mamba_expand", hidden, 2.0, WIDTH)?)?),
    };
    let biased = config.flag_or("mamba_proj_bias", false)?;

    let mut g = GraphBuilder::new();
    let rotary = rotary(config, head, &ROTARY)?;
    config.expect("attn_rotary_emb", &(2 * rotary.inverse_frequencies.len()).into())?;
    let rotary = g.rotary(rotary);
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let mixed = match mamba.as_ref().filter(|_| !attention_layers[layer]) {
            Some(mamba) => mamba.mixer(&mut g, &names, "mamba.", normed, eps, biased),
            None => Attention::plain(&names, "self_attn.", hidden, sizes, Some(rotary)).build(&mut g, &names, normed),
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let norm = g.vector(names.vector("pre_ff_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = plain_swiglu(&mut g, &names, normed, "feed_forward.", GATE_UP_DOWN, [width, hidden]);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    let norm = g.vector(Part::all("model.final_layernorm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
