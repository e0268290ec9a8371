//! Tests of speculation on any place to run: models whose drafts are right never, at times, or always, by construction.

use std::collections::BTreeMap;

use selvedge::backend::Outputs;
use selvedge::checkpoint::Checkpoint;
use selvedge::generate::prompt_cache::PromptCache;
use selvedge::generate::scheduler::{Event, Scheduler, SequenceId, SequenceRequest};
use selvedge::generate::{FinishReason, GenerateOptions, Generation, Session, Speculated};
use selvedge::runtime::Engine;
use selvedge::state::{Sampler, SlotId};

use super::{DRAFTS, Golden, Place, Setting, Worst, changed, checkpoint, load, tolerance, wait};

/// How a model's draft guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// By chance: the golden as it is.
    Rarely,
    /// The layers add a little to the stream, and the draft guesses what comes without them.
    Often,
    /// The layers add nothing, so that the next token follows from the last one alone, and the draft says the same.
    Always,
}

/// A golden's checkpoint with such a draft: its matrix passes the embedded token on as it is.
pub fn guessing(name: &str, guess: Guess) -> Checkpoint {
    let factor = match guess {
        Guess::Rarely => return checkpoint(name),
        Guess::Often => 0.12,
        Guess::Always => 0.0,
    };
    let plain = if name.contains("nemotron") { 1.0 } else { 0.0 };
    changed(name, |tensor, numbers| {
        let ends = |ends: &[&str]| ends.iter().any(|end| tensor.ends_with(end));
        let draft = tensor.starts_with("mtp.");
        if ends(&["fc.weight", "eh_proj.weight"]) {
            let width = (numbers.len() / 2).isqrt();
            for (row, numbers) in numbers.chunks_exact_mut(2 * width).enumerate() {
                numbers.iter_mut().enumerate().for_each(|(column, number)| *number = f32::from(row == column));
            }
        } else if ends(&["o_proj.weight", "out_proj.weight", "down_proj.weight", "experts.down_proj"]) {
            let factor = if draft { 0.0 } else { factor };
            numbers.iter_mut().for_each(|number| *number *= factor);
        } else if ends(&["norm_f.weight", "model.norm.weight"]) || draft && tensor.contains("norm") {
            numbers.fill(plain);
        }
    })
}

/// Whether the long way is walked: where a load compiles no pipelines.
fn all_of_it(place: &Place) -> bool {
    place.name == "cpu"
}

/// The goldens, or one for each kind of state.
fn names(place: &Place) -> &'static [&'static str] {
    if all_of_it(place) { &DRAFTS } else { &["draft_qwen3_5", "draft_nemotron_h"] }
}

fn speculating(drafts: usize) -> Setting {
    Setting { speculate: drafts, ..Setting::default() }
}

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| 7 + i * i * 31 % 53).collect()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..GenerateOptions::default() }
}

fn sampled(max_tokens: usize) -> GenerateOptions {
    let sampler = Sampler { temperature: 0.25, top_k: 20, top_p: 0.95, seed: 11, ..Sampler::default() };
    GenerateOptions { sampler, ..greedy(max_tokens) }
}

/// What a generation came to.
#[derive(Debug, PartialEq)]
struct Made {
    tokens: Vec<u32>,
    end: Option<FinishReason>,
    /// Tokens that the slot has read.
    read: usize,
}

fn make(engine: &mut Engine, slot: SlotId, prompt: &[u32], options: &GenerateOptions) -> (Made, Option<Speculated>) {
    let mut generation = wait(Generation::start(engine, slot, prompt, options)).expect("a prompt");
    let mut tokens = vec![];
    while let Some(token) = wait(generation.next(engine)).expect("a token") {
        tokens.push(token);
    }
    let read = engine.length(slot).expect("an open slot");
    (Made { tokens, end: generation.finish_reason(), read }, generation.speculated())
}

/// A text in a slot of its own.
fn alone(engine: &mut Engine, prompt: &[u32], options: &GenerateOptions) -> (Made, Option<Speculated>) {
    let slot = engine.open().expect("a slot");
    let made = make(engine, slot, prompt, options);
    engine.close(slot).expect("an open slot");
    assert_eq!(engine.pages().0, engine.pages().1, "no page is lost");
    made
}

/// The logits of every row, and guesses behind the prompt, are those of the goldens; read in one span and in several.
pub fn are_the_references(place: &Place) {
    for name in DRAFTS {
        let (golden, vocabulary) = (Golden::open(name), 61);
        let text = golden.ids("input_ids");
        let mut engine = load(place, &checkpoint(name), speculating(4));
        let mut worst = Worst::new(format!("{name}, {}", place.name), tolerance("qwen3_5") * place.slack);
        for chunk in [text.len(), 16, 1] {
            let slot = engine.open().expect("a slot");
            let following: Vec<u32> = text.iter().copied().skip(1).chain(golden.ids("next_token")).collect();
            let wanted = &golden.get("draft_logits").data;
            for first in (0..text.len()).step_by(chunk) {
                let rows = first..text.len().min(first + chunk);
                let step = engine.enqueue(slot, &text[rows.clone()], Outputs::Last).expect("a step");
                let logits = wait(engine.draft_logits(slot, &step, first, &following[rows.clone()])).expect("logits");
                let known = rows.start * vocabulary..(rows.end * vocabulary).min(wanted.len());
                worst.compare(&format!("spans of {chunk}"), &logits[..known.len()], &wanted[known]);
            }
            engine.close(slot).expect("an open slot");
        }
        worst.finish();
        let slot = engine.open().expect("a slot");
        let step = engine.enqueue(slot, &text, Outputs::Last).expect("a step");
        let following: Vec<u32> = text.iter().copied().skip(1).chain(golden.ids("next_token")).collect();
        let drafts = wait(engine.draft(slot, &step, 0, 0, &following, 4)).expect("drafts");
        assert_eq!(drafts, golden.ids("drafts"), "{name}");
    }
}

/// Texts with and without drafts: short and long prompts, greedy and sampled, that end for every reason.
pub fn texts_are_the_same(place: &Place) {
    let lengths: &[usize] = if all_of_it(place) { &[1, 5, 61, 300] } else { &[61] };
    for (name, guess) in names(place).iter().flat_map(|name| [(name, Guess::Rarely), (name, Guess::Often)]) {
        if guess == Guess::Rarely && !all_of_it(place) {
            continue;
        }
        let model = guessing(name, guess);
        let mut plain = load(place, &model, Setting::default());
        let mut wanted = vec![];
        for &length in lengths {
            for options in [greedy(24), sampled(24)] {
                wanted.push((length, options.clone(), alone(&mut plain, &ids(length), &options).0));
            }
        }
        let mut sum = Speculated::default();
        for &drafts in if all_of_it(place) { &[1, 3][..] } else { &[3] } {
            let mut engine = load(place, &model, speculating(drafts));
            for (length, options, wanted) in &wanted {
                let (made, counts) = alone(&mut engine, &ids(*length), options);
                assert_eq!(made, *wanted, "{name}, {guess:?}, a prompt of {length}, {drafts} drafts, {options:?}");
                let counts = counts.expect("a generation that speculates");
                assert_eq!(counts.tokens, counts.steps + counts.accepted);
                assert_eq!(counts.tokens + 1, made.tokens.len());
                sum.add(&counts);
            }
        }
        println!("{name}, {guess:?}, {}: {sum:?}, {:.2} tokens a step", place.name, sum.tokens_per_step());
        assert!(
            guess == Guess::Rarely || !all_of_it(place) || sum.accepted > 0 && sum.accepted < sum.drafted,
            "{sum:?}"
        );
    }
}

/// Where the draft is always right every step gives one token more than it was given drafts; and a text ends where it ends
/// without: at a stop token amid accepted drafts, at the last token wanted, where the context is full.
pub fn always_right(place: &Place) {
    for name in names(place) {
        let model = guessing(name, Guess::Always);
        let mut plain = load(place, &model, Setting::default());
        let prompt = ids(6);
        let whole = alone(&mut plain, &prompt, &greedy(33)).0.tokens;
        for &drafts in if all_of_it(place) { &[1, 3, 7][..] } else { &[3] } {
            let mut engine = load(place, &model, speculating(drafts));
            let (made, counts) = alone(&mut engine, &prompt, &greedy(33));
            assert_eq!(made.tokens, whole, "{name}, {drafts} drafts");
            let counts = counts.expect("counts");
            assert_eq!((counts.accepted, counts.tokens), (counts.drafted, 32), "{name}: {counts:?}");
            assert_eq!(counts.steps, 32_usize.div_ceil(drafts + 1), "{name}: {counts:?}");
            for wanted in 1..=6 {
                let (made, _) = alone(&mut engine, &prompt, &greedy(wanted));
                assert_eq!((made.tokens.as_slice(), made.read), (&whole[..wanted], prompt.len() + wanted - 1));
            }
            for stop in 0..6 {
                let sampler = Sampler { stop_token_ids: vec![whole[stop]], ..Sampler::default() };
                let options = GenerateOptions { sampler, ..greedy(20) };
                let wanted = alone(&mut plain, &prompt, &options).0;
                assert_eq!(alone(&mut engine, &prompt, &options).0, wanted, "{name}, {drafts} drafts, stop {stop}");
            }
        }
        let full = Setting { context: Some(17), ..Setting::default() };
        let wanted = alone(&mut load(place, &model, full.clone()), &prompt, &GenerateOptions::default()).0;
        let full = Setting { speculate: 3, ..full };
        let made = alone(&mut load(place, &model, full), &prompt, &GenerateOptions::default()).0;
        assert_eq!(made, wanted, "{name}");
        assert_eq!(made.end, Some(FinishReason::Context));
    }
}

/// Turns, forks, going back and snapshots behind a text with drafts give what they give without.
pub fn sessions_go_on(place: &Place) {
    for name in names(place) {
        let model = guessing(name, Guess::Often);
        let setting = |speculate| Setting { slots: 3, speculate, ..Setting::default() };
        let run = |speculate: usize| {
            let mut engine = load(place, &model, setting(speculate));
            let mut session = Session::open(&mut engine).expect("a slot");
            session.keep_recent(&mut engine, 4);
            let mut texts = vec![];
            let mut turn = |engine: &mut Engine, session: &mut Session, more: &[u32], most: usize, left: usize| {
                let text = [session.tokens(), more].concat();
                let options = if most.is_multiple_of(2) { greedy(most) } else { sampled(most) };
                let (mut generation, _) = wait(session.begin(engine, &text, &options)).expect("a turn");
                for _ in 0..most - left {
                    wait(session.next(engine, &mut generation)).expect("a token");
                }
                wait(session.stop(engine, &mut generation)).expect("an end");
                // What a stopped turn had under way is a part of its text, and is more or less of it.
                let given = session.tokens().len().min(text.len() + most - left);
                texts.push(session.tokens()[..given].to_vec());
            };
            turn(&mut engine, &mut session, &ids(9), 20, 0);
            turn(&mut engine, &mut session, &[9, 8], 21, 0);
            let mut fork = session.fork(&mut engine).expect("a fork");
            turn(&mut engine, &mut fork, &[30], 14, 0);
            wait(session.rollback(&mut engine, 5)).expect("tokens to take back");
            let read = session.read_tokens(&engine).expect("no step under way").to_vec();
            let snapshot = wait(session.snapshot(&mut engine)).expect("a snapshot");
            assert_eq!(snapshot.tokens, session.tokens());
            let (mut restored, _) = Session::restore(&mut engine, &snapshot).expect("a slot");
            assert_eq!(restored.read_tokens(&engine).expect("no step under way"), read);
            turn(&mut engine, &mut session, &[12, 13], 10, 0);
            turn(&mut engine, &mut restored, &[12, 13], 10, 0);
            // One that is stopped amid its tokens.
            turn(&mut engine, &mut fork, &[31], 16, 9);
            texts
        };
        let wanted = run(0);
        assert_eq!(wanted[3], wanted[4]);
        assert_eq!(run(3), wanted, "{name}, {}", place.name);
    }
}

/// Requests to a scheduler, one alone and several that come and go: each text is that of its request without drafts, and
/// drafts are made for those that are alone.
pub fn scheduled(place: &Place) {
    for name in names(place) {
        let model = guessing(name, Guess::Always);
        let mut plain = load(place, &model, Setting::default());
        let requests = [(70, greedy(40)), (5, sampled(12)), (33, greedy(9)), (9, greedy(30))];
        let requests = requests.map(|(length, options)| (ids(length), options));
        let text = |(prompt, options): &(Vec<u32>, GenerateOptions)| alone(&mut plain, prompt, options).0.tokens;
        let wanted: Vec<Vec<u32>> = requests.iter().map(text).collect();
        let mut engine = load(place, &model, Setting { slots: 3, ..speculating(3) });
        let (mut scheduler, mut cache) = (Scheduler::default(), PromptCache::new(1 << 20));
        let (mut texts, mut submitted) = (BTreeMap::<SequenceId, Vec<u32>>::new(), vec![]);
        let mut rounds = 0;
        // The second and the third come while the first is made alone; the last is alone from its beginning.
        for (coming, most) in [(0..1, 6), (1..3, usize::MAX), (3..4, usize::MAX)] {
            for (prompt, options) in &requests[coming] {
                let (prompt, options) = (prompt.clone(), options.clone());
                let request = SequenceRequest { prompt, marks: vec![], options, pooling: None };
                submitted.push(scheduler.submit(&engine, request).expect("room"));
            }
            let until = rounds + most.min(1000);
            while rounds < until && !scheduler.is_idle() {
                rounds += 1;
                for (id, event) in wait(scheduler.step(&mut engine, &mut cache)).expect("a step") {
                    match event {
                        Event::Token { token, .. } => texts.entry(id).or_default().push(token),
                        Event::Failed(error) => panic!("{error}"),
                        Event::Begun { .. } | Event::Ended { .. } | Event::Pooled(_) => {}
                    }
                }
            }
        }
        let made: Vec<Vec<u32>> = submitted.iter().map(|id| texts.remove(id).unwrap_or_default()).collect();
        assert_eq!(made, wanted, "{name}, {}", place.name);
        let counts = scheduler.speculated();
        println!("{name}, {}: {rounds} rounds, {counts}", place.name);
        assert!(counts.accepted >= 24 && counts.tokens_per_step() > 2.0, "{counts:?}");
    }
}
