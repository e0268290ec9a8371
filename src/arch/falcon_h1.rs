//! Falcon-H1: attention and Mamba-2 side by side in every layer, with µP multipliers. All multipliers
//! between linear layers are folded into their weights; those of the embedding and of the logits stay,
//! because the table may be tied. Source: transformers' `falcon_h1`.

use super::blocks::{
    Attention, HeadDefaults, LM_HEAD, Mamba2, Names, RotaryDefaults, Tie, attend, head_sizes, logits, rotary, swiglu,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{GraphBuilder, NormKind, Part};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 10000.0, partial: None, context: 8192 };

/// Refuses what this file does not implement.
fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mlp_bias", "mamba_proj_bias", "projectors_bias"] {
        config.expect(field, &false.into())?;
    }
    if config.flag_or("mamba_rms_norm", false)? && config.flag_or("mamba_norm_before_gate", true)? {
        return Err(config.unsupported("mamba_norm_before_gate", "false").into());
    }
    Ok(())
}

/// A list of exactly `N` multipliers.
fn multipliers<const N: usize>(config: &Config, field: &str) -> Result<[f32; N], ArchError> {
    let Some(numbers) = config.numbers(field)? else { return Ok([1.0; N]) };
    let numbers: Vec<f32> = numbers.into_iter().map(|n| n as f32).filter(|n| n.is_finite()).collect();
    Ok(numbers.try_into().map_err(|_| config.invalid(field, format!("a list of {N} finite numbers")))?)
}

/// Builds the graph.
pub(super) fn build(config: &Config, tensors: Option<&TensorShapes>, _: &ArchOptions) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let vocabulary = config.size_within("vocab_size", VOCABULARY)?;
    let hidden = config.size_within("hidden_size", WIDTH)?;
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let width = config.size_within("intermediate_size", WIDTH)?;
    let eps = config.positive_or("rms_norm_eps", 1e-5)? as f32;
    let (heads, kv_heads, head) =
        head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(8), head: None })?;
    // A missing width has a default, a `null` asks for the factor.
    let d_inner = match config.is_null("mamba_d_ssm") {
        false => config.size_within_or("mamba_d_ssm", WIDTH, 1024)?,
        true => config.expanded("mamba_expand", hidden, 2.0, WIDTH)?,
    };
    let mamba = Mamba2::parse(config, d_inner)?;
    let gated_norm = config.flag_or("mamba_rms_norm", false)?;
    let multiplier = |field: &str| config.number_or(field, 1.0).map(|n| n as f32);
    let (attention_in, attention_out) =
        (multiplier("attention_in_multiplier")?, multiplier("attention_out_multiplier")?);
    let (ssm_in, ssm_out) = (multiplier("ssm_in_multiplier")?, multiplier("ssm_out_multiplier")?);
    let key_multiplier = multiplier("key_multiplier")?;
    let ssm_multipliers: [f32; 5] = multipliers(config, "ssm_multipliers")?;
    let [mlp_gate, mlp_down]: [f32; 2] = multipliers(config, "mlp_multipliers")?;

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &ROTARY)?);
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let mut stream = g.embed("hidden.0", table, multiplier("embedding_multiplier")?);
    for layer in 0..layers {
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let norm = g.vector(names.vector("input_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);

        // One projection for both kinds of heads. Mamba-2: rows z, x, B, C, dt of in_proj, each with its
        // own multiplier; attention: q, k, v.
        let rows = mamba.widths().iter().sum();
        let mut row = 0;
        let mut parts: Vec<Part> = vec![];
        for (count, factor) in mamba.widths().into_iter().zip(ssm_multipliers) {
            let part = names.matrix("mamba.in_proj.weight", rows, hidden);
            parts.push(part.rows(row..row + count).scaled(factor * ssm_in));
            row += count;
        }
        let (q_rows, kv_rows) = (heads * head, kv_heads * head);
        let projections =
            [("q", q_rows, attention_in), ("k", kv_rows, attention_in * key_multiplier), ("v", kv_rows, attention_in)];
        parts.extend(
            projections.map(|(p, rows, factor)| {
                names.matrix(&format!("self_attn.{p}_proj.weight"), rows, hidden).scaled(factor)
            }),
        );
        let in_proj = g.matrix(names.value("in_proj"), parts);
        let projected = g.linear(names.value("in_proj"), normed, in_proj, None);
        let [z, xbc, dt, q, k, v] =
            g.split(projected, [d_inner, mamba.channels(), mamba.heads, q_rows, kv_rows, kv_rows]);

        let mut y = mamba.build(&mut g, &names, "mamba.", z, xbc, dt);
        if gated_norm {
            let weight = g.vector(names.vector("mamba.norm.weight", d_inner));
            let groups = mamba.groups;
            y = g.norm(names.value("ssm_norm"), g.whole(y), NormKind::Rms, groups, eps, Some(weight), None);
        }
        let out = names.matrix("mamba.out_proj.weight", hidden, d_inner).scaled(ssm_out);
        let out = g.matrix(names.value("ssm_out"), vec![out]);
        let y = g.linear(names.value("ssm_out"), y, out, None);

        let q = g.rope(names.value("q"), q, heads, rotary);
        let k = g.rope(names.value("k"), k, kv_heads, rotary);
        let (q, k) = (g.whole(q), g.whole(k));
        let scale = Attention::usual_scale(head);
        let attended = attend(&mut g, &names, [q, k, v], (heads, kv_heads, head), scale, None);
        let out = names.matrix("self_attn.o_proj.weight", hidden, q_rows).scaled(attention_out);
        let out = g.matrix(names.value("attn_out"), vec![out]);
        let attended = g.linear(names.value("attn_out"), attended, out, None);

        let mixed = g.add(names.value("mixed"), g.whole(y), g.whole(attended), 1.0);
        let residual = g.add(names.value("residual"), g.whole(stream), g.whole(mixed), 1.0);
        let norm = g.vector(names.vector("pre_ff_layernorm.weight", hidden));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), norm, eps);
        let gate = names.matrix("feed_forward.gate_proj.weight", width, hidden).scaled(mlp_gate);
        let up = names.matrix("feed_forward.up_proj.weight", width, hidden);
        let down = names.matrix("feed_forward.down_proj.weight", hidden, width).scaled(mlp_down);
        let ffn = swiglu(&mut g, &names, normed, width, vec![gate, up], down);
        stream = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }

    let norm = g.vector(Part::all("model.final_layernorm.weight", &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]).scaled(multiplier("lm_head_multiplier")?);
    logits(&mut g, &tie, last, words, table)?;
    Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)
}
