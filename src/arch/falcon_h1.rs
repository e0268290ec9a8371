//! Falcon-H1: attention and Mamba-2 side by side in every layer, with µP multipliers. All multipliers
//! between linear layers are folded into their weights; those of the embedding and of the logits stay,
//! because the table may be tied. Source: transformers' `falcon_h1`.

use super::{ArchError, ArchOptions, Config, Model, TensorShapes};
use crate::graph::{
    Function, GraphBuilder, KvSpec, Map, NormKind, Op, Part, Rotary, Rows, StateKind, WeightClass, WeightRecipe,
};

/// Refuses what this file does not implement.
fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    for field in ["attention_bias", "mlp_bias", "mamba_proj_bias", "projectors_bias"] {
        config.expect(field, &false.into())?;
    }
    if config.get("rope_scaling").is_some() {
        return Err(config.unsupported("rope_scaling", "null").into());
    }
    if let Some(rope) = config.nested("rope_parameters") {
        rope.expect("rope_type", &"default".into())?;
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
    let vocabulary = config.size("vocab_size")?;
    let hidden_size = config.size("hidden_size")?;
    let layers = config.size("num_hidden_layers")?;
    let feed_forward = config.size("intermediate_size")?;
    let eps = config.positive_or("rms_norm_eps", 1e-5)? as f32;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.size_opt("num_key_value_heads")?.unwrap_or(heads);
    let head = config.size_opt("head_dim")?.unwrap_or(hidden_size / heads);
    if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
        return Err(config.invalid("num_key_value_heads", format!("a divisor of the {heads} heads")).into());
    }
    let ssm_heads = config.size("mamba_n_heads")?;
    let state = config.size("mamba_d_state")?;
    let groups = config.size("mamba_n_groups")?;
    let taps = config.size("mamba_d_conv")?;
    let inner = match config.size_opt("mamba_d_ssm")? {
        Some(inner) => inner,
        None => config.size("mamba_expand")? * hidden_size,
    };
    if taps < 2 {
        return Err(config.invalid("mamba_d_conv", "at least 2").into());
    }
    if !inner.is_multiple_of(ssm_heads) {
        return Err(config.invalid("mamba_n_heads", format!("a divisor of the inner width {inner}")).into());
    }
    let columns = inner / ssm_heads;
    if config.size_opt("mamba_d_head")?.is_some_and(|c| c != columns) {
        return Err(config.invalid("mamba_d_head", format!("{columns} = mamba_d_ssm / mamba_n_heads")).into());
    }
    if !ssm_heads.is_multiple_of(groups) || !inner.is_multiple_of(groups) {
        return Err(config.invalid("mamba_n_groups", format!("a divisor of the {ssm_heads} heads")).into());
    }
    let limit = config.numbers("time_step_limit")?.unwrap_or_else(|| vec![0.0, f64::INFINITY]);
    let &[low, high] = limit.as_slice() else { return Err(config.invalid("time_step_limit", "two numbers").into()) };
    if low.is_nan() || high.is_nan() || low > high {
        return Err(config.invalid("time_step_limit", "a lower and an upper limit").into());
    }
    let multiplier = |field: &str| config.number_or(field, 1.0).map(|n| n as f32);
    let (attention_in, attention_out) =
        (multiplier("attention_in_multiplier")?, multiplier("attention_out_multiplier")?);
    let (ssm_in, ssm_out) = (multiplier("ssm_in_multiplier")?, multiplier("ssm_out_multiplier")?);
    let key_multiplier = multiplier("key_multiplier")?;
    let ssm_multipliers: [f32; 5] = multipliers(config, "ssm_multipliers")?;
    let [mlp_gate, mlp_down]: [f32; 2] = multipliers(config, "mlp_multipliers")?;

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(Rotary::from_base(config.rope_theta(1e11)?, head));
    let table = g.matrix("embed", vec![Part::all("model.embed_tokens.weight", &[vocabulary, hidden_size])]);
    let mut hidden = g.embed("hidden.0", table, multiplier("embedding_multiplier")?);
    let conv_channels = inner + 2 * groups * state;

    for layer in 0..layers {
        let name = |what: &str| format!("layers.{layer}.{what}");
        let tensor = |what: &str| format!("model.layers.{layer}.{what}");
        let norm = g.vector(Part::all(tensor("input_layernorm.weight"), &[hidden_size]));
        let normed = g.rms_norm(name("in_norm"), g.whole(hidden), norm, eps);

        // One projection for both kinds of heads. Mamba-2: rows z, x, B, C, dt of in_proj, each with its
        // own multiplier; attention: q, k, v.
        let widths = [inner, inner, groups * state, groups * state, ssm_heads];
        let shape = [widths.iter().sum(), hidden_size];
        let mut row = 0;
        let parts = widths.iter().zip(ssm_multipliers).map(|(&width, factor)| {
            row += width;
            Part::all(tensor("mamba.in_proj.weight"), &shape).rows(row - width..row).scaled(factor * ssm_in)
        });
        let projection = |what: &str, rows: usize, columns: usize, scale: f32| {
            Part::all(tensor(&format!("self_attn.{what}_proj.weight")), &[rows, columns]).scaled(scale)
        };
        let (q_columns, kv_columns) = (heads * head, kv_heads * head);
        let mut parts: Vec<Part> = parts.collect();
        parts.push(projection("q", q_columns, hidden_size, attention_in));
        parts.push(projection("k", kv_columns, hidden_size, attention_in * key_multiplier));
        parts.push(projection("v", kv_columns, hidden_size, attention_in));
        let in_proj = g.matrix(name("in_proj"), parts);
        let projected = g.linear(name("in_proj"), normed, in_proj, None);
        let [z, xbc, dt, q, k, v] =
            g.split(projected, [inner, conv_channels, ssm_heads, q_columns, kv_columns, kv_columns]);
        let conv_state = g.state(name("conv"), layer, StateKind::Conv { channels: conv_channels, taps });
        let kernel = g.vector(Part::all(tensor("mamba.conv1d.weight"), &[conv_channels, 1, taps]));
        let bias = config.flag_or("mamba_conv_bias", true)?;
        let bias = bias.then(|| g.vector(Part::all(tensor("mamba.conv1d.bias"), &[conv_channels])));
        let convolved = g.conv(name("conv_silu"), xbc, kernel, bias, conv_state, Function::Silu);
        let [x, b, c] = g.split(convolved, [inner, groups * state, groups * state]);
        let a = g.vector(Part::all(tensor("mamba.A_log"), &[ssm_heads]).mapped(Map::NegExp));
        let d = g.vector(Part::all(tensor("mamba.D"), &[ssm_heads]));
        let dt_bias = g.vector(Part::all(tensor("mamba.dt_bias"), &[ssm_heads]));
        let ssm = g.state(name("ssm"), layer, StateKind::Recurrent { shape: vec![ssm_heads, columns, state] });
        let y = g.value(name("ssm"), inner, Rows::All);
        let limit = (low as f32, high as f32);
        g.push(Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads: ssm_heads, groups, state: ssm, out: y });
        let mut y = g.gate(name("ssm_gated"), z, g.whole(y), Function::Silu);
        if config.flag_or("mamba_rms_norm", false)? {
            let weight = g.vector(Part::all(tensor("mamba.norm.weight"), &[inner]));
            y = g.norm(name("ssm_norm"), g.whole(y), NormKind::Rms, groups, eps, Some(weight), None);
        }
        let out_proj = Part::all(tensor("mamba.out_proj.weight"), &[hidden_size, inner]).scaled(ssm_out);
        let out_proj = g.matrix(name("ssm_out"), vec![out_proj]);
        let y = g.linear(name("ssm_out"), y, out_proj, None);

        // Attention.
        let q = g.rope(name("q"), q, heads, rotary);
        let k = g.rope(name("k"), k, kv_heads, rotary);
        let (q, k) = (g.whole(q), g.whole(k));
        let kv = g.kv(layer, KvSpec { heads: kv_heads, key_width: head, value_width: head, pinned: 0, window: None });
        let out = g.value(name("attn"), q_columns, Rows::All);
        let scale = (1.0 / (head as f64).sqrt()) as f32;
        g.push(Op::Attention { q, k, v, state: kv, heads, scale, window: None, decode_window: None, out });
        g.push(Op::KvAppend { k, v, state: kv });
        let o_proj = g.matrix(name("attn_out"), vec![projection("o", hidden_size, q_columns, attention_out)]);
        let attention = g.linear(name("attn_out"), out, o_proj, None);

        let mixed = g.add(name("mixed"), g.whole(y), g.whole(attention), 1.0);
        let residual = g.add(name("residual"), g.whole(hidden), g.whole(mixed), 1.0);

        // Feed-forward.
        let norm = g.vector(Part::all(tensor("pre_ff_layernorm.weight"), &[hidden_size]));
        let normed = g.rms_norm(name("ffn_norm"), g.whole(residual), norm, eps);
        let ffn = |what: &str| tensor(&format!("feed_forward.{what}_proj.weight"));
        let gate_up = g.matrix(
            name("gate_up"),
            vec![
                Part::all(ffn("gate"), &[feed_forward, hidden_size]).scaled(mlp_gate),
                Part::all(ffn("up"), &[feed_forward, hidden_size]),
            ],
        );
        let both = g.linear(name("gate_up"), normed, gate_up, None);
        let [gate, up] = g.split(both, [feed_forward, feed_forward]);
        let active = g.gate(name("active"), gate, up, Function::Silu);
        let down = Part::all(ffn("down"), &[hidden_size, feed_forward]).scaled(mlp_down);
        let down = g.weight(WeightRecipe::new(name("down"), WeightClass::Matrix, vec![down]));
        let out = g.linear(name("ffn"), active, down, None);
        hidden = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(out), 1.0);
    }

    let norm = g.vector(Part::all("model.final_layernorm.weight", &[hidden_size]));
    let last = g.rms_norm("final_norm", g.whole(hidden), norm, eps);
    let untied = tensors.map_or(!config.flag_or("tie_word_embeddings", false)?, |t| t.contains_key("lm_head.weight"));
    let scale = multiplier("lm_head_multiplier")?;
    let logits = if untied {
        let part = Part::all("lm_head.weight", &[vocabulary, hidden_size]).scaled(scale);
        let head = g.matrix("lm_head", vec![part]);
        g.head(g.whole(last), head, vocabulary)
    } else {
        let raw = g.head(g.whole(last), table, vocabulary);
        g.activation("scaled_logits", g.whole(raw), Function::Identity, scale)
    };
    g.sample(logits);

    Ok(Model {
        model_type: "falcon_h1".into(),
        graph: g.finish()?,
        layers,
        vocabulary,
        context: config.size_opt("max_position_embeddings")?.unwrap_or(8192),
        prelude: 0..0,
        bos: config.token_ids("bos_token_id")?.first().copied(),
        eos: config.token_ids("eos_token_id")?,
    })
}
