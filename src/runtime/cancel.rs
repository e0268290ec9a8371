//! Cancellation of work under way, from another thread or from a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Handle that stops a generation from outside. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the work that holds a clone, at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True after [`Cancel::cancel`] on any clone.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
