//! Grammars of requests, compiled beside the model's thread.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use selvedge::text::{Grammar, GrammarSource, Grammars, TextError, Tokenizer};
use tokio::sync::{Semaphore, oneshot};

use crate::jobs::Refused;
use crate::worker::Loaded;

/// Grammars that are compiled at once; each is the work of one core.
const AT_ONCE: usize = 2;
/// Bytes of the stack of a thread that compiles.
const STACK: usize = 32 << 20;
/// Time to wait for one of them.
const WAIT: Duration = Duration::from_secs(10);

/// Compiles grammars for a model.
pub(crate) struct GrammarDesk {
    tokenizer: Option<Arc<Tokenizer>>,
    vocabulary: usize,
    stop_token_ids: Vec<u32>,
    /// Made for the first grammar: many models are never asked for one.
    grammars: OnceLock<Result<Grammars, TextError>>,
    free: Arc<Semaphore>,
}

impl GrammarDesk {
    pub fn of(model: &Loaded) -> Self {
        let engine = &model.engine;
        let of_engine = || engine.stop_token_ids().to_vec();
        Self {
            tokenizer: engine.tokenizer().ok(),
            vocabulary: engine.model().vocabulary,
            stop_token_ids: model.chat.as_ref().map_or_else(of_engine, |chat| chat.stop_token_ids(engine)),
            grammars: OnceLock::new(),
            free: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Compiles a grammar on a thread of its own, which has room for a deep one.
    pub async fn compile(self: Arc<Self>, source: GrammarSource) -> Result<Grammar, Refused> {
        let ended = || Refused::Failed("the server ends".into());
        let free = tokio::time::timeout(WAIT, self.free.clone().acquire_owned()).await;
        let held = free.map_err(|_| Refused::Busy(AT_ONCE))?.map_err(|_| ended())?;
        let (answer, compiled) = oneshot::channel();
        let work = move || {
            let _ = answer.send(self.compile_here(&source));
            // Whether anybody still waits for it or not.
            drop(held);
        };
        let thread = std::thread::Builder::new().name("grammar".into()).stack_size(STACK).spawn(work);
        thread.map_err(|error| Refused::Failed(format!("the system gives no thread: {error}")))?;
        compiled.await.map_err(|_| Refused::Bad("the grammar cannot be compiled".into()))?
    }

    fn compile_here(&self, source: &GrammarSource) -> Result<Grammar, Refused> {
        let Some(tokenizer) = &self.tokenizer else { return Err(Refused::Bad("the model has no tokenizer".into())) };
        let grammars = self.grammars.get_or_init(|| Grammars::new(tokenizer, self.vocabulary, &self.stop_token_ids));
        let grammars = grammars.as_ref().map_err(|error| Refused::Bad(error.to_string()))?;
        grammars.compile(source).map_err(|error| Refused::Bad(error.to_string()))
    }
}
