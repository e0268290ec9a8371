//! The choice of tokens: as often as they are probable, the same for the same seed, and no further than an end.

use std::collections::BTreeMap;

use crate::support::{Place, Setting, checkpoint, generate, load, places, wait};
use selvedge::backend::{Backend, Outputs, ProgramSpec, Span, Step, StepTable, Tokens};
use selvedge::generate::{FinishReason, GenerateOptions, Generation, Session};
use selvedge::graph::ops::Gather;
use selvedge::graph::{GraphBuilder, Rows};
use selvedge::runtime::{Cancel, Engine};
use selvedge::state::{KvFormat, SEEN, Sampler, SlotId, StateLayout};

const VOCABULARY: usize = 40;
const SLOTS: usize = 48;
const STEPS: usize = 42;

/// Logits with a long tail, two of them equal.
fn logits() -> Vec<f32> {
    let mut logits: Vec<f32> = (0..VOCABULARY).map(|i| 2.5 - 0.3 * ((i * 17) % VOCABULARY) as f32).collect();
    logits[11] = logits[12];
    logits
}

/// How often each token is chosen from the same logits, by as many slots as there are, each with its seed.
/// The tokens in `seen` were read before.
fn drawn(backend: &mut dyn Backend, sampler: &Sampler, seen: &[u32]) -> Vec<usize> {
    let mut builder = GraphBuilder::new();
    let input = builder.input("logits", VOCABULARY);
    let outputs = builder.value("logits", VOCABULARY, Rows::Outputs);
    builder.push(Gather { x: builder.whole(input), out: outputs });
    builder.sample(outputs);
    let graph = builder.finish().expect("a graph");
    let layout = StateLayout::new(&graph, SLOTS, STEPS, KvFormat::F32);
    backend.allocate(&layout).expect("slots");
    let program = backend.compile(&graph, &ProgramSpec::new(64, 64)).expect("a program");
    backend.write(program, input, &logits().repeat(SLOTS)).expect("logits");
    let mut counts = vec![0; VOCABULARY];
    for first in 0..STEPS {
        // What was chosen is penalised too, so that every choice is the first of its text.
        for slot in (0..SLOTS).filter(|_| first == 0 || sampler.penalises()) {
            let seed = 0x1234_5678_9abc + (first * SLOTS + slot) as u64;
            backend.set_sampler(SlotId(slot as u32), &Sampler { seed, ..sampler.clone() }, seen).expect("a sampler");
        }
        let span = |slot| Span { slot: SlotId(slot), first, tokens: Tokens::Given(vec![0]), outputs: Outputs::Last };
        let step = Step { spans: (0..SLOTS as u32).map(span).collect() };
        let ticket = backend.step(program, &StepTable::new(&step, &layout).expect("a table")).expect("a step");
        wait(backend.sampled(ticket)).expect("tokens").into_iter().for_each(|token| counts[token as usize] += 1);
    }
    counts
}

/// How far counts are from probabilities, in standard deviations of chi-square.
fn surprise(counts: &[usize], probabilities: &[f64]) -> f64 {
    let total: usize = counts.iter().sum();
    let (mut chi, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
    let mut cell = |got: f64, wanted: f64| {
        chi += (got - wanted).powi(2) / wanted;
        cells += 1;
    };
    for (&count, &probability) in counts.iter().zip(probabilities) {
        let wanted = probability * total as f64;
        assert!(probability > 0.0 || count == 0, "what cannot be chosen was chosen {count} times");
        // Rare ones together: chi-square wants some in every cell.
        if wanted >= 8.0 { cell(count as f64, wanted) } else { rest = (rest.0 + count as f64, rest.1 + wanted) }
    }
    if rest.1 >= 8.0 {
        cell(rest.0, rest.1);
    }
    let free = f64::from(cells - 1);
    (chi - free) / (2.0 * free).sqrt()
}

/// The softmax of logits over a temperature, over the tokens that are `left`.
fn probabilities(logits: &[f64], temperature: f64, left: impl Fn(usize) -> bool) -> Vec<f64> {
    let weights = logits.iter().enumerate().map(|(i, l)| if left(i) { (l / temperature).exp() } else { 0.0 });
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

#[test]
fn tokens_come_as_often_as_they_are_probable() {
    let plain: Vec<f64> = logits().into_iter().map(f64::from).collect();
    let mut order: Vec<usize> = (0..VOCABULARY).collect();
    order.sort_by(|&a, &b| plain[b].total_cmp(&plain[a]));
    let sampler = |temperature| Sampler { temperature, ..Sampler::default() };

    let all = probabilities(&plain, 1.3, |_| true);
    let nucleus = (1..).find(|&n| order[..n].iter().map(|&id| all[id]).sum::<f64>() >= 0.8).expect("a nucleus");
    let least = 0.1 * all[order[0]];
    let seen = [3, 5, order[0] as u32, order[1] as u32];
    let repeated: Vec<f64> = (0..VOCABULARY)
        .map(|id| match plain[id] {
            l if !seen.contains(&(id as u32)) => l,
            l if l > 0.0 => l / 1.7,
            l => l * 1.7,
        })
        .collect();
    let cases = [
        ("temperature", sampler(1.3), all.clone()),
        ("top-k", Sampler { top_k: 7, ..sampler(1.3) }, probabilities(&plain, 1.3, |id| order[..7].contains(&id))),
        (
            "top-p",
            Sampler { top_p: 0.8, ..sampler(1.3) },
            probabilities(&plain, 1.3, |i| order[..nucleus].contains(&i)),
        ),
        ("min-p", Sampler { min_p: 0.1, ..sampler(1.3) }, probabilities(&plain, 1.3, |id| all[id] >= least)),
        ("repetition", Sampler { repetition: 1.7, ..sampler(0.9) }, probabilities(&repeated, 0.9, |_| true)),
    ];
    for place in places() {
        let mut backend = (place.open)();
        for (name, sampler, wanted) in &cases {
            let counts = drawn(&mut *backend, sampler, &seen);
            let off = surprise(&counts, wanted);
            println!("{:8} {name:12} {off:+.2} deviations", place.name);
            assert!(off.abs() < 4.0, "{} {name}: {counts:?} for {wanted:?}", place.name);
        }
        // A test that finds nothing wrong must find what is wrong.
        let off = surprise(&drawn(&mut *backend, &sampler(1.3), &[]), &probabilities(&plain, 1.7, |_| true));
        assert!(off > 6.0, "another temperature is {off} deviations off");
    }
}

/// Tokens of one sequence, alone or beside others that choose otherwise.
fn said(engine: &mut Engine, seed: u64, others: usize) -> Vec<u32> {
    let slots: Vec<SlotId> = (0..=others).map(|_| engine.open().expect("a slot")).collect();
    let mut tokens = vec![];
    for (i, &slot) in slots.iter().enumerate() {
        let seed = seed + 1000 * i as u64;
        let sampler = Sampler { temperature: 1.2, top_p: 0.95, seed, ..Sampler::default() };
        engine.set_sampler(slot, &sampler, &[]).expect("a sampler");
        let read = engine.enqueue(slot, &[7, 8, 9, 10 + i as u32], Outputs::Last).expect("a step");
        let token = wait(engine.sampled(&read)).expect("a token")[0];
        tokens.extend((i == 0).then_some(token));
    }
    for _ in 0..20 {
        let spans = slots.iter().map(|&slot| engine.span(slot, Tokens::Sampled, Outputs::Last).expect("a span"));
        let step = Step { spans: spans.collect() };
        let running = engine.run(&step).expect("a step");
        tokens.push(wait(engine.sampled(&running)).expect("tokens")[0]);
    }
    slots.into_iter().for_each(|slot| engine.close(slot).expect("an open slot"));
    tokens
}

#[test]
fn the_same_seed_says_the_same_whatever_else_is_said() {
    for place in places() {
        let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting { slots: 3, ..Setting::default() });
        let alone = said(&mut engine, 5, 0);
        assert_eq!(said(&mut engine, 5, 0), alone, "{}", place.name);
        assert_eq!(said(&mut engine, 5, 2), alone, "{}: beside others", place.name);
        assert_ne!(said(&mut engine, 6, 0), alone, "{}: another seed", place.name);
    }
}

const PROMPT: [u32; 9] = [4, 8, 15, 16, 23, 42, 4, 8, 15];

#[test]
fn a_finished_slot_remembers_what_it_had_read() {
    for place in places() {
        for model in ["hymba/caseA", "falcon_h1", "lfm2_bias", "nemotron_h_bias"] {
            let mut engine = load(&place, &checkpoint(model), Setting { slots: 2, ..Setting::default() });
            let (slot, other) = (engine.open().expect("a slot"), engine.open().expect("a slot"));
            let sampler = Sampler { temperature: 2.0, seed: 3, ..Sampler::default() };
            let options = GenerateOptions { sampler: sampler.clone(), max_tokens: 24, ..GenerateOptions::default() };
            let (free, _) = generate(&mut engine, slot, &PROMPT, &options);
            engine.close(slot).expect("an open slot");
            let slot = engine.open().expect("a slot");

            // The same again, with a token of the middle as its end.
            let end = free.iter().position(|token| *token == free[9]).expect("a token");
            let sampler = Sampler { stop_token_ids: vec![free[end]], ..sampler };
            let options = GenerateOptions { sampler, ..options };
            let (tokens, reason) = generate(&mut engine, slot, &PROMPT, &options);
            assert_eq!((&tokens[..], reason), (&free[..=end], FinishReason::Stop), "{} {model}", place.name);
            assert_eq!(engine.length(slot).expect("a slot"), PROMPT.len() + end, "the end is not read");

            // Another slot reads the same, without anything under way behind the end.
            engine.enqueue(other, &PROMPT, Outputs::Last).expect("a step");
            for &token in &tokens[..end] {
                engine.enqueue(other, &[token], Outputs::Last).expect("a step");
            }
            let (memory, wanted) = (wait(engine.read_state(slot)), wait(engine.read_state(other)));
            let (memory, wanted) = (memory.expect("a memory").tensors, wanted.expect("a memory").tensors);
            assert_eq!(memory, wanted, "{} {model}", place.name);
        }
    }
}

/// A text with a seed, penalties and a limit, moved to another slot after some of its tokens: both slots choose the
/// tokens of the text that was not interrupted, and come to its end where it does.
pub fn moves_in_the_middle(place: &Place, model: &str) {
    let mut engine = load(place, &checkpoint(model), Setting { slots: 2, ..Setting::default() });
    let slot = engine.open().expect("a slot");
    let sampler = Sampler {
        temperature: 1.3,
        top_k: 30,
        repetition: 1.3,
        frequency: 0.4,
        presence: 0.2,
        seed: 0x0012_3456_789a_bcde,
        limit: 12,
        ..Sampler::default()
    };
    let decode = |engine: &mut Engine, slot| {
        let step = engine.decode(slot).expect("a step");
        wait(engine.sampled(&step)).expect("a token")[0]
    };
    let begin = |engine: &mut Engine, slot| {
        engine.set_sampler(slot, &sampler, &PROMPT).expect("a sampler");
        let step = engine.enqueue(slot, &PROMPT, Outputs::Last).expect("a step");
        wait(engine.sampled(&step)).expect("a token")[0]
    };
    let mut whole = vec![begin(&mut engine, slot)];
    // Two more than the limit: a finished slot gives its last token again.
    whole.extend((0..13).map(|_| decode(&mut engine, slot)));
    assert_eq!(whole[11..], [whole[11]; 3], "{}: the limit is an end", place.name);
    engine.close(slot).expect("an open slot");

    let stops: &[usize] = if place.slow { &[6] } else { &[1, 6, 12] };
    for &stop in stops {
        let (slot, other) = (engine.open().expect("a slot"), engine.open().expect("a slot"));
        let mut tokens = vec![begin(&mut engine, slot)];
        tokens.extend((1..stop).map(|_| decode(&mut engine, slot)));
        let state = wait(engine.read_state(slot)).expect("a memory");
        assert_eq!((state.sampler.chosen as usize, state.sampler.last), (stop, tokens.last().copied()));
        assert_eq!(state.sampler.sampler, sampler, "{}", place.name);
        let chosen: u32 = state.sampler.counts.iter().map(|count| count & !SEEN).sum();
        assert_eq!((chosen as usize, state.sampler.finished), (stop, stop == 12), "{}", place.name);

        // The other slot has another text's choices to forget.
        engine
            .set_sampler(other, &Sampler { temperature: 0.5, presence: 1.0, ..Sampler::default() }, &[1, 2])
            .expect("a sampler");
        engine.enqueue(other, &PROMPT[..2], Outputs::Last).expect("a step");
        engine.write_state(other, &state, PROMPT.len() + stop - 1).expect("a memory that fits");
        assert_eq!(wait(engine.read_state(other)).expect("a memory"), state, "{}: nothing is lost", place.name);
        for slot in [slot, other] {
            let rest: Vec<u32> = (stop..whole.len()).map(|_| decode(&mut engine, slot)).collect();
            assert_eq!(rest, whole[stop..], "{} {model}: after {stop} tokens", place.name);
            engine.close(slot).expect("an open slot");
        }
    }
}

#[test]
fn a_text_goes_on_in_another_slot_as_if_nothing_had_been() {
    for place in places() {
        for model in ["hymba/caseA", "falcon_h1", "lfm2_bias"] {
            moves_in_the_middle(&place, model);
        }
    }
}

#[test]
fn a_limit_is_an_end() {
    for place in places() {
        let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting::default());
        for max_tokens in [0, 1, 2, 7] {
            let slot = engine.open().expect("a slot");
            let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
            let (tokens, reason) = generate(&mut engine, slot, &PROMPT, &options);
            assert_eq!((tokens.len(), reason), (max_tokens, FinishReason::Length), "{}", place.name);
            assert_eq!(engine.length(slot).expect("a slot"), PROMPT.len() + max_tokens.saturating_sub(1));
            engine.close(slot).expect("an open slot");
        }
    }
}

#[test]
fn what_is_under_way_when_somebody_stops_is_still_said() {
    for place in places() {
        let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting::default());
        let slot = engine.open().expect("a slot");
        let cancel = Cancel::default();
        let options = GenerateOptions { cancel: cancel.clone(), ..GenerateOptions::default() };
        let mut generation = wait(Generation::start(&mut engine, slot, &PROMPT, &options)).expect("a prompt");
        let mut tokens = vec![];
        while let Some(token) = wait(generation.next(&mut engine)).expect("a token") {
            tokens.push(token);
            if tokens.len() == 5 {
                cancel.cancel();
            }
        }
        assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
        assert!((5..5 + 16).contains(&tokens.len()), "{}: {}", place.name, tokens.len());
        let read = engine.length(slot).expect("a slot");
        assert_eq!(read, PROMPT.len() + tokens.len() - 1, "{}: all that was said but the last was read", place.name);
    }
}

#[test]
fn a_reply_is_taken_back() {
    for place in places() {
        let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting::default());
        let mut session = Session::open(&mut engine).expect("a slot");
        session.keep_recent(&mut engine, 4);
        let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
        let mut said = vec![];
        let (mut generation, read) = wait(session.begin(&mut engine, &PROMPT, &options)).expect("a turn");
        assert_eq!(read, PROMPT.len());
        while said.len() < 12 {
            said.extend(wait(session.next(&mut engine, &mut generation)).expect("a token"));
        }
        wait(session.stop(&mut engine, &mut generation)).expect("an end");
        // Back to the first three tokens of the reply: with what was said behind them, the checkpoints go too.
        let read = session.length(&engine).expect("a slot");
        let back = read - PROMPT.len() - 3;
        wait(session.rollback(&mut engine, back)).expect("a way back");
        assert_eq!(session.tokens(), [&PROMPT[..], &said[..3]].concat());
        let longer = [session.tokens(), &[30, 31]].concat();
        let (mut generation, read) = wait(session.begin(&mut engine, &longer, &options)).expect("a turn");
        assert_eq!(read, 2, "{}: only what is new was read", place.name);
        let mut tokens = vec![];
        while let Some(token) = wait(session.next(&mut engine, &mut generation)).expect("a token") {
            tokens.push(token);
        }
        // A new text has the same answer.
        let mut fresh = load(&place, &checkpoint("hymba/caseA"), Setting::default());
        let slot = fresh.open().expect("a slot");
        assert_eq!(generate(&mut fresh, slot, &longer, &options).0, tokens, "{}", place.name);
    }
}

#[test]
fn every_seed_has_its_own_text() {
    let place = crate::support::cpu();
    let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting::default());
    let mut texts = BTreeMap::new();
    for seed in 0..30 {
        texts.insert(said(&mut engine, seed << 33, 0), seed);
    }
    assert_eq!(texts.len(), 30, "the upper half of a seed counts too");
}
