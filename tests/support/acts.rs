//! Random acts on sequences: forked, taken back, saved and dropped, each remembers what a plain reading of its tokens would.

use super::{Place, Setting, Worst, checkpoint, load, tolerance, wait};
use selvedge::backend::Outputs;
use selvedge::generate::prompt_cache::{Mark, PromptCache};
use selvedge::generate::{GenerateOptions, Session};
use selvedge::runtime::{Cancel, Engine, EngineError};
use selvedge::state::{CheckpointKind, PAGE_ROWS, Sampler, Snapshot};

/// Marsaglia's generator of 32 bits.
struct Chance(u32);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound.max(1)
    }

    fn tokens(&mut self, count: usize, vocabulary: usize) -> Vec<u32> {
        // Few of them, so that texts meet again.
        (0..count).map(|_| (self.below(3) * 7 + 10) as u32 % vocabulary as u32).collect()
    }
}

const SLOTS: usize = 3;
/// Two pages and a half: pages run out among three sequences and their checkpoints.
const CONTEXT: usize = 5 * PAGE_ROWS / 2;
/// Fits no context, so that a step that is refused is among the steps.
const LONGEST: usize = 60;

struct World {
    engine: Engine,
    /// Reads every text from its beginning.
    plain: Engine,
    cache: PromptCache,
    sessions: Vec<Session>,
    saved: Vec<Snapshot>,
    chance: Chance,
    worst: Worst,
}

impl World {
    fn new(place: &Place, case: &str, seed: u32) -> Self {
        let setting = |slots| Setting { slots, context: Some(CONTEXT), ..Setting::default() };
        let checkpoint = checkpoint(case);
        let engine = load(place, &checkpoint, setting(SLOTS));
        let bytes = 6 * engine.layout().block_bytes();
        Self {
            engine,
            plain: load(place, &checkpoint, setting(1)),
            cache: PromptCache::new(bytes),
            sessions: vec![],
            saved: vec![],
            chance: Chance(seed),
            worst: Worst::new(format!("{case} on {}", place.name), 2.0 * place.slack * tolerance(case)),
        }
    }

    /// One random act; its name.
    fn act(&mut self) -> &'static str {
        let vocabulary = self.engine.model().vocabulary;
        let Some(index) = self.sessions.len().checked_sub(1).map(|last| self.chance.below(last + 1)) else {
            return self.open();
        };
        let free = self.sessions.len() < SLOTS;
        match self.chance.below(12) {
            0 | 1 if free => self.open(),
            2 if free => {
                let fork = self.sessions[index].fork(&mut self.engine).expect("a free slot");
                self.sessions.push(fork);
                "fork"
            }
            3 => {
                self.sessions.swap_remove(index).close(&mut self.engine).expect("an open slot");
                "close"
            }
            4 => {
                self.cache.keep(&mut self.engine, &self.sessions[index], CheckpointKind::Reply).expect("room");
                "keep"
            }
            5 => {
                let read = self.sessions[index].length(&self.engine).expect("an open slot");
                let length = self.chance.below(read + 1);
                let session = &mut self.sessions[index];
                let again = wait(self.cache.rewind(&mut self.engine, session, length));
                back(again, length, "rewind")
            }
            6 => {
                let read = self.sessions[index].length(&self.engine).expect("an open slot");
                let by = self.chance.below(17.min(read + 1));
                let again = wait(self.sessions[index].rollback(&mut self.engine, by));
                back(again, read - by, "rollback")
            }
            7 => {
                let snapshot = wait(self.sessions[index].snapshot(&mut self.engine)).expect("a copy");
                let bytes = snapshot.to_bytes().expect("a file");
                self.saved.push(Snapshot::from_bytes(&bytes).expect("a snapshot"));
                if self.saved.len() > 3 {
                    self.saved.remove(0);
                }
                "save"
            }
            8 if free && !self.saved.is_empty() => {
                let saved = &self.saved[self.chance.below(self.saved.len())];
                self.sessions.push(Session::restore(&mut self.engine, saved).expect("the same model").0);
                "restore"
            }
            9 if self.chance.below(8) == 0 => {
                self.cache.clear(&mut self.engine);
                "clear"
            }
            _ => self.go_on(index, vocabulary),
        }
    }

    /// A prompt that begins as some text before it, through the cache.
    fn open(&mut self) -> &'static str {
        let vocabulary = self.engine.model().vocabulary;
        let more = 1 + self.chance.below(LONGEST / 2);
        let mut prompt = self.known_beginning();
        prompt.extend(self.chance.tokens(more, vocabulary));
        let count = prompt.len();
        let marks = [Mark { length: 1 + self.chance.below(count), kind: CheckpointKind::Message }];
        match wait(self.cache.open(&mut self.engine, &prompt, &marks, &Cancel::default())) {
            Ok((session, cached)) => {
                assert!(cached < prompt.len());
                assert!(prompt.starts_with(session.tokens()));
                self.sessions.push(session);
                "open"
            }
            Err(error) => {
                assert!(error.to_string().contains("pages"), "{error}");
                "open, refused"
            }
        }
    }

    /// The beginning of a text that a sequence has, or that one had when it was saved; of none sometimes.
    fn known_beginning(&mut self) -> Vec<u32> {
        let texts = self.sessions.iter().map(|session| session.tokens());
        let texts: Vec<Vec<u32>> =
            texts.chain(self.saved.iter().map(|saved| saved.tokens.as_slice())).map(<[u32]>::to_vec).collect();
        let Some(text) = texts.get(self.chance.below(texts.len() + 1)) else { return vec![] };
        text[..self.chance.below(text.len().min(CONTEXT - LONGEST) + 1)].to_vec()
    }

    /// Reads new tokens and makes some.
    fn go_on(&mut self, index: usize, vocabulary: usize) -> &'static str {
        let (count, made) = (1 + self.chance.below(LONGEST), self.chance.below(20));
        let more = self.chance.tokens(count, vocabulary);
        let session = &mut self.sessions[index];
        session.keep_recent(&mut self.engine, [0, 4, 16][self.chance.below(3)]);
        let text = [session.tokens(), &more].concat();
        let sampler = Sampler { temperature: 1.0, seed: self.chance.below(1 << 20) as u64, ..Sampler::default() };
        let options = GenerateOptions { max_tokens: made, sampler, ..GenerateOptions::default() };
        let before = session.length(&self.engine).expect("an open slot");
        let (mut generation, read) = match wait(session.begin(&mut self.engine, &text, &options)) {
            Ok(begun) => begun,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("context") || text.contains("pages"), "{text}");
                // Some of it may have been read before pages ran out.
                return "go on, refused";
            }
        };
        assert_eq!(read, text.len() - before);
        let stop = self.chance.below(30);
        loop {
            match wait(session.next(&mut self.engine, &mut generation)) {
                Ok(Some(_)) if session.tokens().len() < text.len() + stop => {}
                Ok(Some(_)) => {
                    let stopped = wait(session.stop(&mut self.engine, &mut generation));
                    stopped.expect("an end");
                    return "go on, stopped";
                }
                Ok(None) => return "go on",
                Err(error) => {
                    assert!(error.to_string().contains("pages"), "{error}");
                    return "go on, out of pages";
                }
            }
        }
    }

    /// Every sequence gives the logits of a plain reading for its next token.
    fn check(&mut self, after: &str) {
        for index in 0..self.sessions.len() {
            let tokens = self.sessions[index].read_tokens(&self.engine).expect("an open slot").to_vec();
            assert_eq!(self.sessions[index].length(&self.engine).expect("an open slot"), tokens.len(), "{after}");
            if tokens.len() + 1 > self.engine.context() {
                continue;
            }
            // In a fork, so that the sequence itself stays as it is, where there is a slot for one.
            let Ok(fork) = self.sessions[index].fork(&mut self.engine) else { continue };
            let next = 15;
            match self.engine.enqueue(fork.slot(), &[next], Outputs::Last) {
                Ok(step) => {
                    let got = wait(self.engine.logits(&step)).expect("logits");
                    let slot = self.plain.open().expect("a slot");
                    let text = [tokens.as_slice(), &[next]].concat();
                    let mut wanted = vec![];
                    for span in text.chunks(48) {
                        let step = self.plain.enqueue(slot, span, Outputs::Last).expect("a step");
                        wanted = wait(self.plain.logits(&step)).expect("logits");
                    }
                    self.plain.close(slot).expect("an open slot");
                    self.worst.compare(&format!("after {after}, {} tokens", tokens.len()), &got, &wanted);
                }
                Err(error) => assert!(error.to_string().contains("pages"), "{error}"),
            }
            fork.close(&mut self.engine).expect("an open slot");
        }
    }
}

/// A way back may need a page of its own, where others hold the one that was read.
fn back(again: Result<usize, EngineError>, most: usize, act: &'static str) -> &'static str {
    match again {
        Ok(again) => assert!(again <= most, "{act}: {again} tokens were read again, of {most}"),
        Err(error) => assert!(error.to_string().contains("pages"), "{error}"),
    }
    act
}

/// Random acts, and what is remembered after each of them.
pub fn random_acts(place: &Place, case: &str, seed: u32, steps: usize) {
    let mut world = World::new(place, case, seed);
    let mut acts = std::collections::BTreeMap::new();
    for step in 0..steps {
        let act = world.act();
        *acts.entry(act).or_insert(0) += 1;
        world.check(&format!("{act} (step {step})"));
    }
    let World { mut engine, mut cache, sessions, worst, .. } = world;
    println!("{case} on {}: {acts:?}, {:?}", place.name, cache.counts());
    sessions.into_iter().for_each(|session| session.close(&mut engine).expect("an open slot"));
    cache.clear(&mut engine);
    assert_eq!(engine.pages().0, engine.pages().1, "no page is lost");
    worst.finish();
}

/// Steps of the usual run; SELVEDGE_SESSION_STEPS asks for more.
pub fn steps(usual: usize) -> usize {
    std::env::var("SELVEDGE_SESSION_STEPS").map_or(usual, |steps| steps.parse().expect("a number"))
}
