//! Vectors of texts: a few at a time, so that one request with many texts leaves room for others.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use selvedge::generate::scheduler::PoolingTask;
use selvedge::runtime::Cancel;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::replies::{CancelOnDrop, Whole, whole};
use super::served::Served;
use crate::jobs::{Ask, Job, PooledText};

/// Most texts of one request; OpenAI's number.
pub(super) const MOST_TEXTS: usize = 2048;
/// Time until a full queue is asked again, by a request that is under way.
const PAUSE: Duration = Duration::from_millis(20);

/// Gives the vectors of `count` texts in their order, each made when its turn comes. A few are under way at a time. The first one
/// is refused where the queue is full; the others wait for room.
pub(super) async fn pooled(
    api: &Served,
    count: usize,
    text: impl Fn(usize) -> Result<PooledText, ApiError>,
    task: PoolingTask,
) -> Result<Vec<Whole>, ApiError> {
    let text = &text;
    let each = (0..count).map(|index| async move {
        loop {
            match ask(api, text(index)?, task).await {
                Err(error) if error.is_busy() && index > 0 => tokio::time::sleep(PAUSE).await,
                Err(error) if count > 1 => return Err(error.about(&format!("text {}", index + 1))),
                done => return done,
            }
        }
    });
    stream::iter(each).buffered(api.about().slots.max(1)).try_collect().await
}

async fn ask(api: &Served, text: PooledText, task: PoolingTask) -> Result<Whole, ApiError> {
    let (cancel, (sender, events)) = (Cancel::default(), mpsc::unbounded_channel());
    let held = CancelOnDrop(cancel.clone());
    api.send(Job::Replies(vec![Ask::Pool { text, task, cancel, events: sender }]))?;
    let done = whole(events).await;
    drop(held);
    done
}

/// Tokens of all texts.
pub(super) fn tokens(wholes: &[Whole]) -> usize {
    wholes.iter().map(|whole| whole.usage.prompt_tokens).sum()
}
