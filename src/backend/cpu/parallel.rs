//! Threads where there are any: natively rayon's, in a browser none.

/// Below this many elementary operations a thread is not worth waking.
#[cfg(feature = "native")]
const WORTH_A_THREAD: usize = 16 * 1024;

/// Does `work` on one of the threads, from which [`for_each`] hands tasks to the others at once. From elsewhere each call would
/// wake a thread and sleep until it is done: a token has hundreds of them.
///
/// Steps of several models take turns: a thread that waits for tasks of its step would else begin another's on top of it.
#[cfg(feature = "native")]
pub(super) fn within<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if rayon::current_thread_index().is_some() {
        return work();
    }
    // A step that panicked left nothing behind that is of this lock.
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    rayon::scope(|_| work())
}

/// Does `work`.
#[cfg(not(feature = "native"))]
pub(super) fn within<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Runs `work` on every task, on all threads when the tasks together are worth it. `cost` is the number
/// of elementary operations of one task.
#[cfg(feature = "native")]
pub(super) fn for_each<T: Send>(tasks: Vec<T>, cost: usize, work: impl Fn(T) + Sync) {
    use rayon::prelude::*;

    if tasks.len() < 2 || tasks.len().saturating_mul(cost) < WORTH_A_THREAD {
        tasks.into_iter().for_each(&work);
    } else {
        let least = (WORTH_A_THREAD / 4).div_ceil(cost.max(1));
        tasks.into_par_iter().with_min_len(least).for_each(&work);
    }
}

/// Runs `work` on every task.
#[cfg(not(feature = "native"))]
pub(super) fn for_each<T: Send>(tasks: Vec<T>, _: usize, work: impl Fn(T) + Sync) {
    tasks.into_iter().for_each(work);
}

/// Threads that [`for_each`] uses at most.
pub(super) fn threads() -> usize {
    #[cfg(feature = "native")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "native"))]
    return 1;
}
