//! Probabilities of a row of logits.

/// `ln softmax`, for one row.
pub(crate) struct LogSoftmax {
    log_sum: f64,
}

impl LogSoftmax {
    pub(crate) fn of(logits: &[f32]) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
        Self { log_sum: largest + sum.ln() }
    }

    pub(crate) fn at(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }
}
