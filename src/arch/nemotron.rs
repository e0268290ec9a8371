//! Nemotron-4, Minitron, Nemotron-Mini: LayerNorm1P, rotation of part of a head, squared ReLU. A reward
//! model is the same with a head of several outputs instead of the vocabulary. Source: transformers'
//! `nemotron`.

use super::blocks::{Attention, HeadDefaults, LM_HEAD, Names, RotaryDefaults, Tie, head_sizes, rotary, squared_relu};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Head, Model, TensorShapes};
use crate::graph::{GraphBuilder, Map, NormKind, Part, ValueId, View};

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"relu2".into())?;
    for field in ["attention_bias", "mlp_bias"] {
        config.expect(field, &false.into())?;
    }
    Ok(())
}

/// LayerNorm whose weight is stored less one.
fn norm(g: &mut GraphBuilder, name: String, x: View, tensor: &str, eps: f32) -> ValueId {
    let weight = g.vector(Part::all(format!("{tensor}.weight"), &[x.width]).mapped(Map::AddOne));
    let bias = g.vector(Part::all(format!("{tensor}.bias"), &[x.width]));
    g.norm(name, x, NormKind::Layer, 1, eps, Some(weight), Some(bias))
}

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let (layers, width) =
        (config.size_within("num_hidden_layers", LAYERS)?, config.size_within("intermediate_size", WIDTH)?);
    let eps = config.positive_or("norm_eps", 1e-5)? as f32;
    let sizes @ (.., head) = head_sizes(config, hidden, &["head_dim", "kv_channels"], HeadDefaults::default())?;
    // Files that NeMo's converter wrote name the part of a head in this way.
    let partial = Some(config.positive_or("rope_percent", 0.5)?);
    let rotary_defaults = RotaryDefaults { theta: 10000.0, partial, context: 4096 };

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &rotary_defaults)?);
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let normed =
            norm(&mut g, names.value("in_norm"), View::all(stream, hidden), &names.tensor("input_layernorm"), eps);
        let attention = Attention::plain(&names, "self_attn.", hidden, sizes, Some(rotary));
        let mixed = attention.build(&mut g, &names, normed);
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);
        let tensor = names.tensor("post_attention_layernorm");
        let normed = norm(&mut g, names.value("ffn_norm"), View::all(residual, hidden), &tensor, eps);
        let up_down =
            [names.matrix("mlp.up_proj.weight", width, hidden), names.matrix("mlp.down_proj.weight", hidden, width)];
        let ffn = squared_relu(&mut g, &names, normed, up_down, None);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    let last = norm(&mut g, "final_norm".into(), View::all(stream, hidden), "model.norm", eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    Head::parse(config)?.build(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, rotary_defaults.context)
}
