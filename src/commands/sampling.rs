//! How tokens are chosen, as the user says it.

use std::hash::{BuildHasher, RandomState};

use serde::Deserialize;

use crate::state::Sampler;

/// The order is that of the options; see the library's documentation of `state::Sampler`.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Choice of tokens")]
pub(super) struct SamplingArgs {
    /// How much chance there is: 0 always takes the most probable token [default: 0, or 1 with another option of these]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Choose among the K most probable tokens; 0: all
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Choose among the fewest tokens that make up P of the probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Leave out tokens with less than P of the largest probability
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divide the logits of tokens that were read or said by F
    #[arg(long, value_name = "F", default_value_t = 1.0, hide_default_value = true)]
    repetition_penalty: f32,
    /// Lower the logits of tokens by F for each time they were said
    #[arg(long, value_name = "F", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Lower the logits of tokens that were said by F
    #[arg(long, value_name = "F", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What a model's makers recommend, in `generation_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Recommended {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
}

impl Recommended {
    /// Reads the file, if there is one. A broken one recommends nothing: loading the model has refused it before.
    pub(super) fn from_file(file: Option<&[u8]>) -> Self {
        let read: Option<Self> = file.and_then(|bytes| serde_json::from_slice(bytes).ok());
        read.filter(|read| read.do_sample == Some(true)).unwrap_or_default()
    }
}

impl SamplingArgs {
    /// What the user said, then what is recommended.
    pub(super) fn sampler(&self, recommended: &Recommended) -> Sampler {
        let top_k = self.top_k.or(recommended.top_k);
        let top_p = self.top_p.or(recommended.top_p);
        let min_p = self.min_p.or(recommended.min_p);
        let drawn =
            recommended.do_sample.is_some() || [self.top_k.is_some(), top_p.is_some(), min_p.is_some()].contains(&true);
        let temperature = self.temperature.or(recommended.temperature);
        Sampler {
            temperature: temperature.unwrap_or(if drawn || self.seed.is_some() { 1.0 } else { 0.0 }),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.unwrap_or(1.0),
            min_p: min_p.unwrap_or(0.0),
            repetition: self.repetition_penalty,
            frequency: self.frequency_penalty,
            presence: self.presence_penalty,
            // A hasher's keys are the standard library's random numbers.
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(0)),
            ..Sampler::default()
        }
    }
}
