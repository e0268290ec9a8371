//! Cancellation of work under way, from another thread or from a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a generation from outside to stop. Clones share the wish.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops what looks at this value, at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone wished to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
