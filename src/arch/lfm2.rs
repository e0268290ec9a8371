//! LFM2 and LFM2.5: short gated convolutions and attention with normed heads. Source: transformers'
//! `lfm2`; the width of the feed-forward follows from three options in one dialect and is plain in the
//! other.

use super::blocks::{
    self, Attention, HeadDefaults, LM_HEAD, Names, RotaryDefaults, Tie, at_least_two, head_sizes, logits, rotary,
    swiglu,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{Function, GraphBuilder, Part, StateKind};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 1e6, partial: None, context: 128_000 };

/// Whether each layer is attention.
fn attention_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    if let Some(found) = blocks::attention_layers(config, layers, &[("conv", false), ("full_attention", true)])? {
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

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    config.expect("block_use_swiglu", &true.into())?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let width = feed_forward(config)?;
    let d_conv = at_least_two(config, "conv_L_cache", 3)?;
    let conv_bias = config.flag_or("conv_bias", false)?;
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
            let in_proj =
                g.matrix(names.value("in_proj"), vec![names.matrix("conv.in_proj.weight", 3 * hidden, hidden)]);
            let bias = conv_bias.then(|| g.vector(names.vector("conv.in_proj.bias", 3 * hidden)));
            let projected = g.linear(names.value("in_proj"), normed, in_proj, bias);
            let [b, c, x] = g.split(projected, [hidden, hidden, hidden]);
            let gated = g.gate(names.value("conv_in"), b, x, Function::Identity);
            let columns = g.state(names.value("conv"), layer, StateKind::Conv { channels: hidden, d_conv });
            let kernel = g.vector(Part::all(names.tensor("conv.conv.weight"), &[hidden, 1, d_conv]));
            let bias = conv_bias.then(|| g.vector(names.vector("conv.conv.bias", hidden)));
            let gated = g.whole(gated);
            let convolved = g.conv(names.value("convolved"), gated, kernel, bias, columns, Function::Identity);
            let gated = g.gate(names.value("conv_out"), c, g.whole(convolved), Function::Identity);
            let out = g.matrix(names.value("out_proj"), vec![names.matrix("conv.out_proj.weight", hidden, hidden)]);
            let bias = conv_bias.then(|| g.vector(names.vector("conv.out_proj.bias", hidden)));
            g.linear(names.value("out_proj"), gated, out, bias)
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let norm = g.vector(names.vector("ffn_norm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let gate_up = ["w1", "w3"].map(|w| names.matrix(&format!("feed_forward.{w}.weight"), width, hidden));
        let down = names.matrix("feed_forward.w2.weight", hidden, width);
        let ffn = swiglu(&mut g, &names, normed, width, gate_up.into(), down);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    // The final norm, despite its name.
    let norm = g.vector(Part::all("model.embedding_norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
