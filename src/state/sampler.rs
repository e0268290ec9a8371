//! The sampler of a slot: its parameters, and the record in which a device keeps them.
//!
//! From the logits `l` of a row a slot chooses in this order:
//! 1. **Penalties.** Where a token was seen: `l / repetition` if `l > 0`, else `l * repetition` (Keskar et al.
//!    2019, arXiv 1909.05858, section 4.1). Then `l - frequency * n - presence * [n > 0]` where the slot chose it
//!    `n` times. Then a token's bias is added, and tokens that the slot's mask leaves out are out.
//! 2. **Temperature** 0, or below [`GREEDY_BELOW`]: the largest, the lowest id among equals. Otherwise
//!    `x = l / temperature`, no further from 0 than 3.4e38.
//! 3. **top-k**: what is smaller than the k-th largest `x` is out.
//! 4. **top-p**: of what is left, the fewest of the most probable that make up `top_p` of its probability
//!    (Holtzman et al. 2019, arXiv 1904.09751).
//! 5. **min-p**: what has less than `min_p` times the largest probability is out (Nguyen et al. 2024,
//!    arXiv 2407.01082).
//! 6. **The draw**: with probability `softmax(x)` over what is left, as the largest of `x - ln(e)` with an
//!    exponential random number `e` for every token. It follows from seed, draw and token alone.
//!
//! At the edge of 3 and 4 equals stay together.
//!
//! From a row that is [`unusable`] nothing is chosen: [`NO_TOKEN`] comes back in place of a token, and the slot is
//! finished.

use crate::constants::{
    self, ADJUSTS, BIASED, DRAWN, END_COUNT, ENDS, FINISHED, FREQUENCY, LIMIT, MIN_P, PENALISED, PRESENCE, REPETITION,
    SEED, TEMPERATURE, TOP_K, TOP_P, UNUSABLE,
};

/// Parameters of a slot's sampler. The default is greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// 0 is greedy, and so is what is below [`GREEDY_BELOW`].
    pub temperature: f32,
    /// 0: all.
    pub top_k: u32,
    /// 1: all.
    pub top_p: f32,
    /// 0: all.
    pub min_p: f32,
    /// 1: none.
    pub repetition: f32,
    /// 0: none.
    pub frequency: f32,
    /// 0: none.
    pub presence: f32,
    /// Added to the logits of these tokens, after the penalties.
    pub biases: Vec<(u32, f32)>,
    /// The same seed draws the same text, on the same device.
    pub seed: u64,
    /// Stop token ids, after which the slot is finished; [`MOST_ENDS`] at most.
    pub stop_token_ids: Vec<u32>,
    /// Most tokens that the slot chooses until it is finished; 0: any number.
    pub limit: u32,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition: 1.0,
            frequency: 0.0,
            presence: 0.0,
            biases: vec![],
            seed: 0,
            stop_token_ids: vec![],
            limit: 0,
        }
    }
}

/// A sampler's parameter out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} of {value} is not {wanted}")]
pub struct SamplerError {
    name: &'static str,
    value: String,
    wanted: &'static str,
}

/// Most stop token ids of a slot.
pub const MOST_ENDS: usize = constants::MOST_ENDS as usize;

/// Words of a slot's record on a device, numbered in `shaders/shared/constants.wgsl`. All zeros is greedy, without limit.
/// *Finished* is 0 while the slot goes on, 1 after a stop token or the limit, and 2 where its logits were not usable: the
/// token chosen last then stays what it was, so that it can be read again.
pub const SAMPLER_WORDS: usize = constants::SAMPLER_WORDS as usize;
const _: () = assert!(ENDS as usize + MOST_ENDS == SAMPLER_WORDS);

/// Word of the record that holds the token chosen last.
pub const LAST_TOKEN: usize = constants::LAST_TOKEN as usize;

/// Bit of a slot's count of a token: the token was read before the text began.
pub const SEEN: u32 = constants::SEEN;

impl SamplerError {
    /// The parameter.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The range that is accepted.
    pub fn wanted(&self) -> &'static str {
        self.wanted
    }
}

/// Id in place of a sampled token where the row's logits are [`unusable`]. No vocabulary has so many ids.
pub const NO_TOKEN: u32 = constants::NO_TOKEN;

/// Temperatures below this one are greedy, as in vLLM: quotients by smaller ones leave f32, where devices disagree, and
/// long before that the most probable token has all of the probability. `transformers` takes any above 0.
pub const GREEDY_BELOW: f32 = 1e-5;

/// True for a row of logits from which no token can be chosen: one is NaN or plus infinity, or all are minus infinity.
/// A single minus infinity is a token that was taken out.
pub fn unusable(logits: &[f32]) -> bool {
    let overflowed = logits.iter().fold(false, |any, x| any | x.is_nan() | (*x == f32::INFINITY));
    overflowed || logits.iter().all(|x| *x == f32::NEG_INFINITY)
}

impl Sampler {
    /// Refuses parameters out of range.
    pub fn check(&self) -> Result<(), SamplerError> {
        let fault = |name, value: f32, wanted| Err(SamplerError { name, value: value.to_string(), wanted });
        if !(0.0..=1e4).contains(&self.temperature) {
            return fault("temperature", self.temperature, "from 0 (greedy) to 10000");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fault("top-p", self.top_p, "above 0 and at most 1 (all)");
        }
        if !(0.0..1.0).contains(&self.min_p) {
            return fault("min-p", self.min_p, "from 0 (all) to below 1");
        }
        if !(self.repetition > 0.0 && self.repetition <= 1e4) {
            return fault("repetition penalty", self.repetition, "above 0 (1 is none) and at most 10000");
        }
        for (name, value) in [("frequency penalty", self.frequency), ("presence penalty", self.presence)] {
            if !(-1e4..=1e4).contains(&value) {
                return fault(name, value, "from -10000 to 10000 (0 is none)");
            }
        }
        for &(_, bias) in &self.biases {
            if !(-1e4..=1e4).contains(&bias) {
                return fault("bias of a token", bias, "from -10000 to 10000");
            }
        }
        if self.stop_token_ids.len() > MOST_ENDS {
            const { assert!(MOST_ENDS == 16, "the message says so") };
            let value = self.stop_token_ids.len().to_string();
            return Err(SamplerError { name: "a number of end tokens", value, wanted: "16 at most" });
        }
        Ok(())
    }

    /// True if the largest logit is taken, without chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }

    /// True if a penalty counts the tokens that were seen or chosen.
    pub fn penalises(&self) -> bool {
        self.repetition != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }

    /// The record of a slot that has chosen nothing yet.
    pub fn words(&self) -> [u32; SAMPLER_WORDS] {
        let mut words = [0; SAMPLER_WORDS];
        let temperature = if self.is_greedy() { 0.0 } else { self.temperature };
        let ends = self.stop_token_ids.len().min(MOST_ENDS);
        let biased = !self.biases.is_empty();
        for (word, value) in [
            (TEMPERATURE, temperature.to_bits()),
            (TOP_K, self.top_k),
            (TOP_P, self.top_p.to_bits()),
            (MIN_P, self.min_p.to_bits()),
            (REPETITION, self.repetition.to_bits()),
            (FREQUENCY, self.frequency.to_bits()),
            (PRESENCE, self.presence.to_bits()),
            (ADJUSTS, (u32::from(self.penalises()) * PENALISED) | (u32::from(biased) * BIASED)),
            (SEED, self.seed as u32),
            (SEED + 1, (self.seed >> 32) as u32),
            (LIMIT, self.limit),
            (END_COUNT, ends as u32),
        ] {
            words[word as usize] = value;
        }
        words[ENDS as usize..][..ends].copy_from_slice(&self.stop_token_ids[..ends]);
        words
    }
}

/// State of a slot's sampler: its parameters and the tokens chosen since they were set, as record and counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerState {
    /// The sampler's parameters.
    pub sampler: Sampler,
    /// Tokens chosen.
    pub chosen: u32,
    /// A stop token was chosen, or the limit reached, or the logits were unusable: the slot's state no longer changes.
    pub finished: bool,
    /// The logits were [`unusable`].
    pub failed: bool,
    /// The token chosen last, which the slot may have to read yet, or one that can be read where there was none to
    /// choose.
    pub last: Option<u32>,
    /// Of each token of the vocabulary: how often the slot chose it, and [`SEEN`]. Empty where nothing is
    /// penalised.
    pub counts: Vec<u32>,
    /// The tokens that may be chosen, a bit each; `None`: all.
    pub mask: Option<Vec<u32>>,
    /// Rows choose a token each, and the slot is told from outside what became of the choices. No part of the record.
    pub verifying: bool,
}

impl SamplerState {
    /// The slot's record.
    pub fn words(&self) -> [u32; SAMPLER_WORDS] {
        let mut words = self.sampler.words();
        words[DRAWN as usize] = self.chosen;
        words[FINISHED as usize] = if self.failed { UNUSABLE } else { u32::from(self.finished) };
        words[LAST_TOKEN] = self.last.unwrap_or(0);
        words
    }

    /// Reads a record; the counts lie elsewhere. A record does not tell whether a token was chosen at all. Biases and mask
    /// are no part of it: a text that is restored goes on without them, until it is told anew.
    pub fn from_words(words: &[u32; SAMPLER_WORDS]) -> Self {
        let word = |word: u32| words[word as usize];
        let number = |at: u32| f32::from_bits(word(at));
        let ends = (word(END_COUNT) as usize).min(MOST_ENDS);
        let mut sampler = Sampler {
            temperature: number(TEMPERATURE),
            top_k: word(TOP_K),
            top_p: number(TOP_P),
            min_p: number(MIN_P),
            repetition: number(REPETITION),
            frequency: number(FREQUENCY),
            presence: number(PRESENCE),
            biases: vec![],
            seed: u64::from(word(SEED)) | u64::from(word(SEED + 1)) << 32,
            stop_token_ids: words[ENDS as usize..][..ends].to_vec(),
            limit: word(LIMIT),
        };
        // No sampler was set yet.
        if words[..SEED as usize].iter().all(|&word| word == 0) {
            sampler = Sampler { stop_token_ids: sampler.stop_token_ids, limit: sampler.limit, ..Sampler::default() };
        }
        Self {
            sampler,
            chosen: word(DRAWN),
            finished: word(FINISHED) != 0,
            failed: word(FINISHED) == UNUSABLE,
            last: Some(words[LAST_TOKEN]),
            counts: vec![],
            mask: None,
            verifying: false,
        }
    }
}

/// A slot's count of each token of a vocabulary before it has chosen any: those in `seen` are marked.
pub fn token_counts(vocabulary: usize, seen: &[u32]) -> Vec<u32> {
    let mut counts = vec![0; vocabulary];
    for &token in seen {
        if let Some(count) = counts.get_mut(token as usize) {
            *count = SEEN;
        }
    }
    counts
}

/// What is added to each logit of a vocabulary. Biases of ids beyond it are left out.
pub fn token_biases(vocabulary: usize, biases: &[(u32, f32)]) -> Vec<f32> {
    let mut all = vec![0.0; vocabulary];
    for &(token, bias) in biases {
        if let Some(to) = all.get_mut(token as usize) {
            *to += bias;
        }
    }
    all
}

/// Words of a mask of a vocabulary: a bit a token, the lowest first.
pub fn mask_words(vocabulary: usize) -> usize {
    vocabulary.div_ceil(u32::BITS as usize)
}

#[cfg(test)]
mod tests {
    use super::{FINISHED, GREEDY_BELOW, SAMPLER_WORDS, Sampler, SamplerState, TEMPERATURE, unusable};

    #[test]
    fn next_to_no_temperature_is_none() {
        let word = |temperature| Sampler { temperature, ..Sampler::default() }.words()[TEMPERATURE as usize];
        for greedy in [0.0, f32::from_bits(1), 1e-37, GREEDY_BELOW.next_down()] {
            assert_eq!(word(greedy), 0, "{greedy:e}");
        }
        assert_eq!(word(GREEDY_BELOW), GREEDY_BELOW.to_bits());
    }

    #[test]
    fn a_row_is_usable_with_some_tokens_taken_out() {
        const INF: f32 = f32::INFINITY;
        for good in [&[1.0, -INF][..], &[-INF, -INF, f32::MIN], &[f32::MAX]] {
            assert!(!unusable(good), "{good:?}");
        }
        for bad in [&[1.0, f32::NAN, 2.0][..], &[-f32::NAN], &[1.0, INF], &[-INF, -INF], &[INF, -INF]] {
            assert!(unusable(bad), "{bad:?}");
        }
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        let sampler = Sampler {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repetition: 1.1,
            frequency: -0.5,
            presence: 0.25,
            biases: vec![],
            seed: 0x0123_4567_89ab_cdef,
            stop_token_ids: vec![7, 0, 9],
            limit: 12,
        };
        let state = SamplerState {
            sampler,
            chosen: 5,
            finished: true,
            failed: true,
            last: Some(3),
            counts: vec![],
            mask: None,
            verifying: false,
        };
        for (finished, failed, word) in [(false, false, 0), (true, false, 1), (true, true, 2)] {
            let state = SamplerState { finished, failed, ..state.clone() };
            assert_eq!((SamplerState::from_words(&state.words()), state.words()[FINISHED as usize]), (state, word));
        }
        let untold = SamplerState::from_words(&[0; SAMPLER_WORDS]);
        assert_eq!(untold, SamplerState { last: Some(0), ..SamplerState::default() });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let good = Sampler { temperature: 0.7, top_p: 0.9, min_p: 0.05, ..Sampler::default() };
        assert_eq!(good.check(), Ok(()));
        for (bad, word) in [
            (Sampler { temperature: -1.0, ..good.clone() }, "temperature of -1"),
            (Sampler { temperature: f32::NAN, ..good.clone() }, "temperature of NaN"),
            (Sampler { top_p: 0.0, ..good.clone() }, "top-p of 0"),
            (Sampler { min_p: 1.0, ..good.clone() }, "min-p of 1"),
            (Sampler { repetition: 0.0, ..good.clone() }, "repetition penalty of 0"),
            (Sampler { presence: f32::INFINITY, ..good.clone() }, "presence penalty of inf"),
            (Sampler { stop_token_ids: vec![1; 17], ..good.clone() }, "end tokens of 17"),
        ] {
            assert!(bad.check().expect_err(word).to_string().contains(word), "{bad:?}");
        }
    }
}
