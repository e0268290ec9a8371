//! Failures that may pass, and how often and how long they are waited for.

use std::time::Duration;

use super::{FetchEvent, HubError};

/// Failures in a row, without progress between them, after which the network is taken to be down.
const ATTEMPTS: u32 = 5;
/// Longest that a hub may ask to wait; its own limits count requests over five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Bears failures that may pass, up to a point.
pub(super) struct Patience {
    failures: u32,
    pause: Duration,
}

impl Patience {
    /// `pause`: the wait after a first failure; twice as long after each further one.
    pub(super) fn new(pause: Duration) -> Self {
        Self { failures: 0, pause }
    }

    /// Something came of it: the failures before do not count any more.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits for as long as another attempt should wait, or gives the error back.
    pub(super) fn bear(&mut self, error: HubError, events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let asked = match &error {
            HubError::Network { .. } => None,
            HubError::Status { after, .. } => *after,
            _ => return Err(error),
        };
        self.failures += 1;
        if self.failures >= ATTEMPTS || asked > Some(LONGEST_WAIT) {
            return Err(error);
        }
        let wait = asked.unwrap_or(self.pause * (1 << (self.failures - 1)));
        let why = match &error {
            HubError::Status { status, .. } => format!("the hub answers {status}"),
            HubError::Network { what, .. } => what.to_string(),
            other => other.to_string(),
        };
        events(FetchEvent::Notice(&format!("{why}; trying again in {} s", wait.as_secs_f64())));
        std::thread::sleep(wait);
        Ok(())
    }
}
