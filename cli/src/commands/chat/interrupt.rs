//! Ctrl-C in a conversation.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ctrl_c::{INTERRUPTED, on_ctrl_c};
use crate::error::CommandError;
use crate::terminal;
use selvedge::runtime::Cancel;

/// Handler of Ctrl-C: it stops the reply; without a reply, the second in a row exits.
#[derive(Clone)]
pub(super) struct Interrupt(Arc<Mutex<Doing>>);

enum Doing {
    Replying(Cancel),
    Listening,
    /// Ctrl-C came while listening.
    Asked,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self, CommandError> {
        let this = Self(Arc::new(Mutex::new(Doing::Listening)));
        let heard = this.clone();
        on_ctrl_c(move || heard.hear())?;
        Ok(this)
    }

    fn hear(&self) {
        let mut doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*doing {
            Doing::Replying(cancel) => cancel.cancel(),
            Doing::Listening => {
                terminal::message(format_args!("\nCtrl-C again or /quit exits\n> "), "");
                *doing = Doing::Asked;
            }
            Doing::Asked => std::process::exit(INTERRUPTED.into()),
        }
    }

    /// A reply begins.
    pub(super) fn begin(&self) -> Cancel {
        let cancel = Cancel::default();
        self.set(Doing::Replying(cancel.clone()));
        cancel
    }

    /// Back at an idle prompt.
    pub(super) fn forget(&self) {
        self.set(Doing::Listening);
    }

    fn set(&self, doing: Doing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }
}
