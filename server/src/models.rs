//! The models of a server: one that is there from the beginning, and others that are loaded when they are asked for.
//!
//! A model that is not loaded is loaded at its first request, one at a time; requests for it wait, and the load goes on whether they
//! do or not. Where it does not fit beside the others into [`MoreModels::budget`], those that nobody uses are given up, the one
//! first that was asked for longest ago. One whose device has failed is loaded again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::jobs::Refused;
use crate::worker::Worker;

/// Why a model is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It needs more memory than is left.
    #[error("{why}")]
    Memory {
        /// What is told.
        why: String,
        /// Bytes that it needs, where they are known.
        needed: Option<u64>,
    },
    /// It cannot be loaded.
    #[error("{0}")]
    Failed(String),
}

/// Loads a model by its name: with a budget, and what other models have left of it.
pub type LoadModel = dyn Fn(&str, Option<u64>, Option<u64>) -> Result<Worker, LoadError> + Send + Sync;

/// Models that are loaded when they are asked for.
pub struct MoreModels {
    /// Their names for clients.
    pub names: Vec<String>,
    /// Bytes of all models together; `None`: as many as the device gives.
    pub budget: Option<u64>,
    /// Loads one of them, or the first one again.
    pub load: Arc<LoadModel>,
}

/// All models of a server.
pub struct Models {
    /// The first one answers requests that name none.
    names: Vec<String>,
    loaded: Mutex<BTreeMap<String, Entry>>,
    more: MoreModels,
    /// Loads under way, by name.
    loading: Mutex<BTreeMap<String, Loading>>,
    /// Held while one is loaded.
    turn: tokio::sync::Mutex<()>,
}

/// A load, for all who wait for it.
type Loading = Shared<BoxFuture<'static, Result<Arc<Worker>, Refused>>>;

struct Entry {
    worker: Arc<Worker>,
    used: Instant,
}

/// Why there is no model for a request.
#[derive(Debug)]
pub(crate) enum NoModel {
    /// None has the name; these are served.
    Unknown(Vec<String>),
    /// It cannot be loaded now.
    Refused(Refused),
}

impl Models {
    /// A model that is there from the beginning, and others, if there are any. Without a budget several models have the
    /// memory that was free on the device before the first one came.
    pub fn new(first: Worker, mut more: MoreModels) -> Self {
        if !more.names.is_empty() {
            more.budget = more.budget.or(first.about.device_memory);
        }
        let mut names = vec![first.about.name.clone()];
        names.extend(more.names.iter().cloned());
        let entry = Entry { worker: Arc::new(first), used: Instant::now() };
        let loaded = Mutex::new(BTreeMap::from([(names[0].clone(), entry)]));
        Self { names, loaded, more, loading: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Names of all models; the first one's first.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The models that are loaded.
    pub(crate) fn loaded(&self) -> Vec<Arc<Worker>> {
        self.entries().values().map(|entry| entry.worker.clone()).collect()
    }

    /// A model that is loaded, without loading it.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Worker>> {
        self.entries().get(name).map(|entry| entry.worker.clone())
    }

    /// The model of a name, or the first one; loaded, if it is not.
    pub(crate) async fn get(self: &Arc<Self>, asked: Option<&str>) -> Result<Arc<Worker>, NoModel> {
        let name = match asked {
            None => &self.names[0],
            Some(asked) => match self.names.iter().find(|name| *name == asked) {
                Some(name) => name,
                None => return Err(NoModel::Unknown(self.names.clone())),
            },
        };
        if let Some(worker) = self.touch(name) {
            return Ok(worker);
        }
        self.loading(name).await.map_err(NoModel::Refused)
    }

    /// The load of a model, begun if it is not under way. It ends whether anybody waits for it or not.
    fn loading(self: &Arc<Self>, name: &str) -> Loading {
        let mut under_way = self.under_way();
        if let Some(loading) = under_way.get(name) {
            return loading.clone();
        }
        let (models, asked) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let held = models.turn.lock().await;
            let done = match models.touch(&asked) {
                Some(worker) => Ok(worker),
                None => models.load(&asked).await,
            };
            drop(held);
            models.under_way().remove(&asked);
            done
        });
        let ended = async move { task.await.unwrap_or_else(|error| Err(Refused::Failed(error.to_string()))) };
        let loading = ended.boxed().shared();
        under_way.insert(name.to_owned(), loading.clone());
        loading
    }

    async fn load(&self, name: &str) -> Result<Arc<Worker>, Refused> {
        let budget = self.more.budget;
        loop {
            let left = budget.map(|budget| budget.saturating_sub(self.bytes()));
            let (load, asked) = (self.more.load.clone(), name.to_owned());
            let loaded = tokio::task::spawn_blocking(move || load(&asked, budget, left)).await;
            match loaded.map_err(|error| Refused::Failed(error.to_string()))? {
                Ok(worker) => {
                    let worker = Arc::new(worker);
                    let entry = Entry { worker: worker.clone(), used: Instant::now() };
                    self.entries().insert(name.to_owned(), entry);
                    return Ok(worker);
                }
                Err(LoadError::Memory { why, needed }) => {
                    // What would not fit if it were alone: nobody goes for it.
                    if let Some((needed, budget)) = needed.zip(budget).filter(|(needed, budget)| needed > budget) {
                        return Err(Refused::Failed(format!(
                            "the model `{name}` needs {needed} bytes of memory, and all models together may have {budget}"
                        )));
                    }
                    match self.give_up_one().await {
                        true => {}
                        false if self.entries().is_empty() => return Err(Refused::Failed(why)),
                        false => return Err(Refused::NoRoom(why)),
                    }
                }
                Err(LoadError::Failed(why)) => return Err(Refused::Failed(why)),
            }
        }
    }

    /// Gives up the model that was asked for longest ago, of those that nobody uses. False where there is none.
    async fn give_up_one(&self) -> bool {
        let taken = {
            let mut entries = self.entries();
            let unused = entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.worker) == 1);
            let oldest = unused.min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone());
            oldest.and_then(|name| entries.remove(&name))
        };
        let Some(entry) = taken else { return false };
        // Its thread ends first, so that its memory is free.
        let _ = tokio::task::spawn_blocking(move || drop(entry)).await;
        true
    }

    /// A model that is loaded and works.
    fn touch(&self, name: &str) -> Option<Arc<Worker>> {
        let mut entries = self.entries();
        let entry = entries.get_mut(name)?;
        if !entry.worker.is_alive() {
            entries.remove(name);
            return None;
        }
        entry.used = Instant::now();
        Some(entry.worker.clone())
    }

    fn bytes(&self) -> u64 {
        self.entries().values().map(|entry| entry.worker.about.memory_bytes).sum()
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Loading>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
