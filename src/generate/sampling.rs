//! How tokens are chosen, from what someone asks for and what the model's makers recommend.

use serde::Deserialize;

use crate::state::Sampler;

/// What someone asks for; what is `None` is as recommended, else as a [`Sampler`] has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SamplingWish {
    /// 0 is greedy, and so is what is below [`GREEDY_BELOW`](crate::state::GREEDY_BELOW).
    pub temperature: Option<f32>,
    /// 0: all.
    pub top_k: Option<u32>,
    /// 1: all.
    pub top_p: Option<f32>,
    /// 0: all.
    pub min_p: Option<f32>,
    /// 1: none.
    pub repetition_penalty: Option<f32>,
    /// 0: none.
    pub frequency_penalty: Option<f32>,
    /// 0: none.
    pub presence_penalty: Option<f32>,
    /// Asking for a seed asks for chance, unless a temperature says otherwise.
    pub seed: Option<u64>,
}

/// What a model's makers recommend, in `generation_config.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Recommended {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
}

impl Recommended {
    /// Reads the file, if there is one. A broken one recommends nothing: loading the model has refused it before.
    pub fn from_file(file: Option<&[u8]>) -> Self {
        let read: Option<Self> = file.and_then(|bytes| serde_json::from_slice(bytes).ok());
        read.filter(|read| read.do_sample == Some(true)).unwrap_or_default()
    }
}

impl SamplingWish {
    /// What is asked for, then what is recommended. `chance` gives a seed where none is asked for.
    pub fn sampler(&self, recommended: &Recommended, chance: impl FnOnce() -> u64) -> Sampler {
        let top_k = self.top_k.or(recommended.top_k);
        let top_p = self.top_p.or(recommended.top_p);
        let min_p = self.min_p.or(recommended.min_p);
        let drawn =
            recommended.do_sample.is_some() || [self.top_k.is_some(), top_p.is_some(), min_p.is_some()].contains(&true);
        let temperature = self.temperature.or(recommended.temperature);
        let default = Sampler::default();
        Sampler {
            temperature: temperature.unwrap_or(if drawn || self.seed.is_some() { 1.0 } else { 0.0 }),
            top_k: top_k.unwrap_or(default.top_k),
            top_p: top_p.unwrap_or(default.top_p),
            min_p: min_p.unwrap_or(default.min_p),
            repetition: self.repetition_penalty.unwrap_or(default.repetition),
            frequency: self.frequency_penalty.unwrap_or(default.frequency),
            presence: self.presence_penalty.unwrap_or(default.presence),
            seed: self.seed.unwrap_or_else(chance),
            ..default
        }
    }
}
