//! Number of steps in flight while the host waits for a token.
//!
//! A device computes a step in some time and a token takes some more to reach the host. With `n` steps in
//! flight a token comes every `max(step, (step + way) / n)`: more steps help until the device is never idle, and
//! then only make an end come later. Neither time is known, so the number is found by trying: it grows as
//! long as tokens come faster for it.

/// Numbers of steps in flight that are tried.
const DEPTHS: [usize; 7] = [2, 3, 4, 6, 8, 12, 16];
/// Tokens that a trial takes.
const TRIAL: u32 = 24;
/// Tokens from the end of one search to the next: other programs come and go.
const REST: u32 = 1024;
/// Ratio of token times below which a number counts as better than the one before.
const GAIN: f64 = 0.95;

/// Search for the best number of steps in flight.
#[derive(Clone, Debug)]
pub(super) struct StepsInFlight {
    index: usize,
    /// Seconds per token with the number before, while searching.
    before: Option<f64>,
    /// Tokens until the next search; 0 while searching.
    rest: u32,
    /// Tokens of the trial so far, and when it began, in seconds.
    trial: Option<(u32, f64)>,
}

impl StepsInFlight {
    pub(super) fn new() -> Self {
        Self { index: 0, before: None, rest: 0, trial: None }
    }

    /// Steps that should be in flight.
    pub(super) fn depth(&self) -> usize {
        DEPTHS[self.index]
    }

    /// A new text begins: the current trial is dropped, because the pause before it is no token time.
    pub(crate) fn interrupt(&mut self) {
        self.trial = None;
    }

    /// A token came, at `now` seconds.
    pub(super) fn token(&mut self, now: f64) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let Some((tokens, begun)) = &mut self.trial else {
            self.trial = Some((0, now));
            return;
        };
        *tokens += 1;
        if *tokens < TRIAL {
            return;
        }
        let period = (now - *begun) / f64::from(TRIAL);
        self.trial = None;
        let better = self.before.is_none_or(|before| period < before * GAIN);
        if better && self.index + 1 < DEPTHS.len() {
            self.before = Some(period);
            self.index += 1;
        } else {
            self.index -= usize::from(!better);
            (self.before, self.rest) = (None, REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTHS, StepsInFlight};

    /// The number found for a device that takes `step` and a way that takes `way`.
    fn found(steps: &mut StepsInFlight, step: f64, way: f64) -> usize {
        let mut now = 0.0;
        for _ in 0..2000 {
            now += f64::max(step, (step + way) / steps.depth() as f64);
            steps.token(now);
        }
        steps.depth()
    }

    #[test]
    fn there_are_as_many_steps_as_the_way_is_long() {
        assert_eq!(found(&mut StepsInFlight::new(), 4.0, 0.1), 2, "tokens come at once");
        assert_eq!(found(&mut StepsInFlight::new(), 1.0, 5.0), 6);
        assert_eq!(found(&mut StepsInFlight::new(), 1.0, 100.0), DEPTHS[6]);
    }

    #[test]
    fn it_is_tried_again_after_a_while() {
        let mut steps = StepsInFlight::new();
        assert_eq!(found(&mut steps, 1.0, 2.5), 4);
        assert!(found(&mut steps, 1.0, 11.0) > 6);
    }

    #[test]
    fn a_pause_is_no_slow_token() {
        let (mut steps, mut now) = (StepsInFlight::new(), 0.0);
        for text in 0..40 {
            steps.interrupt();
            now += 1000.0;
            for _ in 0..40 {
                now += 8.0 / steps.depth() as f64;
                steps.token(now);
            }
            assert!(text < 10 || steps.depth() >= 12, "{}", steps.depth());
        }
    }
}
