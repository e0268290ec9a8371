//! Options of the sampler.

use std::hash::{BuildHasher, RandomState};

use selvedge::generate::{Recommended, SamplingOverrides};
use selvedge::state::Sampler;

/// The order is that of the options; see the library's documentation of `state::Sampler`.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Temperature; 0, or less than 0.00001: always the most probable token [default: 0; 1 with --top-k, --top-p, --min-p or --seed]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keep the K most probable tokens; 0: all
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Keep the fewest tokens that together have probability P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Drop tokens with less than P times the largest probability
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divide the positive logits of tokens in the prompt or the answer by F, multiply the negative ones; 1: off
    #[arg(long, value_name = "F")]
    repetition_penalty: Option<f32>,
    /// Subtract F from a token's logit for each time that it was chosen; 0: off
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Subtract F from the logit of every token that was chosen; 0: off
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Seed: the same seed gives the same text on the same device [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// The sampler: the user's options, then the recommendation.
    pub(crate) fn sampler(&self, recommended: &Recommended) -> Sampler {
        let overrides = SamplingOverrides {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed,
        };
        overrides.sampler(recommended, chance)
    }
    /// The user named no seed: every answer may have one of its own.
    pub(crate) fn seed_is_free(&self) -> bool {
        self.seed.is_none()
    }
}

/// A random number: a hasher's keys are the standard library's.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one(0)
}
