//! The choice of a token from logits, as [`Sampler`] describes it. See [`ops::Sample`].

use std::borrow::Cow;

use super::program::{Operands, Run};
use super::rows::Output;
use crate::backend::Result;
use crate::constants::FURTHEST;
use crate::graph::ops;
use crate::state::{NO_TOKEN, SEEN, Sampler, SamplerState, unusable};

/// What the draw is made from: tokens that are left, with `x` of each, by ascending id.
type Left = Vec<(u32, f32)>;

impl SamplerState {
    /// Begins a text. The token chosen last stays; `counts` are needed where something is penalised.
    pub(super) fn begin(&mut self, sampler: &Sampler, counts: Vec<u32>) {
        *self = Self { sampler: sampler.clone(), counts, last: self.last, ..Self::default() };
    }

    /// What a finished slot gives again.
    pub(super) fn again(&self) -> Option<u32> {
        if self.failed { Some(NO_TOKEN) } else { self.last }
    }

    /// Chooses from a row of logits, and remembers it.
    pub(super) fn choose(&mut self, logits: &[f32]) -> u32 {
        let token = if unusable(logits) { NO_TOKEN } else { self.pick(logits, self.chosen) };
        if token == NO_TOKEN {
            self.last.get_or_insert(0);
            (self.finished, self.failed) = (true, true);
            return NO_TOKEN;
        }
        self.last = Some(token);
        self.chosen = self.chosen.wrapping_add(1);
        if let Some(count) = self.counts.get_mut(token as usize) {
            *count += 1;
        }
        self.finished = self.sampler.stop_token_ids.contains(&token) || self.chosen == self.sampler.limit;
        token
    }

    /// The choice of a slot that verifies, where it has chosen `ahead` tokens more than it remembers.
    fn verify(&self, logits: &[f32], ahead: u32) -> u32 {
        if unusable(logits) { NO_TOKEN } else { self.pick(logits, self.chosen.wrapping_add(ahead)) }
    }

    fn pick(&self, logits: &[f32], draw: u32) -> u32 {
        let seed = self.sampler.seed;
        let adjusted = self.adjusted(logits);
        if self.mask.is_some() && adjusted.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return NO_TOKEN;
        }
        if self.sampler.is_greedy() {
            return argmax(&adjusted);
        }
        let left = self.left(&adjusted);
        let scores = left.iter().map(|&(id, x)| x - exponential(seed, draw, id).ln()).collect::<Vec<_>>();
        left.get(argmax(&scores) as usize).map_or(0, |&(id, _)| id)
    }

    /// Logits after penalties and biases; minus infinity where a token may not be chosen.
    fn adjusted<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        let mut adjusted = Cow::Borrowed(logits);
        if !self.counts.is_empty() {
            adjusted = Cow::Owned(self.penalised(logits));
        }
        for &(token, bias) in &self.sampler.biases {
            if (token as usize) < adjusted.len() {
                adjusted.to_mut()[token as usize] += bias;
            }
        }
        if let Some(mask) = &self.mask {
            let allowed = |token: usize| mask[token / 32] >> (token % 32) & 1 == 1;
            for (token, logit) in adjusted.to_mut().iter_mut().enumerate() {
                if !allowed(token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        adjusted
    }

    fn penalised(&self, logits: &[f32]) -> Vec<f32> {
        let Sampler { repetition, frequency, presence, .. } = self.sampler;
        let penalise = |(&logit, &count): (&f32, &u32)| {
            let (chosen, mut logit) = ((count & !SEEN) as f32, logit);
            if count > 0 {
                logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
            }
            logit - frequency * chosen - if chosen > 0.0 { presence } else { 0.0 }
        };
        logits.iter().zip(&self.counts).map(penalise).collect()
    }

    /// What may be drawn, of adjusted logits.
    fn left(&self, logits: &[f32]) -> Left {
        let Sampler { temperature, top_k, top_p, min_p, .. } = self.sampler;
        let scaled = logits.iter().map(|&logit| (logit / temperature).clamp(-FURTHEST, FURTHEST));
        let mut left: Left = (0..).zip(scaled).collect();

        let k = top_k as usize;
        if k > 0 && k < left.len() {
            let mut values: Vec<f32> = left.iter().map(|&(_, x)| x).collect();
            let (_, &mut edge, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            left.retain(|&(_, x)| x >= edge);
        }
        let largest = left.iter().fold(f32::NEG_INFINITY, |most, &(_, x)| most.max(x));
        let weight = |x: f32| f64::from((x - largest).exp());
        if top_p < 1.0 {
            let mut values: Vec<f32> = left.iter().map(|&(_, x)| x).collect();
            values.sort_unstable_by(|a, b| b.total_cmp(a));
            let wanted = f64::from(top_p) * values.iter().map(|&x| weight(x)).sum::<f64>();
            let mut sum = 0.0;
            let edge = values.into_iter().find(|&x| {
                sum += weight(x);
                sum >= wanted
            });
            left.retain(|&(_, x)| edge.is_none_or(|edge| x >= edge));
        }
        left.retain(|&(_, x)| x >= largest + min_p.ln());
        left
    }
}

/// The choice from a row that no slot remembers.
pub(super) fn greedy(logits: &[f32]) -> u32 {
    if unusable(logits) { NO_TOKEN } else { argmax(logits) }
}

/// The place of the largest number. The lowest wins a tie; what is not a number never wins.
fn argmax(numbers: &[f32]) -> u32 {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (place, &number) in numbers.iter().enumerate() {
        if number > largest {
            (best, largest) = (place, number);
        }
    }
    best as u32
}

/// An exponential random number for a token at a draw.
fn exponential(seed: u64, draw: u32, token: u32) -> f32 {
    let [bits, ..] = hash([seed as u32, (seed >> 32) as u32, draw, token]);
    let uniform = ((bits as f32 + 0.5) / 4_294_967_296.0).min(1.0 - f32::EPSILON / 2.0);
    // Small ones decide: the digits that `1 - uniform` has no room for are theirs.
    -(-uniform).ln_1p()
}

/// PCG4D: four well-mixed words of four (Jarzynski and Olano 2020, "Hash Functions for GPU Rendering",
/// JCGT 9(3), listing 20).
fn hash(words: [u32; 4]) -> [u32; 4] {
    let [mut x, mut y, mut z, mut w] = words.map(|n| n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for round in 0..2 {
        if round > 0 {
            [x, y, z, w] = [x, y, z, w].map(|n| n ^ (n >> 16));
        }
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
    }
    [x, y, z, w]
}

impl Run for ops::Sample {
    fn run(&self, step: &mut Operands<'_>, _: &mut Output<'_>) -> Result<()> {
        let (logits, table) = (step.whole(self.logits), step.table);
        // Outputs of the span so far.
        let (mut ahead, mut before) = (0, None);
        for (output, &row) in table.outputs.iter().enumerate() {
            let (logits, [_, slot, _, span]) = (logits.row(output), table.rows[row as usize]);
            let [_, first, _, count] = table.spans[span as usize];
            ahead = if before.replace(span) == Some(span) { ahead + 1 } else { 0 };
            if self.draft {
                step.sampled.push(greedy(logits));
                continue;
            }
            if step.memory.samplers[slot as usize].verifying {
                step.sampled.push(step.memory.samplers[slot as usize].verify(logits, ahead));
                continue;
            }
            // Rows before a span's last choose for the host alone.
            let last = row + 1 == first + count;
            let slot = &mut step.memory.samplers[slot as usize];
            step.sampled.push(if last { slot.choose(logits) } else { greedy(logits) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::argmax;
    use crate::state::{NO_TOKEN, SEEN, Sampler, SamplerState};

    #[test]
    fn unusable_logits_finish_a_slot_until_its_next_text() {
        let mut slot = SamplerState::default();
        assert_eq!((slot.choose(&[0.0, f32::NAN]), slot.last), (NO_TOKEN, Some(0)), "a token that can be read");
        slot.begin(&Sampler::default(), vec![]);
        assert_eq!((slot.choose(&[0.0, 1.0, f32::NEG_INFINITY]), slot.finished), (1, false));
        assert_eq!((slot.choose(&[0.0, f32::INFINITY]), slot.finished, slot.last), (NO_TOKEN, true, Some(1)));
        assert_eq!(slot.again(), Some(NO_TOKEN));
        slot.begin(&Sampler::default(), vec![]);
        assert_eq!((slot.finished, slot.again()), (false, Some(1)));
    }

    #[test]
    fn the_lowest_of_the_largest_wins() {
        assert_eq!(argmax(&[-3.0, 2.0, f32::NAN, 2.0, 1.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NAN]), 0);
    }

    fn left(sampler: Sampler, counts: &[u32], logits: &[f32]) -> Vec<u32> {
        let mut slot = SamplerState::default();
        slot.begin(&Sampler { temperature: 1.0, ..sampler }, counts.to_vec());
        slot.left(&slot.adjusted(logits)).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn each_filter_keeps_what_it_should() {
        // Probabilities .4, .3, .2, .1
        let logits = [0.2_f32, 0.4, 0.1, 0.3].map(f32::ln);
        let sampler = Sampler::default();
        assert_eq!(left(sampler.clone(), &[], &logits), [0, 1, 2, 3]);
        assert_eq!(left(Sampler { top_k: 2, ..sampler.clone() }, &[], &logits), [1, 3]);
        assert_eq!(left(Sampler { top_p: 0.39, ..sampler.clone() }, &[], &logits), [1]);
        assert_eq!(left(Sampler { top_p: 0.75, ..sampler.clone() }, &[], &logits), [0, 1, 3]);
        // Of the two that top-k leaves, the first has 4/7.
        assert_eq!(left(Sampler { top_k: 2, top_p: 0.5, ..sampler.clone() }, &[], &logits), [1]);
        assert_eq!(left(Sampler { min_p: 0.45, ..sampler.clone() }, &[], &logits), [0, 1, 3]);
        assert_eq!(left(Sampler { top_k: 1, ..sampler }, &[], &[1.0, 2.0, 2.0]), [1, 2], "equals stay together");
    }

    #[test]
    fn penalties_lower_what_was_seen_or_chosen() {
        let mut slot = SamplerState::default();
        let sampler = Sampler { repetition: 2.0, frequency: 0.5, presence: 0.25, ..Sampler::default() };
        slot.begin(&sampler, vec![0, SEEN, 3, SEEN | 1]);
        assert_eq!(slot.penalised(&[1.0, 1.0, -1.0, 1.0]), [1.0, 0.5, -2.0 - 1.5 - 0.25, 0.5 - 0.5 - 0.25]);
    }

    #[test]
    fn biases_are_added_and_a_mask_leaves_out() {
        let mut slot = SamplerState::default();
        let logits = [1.0, 2.0, 3.0, f32::NEG_INFINITY];
        slot.begin(&Sampler { biases: vec![(0, 2.5), (2, -5.0), (9, 100.0)], ..Sampler::default() }, vec![]);
        assert_eq!(slot.choose(&logits), 0);
        slot.mask = Some(vec![0b0110]);
        assert_eq!(slot.choose(&logits), 1);
        slot.mask = Some(vec![0b1000]);
        assert_eq!((slot.choose(&logits), slot.failed), (NO_TOKEN, true), "nothing is left");
        slot.begin(&Sampler { temperature: 5.0, ..Sampler::default() }, vec![]);
        assert_eq!(slot.mask, None, "until the next text");
        slot.mask = Some(vec![0b0101]);
        assert!((0..64).all(|_| [0, 2].contains(&slot.choose(&logits))));
    }

    #[test]
    fn a_slot_is_finished_by_an_end_or_by_its_limit() {
        let mut slot = SamplerState::default();
        slot.begin(&Sampler { stop_token_ids: vec![1], limit: 3, ..Sampler::default() }, vec![]);
        assert_eq!((slot.choose(&[1.0, 0.0]), slot.finished), (0, false));
        assert_eq!((slot.choose(&[0.0, 1.0]), slot.finished), (1, true));
        slot.begin(&Sampler { limit: 2, ..Sampler::default() }, vec![]);
        assert_eq!((slot.choose(&[0.0, 1.0]), slot.finished), (1, false));
        assert_eq!((slot.choose(&[0.0, 1.0]), slot.finished), (1, true));
    }
}
