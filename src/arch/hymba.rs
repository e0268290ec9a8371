//! Hymba: attention and Mamba-1 heads side by side in every layer, learned meta tokens in front, KV
//! shared between neighbouring layers. Source: arXiv 2411.13676 and the released model code.
//!
//! Meta tokens are rows behind the vocabulary of the embedding table, with ids of their own, fed once
//! a model as its prefix tokens. The two fusion norms carry the factor 1/2 of the mean, which is exact.

use serde_json::Value;

use super::blocks::{LM_HEAD, Mamba1, Mamba1Sizes, Names, RotaryFields, Tie, logits};
use super::config::{LAYERS, SMALL, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, HymbaWindow, Model, TensorShapes};
use crate::graph::ops::{Attention, KvAppend};
use crate::graph::{Function, GraphBuilder, KvSpec, Map, Part, Rotary, StateId, View, WeightClass, WeightRecipe};

struct Sizes {
    vocabulary: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    key: usize,
    value: usize,
    mamba: Mamba1Sizes,
    feed_forward: usize,
    meta: usize,
    window: usize,
    eps: f32,
}

impl Sizes {
    fn parse(config: &Config) -> Result<Self, ArchError> {
        let hidden = config.size_within("hidden_size", WIDTH)?;
        let heads = config.size_within("num_attention_heads", WIDTH)?;
        let kv_heads = config.size_within("num_key_value_heads", WIDTH)?;
        if !hidden.is_multiple_of(heads) {
            return Err(config.invalid("num_attention_heads", format!("a divisor of hidden_size {hidden}")).into());
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.invalid("num_key_value_heads", format!("a divisor of the {heads} heads")).into());
        }
        let key = hidden / heads;
        if !key.is_multiple_of(2) || key > SMALL {
            let wanted = format!("such that hidden_size {hidden} gives heads of an even width up to {SMALL}");
            return Err(config.invalid("num_attention_heads", wanted).into());
        }
        let mamba @ Mamba1Sizes { d_inner, .. } = Mamba1Sizes::parse(config, hidden)?;
        if !d_inner.is_multiple_of(heads) {
            let wanted = format!("a factor that gives each of the {heads} heads an integer width");
            return Err(config.invalid("mamba_expand", wanted).into());
        }
        Ok(Self {
            vocabulary: config.size_within("vocab_size", VOCABULARY)?,
            hidden,
            layers: config.size_within("num_hidden_layers", LAYERS)?,
            heads,
            kv_heads,
            key,
            value: d_inner / heads,
            mamba,
            feed_forward: config.size_within("intermediate_size", WIDTH)?,
            meta: config.count_or("num_memory_tokens", 0, SMALL)?,
            window: config.size("sliding_window")?,
            eps: config.positive_or("rms_norm_eps", 1e-6)? as f32,
        })
    }

    fn kv_columns(&self) -> [usize; 2] {
        [self.kv_heads * self.key, self.kv_heads * self.value]
    }
}

/// Refuses what the released models do not use and this file does not implement.
fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    let supported: [(&str, Value); 13] = [
        ("hidden_act", "silu".into()),
        ("mlp_hidden_act", "silu".into()),
        ("kq_norm", "none".into()),
        ("mamba_inner_layernorms", true.into()),
        ("mamba_conv_bias", true.into()),
        ("mamba_proj_bias", false.into()),
        ("num_experts", 1.into()),
        ("num_mamba", 1.into()),
        ("memory_tokens_interspersed_every", 0.into()),
        ("kv_reuse_every_i_layer", (-1).into()),
        ("kv_weight_reuse", false.into()),
        ("rope", true.into()),
        ("kq_head_dim", (-1).into()),
    ];
    for (field, value) in &supported {
        config.expect(field, value)?;
    }
    if let Some(types) = config.strings("layer_type")?
        && types.iter().any(|t| t != "h")
    {
        return Err(config.unsupported("layer_type", "\"h\" for every layer").into());
    }
    Ok(())
}

/// Of `max_position_embeddings`, where a config has none.
const CONTEXT: usize = 262_144;

/// The fixed rotary base: `ntk` raises it by the ratio of the context lengths, once and for all. The form is a field of
/// the root, or one of the object into which transformers 5 moves such fields.
fn rotary(config: &Config, key: usize) -> Result<Rotary, ArchError> {
    const FORMS: &str = "\"ntk\", \"default\"";
    let fields = RotaryFields::of(config)?;
    let theta = fields.theta(10000.0)?;
    let root = if config.get("rope_type").is_some() { Some(config.string("rope_type")?) } else { None };
    let base = match (fields.form()?.filter(|&form| form != "default"), root) {
        (Some("ntk"), _) | (None, Some("ntk")) => {
            if key <= 2 {
                return Err(config.invalid("num_attention_heads", "such that heads are wider than 2").into());
            }
            let longest = config.size_or("max_position_embeddings", CONTEXT)? as f64;
            let original = config.size("orig_max_position_embeddings")? as f64;
            theta * (2.0 * longest / original - 1.0).powf(key as f64 / (key as f64 - 2.0))
        }
        (None, None | Some("default")) => theta,
        (None, Some(_)) => return Err(config.unsupported("rope_type", FORMS).into()),
        (Some(_), _) => return Err(fields.unsupported(FORMS).into()),
    };
    if !(base.is_finite() && base > 0.0) {
        return Err(config.invalid("orig_max_position_embeddings", "less than twice max_position_embeddings").into());
    }
    Ok(Rotary::from_base(base, key))
}

/// For each layer, the layer whose keys and values it reads.
fn producers(config: &Config, layers: usize, global: &[bool]) -> Result<Vec<usize>, ArchError> {
    let mut producers: Vec<usize> = (0..layers).collect();
    let mut grouped = vec![false; layers];
    let wrong = || {
        let wanted =
            format!("groups of ascending layers below {layers}, all windowed or all global, none in two groups");
        config.invalid("kv_reuse_group", wanted)
    };
    let groups = match config.get("kv_reuse_group") {
        Some(groups) => groups.as_array().ok_or_else(wrong)?.as_slice(),
        None => &[],
    };
    for group in groups {
        let index = |v: &Value| v.as_u64().filter(|&i| i < layers as u64).map(|i| i as usize);
        let members: Option<Vec<usize>> = group.as_array().and_then(|g| g.iter().map(index).collect());
        let members = members.filter(|m| m.is_sorted_by(|a, b| a < b)).ok_or_else(wrong)?;
        let Some(&first) = members.first() else { continue };
        for &member in &members {
            if std::mem::replace(&mut grouped[member], true) || global[member] != global[first] {
                return Err(wrong().into());
            }
            producers[member] = first;
        }
    }
    Ok(producers)
}

/// Keys and values that later layers of a group read again.
struct Shared {
    state: StateId,
    k: View,
    v: View,
    last_reader: usize,
}

/// Builds the graph.
pub(super) fn build(
    config: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let s = Sizes::parse(config)?;
    let Mamba1Sizes { d_inner, d_state, d_conv, dt_rank } = s.mamba;
    let mut global = vec![false; s.layers];
    for layer in config.indices("global_attn_idx")? {
        *global
            .get_mut(layer)
            .ok_or_else(|| config.invalid("global_attn_idx", format!("layers below {}", s.layers)))? = true;
    }
    let producers = producers(config, s.layers, &global)?;
    let decode_window = match options.hymba_window {
        HymbaWindow::Training => s.window,
        HymbaWindow::Generate => s.window - 1,
    };

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, s.key)?);
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, "model.embed_tokens.weight");
    let mut table = vec![Part::all(&*tie.embedding, &[s.vocabulary, s.hidden])];
    if s.meta > 0 {
        table.push(Part::all("model.memory_tokens", &[s.meta, s.hidden]));
    }
    let table = g.embedding("embed", table);
    let mut hidden = g.embed("hidden.0", table, 1.0);
    let mut shared: Vec<Option<Shared>> = (0..s.layers).map(|_| None).collect();

    for layer in 0..s.layers {
        let name = |what: &str| format!("layers.{layer}.{what}");
        let tensor = |what: &str| format!("model.layers.{layer}.{what}");
        let producer = producers[layer];
        let window = (!global[layer]).then_some(s.window);
        let [k_columns, v_columns] = if producer == layer { s.kv_columns() } else { [0, 0] };

        let norm = g.vector(Part::all(tensor("input_layernorm.weight"), &[s.hidden]));
        let normed = g.rms_norm(name("in_norm"), g.whole(hidden), norm, s.eps);
        let rows = s.hidden + k_columns + v_columns + 2 * d_inner;
        let in_proj = g.matrix(name("in_proj"), vec![Part::all(tensor("mamba.in_proj.weight"), &[rows, s.hidden])]);
        let projected = g.linear(name("in_proj"), normed, in_proj, None);
        let [q, k, v, x, z] = g.split(projected, [s.hidden, k_columns, v_columns, d_inner, d_inner]);

        // Attention heads.
        let q = g.rope(name("q"), q, s.heads, rotary);
        let last_reader = (0..s.layers).rev().find(|&l| producers[l] == producer).unwrap_or(layer);
        if producer == layer {
            let k = g.rope(name("k"), k, s.kv_heads, rotary);
            let spec = KvSpec { heads: s.kv_heads, key_width: s.key, value_width: s.value, pinned: s.meta, window };
            let state = g.kv(layer, spec);
            shared[layer] = Some(Shared { state, k: g.whole(k), v, last_reader });
        }
        let Some(kv) = &shared[producer] else { unreachable!("a producer comes before its consumers") };
        let (state, k, v) = (kv.state, kv.k, kv.v);
        let append = kv.last_reader == layer;
        debug_assert_eq!(kv.last_reader, last_reader);
        let out = g.value(name("attn"), d_inner, crate::graph::Rows::All);
        g.push(Attention {
            q: g.whole(q),
            k,
            v,
            state,
            heads: s.heads,
            scale: (1.0 / (s.key as f64).sqrt()) as f32,
            window,
            decode_window: window.map(|_| decode_window),
            out,
        });
        if append {
            g.push(KvAppend { k, v, state });
        }
        let attention = out;

        // State-space heads.
        let mamba = |what: &str, shape: &[usize]| Part::all(tensor(&format!("mamba.{what}")), shape);
        let mixer = Mamba1 {
            sizes: s.mamba,
            conv: mamba("conv1d.weight", &[d_inner, 1, d_conv]),
            conv_bias: Some(mamba("conv1d.bias", &[d_inner])),
            x_proj: mamba("x_proj.0.weight", &[s.mamba.selected(), d_inner]),
            norms: [("dt", dt_rank), ("B", d_state), ("C", d_state)]
                .map(|(of, width)| mamba(&format!("{of}_layernorm.weight"), &[width])),
            eps: s.eps,
            dt_proj: mamba("dt_proj.0.weight", &[d_inner, dt_rank]),
            dt_bias: mamba("dt_proj.0.bias", &[d_inner]),
            a: mamba("A_log.0", &[d_inner, d_state]).mapped(Map::NegExp),
            d: mamba("D.0", &[d_inner]),
        };
        let names = Names { layer, prefix: format!("model.layers.{layer}.") };
        let y = mixer.build(&mut g, &names, x, z);

        // Fusion: the mean of the two normed branches.
        let fusion = |g: &mut GraphBuilder, branch: usize, what: &str, x| {
            let tensor = tensor(&format!("mamba.pre_avg_layernorm{branch}.weight"));
            let half = Part::all(tensor, &[d_inner]).scaled(0.5);
            let weight = g.weight(WeightRecipe::new(name(what), WeightClass::Vector, vec![half]));
            g.rms_norm(name(what), g.whole(x), weight, s.eps)
        };
        let attention = fusion(&mut g, 1, "attn_norm", attention);
        let y = fusion(&mut g, 2, "ssm_norm", y);
        let fused = g.add(name("fused"), g.whole(attention), g.whole(y), 1.0);
        let out_proj =
            g.matrix(name("out_proj"), vec![Part::all(tensor("mamba.out_proj.weight"), &[s.hidden, d_inner])]);
        let mixed = g.linear(name("out_proj"), fused, out_proj, None);
        let residual = g.add(name("mixed"), g.whole(hidden), g.whole(mixed), 1.0);

        // Feed-forward.
        let norm = g.vector(Part::all(tensor("pre_moe_layernorm.weight"), &[s.hidden]));
        let normed = g.rms_norm(name("ffn_norm"), g.whole(residual), norm, s.eps);
        let expert = |what: &str| tensor(&format!("moe.experts.0.{what}_proj.weight"));
        let gate_up = g.matrix(
            name("gate_up"),
            vec![
                Part::all(expert("gate"), &[s.feed_forward, s.hidden]),
                Part::all(expert("up"), &[s.feed_forward, s.hidden]),
            ],
        );
        let both = g.linear(name("gate_up"), normed, gate_up, None);
        let [gate, up] = g.split(both, [s.feed_forward, s.feed_forward]);
        let active = g.gate(name("active"), gate, up, Function::Silu);
        let down = g.matrix(name("down"), vec![Part::all(expert("down"), &[s.hidden, s.feed_forward])]);
        let ffn = g.linear(name("ffn"), active, down, None);
        hidden = g.add(format!("hidden.{}", layer + 1), g.whole(residual), g.whole(ffn), 1.0);
    }

    let norm = g.vector(Part::all("model.final_layernorm.weight", &[s.hidden]));
    let last = g.rms_norm("final_norm", g.whole(hidden), norm, s.eps);
    let words = Part::all(LM_HEAD, &[s.vocabulary, s.hidden]);
    logits(&mut g, &tie, last, words, table)?;
    let prefix_tokens = s.vocabulary as u32..(s.vocabulary + s.meta) as u32;
    Ok(Model { prefix_tokens, ..Model::new(config, g.finish()?, s.layers, s.vocabulary, CONTEXT)? })
}
