//! Perplexity of a text, and divergence from a reference model: the measures of what a storage format costs.
//!
//! The text is read in windows that know nothing of each other. Every token but the first of a window is
//! predicted from those before it, with probability `p = softmax(logits)[token]`; perplexity is
//! `exp(mean(-ln p))`. Against a reference with probabilities `r`, the mean over the same places of the
//! Kullback-Leibler divergence `sum r ln(r / p)`, and the share of places where both find the same token most
//! probable. Sums are taken in f64.

use crate::backend::Outputs;
use crate::runtime::{Engine, EngineError, LogSoftmax};

/// Bytes of logits taken from the device at a time.
const LOGITS: usize = 32 << 20;
/// Most rows of a step.
const ROWS: usize = 64;

/// Sums over the tokens that were predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Tokens predicted.
    pub tokens: usize,
    /// Sum of `-ln p` over them.
    surprise: f64,
    /// Sum of the divergences from the reference.
    divergence: f64,
    /// Places where the reference's most probable token is the model's.
    agreements: usize,
}

impl Perplexity {
    /// `exp(mean(-ln p))`
    pub fn perplexity(&self) -> f64 {
        (self.surprise / self.tokens as f64).exp()
    }

    /// Mean Kullback-Leibler divergence from the reference, in nats.
    pub fn mean_kl(&self) -> f64 {
        self.divergence / self.tokens as f64
    }

    /// Share of places with the same most probable token.
    pub fn top1_agreement(&self) -> f64 {
        self.agreements as f64 / self.tokens as f64
    }

    /// One place: the logits there, those of the reference, and the token that follows.
    fn add(&mut self, logits: &[f32], reference: Option<&[f32]>, next: u32) {
        let log_p = LogSoftmax::of(logits);
        self.tokens += 1;
        self.surprise -= log_p.at(logits[next as usize]);
        let Some(reference) = reference else { return };
        let log_r = LogSoftmax::of(reference);
        let terms = reference.iter().zip(logits).map(|(&r, &p)| {
            let log_r = log_r.at(r);
            // A probability that is 0 even in f64 counts nothing, whatever the model makes of it.
            if log_r < -700.0 { 0.0 } else { log_r.exp() * (log_r - log_p.at(p)) }
        });
        self.divergence += terms.sum::<f64>();
        self.agreements += usize::from(most_probable(logits) == most_probable(reference));
    }
}

fn most_probable(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

/// Reads a text in windows of `window` tokens, and beside it the same with a reference that has the same
/// vocabulary. `progress` is called with the number of tokens read and returns true to go on; otherwise the
/// result covers the tokens read so far.
pub async fn perplexity(
    engine: &mut Engine,
    mut reference: Option<&mut Engine>,
    ids: &[u32],
    window: usize,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Perplexity, EngineError> {
    engine.check_tokens(ids)?;
    let columns = engine.model().vocabulary;
    let rows = (LOGITS / (4 * columns)).clamp(1, ROWS);
    let mut found = Perplexity::default();
    let mut read = 0;
    for ids in ids.chunks(window.max(2)) {
        let slot = engine.open()?;
        let other = reference.as_mut().map(|reference| reference.open()).transpose()?;
        let mut go_on = true;
        for (first, span) in ids.chunks(rows).enumerate().map(|(i, span)| (i * rows, span)) {
            let step = engine.enqueue(slot, span, Outputs::All)?;
            let beside = match (&mut reference, other) {
                (Some(reference), Some(slot)) => {
                    let step = reference.enqueue(slot, span, Outputs::All)?;
                    Some(reference.logits(&step).await?)
                }
                _ => None,
            };
            let logits = engine.logits(&step).await?;
            for (row, logits) in logits.chunks_exact(columns).enumerate() {
                let Some(&next) = ids.get(first + row + 1) else { continue };
                let beside = beside.as_ref().map(|beside| &beside[row * columns..][..columns]);
                found.add(logits, beside, next);
            }
            read += span.len();
            go_on = progress(read);
            if !go_on {
                break;
            }
        }
        engine.close(slot)?;
        if let (Some(reference), Some(slot)) = (&mut reference, other) {
            reference.close(slot)?;
        }
        if !go_on {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_costs_nothing_and_a_coin_costs_a_bit() {
        let mut sure = Perplexity::default();
        sure.add(&[0.0, 90.0, 0.0], None, 1);
        assert!((sure.perplexity() - 1.0).abs() < 1e-12);
        let mut coin = Perplexity::default();
        coin.add(&[3.0, 3.0, f32::NEG_INFINITY], Some(&[2.0, 2.0, f32::NEG_INFINITY]), 0);
        assert!((coin.perplexity() - 2.0).abs() < 1e-12 && coin.mean_kl().abs() < 1e-12);
        assert_eq!(coin.top1_agreement(), 1.0);
    }

    #[test]
    fn divergence_is_what_a_hand_finds() {
        // r = (3/4, 1/4), p = (1/4, 3/4): 3/4 ln 3 + 1/4 ln(1/3) = ln(3) / 2.
        let ln = |x: f32| x.ln();
        let mut found = Perplexity::default();
        found.add(&[ln(1.0), ln(3.0)], Some(&[ln(3.0), ln(1.0)]), 0);
        assert!((found.mean_kl() - 3f64.ln() / 2.0).abs() < 1e-7, "{}", found.mean_kl());
        assert!((found.perplexity() - 4.0).abs() < 1e-6 && found.top1_agreement() == 0.0);
    }
}
