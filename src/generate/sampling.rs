//! The choice of tokens, from what someone asks for and what the model's makers recommend.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use super::Recommended;
use crate::state::Sampler;

/// Sampling parameters that override the recommended ones; a `None` is as recommended, else as [`Sampler`]'s default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SamplingOverrides {
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
    /// Seed of the draws. Without a temperature it sets the temperature to 1.
    #[serde(deserialize_with = "seed")]
    pub seed: Option<u64>,
}

/// A seed, which may be negative, as OpenAI's are.
fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let seed = number.as_u64().or(number.as_i64().map(|seed| seed as u64));
    seed.map(Some).ok_or_else(|| D::Error::custom(format!("`seed` must be a whole number of 64 bits, and is {number}")))
}

impl SamplingOverrides {
    /// The sampler: an override where there is one, then the recommendation, then the default. `chance` gives a seed
    /// where none is asked for.
    pub fn sampler(&self, recommended: &Recommended, chance: impl FnOnce() -> u64) -> Sampler {
        let default = Sampler::default();
        let asked = [self.top_k.is_some(), self.top_p.is_some(), self.min_p.is_some(), self.seed.is_some()];
        let drawn = recommended.do_sample || asked.contains(&true);
        let temperature = self.temperature.or(recommended.temperature);
        let pick = |asked: Option<f32>, recommended: Option<f32>, default| asked.or(recommended).unwrap_or(default);
        Sampler {
            temperature: temperature.unwrap_or(if drawn { 1.0 } else { 0.0 }),
            top_k: self.top_k.or(recommended.top_k).unwrap_or(default.top_k),
            top_p: pick(self.top_p, recommended.top_p, default.top_p),
            min_p: pick(self.min_p, recommended.min_p, default.min_p),
            repetition: pick(self.repetition_penalty, recommended.repetition_penalty, default.repetition),
            frequency: pick(self.frequency_penalty, recommended.frequency_penalty, default.frequency),
            presence: pick(self.presence_penalty, recommended.presence_penalty, default.presence),
            seed: self.seed.unwrap_or_else(chance),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_wins_over_what_is_recommended() {
        let file = br#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}"#;
        let recommended = Recommended::from_file(Some(file));
        let none = SamplingOverrides::default().sampler(&recommended, || 7);
        let wanted =
            Sampler { temperature: 0.6, top_k: 50, top_p: 0.9, repetition: 1.1, seed: 7, ..Sampler::default() };
        assert_eq!(none, wanted);
        let asked = SamplingOverrides {
            temperature: Some(0.0),
            top_k: Some(0),
            repetition_penalty: Some(1.0),
            seed: Some(3),
            ..SamplingOverrides::default()
        };
        let wanted = Sampler { top_p: 0.9, seed: 3, ..Sampler::default() };
        assert_eq!(asked.sampler(&recommended, || 7), wanted);
    }

    #[test]
    fn seeds_are_whole_numbers() {
        let seed = |json: &str| serde_json::from_str::<SamplingOverrides>(json).map(|overrides| overrides.seed);
        for (json, wanted) in [
            ("{}", None),
            (r#"{"seed": null}"#, None),
            (r#"{"seed": 3}"#, Some(3)),
            (r#"{"seed": -1}"#, Some(u64::MAX)),
        ] {
            assert_eq!(seed(json).expect(json), wanted);
        }
        assert!(seed(r#"{"seed": 0.5}"#).is_err() && seed(r#"{"seed": "1"}"#).is_err());
    }

    #[test]
    fn a_penalty_alone_draws_nothing() {
        let recommended = Recommended::from_file(Some(br#"{"repetition_penalty": 1.3, "temperature": 0.7}"#));
        let sampler = SamplingOverrides::default().sampler(&recommended, || 7);
        assert_eq!(sampler, Sampler { repetition: 1.3, seed: 7, ..Sampler::default() });
        let drawn = SamplingOverrides { top_p: Some(0.5), ..SamplingOverrides::default() };
        assert_eq!(drawn.sampler(&Recommended::default(), || 7).temperature, 1.0);
    }
}
