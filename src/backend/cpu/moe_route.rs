//! The choice of experts. See [`ops::MoeRoute`].

use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::constants::FURTHEST;
use crate::graph::ops;
use crate::graph::{ExpertChoice, Function, Routing};

/// A choice for every row.
pub(super) struct MoeRoute<'a> {
    /// `[count, experts]`
    pub logits: Input<'a>,
    /// `[experts]`, added to what is compared.
    pub bias: Option<&'a [f32]>,
    /// How weights come from logits.
    pub routing: Routing,
    /// The number of experts chosen, and among which.
    pub choice: ExpertChoice,
}

impl MoeRoute<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            let logits = self.logits.row(r);
            let chosen = self.choose(logits);
            let (ids, weights) = out.split_at_mut(self.choice.top_k);
            for ((id, weight), &expert) in ids.iter_mut().zip(weights.iter_mut()).zip(&chosen) {
                (*id, *weight) = (expert as f32, logits[expert]);
            }
            match self.routing {
                Routing::Softmax { normed } => {
                    let over: &[f32] = if normed { weights } else { logits };
                    let largest = over.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum: f32 = over.iter().map(|logit| (logit - largest).exp()).sum();
                    weights.iter_mut().for_each(|w| *w = (*w - largest).exp() / sum);
                }
                Routing::Sigmoid { normed, epsilon, scale } => {
                    weights.iter_mut().for_each(|w| *w = Function::Sigmoid.apply(*w));
                    let sum = if normed { weights.iter().sum::<f32>() + epsilon } else { 1.0 };
                    weights.iter_mut().for_each(|w| *w = *w / sum * scale);
                }
            }
        });
    }

    /// The chosen experts of a row.
    fn choose(&self, logits: &[f32]) -> Vec<usize> {
        let ExpertChoice { n_group, topk_group, top_k } = self.choice;
        let score = |(expert, &logit): (usize, &f32)| {
            let score = match self.routing {
                Routing::Softmax { .. } => logit,
                Routing::Sigmoid { .. } => Function::Sigmoid.apply(logit),
            };
            let score = score + self.bias.map_or(0.0, |bias| bias[expert]);
            // What is not a number is chosen, so that it is not hidden.
            if score.is_nan() { FURTHEST } else { score.clamp(-FURTHEST, FURTHEST) }
        };
        let scores: Vec<f32> = logits.iter().enumerate().map(score).collect();
        let size = scores.len() / n_group;
        let worth = |group: &[f32]| -> f32 { largest(group, 2).into_iter().map(|expert| group[expert]).sum() };
        let worths: Vec<f32> = scores.chunks_exact(size).map(worth).collect();
        let mut seen = largest(&worths, topk_group);
        seen.sort_unstable();
        // In the order of ids, so that the lower one wins a tie.
        let experts: Vec<usize> = seen.into_iter().flat_map(|group| group * size..(group + 1) * size).collect();
        let scores: Vec<f32> = experts.iter().map(|&expert| scores[expert]).collect();
        largest(&scores, top_k).into_iter().map(|place| experts[place]).collect()
    }
}

/// Places of the `count` largest numbers, the largest first, the lower place on a tie.
fn largest(numbers: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
    places.truncate(count);
    places
}

impl Run for ops::MoeRoute {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (logits, bias) = (step.input(self.logits), step.weights.vector_opt(self.bias)?);
        MoeRoute { logits, bias, routing: self.routing, choice: self.choice }.run(step.fast, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        logits: &[f32],
        bias: Option<&[f32]>,
        routing: Routing,
        [n_group, topk_group, top_k]: [usize; 3],
    ) -> Vec<f32> {
        let logits = Input::new(logits, logits.len(), 0, logits.len());
        let mut out = vec![0.0; 2 * top_k];
        let choice = ExpertChoice { n_group, topk_group, top_k };
        let route = MoeRoute { logits, bias, routing, choice };
        route.run(false, &mut Output::new(&mut out, 2 * top_k, 2 * top_k, 1));
        out
    }

    #[test]
    fn the_softmax_is_over_the_chosen_ones_or_over_all() {
        let ln = f32::ln;
        for (normed, sum) in [(true, 14.0), (false, 15.0)] {
            let got = route(&[ln(1.0), ln(6.0), ln(2.0), ln(6.0)], None, Routing::Softmax { normed }, [1, 1, 3]);
            let wanted = [1.0, 3.0, 2.0, 6.0 / sum, 6.0 / sum, 2.0 / sum];
            assert!(got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-6), "{got:?}");
        }
    }

    #[test]
    fn a_bias_changes_the_choice_and_not_the_weights() {
        let (logits, bias) = ([0.0, 3.0, -1.0, 1.0], [0.0, -1.0, 1.0, 0.0]);
        let sigmoids = |normed, epsilon| Routing::Sigmoid { normed, epsilon, scale: 2.0 };
        let got = route(&logits, Some(&bias), sigmoids(false, 0.0), [1, 1, 2]);
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        assert_eq!(got, [2.0, 3.0, 2.0 * sigmoid(-1.0), 2.0 * sigmoid(1.0)]);
        let sum = sigmoid(-1.0) + sigmoid(1.0);
        for epsilon in [1e-20, 0.5] {
            let normed = route(&logits, Some(&bias), sigmoids(true, epsilon), [1, 1, 2]);
            let wanted = 2.0 * sum / (sum + epsilon);
            assert!((normed[2] + normed[3] - wanted).abs() < 1e-6, "{normed:?}");
        }
    }

    #[test]
    fn only_the_best_groups_are_looked_at() {
        // Group 1 holds the best expert, group 2 the best pair.
        let logits = [0.5, 0.4, 0.3, 3.0, -9.0, -9.0, 1.5, 1.4, -9.0];
        let got = route(&logits, None, Routing::Softmax { normed: true }, [3, 1, 2]);
        assert_eq!(got[..2], [6.0, 7.0]);
        let got = route(&logits, None, Routing::Softmax { normed: true }, [3, 2, 3]);
        assert_eq!(got[..3], [6.0, 7.0, 0.0]);
    }
}
