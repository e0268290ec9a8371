//! Dense transformers, what hybrids are measured against: llama, qwen2, qwen3. Source: transformers'
//! modules of these names.

use super::blocks::{Attention, Names, head_sizes, plain_rotary, swiglu};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Head, Model, TensorShapes};
use crate::graph::{GraphBuilder, Part, Rotary};

/// What sets the three apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Llama,
    /// Biases on q, k and v.
    Qwen2,
    /// RMS norms on the heads of q and k.
    Qwen3,
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

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mlp_bias", "use_sliding_window"] {
        config.expect(field, &false.into())?;
    }
    Ok(())
}

/// The rotary embedding, with Llama 3's scaling where the config asks for it: long waves are stretched by
/// the factor, short ones left, those between blended.
fn rotary(config: &Config, head: usize) -> Result<Rotary, ArchError> {
    // Where both dialects are there, the older key wins.
    let Some(scaling) = config.nested("rope_scaling").or_else(|| config.nested("rope_parameters")) else {
        return plain_rotary(config, head, 10000.0);
    };
    let kind = match scaling.get("rope_type").or_else(|| scaling.get("type")) {
        Some(kind) => kind.as_str().unwrap_or_default().to_owned(),
        None => "default".to_owned(),
    };
    let theta = scaling.positive_or("rope_theta", config.rope_theta(10000.0)?)?;
    if head < 2 || !head.is_multiple_of(2) {
        return Err(config.invalid("head_dim", "an even number").into());
    }
    let mut rotary = Rotary::from_base(theta, head);
    match kind.as_str() {
        "default" => Ok(rotary),
        "llama3" => {
            let factor = scaling.positive_or("factor", 1.0)?;
            let low = scaling.positive_or("low_freq_factor", 1.0)?;
            let high = scaling.positive_or("high_freq_factor", 4.0)?;
            let original = scaling.size("original_max_position_embeddings")? as f64;
            if high <= low {
                return Err(scaling.invalid("high_freq_factor", "more than low_freq_factor").into());
            }
            for frequency in &mut rotary.inverse_frequencies {
                let f = f64::from(*frequency);
                let wave = 2.0 * std::f64::consts::PI / f;
                *frequency = if wave < original / high {
                    f
                } else if wave > original / low {
                    f / factor
                } else {
                    let blend = (original / wave - low) / (high - low);
                    (1.0 - blend) * f / factor + blend * f
                } as f32;
            }
            Ok(rotary)
        }
        _ => Err(scaling.unsupported("rope_type", "\"default\", \"llama3\"").into()),
    }
}

fn build(kind: Kind, config: &Config, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let (layers, width) =
        (config.size_within("num_hidden_layers", LAYERS)?, config.size_within("intermediate_size", WIDTH)?);
    let eps = config.positive_or("rms_norm_eps", 1e-6)? as f32;
    let widths: &[&str] = if kind == Kind::Qwen2 { &[] } else { &["head_dim"] };
    let sizes @ (heads, kv_heads, head) = head_sizes(config, hidden, widths)?;

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head)?);
    let table = g.table("embed", vec![Part::all("model.embed_tokens.weight", &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, 1.0);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let rows = [("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)];
        let biases = rows.map(|(p, rows)| names.vector(&format!("self_attn.{p}_proj.bias"), rows));
        let qk_norm = ["q_norm", "k_norm"].map(|norm| names.vector(&format!("self_attn.{norm}.weight"), head));
        let attention = Attention {
            qkv_bias: (kind == Kind::Qwen2).then(|| biases.into()),
            qk_norm: (kind == Kind::Qwen3).then_some((qk_norm, eps)),
            ..Attention::plain(&names, "self_attn.", hidden, sizes, Some(rotary))
        };
        let mixed = attention.build(&mut g, &names, normed);
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);

        let norm = g.vector(names.vector("post_attention_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let gate_up = ["gate", "up"].map(|p| names.matrix(&format!("mlp.{p}_proj.weight"), width, hidden));
        let down = names.matrix("mlp.down_proj.weight", hidden, width);
        let ffn = swiglu(&mut g, &names, normed, width, gate_up.into(), down);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }
    let norm = g.vector(Part::all("model.norm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all("lm_head.weight", &[vocabulary, hidden]);
    Head::parse(config)?.build(&mut g, config, tensors, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary)
}
