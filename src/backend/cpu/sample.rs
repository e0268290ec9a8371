//! The choice of a token from logits: the largest. See [`Op::Sample`](crate::graph::Op::Sample).

use super::rows::Input;

/// A choice from every row of logits.
pub(super) struct Sample<'a> {
    /// `[outputs, vocabulary]`
    pub logits: Input<'a>,
}

impl Sample<'_> {
    /// The id of the largest logit of each row. The lowest id wins a tie; what is not a number never wins.
    pub fn twin(&self) -> Vec<u32> {
        (0..self.logits.count).map(|row| argmax(self.logits.row(row))).collect()
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > largest {
            (best, largest) = (id, logit);
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::argmax;

    #[test]
    fn the_lowest_of_the_largest_wins() {
        assert_eq!(argmax(&[-3.0, 2.0, f32::NAN, 2.0, 1.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NAN]), 0);
    }
}
