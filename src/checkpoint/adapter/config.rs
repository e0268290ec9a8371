//! `adapter_config.json` of PEFT.

use serde_json::Value;

use crate::json;

/// Fields that change the result in a way that merging into the weights cannot have, and what they are for.
const REFUSED: [(&str, &str); 10] = [
    ("alora_invocation_tokens", "the adapter works behind certain tokens only"),
    ("layer_replication", "layers of the base are repeated"),
    ("target_parameters", "parameters that are no weight of a module are adapted"),
    ("trainable_token_indices", "rows of single tokens are trained"),
    ("use_qalora", "inputs are pooled"),
    ("use_bdlora", "factors are block-diagonal"),
    ("arrow_config", "several adapters are mixed for each token"),
    ("kasa_config", "the base's singular values are changed"),
    ("monteclora_config", "factors are drawn at random"),
    ("fan_in_fan_out", "weights are transposed"),
];
/// Ways to begin the training that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ) change it.
const PLAIN_BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];
/// Characters that a plain name of modules does not have, and a regular expression may.
const OF_EXPRESSIONS: [char; 13] = ['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '^', '$'];

/// What of an adapter's config changes the result.
#[derive(Debug, PartialEq)]
pub(super) struct AdapterConfig {
    /// Name of the model that it is for, if it says so.
    pub base: Option<String>,
    /// Rows of a sum have lengths of their own.
    pub dora: bool,
    rank: Option<usize>,
    alpha: f64,
    by_root: bool,
    /// Alpha of the modules whose names end so.
    alphas: Vec<(String, f64)>,
}

impl AdapterConfig {
    /// Reads the file's text. Errors continue the file's name.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let config = json::parse_bytes(text).map_err(|e| format!("cannot be read: {e}"))?;
        if !config.is_object() {
            return Err("is not a JSON object".into());
        }
        let said = |field: &str| config.get(field).filter(|value| !is_unset(value));
        match said("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return Err(format!("says `peft_type` {other}; LORA is merged, and DORA as its `use_dora`")),
            None => return Err("has no `peft_type`; is it PEFT's?".into()),
        }
        if let Some((field, what)) = REFUSED.iter().find(|(field, _)| said(field).is_some()) {
            return Err(format!(
                "has `{field}` ({what}), which is not merged here; merge it with PEFT's `merge_and_unload` and load that"
            ));
        }
        if let Some(Value::String(begun)) = said("init_lora_weights")
            && !PLAIN_BEGINNINGS.contains(&begun.to_lowercase().as_str())
        {
            return Err(format!(
                "has `init_lora_weights` `{begun}`, which changes the base too; save the adapter with PEFT's `path_initial_model_for_weight_conversion`"
            ));
        }
        let number = |value: &Value, field: &str| {
            value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| format!("has no number as `{field}`: {value}"))
        };
        let mut alphas = vec![];
        if let Some(pattern) = said("alpha_pattern") {
            let pattern = pattern.as_object().ok_or("has an `alpha_pattern` that is no object")?;
            for (name, alpha) in pattern {
                if name.contains(OF_EXPRESSIONS) {
                    return Err(format!(
                        "has the regular expression `{name}` in `alpha_pattern`; names and ends of names are read"
                    ));
                }
                alphas.push((name.clone(), number(alpha, "alpha_pattern")?));
            }
        }
        let rank = match said("r").filter(|_| said("rank_pattern").is_none()) {
            Some(rank) => {
                Some(rank.as_u64().and_then(|r| usize::try_from(r).ok()).ok_or("has an `r` that is no count")?)
            }
            None => None,
        };
        Ok(Self {
            base: said("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            dora: said("use_dora").is_some(),
            rank,
            // PEFT's own default.
            alpha: said("lora_alpha").map_or(Ok(8.0), |alpha| number(alpha, "lora_alpha"))?,
            by_root: said("use_rslora").is_some(),
            alphas,
        })
    }

    /// The factor of a module's product. Errors: another rank than the config's.
    pub fn scale(&self, module: &str, rank: usize) -> Result<f32, String> {
        if let Some(wanted) = self.rank.filter(|&wanted| wanted != rank) {
            return Err(format!("`{module}` has rank {rank}, and `r` is {wanted}"));
        }
        let is =
            |name: &str| module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'));
        let alpha = self.alphas.iter().find(|(name, _)| is(name)).map_or(self.alpha, |(_, alpha)| *alpha);
        let divisor = if self.by_root { (rank as f64).sqrt() } else { rank as f64 };
        let scale = (alpha / divisor) as f32;
        if scale.is_finite() {
            Ok(scale)
        } else {
            Err(format!("`{module}` has the factor {alpha:e} / {divisor}, which is no f32"))
        }
    }
}

/// True for what Python takes as false: null, false, nothing in it.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(config: Value) -> Result<AdapterConfig, String> {
        AdapterConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn the_factor_is_pefts() {
        let scale = |more: Value, module: &str| {
            let mut config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 12 });
            config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            parse(config).expect("sound").scale(module, 4).expect("the rank")
        };
        assert_eq!(scale(json!({}), "m.q_proj"), 3.0);
        assert_eq!(scale(json!({ "use_rslora": true }), "m.q_proj"), 6.0);
        let pattern = json!({ "alpha_pattern": { "q_proj": 2, "layers.1.k_proj": 8 }, "rank_pattern": {} });
        assert_eq!(scale(pattern.clone(), "m.q_proj"), 0.5);
        assert_eq!(scale(pattern.clone(), "q_proj"), 0.5);
        assert_eq!(scale(pattern.clone(), "m.xq_proj"), 3.0);
        assert_eq!(scale(pattern.clone(), "m.layers.1.k_proj"), 2.0);
        assert_eq!(scale(pattern, "m.layers.11.k_proj"), 3.0);
    }

    #[test]
    fn what_merging_cannot_honour_is_refused() {
        let refused = |more: Value, word: &str| {
            let mut config = json!({ "peft_type": "LORA", "r": 4 });
            config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let what = parse(config).expect_err(word);
            assert!(what.contains(word), "{what}");
        };
        refused(json!({ "peft_type": "IA3" }), "IA3");
        refused(json!({ "peft_type": null }), "peft_type");
        refused(json!({ "layer_replication": [[0, 4]] }), "layer_replication");
        refused(json!({ "alora_invocation_tokens": [1] }), "alora_invocation_tokens");
        refused(json!({ "init_lora_weights": "pissa_niter_4" }), "pissa_niter_4");
        refused(json!({ "alpha_pattern": { "layers.[0-3].q": 3 } }), "regular expression");
        refused(json!({ "lora_alpha": "many" }), "lora_alpha");
        refused(json!({ "r": -1 }), "`r`");
        assert!(AdapterConfig::parse(b"[1]").is_err() && AdapterConfig::parse(b"{").is_err());
        let mut config = parse(json!({ "peft_type": "LORA", "r": 4, "init_lora_weights": "gaussian" })).expect("sound");
        assert!(config.scale("q", 5).expect_err("another rank").contains("rank 5"));
        config.rank = None;
        assert!(config.scale("q", 5).is_ok());
    }
}
