//! The model that a request is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::Api;
use super::error::ApiError;
use crate::jobs::{Job, Refused};
use crate::models::NoModel;
use crate::worker::{About, Worker};

/// A model, and the request that it is used by.
pub(crate) struct Served {
    worker: Arc<Worker>,
}

/// Counts a reply until it has reached its client, and keeps its model.
pub(crate) struct Held {
    under_way: Arc<AtomicUsize>,
    worker: Option<Arc<Worker>>,
}

impl Held {
    /// The model may be given up: what is still on its way does not need it.
    pub fn release_model(&mut self) {
        self.worker = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Api {
    /// The model of a name, or the first one where none is named. The server does not end, and the model is not given up,
    /// while it is held. Refused while the server ends.
    pub(super) async fn model(&self, name: Option<&str>) -> Result<(Served, Held), ApiError> {
        // First it is counted, then looked whether it may be: nobody ends the server in between.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let mut held = Held { under_way: self.under_way.clone(), worker: None };
        self.check_open()?;
        let worker = self.models.get(name).await.map_err(|none| match none {
            NoModel::Unknown(names) => ApiError::no_model(name.unwrap_or_default(), &names),
            NoModel::Refused(refused) => refused.into(),
        })?;
        held.worker = Some(worker.clone());
        Ok((Served { worker }, held))
    }
}

fn ended() -> ApiError {
    ApiError::unavailable("the model's thread has ended")
}

impl Served {
    pub fn about(&self) -> &About {
        &self.worker.about
    }

    /// Gives the model something to do.
    pub fn send(&self, job: Job) -> Result<(), ApiError> {
        if self.worker.send(job) { Ok(()) } else { Err(ended()) }
    }

    /// What the model's thread answers to a job.
    pub async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, ApiError> {
        let (sender, answer) = oneshot::channel();
        self.send(job(sender))?;
        answer.await.map_err(|_| ended())
    }

    /// Refuses what only a language model gives.
    pub fn check_makes_text(&self, what: &str) -> Result<(), ApiError> {
        let Some(labels) = &self.about().labels else { return Ok(()) };
        Err(ApiError::bad(format!(
            "the model gives scores ({}) and no {what}: ask /v1/chat/completions, /v1/score or /v1/rerank",
            labels.join(", ")
        )))
    }

    /// Refuses more replies than can ever be taken at once.
    pub fn check_count(&self, count: usize) -> Result<(), ApiError> {
        let most = self.about().most;
        let refuse = || ApiError::bad(format!("{count} replies were asked for at once, and at most {most} can be"));
        if count > most { Err(refuse()) } else { Ok(()) }
    }

    /// Refuses a conversation of so many bytes that it is longer than the context, before a template goes through it.
    pub fn check_bytes(&self, bytes: usize) -> Result<(), ApiError> {
        let About { most_bytes, context, .. } = self.about();
        let why =
            || format!("the request has {bytes} bytes, and may have {most_bytes} for a context of {context} tokens");
        if bytes > *most_bytes { Err(Refused::TooLong(why()).into()) } else { Ok(()) }
    }
}
