//! Many sequences in the same steps: each text is that of its request alone.

use std::collections::BTreeMap;

use crate::support::{Setting, checkpoint, cpu, load, wait};
use selvedge::backend::Outputs;
use selvedge::generate::prompt_cache::{Mark, PromptCache};
use selvedge::generate::scheduler::{Event, Scheduler, SchedulerOptions, SequenceId, SequenceRequest};
use selvedge::generate::{FinishReason, GenerateOptions, Generation};
use selvedge::runtime::{Cancel, Engine};
use selvedge::state::{CheckpointKind, Sampler};

/// Prompts of many lengths, and ways to go on.
fn requests(vocabulary: usize, count: usize) -> Vec<SequenceRequest> {
    let lengths = [1, 7, 33, 64, 150, 31, 97, 5];
    let prompt = |i: usize| -> Vec<u32> {
        let salt = [3, 3, 11, 11, 29, 3, 5, 11][i % 8];
        (0..lengths[i % 8] + i / 8).map(|at| (10 + (at * 7 + salt) % (vocabulary - 12)) as u32).collect()
    };
    let sampler = |i: usize| match i % 3 {
        0 => Sampler::default(),
        1 => Sampler { temperature: 1.0, seed: i as u64, ..Sampler::default() },
        _ => Sampler { temperature: 0.8, top_k: 20, repetition: 1.2, frequency: 0.1, seed: 7, ..Sampler::default() },
    };
    let request = |i: usize| {
        let prompt = prompt(i);
        let marks = vec![Mark { length: prompt.len() / 2, kind: CheckpointKind::Message }];
        let options =
            GenerateOptions { sampler: sampler(i), max_tokens: 3 + (i * 5) % 23, ..GenerateOptions::default() };
        SequenceRequest { prompt, marks, options, pooling: None }
    };
    (0..count).map(request).collect()
}

/// What became of a request: tokens, the reason of the end, and how many tokens of the prompt were known.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    reason: Option<&'static str>,
    cached: usize,
}

struct World {
    engine: Engine,
    cache: PromptCache,
    scheduler: Scheduler,
    outcomes: BTreeMap<SequenceId, Outcome>,
    steps: usize,
}

impl World {
    fn new(case: &str, slots: usize, rows: usize, cache_bytes: u64) -> Self {
        let setting = Setting { slots, context: Some(256), ..Setting::default() };
        let engine = load(&cpu(), &checkpoint(case), setting);
        let options = SchedulerOptions { rows, ..SchedulerOptions::default() };
        let (cache, scheduler) = (PromptCache::new(cache_bytes), Scheduler::new(options));
        Self { engine, cache, scheduler, outcomes: BTreeMap::new(), steps: 0 }
    }

    fn submit(&mut self, request: SequenceRequest) -> SequenceId {
        let id = self.scheduler.submit(&self.engine, request).expect("room");
        self.outcomes.insert(id, Outcome::default());
        id
    }

    fn step(&mut self) {
        self.steps += 1;
        for (id, event) in wait(self.scheduler.step(&mut self.engine, &mut self.cache)).expect("a step") {
            let outcome = self.outcomes.get_mut(&id).expect("a request");
            assert!(outcome.reason.is_none(), "nothing comes after the end");
            match event {
                Event::Begun { cached, .. } => outcome.cached = cached,
                Event::Token { token, .. } => outcome.tokens.push(token),
                Event::Pooled(_) => panic!("no vector was asked for"),
                Event::Ended { reason, read } => {
                    outcome.reason = Some(reason.name());
                    assert!(read.is_empty() || read.len() + 1 >= outcome.tokens.len());
                }
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }

    fn run(&mut self) {
        while !self.scheduler.is_idle() {
            self.step();
            assert!(self.steps < 10_000);
        }
    }

    /// Every slot and every page is there again.
    fn finish(mut self) {
        self.cache.clear(&mut self.engine);
        assert_eq!(self.engine.pages().0, self.engine.pages().1, "no page is lost");
        for _ in 0..self.engine.layout().slots {
            self.engine.open().expect("a free slot");
        }
    }
}

/// Bit for bit: sampled texts follow from the logits.
#[test]
fn a_text_does_not_depend_on_its_neighbours() {
    for case in ["falcon_h1", "nemotron_h", "nemotron_h_moe", "qwen3_5", "lfm2", "granite_h", "hymba/caseA"] {
        let vocabulary = load(&cpu(), &checkpoint(case), Setting::default()).model().vocabulary;
        let requests = requests(vocabulary, 20);
        let alone: Vec<Outcome> = requests
            .iter()
            .map(|request| {
                let mut world = World::new(case, 1, 512, 0);
                let id = world.submit(request.clone());
                world.run();
                world.outcomes[&id].clone()
            })
            .collect();
        for (slots, rows) in [(4, 64), (7, 200)] {
            let mut world = World::new(case, slots, rows, 0);
            // Some come while others are made.
            let mut ids = vec![];
            for (i, request) in requests.iter().enumerate() {
                ids.push(world.submit(request.clone()));
                if i % 4 == 3 {
                    world.step();
                }
            }
            world.run();
            for (i, id) in ids.iter().enumerate() {
                assert_eq!(world.outcomes[id], alone[i], "{case}: request {i} among others in {slots} slots");
            }
            let sum: usize = alone.iter().map(|outcome| outcome.tokens.len()).sum();
            assert!(world.steps * 2 < sum, "{} steps for {sum} tokens", world.steps);
            world.finish();
        }
    }
}

/// Probabilities are those of a plain reading, also beside requests that want none.
#[test]
fn probabilities_are_those_of_the_logits() {
    let mut world = World::new("falcon_h1", 3, 64, 0);
    let mut requests = requests(100, 4);
    requests[1].options.logprobs = Some(5);
    requests[3].options.logprobs = Some(0);
    let wanted = requests[1].clone();
    let ids: Vec<SequenceId> = requests.into_iter().map(|request| world.submit(request)).collect();
    let mut found = vec![];
    while !world.scheduler.is_idle() {
        for (id, event) in wait(world.scheduler.step(&mut world.engine, &mut world.cache)).expect("a step") {
            let Event::Token { token, logprobs } = event else { continue };
            let asked = [ids[1], ids[3]].contains(&id);
            assert_eq!(logprobs.is_some(), asked);
            if id == ids[1] {
                found.push((token, logprobs.expect("probabilities")));
            }
        }
    }
    let slot = world.engine.open().expect("a slot");
    let mut next = wanted.prompt.clone();
    for (token, logprobs) in &found {
        let step = world.engine.enqueue(slot, &next, Outputs::Last).expect("a step");
        let logits = wait(world.engine.logits(&step)).expect("logits");
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let plain = f64::from(logits[*token as usize]) - sum.ln();
        assert!((f64::from(logprobs.logprob) - plain).abs() < 1e-4, "{} and {plain}", logprobs.logprob);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary");
        assert_eq!((logprobs.top.len(), logprobs.top[0].0 as usize), (5, best));
        next = vec![*token];
    }
    assert_eq!(found.len(), wanted.options.max_tokens);
    world.engine.clear(slot).expect("an open slot");
    let engine = &mut world.engine;
    let mut alone = wait(Generation::start(engine, slot, &wanted.prompt, &wanted.options)).expect("a generation");
    for (token, logprobs) in &found {
        assert_eq!(wait(alone.next(engine)).expect("a token"), Some(*token));
        let scored = alone.logprobs().expect("probabilities");
        assert!(
            (scored.logprob - logprobs.logprob).abs() < 1e-4 && scored.top.len() == 5,
            "{scored:?} and {logprobs:?}"
        );
    }
    world.engine.close(slot).expect("an open slot");
    world.finish();
}

#[test]
fn what_one_request_read_the_next_need_not() {
    let mut world = World::new("granite_h", 3, 64, 1 << 24);
    let request = requests(100, 8).remove(4);
    let first = world.submit(request.clone());
    world.run();
    let later = [world.submit(request.clone()), world.submit(request.clone())];
    world.run();
    for id in later {
        assert!(world.outcomes[&id].cached >= request.prompt.len() / 2, "{:?}", world.outcomes[&id]);
        assert_eq!(world.outcomes[&id].tokens.len(), world.outcomes[&first].tokens.len());
    }
    world.finish();
}

#[test]
fn a_cancelled_request_gives_its_slot_back_within_two_steps() {
    let mut world = World::new("falcon_h1", 2, 64, 1 << 24);
    let endless = |seed| SequenceRequest {
        prompt: vec![12, 13, 14],
        marks: vec![],
        pooling: None,
        options: GenerateOptions {
            max_tokens: 200,
            sampler: Sampler { temperature: 1.0, seed, ..Sampler::default() },
            cancel: Cancel::default(),
            ..GenerateOptions::default()
        },
    };
    let (a, b, waiting) = (endless(1), endless(2), endless(3));
    let ids = [world.submit(a.clone()), world.submit(b.clone()), world.submit(waiting.clone())];
    for _ in 0..5 {
        world.step();
    }
    assert_eq!((world.scheduler.running(), world.scheduler.waiting()), (2, 1));
    a.options.cancel.cancel();
    world.step();
    world.step();
    assert_eq!(world.outcomes[&ids[0]].reason, Some(FinishReason::Cancelled.name()));
    assert_eq!((world.scheduler.running(), world.scheduler.waiting()), (2, 0), "the next one has its slot");
    // One that waits, and one amid its prompt.
    let long = SequenceRequest { prompt: (0..200).map(|i| 10 + i % 90).collect(), ..endless(4) };
    let long_id = world.submit(long.clone());
    long.options.cancel.cancel();
    world.step();
    assert_eq!(world.outcomes[&long_id].reason, Some(FinishReason::Cancelled.name()));
    b.options.cancel.cancel();
    waiting.options.cancel.cancel();
    world.run();
    let long = SequenceRequest { options: endless(5).options, ..long };
    let long_id = world.submit(long.clone());
    world.step();
    long.options.cancel.cancel();
    world.run();
    assert_eq!(world.outcomes[&long_id].reason, Some(FinishReason::Cancelled.name()));
    assert_eq!(world.outcomes[&long_id].tokens, Vec::<u32>::new());
    world.finish();
}

/// Replies go on with every step while a long prompt is read.
#[test]
fn a_long_prompt_starves_nobody() {
    let mut world = World::new("nemotron_h", 3, 64, 0);
    let mut requests = requests(100, 3);
    requests.iter_mut().for_each(|request| request.options.max_tokens = 40);
    let ids: Vec<SequenceId> = requests[..2].iter().map(|request| world.submit(request.clone())).collect();
    for _ in 0..3 {
        world.step();
    }
    requests[2].prompt = (0..250).map(|i| 10 + i % 90).collect();
    requests[2].options.max_tokens = 1;
    let long = world.submit(requests[2].clone());
    let before: Vec<usize> = ids.iter().map(|id| world.outcomes[id].tokens.len()).collect();
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(world.outcomes[&long].tokens.len(), 0, "four parts of 64");
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(world.outcomes[id].tokens.len(), before + 3);
    }
    world.run();
    assert_eq!(world.outcomes[&long].tokens.len(), 1);
    world.finish();
}

#[test]
fn what_cannot_be_is_said_to_whoever_asked() {
    let mut world = World::new("falcon_h1", 1, 64, 0);
    let good = requests(100, 1).remove(0);
    let bad = [
        SequenceRequest { prompt: vec![], ..good.clone() },
        SequenceRequest { prompt: vec![1 << 30], ..good.clone() },
        SequenceRequest { prompt: vec![12; 300], ..good.clone() },
        SequenceRequest {
            options: GenerateOptions {
                sampler: Sampler { top_p: -1.0, ..Sampler::default() },
                ..GenerateOptions::default()
            },
            ..good.clone()
        },
    ];
    let good_id = world.submit(good);
    let ids: Vec<SequenceId> = bad.into_iter().map(|request| world.submit(request)).collect();
    let mut failed = vec![];
    while !world.scheduler.is_idle() {
        for (id, event) in wait(world.scheduler.step(&mut world.engine, &mut world.cache)).expect("a step") {
            if let Event::Failed(error) = event {
                failed.push((id, error.to_string()));
            }
        }
    }
    assert_eq!(failed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids, "{failed:?}");
    assert!(!ids.contains(&good_id));
    // One in the slot, one that waits.
    let mut full = Scheduler::new(SchedulerOptions { waiting: 1, ..SchedulerOptions::default() });
    let request = requests(100, 1).remove(0);
    full.submit(&world.engine, request.clone()).expect("a slot");
    full.submit(&world.engine, request.clone()).expect("room for one");
    assert!(full.submit(&world.engine, request).is_err());
    world.finish();
}
