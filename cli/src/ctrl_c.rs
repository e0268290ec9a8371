//! Handling of Ctrl-C. A program can install one handler only, and its action changes on the way: it ends a download,
//! or stops a reply.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::CommandError;
use crate::part_file::remove_unfinished;
use crate::terminal::status;

/// Exit code after Ctrl-C, as in shells.
pub(crate) const INTERRUPTED: u8 = 130;
/// Exit code of what SIGTERM ended.
#[cfg(unix)]
const TERMINATED: u8 = 143;

type Answer = Box<dyn FnMut() + Send>;

static ANSWER: Mutex<Option<Answer>> = Mutex::new(None);
static LISTENING: OnceLock<()> = OnceLock::new();

/// From now on Ctrl-C does this, and not what it did before.
pub(crate) fn on_ctrl_c(answer: impl FnMut() + Send + 'static) -> Result<(), CommandError> {
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(answer));
    if LISTENING.set(()).is_ok() {
        ctrlc::set_handler(|| {
            if let Some(answer) = ANSWER.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                answer();
            }
        })?;
    }
    Ok(())
}

/// From now on Ctrl-C ends the program at once, after a message; output files that are not whole are removed.
pub(crate) fn ctrl_c_ends(words: &'static str) -> Result<(), CommandError> {
    on_ctrl_c(move || {
        if !words.is_empty() {
            status!("\n{words}");
        }
        remove_unfinished();
        std::process::exit(INTERRUPTED.into());
    })
}

/// From now on SIGTERM ends the program once output files that are not whole are removed. No other thread may have begun.
#[cfg(unix)]
pub(crate) fn sigterm_ends() -> Result<(), CommandError> {
    use nix::sys::signal::{SigSet, Signal};

    let signals = SigSet::from(Signal::SIGTERM);
    // Threads that begin later inherit it: the signal goes to the one that waits.
    signals.thread_block().map_err(|errno| ctrlc::Error::System(errno.into()))?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            remove_unfinished();
            std::process::exit(TERMINATED.into());
        }
    });
    Ok(())
}

/// Only Unix knows SIGTERM.
#[cfg(not(unix))]
pub(crate) fn sigterm_ends() -> Result<(), CommandError> {
    Ok(())
}
