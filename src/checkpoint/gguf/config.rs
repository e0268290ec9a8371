//! `config.json` of a model in a GGUF file, as transformers writes it for the same model, from the file's metadata.
//!
//! Sizes come from the metadata; what its keys do not tell (tied heads, biases, a norm) from the tensors that are there.
//! Factors that llama.cpp's converter folds into the weights (Falcon-H1's) are 1. Source: llama.cpp's converter, one class an
//! architecture.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::head::{Metadata, Tensor};

/// Architectures that are read in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Qwen35,
    Lfm2,
    NemotronH,
    Granite,
    FalconH1,
    Jamba,
}

/// Every architecture that is read, by `general.architecture`.
const ARCHITECTURES: [(&str, Family); 18] = [
    ("falcon-h1", Family::FalconH1),
    ("granite", Family::Granite),
    ("granitehybrid", Family::Granite),
    ("granitemoe", Family::Granite),
    ("jamba", Family::Jamba),
    ("lfm2", Family::Lfm2),
    ("lfm2moe", Family::Lfm2),
    ("llama", Family::Llama),
    // Ministral 3, and a Mistral that was taken out of a model that also sees.
    ("mistral3", Family::Llama),
    ("nemotron_h", Family::NemotronH),
    ("nemotron_h_moe", Family::NemotronH),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("qwen35", Family::Qwen35),
    ("qwen35moe", Family::Qwen35),
    ("qwen3moe", Family::Qwen3),
    // Of the gated delta rule as qwen35, but for the order of its heads.
    ("qwen3next", Family::Qwen35),
    // llama.cpp takes every fourth layer to be without positions, as all published ones are.
    ("smollm3", Family::Llama),
];

/// The names of the architectures that are read.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name)
}

/// Sizes by which tensors are put back in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sizes {
    pub family: Family,
    /// Layers that are run.
    pub layers: usize,
    /// Layers behind them, which look ahead.
    pub ahead: usize,
    /// Heads of q and of k, where rows were reordered for a rotation of neighbours.
    pub rotated_pairs: Option<(usize, usize)>,
    /// Rows of q, of k and of v, where they may lie in one tensor.
    pub qkv: [usize; 3],
    /// Gated delta rule: key heads, value heads, columns of a key head and of a value head.
    pub delta: [usize; 4],
    /// Experts of a layer.
    pub experts: usize,
}

/// The metadata of an architecture, and its tensors.
struct Reader<'a> {
    metadata: &'a Metadata,
    arch: &'a str,
    tensors: BTreeMap<&'a str, &'a Tensor>,
    layers: usize,
    ahead: usize,
}

type Result<T> = std::result::Result<T, String>;

/// Largest size in the metadata, and most columns of all heads.
const LARGEST: usize = 1 << 24;
/// Most experts of a layer.
const MOST_EXPERTS: usize = 1 << 16;

/// The config, and the sizes. `rope_factors` are the numbers of `rope_freqs.weight`. Faults are sentences.
pub(super) fn config(metadata: &Metadata, tensors: &[&Tensor], rope_factors: Option<&[f32]>) -> Result<(Json, Sizes)> {
    let arch = metadata.text("general.architecture")?.ok_or("it has no `general.architecture`; is it a model?")?;
    let Some(&(_, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == arch) else {
        let known: Vec<&str> = architectures().collect();
        return Err(format!("its architecture is `{arch}`; those that are read: {}", known.join(", ")));
    };
    let tensors = tensors.iter().map(|&tensor| (tensor.name.as_str(), tensor)).collect();
    let mut reader = Reader { metadata, arch, tensors, layers: 0, ahead: 0 };
    let ahead = reader.count("nextn_predict_layers")?.unwrap_or(0);
    reader.ahead = ahead;
    let blocks = reader.needed("block_count")?;
    reader.layers = blocks.checked_sub(ahead).filter(|&layers| layers > 0 && layers <= 1 << 12).ok_or_else(|| {
        format!("`{arch}.block_count` is {blocks}, of which {ahead} look ahead: no number of layers that can be read")
    })?;
    reader.build(family, rope_factors)
}

/// At which distance from each other, and from which layer on, the layers stand of which this is true: `[period, offset]`.
/// `None` where there is no one distance.
fn every(of: &[bool]) -> Option<[usize; 2]> {
    let mut places = (0..of.len()).filter(|&layer| of[layer]);
    let found = match (places.next(), places.next()) {
        (None, _) => [of.len() + 1, of.len()],
        (Some(first), None) => [of.len().max(first + 1), first],
        (Some(first), Some(second)) => [second - first, first],
    };
    let [period, offset] = found;
    (offset < period && (0..of.len()).all(|layer| of[layer] == (layer % period == offset))).then_some(found)
}

/// Adds fields to an object.
fn extend(config: &mut Json, fields: Json) {
    if let (Some(config), Json::Object(fields)) = (config.as_object_mut(), fields) {
        config.extend(fields);
    }
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// A size. Those of published models are far below the largest.
    fn count(&self, name: &str) -> Result<Option<usize>> {
        match self.metadata.count(&self.key(name))? {
            Some(size) if size > LARGEST => Err(format!("`{}` is {size}; at most {LARGEST} is read", self.key(name))),
            size => Ok(size),
        }
    }

    fn needed(&self, name: &str) -> Result<usize> {
        self.count(name)?.filter(|&n| n > 0).ok_or_else(|| format!("`{}` is missing or 0", self.key(name)))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.number(&self.key(name))
    }

    /// A count for each layer.
    fn each(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let found = self.metadata.per_layer(&self.key(name), self.layers)?;
        if let Some(size) = found.iter().flatten().find(|&&size| size > LARGEST) {
            return Err(format!("`{}` is {size}; at most {LARGEST} is read", self.key(name)));
        }
        Ok(found.map(|mut each| {
            each.truncate(self.layers);
            each
        }))
    }

    /// The one count of all layers that have one; 0 where none has.
    fn same(&self, name: &str) -> Result<Option<usize>> {
        let Some(each) = self.each(name)? else { return Ok(None) };
        let mut others = each.iter().copied().filter(|&n| n > 0);
        let first = others.next().unwrap_or(0);
        match others.find(|&n| n != first) {
            Some(other) => Err(format!(
                "`{}` is {first} in some layers and {other} in others; one size for all is read",
                self.key(name)
            )),
            None => Ok(Some(first)),
        }
    }

    fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name).copied()
    }

    /// True if a layer has such a tensor.
    fn any(&self, name: &str) -> bool {
        (0..self.layers).any(|layer| self.tensor(&format!("blk.{layer}.{name}")).is_some())
    }

    /// A name for each layer, by whether `of` is true of it.
    fn kinds<'k>(&self, of: &[bool], yes: &'k str, no: &'k str) -> Vec<&'k str> {
        of.iter().map(|&of| if of { yes } else { no }).collect()
    }

    /// Rotary fields as `rope_parameters`.
    fn rope(&self, factors: Option<&[f32]>, head: usize, partial: bool) -> Result<Json> {
        let theta = self.number("rope.freq_base")?.unwrap_or(10000.0);
        let mut fields = json!({ "rope_type": "default", "rope_theta": theta });
        let rotated = self.count("rope.dimension_count")?.filter(|&n| n > 0).unwrap_or(head);
        if partial {
            fields["partial_rotary_factor"] = json!(rotated as f64 / head as f64);
        } else if rotated != head {
            return Err(format!(
                "`{}` is {rotated}, but a head has {head} columns; whole heads are rotated",
                self.key("rope.dimension_count")
            ));
        }
        // Older files have a factor alone, under the one name or the other.
        let factor = self.number("rope.scaling.factor")?.or(self.number("rope.scale_linear")?).filter(|&f| f != 0.0);
        let unnamed = if factor.is_some_and(|factor| factor != 1.0) { "linear" } else { "none" };
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?.unwrap_or(unnamed);
        if let Some(scale) = self.number("rope.scaling.attn_factor")?.filter(|&scale| scale != 1.0) {
            return Err(format!("`{}` is {scale}; 1 is read", self.key("rope.scaling.attn_factor")));
        }
        let original = self.count("rope.scaling.original_context_length")?;
        match (kind, factors) {
            ("none", None) => {}
            // transformers' name for factors on wavelengths that are given one by one.
            ("none", Some(factors)) => {
                fields["rope_type"] = json!("longrope");
                fields["short_factor"] = json!(factors);
                fields["long_factor"] = json!(factors);
                fields["attention_factor"] = json!(1.0);
            }
            ("linear", None) => {
                fields["rope_type"] = json!("linear");
                fields["factor"] = json!(factor.unwrap_or(1.0));
            }
            ("yarn", None) => {
                fields["rope_type"] = json!("yarn");
                fields["factor"] = json!(factor.unwrap_or(1.0));
                for (name, key) in [
                    ("attention_factor", "rope.scaling.yarn_attn_factor"),
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                ] {
                    if let Some(value) = self.number(key)? {
                        fields[name] = json!(value);
                    }
                }
                if let Some(weight) = self.number("rope.scaling.yarn_log_multiplier")? {
                    (fields["mscale"], fields["mscale_all_dim"]) = (json!(1.0), json!(weight));
                }
            }
            _ => {
                return Err(format!(
                    "`{}` is `{kind}`; `none`, `linear` and `yarn` are read, and factors without them",
                    self.key("rope.scaling.type")
                ));
            }
        }
        if let Some(original) = original {
            fields["original_max_position_embeddings"] = json!(original);
        }
        Ok(fields)
    }

    fn build(&self, family: Family, rope_factors: Option<&[f32]>) -> Result<(Json, Sizes)> {
        let layers = self.layers;
        let hidden = self.needed("embedding_length")?;
        let embeddings =
            self.tensor("token_embd.weight").ok_or("it has no tensor `token_embd.weight`; is it a whole model?")?;
        let heads = self
            .same("attention.head_count")?
            .filter(|&n| n > 0)
            .ok_or_else(|| format!("`{}` is missing or 0", self.key("attention.head_count")))?;
        let kv_heads = self.same("attention.head_count_kv")?.filter(|&n| n > 0).unwrap_or(heads);
        let head = self.count("attention.key_length")?.filter(|&n| n > 0).unwrap_or(hidden / heads);
        let value = self.count("attention.value_length")?.filter(|&n| n > 0).unwrap_or(head);
        if value != head {
            return Err(format!("keys have {head} columns and values {value}; the same number is read"));
        }
        let eps = self.number("attention.layer_norm_rms_epsilon")?;
        let eps = eps.or(self.number("attention.layer_norm_epsilon")?);
        let eps = eps.ok_or_else(|| format!("`{}` is missing", self.key("attention.layer_norm_rms_epsilon")))?;
        let width = self.same("feed_forward_length")?;
        let product = |what: &str, a: usize, b: usize| {
            let product = (a as u64) * (b as u64);
            let fault = || format!("{what} have {a} times {b} columns; at most {LARGEST} are read");
            if product > LARGEST as u64 { Err(fault()) } else { Ok(product as usize) }
        };
        let (q_rows, kv_rows) = (product("heads", heads, head)?, product("heads", kv_heads, head)?);
        if self.metadata.flag(&self.key("attention.causal"))? == Some(false) {
            return Err("its attention looks ahead, which is not read".into());
        }
        let context = self.count("context_length")?;
        let window = self.count("attention.sliding_window")?.filter(|&window| window > 0);
        if let Some(window) = window.filter(|&window| context.is_none_or(|context| window < context)) {
            return Err(format!(
                "`{}` is {window}; windows are not read of GGUF",
                self.key("attention.sliding_window")
            ));
        }
        let experts = self.count("expert_count")?.unwrap_or(0);
        if experts > MOST_EXPERTS {
            return Err(format!("`{}` is {experts}; at most {MOST_EXPERTS} are read", self.key("expert_count")));
        }
        let mut sizes = Sizes {
            family,
            layers,
            ahead: self.ahead,
            rotated_pairs: None,
            qkv: [q_rows, kv_rows, kv_rows],
            delta: [0; 4],
            experts,
        };
        let mut config = json!({
            "vocab_size": embeddings.shape.first(),
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head,
            "rms_norm_eps": eps,
            "tie_word_embeddings": self.tensor("output.weight").is_none(),
            "attention_bias": family != Family::Qwen2 && self.any("attn_q.bias"),
            "mlp_bias": self.any("ffn_up.bias"),
        });
        let mut set = |fields: Json| extend(&mut config, fields);
        for (field, key) in [("intermediate_size", width), ("max_position_embeddings", context)] {
            if let Some(size) = key.filter(|&n| n > 0) {
                set(json!({ field: size }));
            }
        }
        for (field, key) in
            [("bos_token_id", "tokenizer.ggml.bos_token_id"), ("eos_token_id", "tokenizer.ggml.eos_token_id")]
        {
            if let Some(id) = self.metadata.count(key)? {
                set(json!({ field: id }));
            }
        }
        let attends =
            self.each("attention.head_count_kv")?.map(|each| each.into_iter().map(|n| n > 0).collect::<Vec<_>>());
        let attends = attends.unwrap_or_else(|| vec![true; layers]);
        // Some families have names of their own for all that is said of their experts.
        let named = matches!(family, Family::NemotronH | Family::Granite | Family::Jamba);
        let next = self.arch == "qwen3next";
        let mixture = !named && (next || self.arch.ends_with("moe"));
        match sizes.experts {
            0 => {}
            _ if named => {}
            _ if mixture => set(self.experts()?),
            experts => {
                return Err(format!(
                    "`{}` is {experts}: experts are not read of `{}`",
                    self.key("expert_count"),
                    self.arch
                ));
            }
        }
        match family {
            Family::Llama | Family::Qwen2 | Family::Qwen3 => {
                let growth = self.number("attention.temperature_scale")?.filter(|&growth| growth != 0.0);
                let model_type = match (self.arch, growth) {
                    _ if mixture => "qwen3_moe",
                    ("mistral3", Some(_)) => "ministral3",
                    ("mistral3", None) => "mistral",
                    (arch, _) => arch,
                };
                let mut rope = self.rope(rope_factors, head, false)?;
                if let Some(growth) = growth {
                    rope["llama_4_scaling_beta"] = json!(growth);
                }
                set(json!({
                    "model_type": model_type, "hidden_act": "silu", "rope_parameters": rope, "sliding_window": null,
                }));
                sizes.rotated_pairs = (family == Family::Llama).then_some((heads, kv_heads));
            }
            Family::Qwen35 => {
                let recurrent = match self.each("attention.recurrent_layers")? {
                    Some(each) => each.into_iter().map(|n| n > 0).collect(),
                    None => {
                        let interval = self.count("full_attention_interval")?.filter(|&n| n > 0).unwrap_or(4);
                        (1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect::<Vec<_>>()
                    }
                };
                let (keys, values) = (self.needed("ssm.group_count")?, self.needed("ssm.time_step_rank")?);
                let (key, value) = (self.needed("ssm.state_size")?, self.part("ssm.inner_size", "ssm.time_step_rank")?);
                if !values.is_multiple_of(keys) {
                    return Err(format!(
                        "`{}` is {keys}, no divisor of the {values} value heads",
                        self.key("ssm.group_count")
                    ));
                }
                // Of Qwen3-Next value heads keep their order.
                sizes.delta = if next { [0; 4] } else { [keys, values, key, value] };
                product("key heads", keys, key)?;
                product("value heads", values, value)?;
                // Of every head the gate's rows lie beside the query's.
                sizes.qkv[0] *= 2;
                set(json!({
                    "model_type": if next { "qwen3_next" } else if mixture { "qwen3_5_moe_text" } else { "qwen3_5_text" },
                    "hidden_act": "silu", "attn_output_gate": true,
                    "layer_types": self.kinds(&recurrent, "linear_attention", "full_attention"),
                    "linear_num_key_heads": keys, "linear_num_value_heads": values, "linear_key_head_dim": key,
                    "linear_value_head_dim": value, "linear_conv_kernel_dim": self.needed("ssm.conv_kernel")?,
                    "rope_parameters": self.rope(rope_factors, head, true)?,
                }));
            }
            Family::Lfm2 => {
                if mixture {
                    set(json!({ "num_dense_layers": self.count("leading_dense_block_count")?.unwrap_or(0) }));
                }
                set(json!({
                    "model_type": if mixture { "lfm2_moe" } else { "lfm2" }, "layer_types": self.kinds(&attends, "full_attention", "conv"),
                    "conv_L_cache": self.needed("shortconv.l_cache")?, "conv_bias": self.any("shortconv.conv.bias"),
                    "block_auto_adjust_ff_dim": false, "norm_eps": eps,
                    "tie_embedding": self.tensor("output.weight").is_none(),
                    "rope_parameters": self.rope(rope_factors, head, false)?,
                }));
            }
            Family::NemotronH => set(self.nemotron_h(&attends, eps)?),
            Family::Granite => {
                let rotated = self.metadata.flag(&self.key("rope.scaling.finetuned"))?.unwrap_or(true);
                sizes.rotated_pairs = rotated.then_some((heads, kv_heads));
                set(self.granite(&attends, head, rotated, rope_factors)?);
            }
            Family::Jamba => set(self.jamba(&attends, hidden)?),
            Family::FalconH1 => {
                set(self.mamba(false)?);
                set(json!({
                    "model_type": "falcon_h1", "hidden_act": "silu", "mamba_d_ssm": self.needed("ssm.inner_size")?,
                    "mamba_rms_norm": self.any("ssm_norm.weight"), "mamba_norm_before_gate": false,
                    "projectors_bias": self.any("ssm_out.bias"), "rope_parameters": self.rope(rope_factors, head, false)?,
                }));
            }
        }
        Ok((config, sizes))
    }

    /// A size divided by another, without a rest.
    fn part(&self, whole: &str, by: &str) -> Result<usize> {
        let (whole_size, by_size) = (self.needed(whole)?, self.needed(by)?);
        match whole_size.is_multiple_of(by_size) {
            true => Ok(whole_size / by_size),
            false => Err(format!("`{}` is {by_size}, no divisor of `{whole}`, {whole_size}", self.key(by))),
        }
    }

    /// Mamba-2's sizes under the names of Falcon-H1 and Granite, or under Nemotron-H's.
    fn mamba(&self, nemotron: bool) -> Result<Json> {
        let (heads, groups) = (self.needed("ssm.time_step_rank")?, self.needed("ssm.group_count")?);
        let (head, states) = (self.part("ssm.inner_size", "ssm.time_step_rank")?, self.needed("ssm.state_size")?);
        let (kernel, bias, projected) =
            (self.needed("ssm.conv_kernel")?, self.any("ssm_conv1d.bias"), self.any("ssm_in.bias"));
        Ok(match nemotron {
            true => json!({
                "mamba_num_heads": heads, "mamba_head_dim": head, "n_groups": groups, "ssm_state_size": states,
                "conv_kernel": kernel, "use_conv_bias": bias, "use_bias": projected, "mamba_hidden_act": "silu",
            }),
            false => json!({
                "mamba_n_heads": heads, "mamba_d_head": head, "mamba_n_groups": groups, "mamba_d_state": states,
                "mamba_d_conv": kernel, "mamba_conv_bias": bias, "mamba_proj_bias": projected,
            }),
        })
    }

    /// Sizes of the experts under the names of Qwen and LFM2.
    fn experts(&self) -> Result<Json> {
        let mut config = json!({
            "num_experts": self.needed("expert_count")?, "num_experts_per_tok": self.needed("expert_used_count")?,
            "moe_intermediate_size": self.needed("expert_feed_forward_length")?, "norm_topk_prob": true,
        });
        if let Some(shared) = self.count("expert_shared_feed_forward_length")?.filter(|&n| n > 0) {
            config["shared_expert_intermediate_size"] = json!(shared);
        }
        Ok(config)
    }

    fn nemotron_h(&self, attends: &[bool], eps: f64) -> Result<Json> {
        let feeds = self.each("feed_forward_length")?.unwrap_or_else(|| vec![0; self.layers]);
        let experts = |layer: usize| self.tensor(&format!("blk.{layer}.ffn_gate_inp.weight")).is_some();
        let block = |layer: usize| match (attends[layer], feeds[layer] > 0) {
            (_, true) if experts(layer) => 'E',
            (_, true) => '-',
            (true, _) => '*',
            _ => 'M',
        };
        let pattern: String = (0..self.layers).map(block).collect();
        let mut config = json!({
            "model_type": "nemotron_h", "hybrid_override_pattern": pattern, "layer_norm_epsilon": eps, "mlp_hidden_act": "relu2",
        });
        let mut set = |fields: Json| extend(&mut config, fields);
        set(self.mamba(true)?);
        if pattern.contains('E') {
            let flag = |name: &str| self.metadata.flag(&self.key(name));
            set(json!({
                "n_routed_experts": self.needed("expert_count")?, "num_experts_per_tok": self.same("expert_used_count")?,
                "moe_intermediate_size": self.needed("expert_feed_forward_length")?,
                "moe_shared_expert_intermediate_size": self.needed("expert_shared_feed_forward_length")?,
                "n_shared_experts": self.count("expert_shared_count")?.unwrap_or(1),
                "norm_topk_prob": flag("expert_weights_norm")?.unwrap_or(true),
                "routed_scaling_factor": self.number("expert_weights_scale")?.unwrap_or(1.0),
                "n_group": self.count("expert_group_count")?.filter(|&n| n > 0).unwrap_or(1),
                "topk_group": self.count("expert_group_used_count")?.filter(|&n| n > 0).unwrap_or(1),
            }));
            if let Some(latent) = self.count("moe_latent_size")?.filter(|&n| n > 0) {
                set(json!({ "moe_latent_size": latent }));
            }
        }
        Ok(config)
    }

    fn jamba(&self, attends: &[bool], hidden: usize) -> Result<Json> {
        let sparse: Vec<bool> =
            (0..self.layers).map(|layer| self.tensor(&format!("blk.{layer}.ffn_gate_inp.weight")).is_some()).collect();
        let placed = |of: &[bool], what: &str| {
            every(of).ok_or_else(|| format!("its layers with {what} do not come at one distance, as Jamba's do"))
        };
        let ([attn_period, attn_offset], [expert_period, expert_offset]) =
            (placed(attends, "attention")?, placed(&sparse, "experts")?);
        let inner = self.needed("ssm.inner_size")?;
        let mut config = json!({
            "model_type": "jamba", "hidden_act": "silu", "mamba_expand": inner as f64 / hidden as f64,
            "mamba_d_state": self.needed("ssm.state_size")?, "mamba_d_conv": self.needed("ssm.conv_kernel")?,
            "mamba_dt_rank": self.needed("ssm.time_step_rank")?, "mamba_conv_bias": self.any("ssm_conv1d.bias"),
            "mamba_proj_bias": self.any("ssm_in.bias"), "attn_layer_period": attn_period, "attn_layer_offset": attn_offset,
            "expert_layer_period": expert_period, "expert_layer_offset": expert_offset, "num_experts": 1,
        });
        if sparse.contains(&true) {
            extend(
                &mut config,
                json!({
                    "num_experts": self.needed("expert_count")?, "num_experts_per_tok": self.needed("expert_used_count")?,
                }),
            );
        }
        Ok(config)
    }

    fn granite(&self, attends: &[bool], head: usize, rotated: bool, rope_factors: Option<&[f32]>) -> Result<Json> {
        let attention = self.number("attention.scale")?.filter(|&scale| scale != 0.0);
        let one = |name: &str| self.number(name).map(|found| found.unwrap_or(1.0));
        let mut config = json!({
            "model_type": "granitemoehybrid", "hidden_act": "silu",
            "layer_types": self.kinds(attends, "attention", "mamba"),
            "position_embedding_type": if rotated { "rope" } else { "nope" },
            "attention_multiplier": attention.unwrap_or(1.0 / (head as f64).sqrt()),
            "embedding_multiplier": one("embedding_scale")?, "residual_multiplier": one("residual_scale")?,
            "logits_scaling": one("logit_scale")?, "num_local_experts": 0, "num_experts_per_tok": 0,
            "shared_intermediate_size": self.same("feed_forward_length")?,
        });
        let mut set = |fields: Json| extend(&mut config, fields);
        if self.any("ffn_gate_exps.weight") {
            let shared = self.any("ffn_gate_shexp.weight");
            set(json!({
                "num_local_experts": self.needed("expert_count")?, "num_experts_per_tok": self.needed("expert_used_count")?,
            }));
            match (shared, attends.contains(&false) || !rotated) {
                (true, _) => {
                    set(json!({ "shared_intermediate_size": self.needed("expert_shared_feed_forward_length")? }));
                }
                (false, false) => set(json!({ "model_type": "granitemoe" })),
                (false, true) => {
                    return Err(
                        "its layers have experts and none that all tokens share; such a hybrid is not read".into()
                    );
                }
            }
        }
        if rotated {
            set(json!({ "rope_parameters": self.rope(rope_factors, head, false)? }));
        }
        if attends.iter().any(|&attends| !attends) {
            let (inner, hidden) = (self.needed("ssm.inner_size")?, self.needed("embedding_length")?);
            set(self.mamba(false)?);
            set(json!({ "mamba_expand": inner as f64 / hidden as f64 }));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::every;

    #[test]
    fn layers_at_one_distance_have_a_period_and_an_offset() {
        let of = |text: &str| every(&text.chars().map(|c| c == '*').collect::<Vec<_>>());
        for (layers, wanted) in [
            ("-*-*-*", Some([2, 1])),
            ("----*-------*---", Some([8, 4])),
            ("**", Some([1, 0])),
            ("--*-", Some([4, 2])),
            ("----", Some([5, 4])),
            ("-*-*--", None),
            ("-*--*", Some([3, 1])),
            ("--*-*-*", None),
        ] {
            assert_eq!(of(layers), wanted, "{layers}");
        }
    }
}
