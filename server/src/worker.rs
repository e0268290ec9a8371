//! The thread that owns the engine. Jobs come through a channel; what becomes of each goes back through its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use selvedge::arch::Head;
use selvedge::generate::prompt_cache::{CacheCounts, PromptCache};
use selvedge::generate::scheduler::{
    Event, Pooling, PoolingTask, Scheduler, SchedulerOptions, SequenceId, SequenceRequest,
};
use selvedge::generate::{Chat, ChatRequest, FinishReason, GenerateOptions, Recommended, ReplyReader, ScoredToken};
use selvedge::runtime::{Cancel, Engine};
use selvedge::state::SlotId;
use selvedge::text::{Tokenizer, ToolCallDialect};
use tokio::sync::mpsc as tokio_mpsc;

use crate::grammars::GrammarDesk;
use crate::jobs::{Ask, Clock, Job, PooledText, Prompt, Refused, ReplyEvent};
use crate::reader::{Part, Reader, TextReader};

/// Bytes of the stack of the thread that owns an engine.
const STACK: usize = 32 << 20;
/// Time for new requests between two steps.
const MOST_WAIT: Duration = Duration::from_millis(5);

/// A model on its device, and what belongs to it.
pub struct Loaded {
    /// Its name for clients.
    pub name: String,
    /// With as many slots as replies are to be made at once.
    pub engine: Engine,
    /// `None` where the model has no chat template.
    pub chat: Option<Chat>,
    /// What the model's makers recommend.
    pub recommended: Recommended,
    /// How its embeddings are pooled.
    pub pooling: Pooling,
}

/// What is known of a model without asking its thread.
#[derive(Clone)]
pub(crate) struct About {
    pub name: String,
    pub context: usize,
    /// Bytes of a text that may fit it.
    pub most_bytes: usize,
    pub slots: usize,
    pub recommended: Recommended,
    pub has_chat: bool,
    pub vocabulary: usize,
    pub tokenizer: Option<Arc<Tokenizer>>,
    pub grammars: Arc<GrammarDesk>,
    /// Bytes of memory that it takes.
    pub memory_bytes: u64,
    /// Bytes that were free on its device before it came, where that is known.
    pub device_memory: Option<u64>,
    /// Numbers of an embedding.
    pub width: usize,
    /// Labels of a model that gives scores and no text.
    pub labels: Option<Arc<[String]>>,
    pub pooling: Pooling,
    /// Of the chat template, where one is known.
    pub tool_call_dialect: Option<ToolCallDialect>,
    /// Requests that may be taken at once.
    pub most: usize,
}

/// Counts of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub running: usize,
    pub waiting: usize,
    pub requests: u64,
    pub made_tokens: u64,
    pub steps: u64,
    pub cache: CacheCounts,
    pub checkpoints: usize,
    pub checkpoint_bytes: u64,
    pub free_pages: usize,
    pub pages: usize,
    pub weight_bytes: u64,
    pub state_bytes: u64,
    pub drafted: u64,
    pub accepted: u64,
}

/// A model at work on a thread of its own. When it is dropped, replies under way are cancelled.
pub struct Worker {
    jobs: Option<Sender<Job>>,
    pub(crate) about: About,
    counts: Arc<Mutex<Counts>>,
    thread: Option<JoinHandle<()>>,
    cancel: Cancel,
}

impl Worker {
    /// Loads a model on a new thread, which keeps it: an engine does not move from thread to thread. `tell` hears what goes
    /// wrong and concerns no request: sentences without a full stop.
    pub fn start<E: Send + 'static>(
        load: impl FnOnce() -> Result<Loaded, E> + Send + 'static,
        options: SchedulerOptions,
        tell: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, E> {
        let (jobs, inbox) = mpsc::channel();
        let (ready, loaded) = mpsc::channel();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (shared, cancel) = (counts.clone(), Cancel::default());
        let cancelled = cancel.clone();
        // Grammars of requests are gone through on it, some of which are deep.
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK);
        let thread = thread.spawn(move || match load() {
            Ok(model) => {
                let about = About {
                    name: model.name.clone(),
                    context: model.engine.context(),
                    most_bytes: model.engine.most_bytes(),
                    slots: model.engine.layout().slots,
                    recommended: model.recommended.clone(),
                    has_chat: model.chat.is_some(),
                    vocabulary: model.engine.model().vocabulary,
                    tokenizer: model.engine.tokenizer().ok(),
                    memory_bytes: model.engine.memory_bytes(),
                    device_memory: model.engine.info().memory,
                    width: Pooling::width(&model.engine),
                    labels: match &model.engine.model().head {
                        Head::Classification(labels) => Some(labels.clone().into()),
                        Head::CausalLm => None,
                    },
                    pooling: model.pooling,
                    tool_call_dialect: model.chat.as_ref().and_then(Chat::tool_call_dialect),
                    grammars: Arc::new(GrammarDesk::of(&model)),
                    most: options.waiting.saturating_add(model.engine.layout().slots),
                };
                let mut desk = Desk::new(model, options, shared, cancelled, Box::new(tell));
                desk.count();
                if ready.send(Ok(about)).is_ok() {
                    pollster::block_on(desk.work(&inbox));
                }
            }
            // Whoever waits for it hears of it.
            Err(error) => drop(ready.send(Err(error))),
        });
        // As `std::thread::spawn` has it.
        let thread = thread.expect("a thread of the system's");
        match loaded.recv() {
            Ok(Ok(about)) => Ok(Self { jobs: Some(jobs), about, counts, thread: Some(thread), cancel }),
            Ok(Err(error)) => Err(error),
            Err(_) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread says what became of the load"),
            },
        }
    }

    /// Gives the worker something to do. False when its thread has ended.
    pub(crate) fn send(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// Whether its thread is at work.
    pub(crate) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// A reply under way.
pub(crate) struct Task {
    reader: Reader,
    events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    cancel: Cancel,
    pub prompt_tokens: usize,
    pub made_tokens: usize,
    clock: Clock,
    conversation: Option<u64>,
    keep: bool,
    /// The slot, once its prompt is being read.
    pub slot: Option<SlotId>,
    /// Ids that are wanted: of the prompt until that is begun, then of the tokens that were not told.
    ids: Option<Vec<u32>>,
}

impl Task {
    /// A text that is no conversation.
    fn new(sequence: &SequenceRequest, reader: Reader, events: tokio_mpsc::UnboundedSender<ReplyEvent>) -> Self {
        let (prompt_tokens, cancel) = (sequence.prompt.len(), sequence.options.cancel.clone());
        let clock = Clock::default();
        Self {
            reader,
            events,
            cancel,
            prompt_tokens,
            made_tokens: 0,
            clock,
            conversation: None,
            keep: false,
            slot: None,
            ids: None,
        }
    }

    /// The same; ids are wanted too.
    fn with_ids(self, sequence: &SequenceRequest, wanted: bool) -> Self {
        Self { ids: wanted.then(|| sequence.prompt.clone()), ..self }
    }

    /// A part with the ids that were not told.
    fn with_untold(&mut self, part: Part) -> Part {
        Part { ids: self.ids.as_mut().map(std::mem::take), ..part }
    }
}

pub(crate) struct Desk {
    pub(crate) model: Loaded,
    /// Of models without a chat template.
    pub(crate) cache: PromptCache,
    scheduler: Scheduler,
    pub(crate) tasks: BTreeMap<SequenceId, Task>,
    /// The ids that were read last in each slot.
    pub(crate) read: Vec<Vec<u32>>,
    counts: Counts,
    shared: Arc<Mutex<Counts>>,
    /// Nobody wants anything any more.
    cancel: Cancel,
    pub(crate) tell: Box<dyn Fn(&str) + Send>,
}

impl Desk {
    fn new(
        model: Loaded,
        options: SchedulerOptions,
        shared: Arc<Mutex<Counts>>,
        cancel: Cancel,
        tell: Box<dyn Fn(&str) + Send>,
    ) -> Self {
        let (cache, scheduler) = (PromptCache::default(), Scheduler::new(options));
        let read = vec![vec![]; model.engine.layout().slots];
        Self { model, cache, scheduler, tasks: BTreeMap::new(), read, counts: Counts::default(), shared, cancel, tell }
    }

    /// Until nobody gives jobs any more and all are done, or the device fails.
    async fn work(&mut self, inbox: &Receiver<Job>) {
        let mut open = true;
        while open || !self.scheduler.is_idle() {
            if self.scheduler.is_idle() {
                match inbox.recv() {
                    Ok(job) => self.take(job).await,
                    Err(_) => break,
                }
            }
            // Replies wait for new requests a moment, and not for all of them.
            let began = Instant::now();
            while began.elapsed() < MOST_WAIT {
                match inbox.try_recv() {
                    Ok(job) => self.take(job).await,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
            }
            for task in self.tasks.values() {
                // Whoever left wants no more.
                if self.cancel.is_cancelled() || task.events.is_closed() {
                    task.cancel.cancel();
                }
            }
            let cache = self.model.chat.as_mut().map_or(&mut self.cache, Chat::cache_mut);
            let turned;
            match self.scheduler.step(&mut self.model.engine, cache).await {
                Ok(events) => {
                    turned = events.iter().any(|(_, event)| !matches!(event, Event::Token { .. }));
                    for (id, event) in events {
                        self.tell(id, event).await;
                    }
                }
                Err(error) => {
                    // Nothing goes on without a device: everybody hears of it, and the thread ends.
                    (self.tell)(&format!("the device failed: {error}"));
                    for (_, task) in std::mem::take(&mut self.tasks) {
                        let _ = task.events.send(ReplyEvent::Refused(Refused::Failed(error.to_string())));
                    }
                    return;
                }
            }
            self.engine_and_cache().1.take_notices().iter().for_each(|notice| (self.tell)(notice));
            self.counts.steps += 1;
            // With a token alone the cache does not change, and its checkpoints are many.
            if turned { self.count() } else { self.publish() }
        }
    }

    /// The engine, and the cache of what it has read.
    pub(crate) fn engine_and_cache(&mut self) -> (&mut Engine, &mut PromptCache) {
        (&mut self.model.engine, self.model.chat.as_mut().map_or(&mut self.cache, Chat::cache_mut))
    }

    fn count(&mut self) {
        let engine = &self.model.engine;
        let cache = self.model.chat.as_ref().map_or(&self.cache, Chat::cache);
        let ((checkpoints, checkpoint_bytes), (free_pages, pages)) = (cache.size(engine), engine.pages());
        self.counts = Counts {
            cache: cache.counts(),
            checkpoints,
            checkpoint_bytes,
            free_pages,
            pages,
            weight_bytes: engine.weight_bytes(),
            state_bytes: engine.layout().allocated(),
            ..self.counts
        };
        self.publish();
    }

    /// Tells the counts to whoever asks.
    fn publish(&mut self) {
        (self.counts.running, self.counts.waiting) = (self.scheduler.running(), self.scheduler.waiting());
        let speculated = self.scheduler.speculated();
        (self.counts.drafted, self.counts.accepted) = (speculated.drafted as u64, speculated.accepted as u64);
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = self.counts;
    }

    /// Takes a job. Whoever does not wait for the answer any more does not get it.
    async fn take(&mut self, job: Job) {
        match job {
            Job::Replies(asks) => {
                let senders: Vec<_> = asks.iter().map(|ask| ask.events().clone()).collect();
                if let Err(refused) = self.submit_all(asks) {
                    for events in senders {
                        let _ = events.send(ReplyEvent::Refused(refused.clone()));
                    }
                }
            }
            Job::Render { request, answer } => {
                let _ = answer.send(self.chat().and_then(|chat| self.render(chat, &request)));
            }
            Job::Slots { answer } => drop(answer.send(self.slots())),
            Job::CheckIdle { slot, answer } => drop(answer.send(self.check_idle(slot))),
            Job::Save { slot, answer } => drop(answer.send(self.save(slot).await)),
            Job::Restore { slot, snapshot, answer } => drop(answer.send(self.restore(slot, &snapshot).await)),
            Job::Erase { slot, answer } => drop(answer.send(self.erase(slot))),
        }
    }

    /// The ids that are read of a conversation: for a reply, or for its scores.
    fn render(&self, chat: &Chat, request: &ChatRequest) -> Result<Vec<u32>, Refused> {
        let engine = &self.model.engine;
        let ids = match engine.makes_tokens() {
            true => chat.prepare(engine, request).map(|prepared| prepared.reader.tokens().to_vec()),
            false => chat.conversation(engine, request),
        };
        ids.map_err(|error| Refused::of(&error))
    }

    fn chat(&self) -> Result<&Chat, Refused> {
        let none = || Refused::Bad("the model has no chat template: ask for a completion of a text".into());
        self.model.chat.as_ref().ok_or_else(none)
    }

    fn tokenizer(&self) -> Result<Arc<Tokenizer>, Refused> {
        self.model.engine.tokenizer().map_err(|error| Refused::of(&error))
    }

    /// Takes all replies of a request, or none.
    fn submit_all(&mut self, asks: Vec<Ask>) -> Result<(), Refused> {
        if asks.len() > self.scheduler.room(&self.model.engine) {
            return Err(Refused::Busy(self.scheduler.waiting()));
        }
        let prepare = |ask| match ask {
            Ask::Chat { request, ids, events } => self.prepare_chat(*request, ids, events),
            Ask::Pool { text, task, cancel, events } => self.prepare_pooled(text, task, cancel, events),
            Ask::Complete { prompt, options, stops, ids, events } => {
                self.prepare_text(prompt, *options, stops, ids, events)
            }
        };
        let ready = asks.into_iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        ready.into_iter().try_for_each(|(sequence, task)| self.submit(sequence, task))
    }

    fn prepare_chat(
        &self,
        request: ChatRequest,
        ids: bool,
        events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    ) -> Result<(SequenceRequest, Task), Refused> {
        let prepared = self.chat()?.prepare(&self.model.engine, &request).map_err(|error| Refused::of(&error))?;
        let prompt = prepared.reader.tokens().to_vec();
        let sequence = SequenceRequest { prompt, marks: prepared.marks, options: prepared.options, pooling: None };
        let reader = Reader::Chat(Box::new(prepared.reader));
        let task = Task::new(&sequence, reader, events).with_ids(&sequence, ids);
        Ok((sequence, Task { conversation: request.conversation, keep: request.keep, ..task }))
    }

    fn prepare_text(
        &self,
        prompt: Prompt,
        options: GenerateOptions,
        stops: Vec<String>,
        ids: bool,
        events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    ) -> Result<(SequenceRequest, Task), Refused> {
        let tokenizer = self.tokenizer()?;
        let prompt = self.ids(prompt)?;
        let reader = Reader::Text(TextReader::new(tokenizer, stops));
        let sequence = SequenceRequest { prompt, marks: vec![], options, pooling: None };
        let task = Task::new(&sequence, reader, events).with_ids(&sequence, ids);
        Ok((sequence, task))
    }

    fn prepare_pooled(
        &self,
        text: PooledText,
        task: PoolingTask,
        cancel: Cancel,
        events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    ) -> Result<(SequenceRequest, Task), Refused> {
        task.check(&self.model.engine).map_err(|error| Refused::of(&error))?;
        let prompt = match text {
            PooledText::Plain(prompt) => self.ids(prompt)?,
            PooledText::Conversation(request) => {
                let ids = self.chat()?.conversation(&self.model.engine, &request);
                ids.map_err(|error| Refused::of(&error))?
            }
        };
        let options = GenerateOptions { cancel, ..GenerateOptions::default() };
        let sequence = SequenceRequest { prompt, marks: vec![], options, pooling: Some(task) };
        let task = Task::new(&sequence, Reader::Nothing, events);
        Ok((sequence, task))
    }

    fn ids(&self, prompt: Prompt) -> Result<Vec<u32>, Refused> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Text(text) => {
                self.model.engine.check_bytes(&text).map_err(|error| Refused::of(&error))?;
                self.tokenizer()?.encode(&text).map_err(|error| Refused::Bad(error.to_string()))
            }
        }
    }

    fn submit(&mut self, sequence: SequenceRequest, task: Task) -> Result<(), Refused> {
        let id = self.scheduler.submit(&self.model.engine, sequence).map_err(|full| Refused::Busy(full.waiting))?;
        self.counts.requests += 1;
        self.tasks.insert(id, task);
        Ok(())
    }

    /// Passes on what became of a reply in a step.
    async fn tell(&mut self, id: SequenceId, event: Event) {
        // Whoever hears that a request is over finds it over in the metrics.
        if matches!(event, Event::Ended { .. } | Event::Failed(_)) {
            self.count();
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let sent = match event {
            Event::Begun { cached, slot, at } => {
                task.clock.begun = Some(at);
                task.slot = Some(slot);
                let ids = task.ids.as_mut().map(std::mem::take);
                Ok(ReplyEvent::Begun { prompt_tokens: task.prompt_tokens, cached_tokens: cached, ids })
            }
            // What came behind a stop string is nothing.
            Event::Token { .. } if task.reader.stopped() => return,
            Event::Token { token, logprobs } => {
                task.made_tokens += 1;
                task.clock.first.get_or_insert_with(Instant::now);
                self.counts.made_tokens += 1;
                task.ids.iter_mut().for_each(|ids| ids.push(token));
                let is_stop = self.model.engine.is_stop_token(token);
                let mut part = task.reader.push(token, is_stop);
                if let (Ok(part), Some(logprobs), false) = (&mut part, logprobs, is_stop) {
                    let tokenizer = self.model.engine.tokenizer();
                    part.token = tokenizer.ok().map(|tokenizer| ScoredToken::of(&tokenizer, token, &logprobs));
                }
                if task.reader.stopped() {
                    self.scheduler.stop(id);
                }
                match part {
                    Ok(part) if part.is_empty() => return,
                    part => part.map(|part| ReplyEvent::Part(task.with_untold(part))),
                }
            }
            Event::Pooled(vector) => Ok(ReplyEvent::Pooled(vector)),
            Event::Ended { reason, read } => return self.end(id, reason, read).await,
            Event::Failed(error) => {
                let event = ReplyEvent::Refused(Refused::of(&error));
                let _ = task.events.send(event);
                self.tasks.remove(&id);
                return;
            }
        };
        let event = sent.unwrap_or_else(|error| ReplyEvent::Refused(Refused::Failed(error.to_string())));
        let _ = task.events.send(event);
    }

    async fn end(&mut self, id: SequenceId, reason: FinishReason, mut read: Vec<u32>) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        match task.reader.end() {
            Ok(part) if part.is_empty() && task.ids.as_ref().is_none_or(Vec::is_empty) => {}
            Ok(part) => {
                let part = task.with_untold(part);
                let _ = task.events.send(ReplyEvent::Part(part));
            }
            Err(error) => drop(task.events.send(ReplyEvent::Refused(Refused::Failed(error.to_string())))),
        }
        let reason = if task.reader.stopped() { FinishReason::Stop } else { reason };
        let _ = task.events.send(ReplyEvent::Ended {
            reason,
            made_tokens: task.made_tokens,
            timings: task.clock.timings(),
        });
        if let (Some(slot), false) = (task.slot, matches!(task.reader, Reader::Nothing))
            && let Some(last) = self.read.get_mut(slot.0 as usize)
        {
            last.clone_from(&read);
        }
        if let (Reader::Chat(reader), Some(chat)) = (task.reader, &mut self.model.chat)
            && read.len() >= reader.given()
        {
            let reader: ReplyReader = *reader;
            if reader.stopped() {
                // What came behind the stop string is no part of the reply.
                read.truncate(reader.given());
            }
            // The reply is told already; what is not remembered of it is read again.
            let finished = chat.finish(&mut self.model.engine, &read, reader, task.conversation, task.keep).await;
            if let Err(error) = finished {
                (self.tell)(&format!("a reply is not remembered: {error}"));
            }
        }
    }
}
