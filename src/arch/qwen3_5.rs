//! Qwen3.5's language model: three layers of the gated delta rule to one of gated attention, a feed-forward or experts
//! behind each; and Qwen3-Next, which it descends from. Source: transformers' `qwen3_5`, `qwen3_5_moe` and `qwen3_next`.
//! Gated delta networks: Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464.
//!
//! Released files hold a vision tower and a head for the token after the next, too. Neither changes what a text gives. The
//! tower is not loaded; the head, a layer of gated attention behind the model, is where [`ArchOptions::draft`] asks for it
//! (source: vLLM's `qwen3_next_mtp` and `qwen3_5_mtp`). Multi-axis rotary positions of a text are one position three times.

use super::blocks::{
    self, Attention, DraftBuilder, DraftTensors, GATE_UP_DOWN, GatedDelta, HeadDefaults, LM_HEAD, MixtureDefaults,
    Names, RotaryDefaults, RowOrder, SoftmaxMixture, Tie, head_sizes, logits, plain_swiglu, rotary, sparse_layers,
};
use super::config::{LAYERS, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes, no_draft, without_draft};
use crate::graph::{GraphBuilder, Map, Part, ValueId};

/// Where a config says nothing.
const ROTARY: RotaryDefaults = RotaryDefaults { theta: 10000.0, partial: Some(0.25), context: 32768 };

/// What sets the families apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A feed-forward behind every mixer.
    Dense,
    /// Experts in its place.
    Experts,
    /// Experts in some places, and another order of the mixers' rows.
    Next,
}

impl Kind {
    /// KV heads where a config says nothing.
    fn kv_heads(self) -> usize {
        if self == Self::Dense { 4 } else { 2 }
    }

    /// Sizes of the experts where a config says nothing.
    fn mixture(self) -> Option<MixtureDefaults> {
        let sizes = MixtureDefaults { counts: [256, 8], width: 512, shared: Some(512), normed: true, packed: true };
        match self {
            Self::Dense => None,
            Self::Experts => Some(sizes),
            Self::Next => Some(MixtureDefaults { counts: [512, 10], packed: false, ..sizes }),
        }
    }
}

/// The text model's own config: all of a text-only file, or the nested one of a file with a vision tower.
fn text_config(config: &Config, kind: Kind) -> Result<Config, ArchError> {
    let Some(text) = config.nested("text_config").filter(|_| kind != Kind::Next) else { return Ok(config.clone()) };
    let name = if kind == Kind::Dense { "qwen3_5_text" } else { "qwen3_5_moe_text" };
    text.expect("model_type", &name.into())?;
    Ok(text)
}

fn refuse_unsupported(config: &Config, kind: Kind) -> Result<(), ArchError> {
    config.expect("hidden_act", &"silu".into())?;
    config.expect("attention_bias", &false.into())?;
    config.expect("attn_output_gate", &true.into())?;
    // Released files have one head that looks ahead, over the same table of words.
    config.expect("mtp_use_dedicated_embeddings", &false.into())?;
    if config.count_or("mtp_num_hidden_layers", 0, LAYERS)? > 1 {
        return Err(config.unsupported("mtp_num_hidden_layers", "0, 1").into());
    }
    if !["silu", "swish"].contains(&config.get("output_gate_type").and_then(|v| v.as_str()).unwrap_or("silu")) {
        return Err(config.unsupported("output_gate_type", "\"silu\"").into());
    }
    match kind {
        Kind::Dense => {
            for field in ["num_experts", "num_local_experts"] {
                config.expect(field, &0.into())?;
            }
        }
        // transformers passes over these.
        Kind::Experts => {
            config.expect("norm_topk_prob", &true.into())?;
            config.expect("decoder_sparse_step", &1.into())?;
            config.expect("mlp_only_layers", &serde_json::json!([]))?;
        }
        Kind::Next => {}
    }
    if config.get("sliding_window").is_some() {
        return Err(config.unsupported("sliding_window", "null").into());
    }
    Ok(())
}

/// The ids in whose places transformers puts what its vision tower sees, at positions of several axes.
fn placeholder_ids(config: &Config) -> Result<Vec<(&'static str, u32)>, ArchError> {
    let mut found = vec![];
    for field in ["image_token_id", "video_token_id"] {
        found.extend(config.token_ids(field)?.into_iter().map(|id| (field, id)));
    }
    Ok(found)
}

/// Whether each layer is attention.
fn attention_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ArchError> {
    let kinds = [("linear_attention", false), ("full_attention", true)];
    if let Some(found) = blocks::attention_layers(config, layers, &kinds)? {
        return Ok(found);
    }
    let interval = config.size_opt("full_attention_interval")?.unwrap_or(4);
    Ok((1..=layers).map(|layer| layer.is_multiple_of(interval)).collect())
}

/// In front of the text model's tensors. transformers keeps the longer one even beside a text-only config, so
/// the tensors decide where there are any.
fn prefix(config: &Config, tensors: Option<&TensorShapes>) -> &'static str {
    let (nested, flat) = ("model.language_model.", "model.");
    let holds = |tensors: &TensorShapes, prefix| tensors.contains_key(&format!("{prefix}embed_tokens.weight"));
    match tensors {
        Some(tensors) if holds(tensors, nested) => nested,
        Some(tensors) if holds(tensors, flat) => flat,
        _ if config.nested("text_config").is_some() => nested,
        _ => flat,
    }
}

/// Builds `model_type: "qwen3_5"` and `"qwen3_5_text"`.
pub(super) fn qwen3_5(
    config: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    build(Kind::Dense, config, tensors, options)
}

/// Builds `model_type: "qwen3_5_moe"` and `"qwen3_5_moe_text"`.
pub(super) fn qwen3_5_moe(
    config: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    build(Kind::Experts, config, tensors, options)
}

/// Builds `model_type: "qwen3_next"`.
pub(super) fn qwen3_next(
    config: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    build(Kind::Next, config, tensors, options)
}

/// The feed-forwards of a model's layers: of this width, or experts.
struct FeedForwards {
    /// Inner width, where a layer has no experts.
    width: usize,
    mixture: Option<SoftmaxMixture>,
    /// Whether each layer has experts; that of the draft behind the model's.
    sparse: Vec<bool>,
}

impl FeedForwards {
    fn parse(config: &Config, kind: Kind, layers: usize, draft: bool) -> Result<Self, ArchError> {
        let of = |layers: usize| match kind {
            Kind::Dense => Ok(vec![false; layers]),
            Kind::Experts => Ok(vec![true; layers]),
            Kind::Next => sparse_layers(config, layers),
        };
        let mut sparse = of(layers)?;
        // A draft's layer is the first of its own.
        sparse.extend(of(usize::from(draft))?);
        let mixtures = sparse.iter().filter(|&&sparse| sparse).count();
        let mixture = kind.mixture().filter(|_| mixtures > 0);
        let width = match kind {
            Kind::Dense => config.size_within("intermediate_size", WIDTH)?,
            _ => config.size_within_or("intermediate_size", WIDTH, 5632)?,
        };
        let mixture = mixture.map(|defaults| SoftmaxMixture::parse(config, mixtures, &defaults)).transpose()?;
        Ok(Self { width, mixture, sparse })
    }

    /// Appends that of a layer.
    fn build(
        &self,
        g: &mut GraphBuilder,
        names: &Names,
        tensors: Option<&TensorShapes>,
        normed: ValueId,
        hidden: usize,
    ) -> ValueId {
        if let Some(mixture) = self.mixture.as_ref().filter(|_| self.sparse[names.layer]) {
            return mixture.build(g, names, tensors, normed, hidden);
        }
        plain_swiglu(g, names, normed, "mlp.", GATE_UP_DOWN, [self.width, hidden])
    }
}

/// The tensors of the head for the token after the next lie here.
const MTP: &str = "mtp.";

/// Whether a model has that head: by its tensors, and without them by what its config says.
fn has_mtp(config: &Config, kind: Kind, tensors: Option<&TensorShapes>) -> Result<bool, ArchError> {
    match tensors {
        Some(tensors) => Ok(tensors.contains_key(&format!("{MTP}fc.weight"))),
        None => Ok(kind == Kind::Next || config.count_or("mtp_num_hidden_layers", 0, LAYERS)? > 0),
    }
}

/// Builds the graph.
fn build(
    kind: Kind,
    whole: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    let config = &text_config(whole, kind)?;
    refuse_unsupported(config, kind)?;
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let layers = config.size_within("num_hidden_layers", LAYERS)?;
    let feed_forwards = FeedForwards::parse(config, kind, layers, options.draft)?;
    let eps = config.positive_or("rms_norm_eps", 1e-6)? as f32;
    let sizes @ (heads, kv_heads, head) =
        head_sizes(config, hidden, &["head_dim"], HeadDefaults { kv_heads: Some(kind.kv_heads()), head: Some(256) })?;
    let attention_layers = attention_layers(config, layers)?;
    let delta_net = match attention_layers.iter().all(|&a| a) {
        true => None,
        false => {
            let apart =
                |tensors: &TensorShapes| tensors.keys().any(|name| name.ends_with("linear_attn.in_proj_qkv.weight"));
            let rows = match kind {
                Kind::Next if tensors.is_some_and(apart) => RowOrder::PartlyByKeyHead,
                Kind::Next => RowOrder::ByKeyHead,
                Kind::Dense | Kind::Experts => RowOrder::Apart,
            };
            Some(GatedDelta::parse(config, eps, rows)?)
        }
    };
    let prefix = prefix(whole, tensors);

    let mut g = GraphBuilder::new();
    let rotary = g.rotary(rotary(config, head, &ROTARY)?);
    // The text's own config or that around it: whoever ties speaks for both.
    let tied = config.flag_or("tie_word_embeddings", false)? || whole.flag_or("tie_word_embeddings", false)?;
    let tie = Tie::new(tied, tensors, format!("{prefix}embed_tokens.weight"));
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    // Norms of the stream and of attention's heads are stored zero-centred.
    let zero_centred = |part: Part| part.mapped(Map::AddOne);
    let attention = |names: &Names| {
        let (q_rows, kv_rows) = (heads * head, kv_heads * head);
        let matrix = |p: &str, rows| names.matrix(&format!("self_attn.{p}_proj.weight"), rows, hidden);
        // Of every head first the query's rows, then the gate's.
        let half = |h: usize, which: usize| {
            let first = (2 * h + which) * head;
            matrix("q", 2 * q_rows).rows(first..first + head)
        };
        let queries = (0..heads).map(|h| half(h, 0));
        let norm = |p: &str| zero_centred(names.vector(&format!("self_attn.{p}_norm.weight"), head));
        Attention {
            qkv: queries.chain([matrix("k", kv_rows), matrix("v", kv_rows)]).collect(),
            qk_norm: Some((["q", "k"].map(norm), eps)),
            gate: Some((0..heads).map(|h| half(h, 1)).collect()),
            ..Attention::plain(names, "self_attn.", hidden, sizes, Some(rotary))
        }
    };
    let layer = |g: &mut GraphBuilder, names: &Names, stream: ValueId, delta_net: Option<&GatedDelta>| {
        let weight = g.vector(zero_centred(names.vector("input_layernorm.weight", hidden)));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), weight, eps);
        let mixed = match delta_net {
            Some(delta_net) => delta_net.build(g, names, normed, hidden),
            None => attention(names).build(g, names, normed),
        };
        let residual = g.add(names.value("mixed"), g.whole(stream), g.whole(mixed), 1.0);

        let weight = g.vector(zero_centred(names.vector("post_attention_layernorm.weight", hidden)));
        let normed = g.rms_norm(names.value("ffn_norm"), g.whole(residual), weight, eps);
        let ffn = feed_forwards.build(g, names, tensors, normed, hidden);
        g.add(format!("hidden.{}", names.layer + 1), g.whole(residual), g.whole(ffn), 1.0)
    };
    let mut stream = g.embed("hidden.0", table, 1.0);
    for (index, &attends) in attention_layers.iter().enumerate() {
        let names = Names { layer: index, prefix: format!("{prefix}layers.{index}.") };
        stream = layer(&mut g, &names, stream, delta_net.as_ref().filter(|_| !attends));
    }
    let norm = g.vector(zero_centred(Part::all(format!("{prefix}norm.weight"), &[hidden])));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    let head = logits(&mut g, &tie, last, words, table)?;
    let draft = match options.draft {
        false => None,
        true if !has_mtp(config, kind, tensors)? => {
            return Err(no_draft(whole, without_draft(tensors, "it has no `mtp.fc.weight`")));
        }
        true => {
            let vector = |what: &str| zero_centred(Part::all(format!("{MTP}{what}.weight"), &[hidden]));
            let (embedding_norm, hidden_norm) = (vector("pre_fc_norm_embedding"), vector("pre_fc_norm_hidden"));
            let front = DraftTensors { embedding_norm, hidden_norm, fc: &format!("{MTP}fc.weight") };
            let mut draft = DraftBuilder::new(&g, table, hidden, eps, front);
            let d = &mut draft.graph;
            let names = Names { layer: layers, prefix: format!("{MTP}layers.0.") };
            let stream = layer(d, &names, draft.stream, None);
            let norm = d.vector(vector("norm"));
            let own = d.rms_norm("draft.norm", d.whole(stream), norm, eps);
            Some(draft.finish(&mut g, last, own, head, vocabulary)?)
        }
    };
    let model = Model::new(config, g.finish()?, layers, vocabulary, ROTARY.context)?;
    let model_type = whole.string("model_type")?.to_owned();
    Ok(Model { model_type, draft, placeholder_ids: placeholder_ids(whole)?, ..model })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn text() -> Value {
        json!({
            "model_type": "qwen3_5_text", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 4,
            "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6,
            "linear_value_head_dim": 5, "linear_conv_kernel_dim": 4, "mtp_num_hidden_layers": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "mrope_section": [1, 1, 0]},
            "tie_word_embeddings": true,
        })
    }

    fn build_of(config: &Value, tensors: Option<&TensorShapes>) -> Result<Model, ArchError> {
        let config = Config::parse(&config.to_string()).expect("a config");
        crate::arch::build(&config, tensors, &ArchOptions::default())
    }

    #[test]
    fn the_tensors_tell_the_prefix_and_without_them_the_config() {
        let nested = json!({"model_type": "qwen3_5", "text_config": text()});
        let table = |model: Result<Model, ArchError>| model.expect("a model").graph.weights[0].parts[0].tensor.clone();
        let of = |tensor: &str| TensorShapes::from([(tensor.to_owned(), vec![50, 24])]);
        let (long, short) = ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight");
        assert_eq!(table(build_of(&nested, None)), long);
        assert_eq!(table(build_of(&text(), None)), short);
        for config in [nested, text()] {
            for tensor in [long, short] {
                assert_eq!(table(build_of(&config, Some(&of(tensor)))), tensor);
            }
        }
    }

    #[test]
    fn ids_of_pictures_are_known() {
        let config = json!({
            "model_type": "qwen3_5", "text_config": text(), "image_token_id": 40, "video_token_id": 41,
            "vision_config": {"depth": 2},
        });
        let model = build_of(&config, None).expect("a model");
        assert_eq!(model.placeholder_ids, [("image_token_id", 40), ("video_token_id", 41)]);
        assert_eq!(build_of(&text(), None).expect("a model").placeholder_ids, []);
    }

    /// The same with experts in place of the feed-forwards.
    fn experts() -> Value {
        let mut config = text();
        for (field, value) in [
            ("model_type", json!("qwen3_5_moe_text")),
            ("num_experts", json!(6)),
            ("num_experts_per_tok", json!(2)),
            ("moe_intermediate_size", json!(10)),
            ("shared_expert_intermediate_size", json!(14)),
            ("mlp_only_layers", json!([])),
        ] {
            config[field] = value;
        }
        config
    }

    #[test]
    fn experts_lie_in_one_tensor_or_in_one_each() {
        let nested = json!({"model_type": "qwen3_5_moe", "text_config": experts()});
        let layer = "model.language_model.layers.0.mlp.experts.";
        let packed = ["gate_up_proj", "down_proj"].map(|name| format!("{layer}{name}"));
        let apart = ["0.gate_proj", "0.down_proj"].map(|name| format!("{layer}{name}.weight"));
        let of = |name: &String| TensorShapes::from([(name.clone(), vec![])]);
        let embedding = "model.language_model.embed_tokens.weight".to_owned();
        for (tensors, wanted, parts) in
            [(None, &packed, 1), (Some(of(&packed[0])), &packed, 1), (Some(of(&apart[0])), &apart, 12)]
        {
            let tensors = tensors.map(|tensors| tensors.into_iter().chain(of(&embedding)).collect::<TensorShapes>());
            let model = build_of(&nested, tensors.as_ref()).expect("a model");
            let weight = |name: &str| {
                let weight = model.graph.weights.iter().find(|weight| weight.name == format!("layers.0.{name}"));
                weight.expect("a weight").clone()
            };
            let (up, down) = (weight("experts_up"), weight("experts_down"));
            assert_eq!([&up.parts[0].tensor, &down.parts[0].tensor], [&wanted[0], &wanted[1]]);
            assert_eq!(
                (up.parts.len(), [up.rows, up.columns], [down.rows, down.columns]),
                (parts, [120, 24], [144, 10])
            );
            // The gate of the shared expert stands below the router.
            assert_eq!(weight("router").rows, 7);
        }
    }

    #[test]
    fn experts_that_the_reference_does_not_know_are_refused() {
        for (field, value) in [
            ("norm_topk_prob", json!(false)),
            ("mlp_only_layers", json!([1])),
            ("decoder_sparse_step", json!(2)),
            ("num_experts", json!(0)),
            ("num_experts_per_tok", json!(7)),
            ("mtp_num_hidden_layers", json!(2)),
        ] {
            let mut config = experts();
            config[field] = value;
            let error = build_of(&config, None).expect_err(field).to_string();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (field, value) in [
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("attn_output_gate", json!(false)),
            ("output_gate_type", json!("sigmoid")),
            ("mtp_num_hidden_layers", json!(2)),
            ("mtp_use_dedicated_embeddings", json!(true)),
            ("num_experts", json!(8)),
            ("sliding_window", json!(64)),
            ("layer_types", json!(["linear_attention", "full_attention", "mamba", "linear_attention"])),
            ("rope_scaling", json!("yarn")),
            ("linear_num_key_heads", json!(3)),
        ] {
            let mut config = text();
            config[field] = value;
            let error = build_of(&config, None).expect_err(field).to_string();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
        let mut config = text();
        config["rope_parameters"]["rope_type"] = json!("su");
        let error = build_of(&config, None).expect_err("scaled").to_string();
        assert!(error.contains("`rope_type` = \"su\""), "{error}");
        let mixture = json!({"model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_moe_text"}});
        let error = build_of(&mixture, None).expect_err("a mixture of experts").to_string();
        assert!(error.contains("qwen3_5_moe_text"), "{error}");
        let dense = json!({"model_type": "qwen3_5_moe", "text_config": text()});
        let error = build_of(&dense, None).expect_err("no experts").to_string();
        assert!(error.contains("qwen3_5_moe_text"), "{error}");
    }
}
