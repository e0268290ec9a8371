//! The choice of tokens, as the user says it.

use std::hash::{BuildHasher, RandomState};

use selvedge::generate::{Recommended, SamplingOverrides};
use selvedge::state::Sampler;

/// The order is that of the options; see the library's documentation of `state::Sampler`.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Choice of tokens")]
pub(crate) struct SamplingArgs {
    /// How much chance there is: 0, or less than 0.00001, always takes the most probable token [default: 0, or 1 with another option of these]
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
    /// Divide the logits of tokens that were read or said by F; 1: do not
    #[arg(long, value_name = "F")]
    repetition_penalty: Option<f32>,
    /// Lower the logits of tokens by F for each time they were said
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Lower the logits of tokens that were said by F
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// What the user said, then what is recommended.
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
