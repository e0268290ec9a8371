//! What an engine promises besides the right numbers: slots, pages, contexts, ends, refusals.

use crate::support::{Golden, Setting, Worst, changed, checkpoint, cpu, load, places, wait};
use selvedge::arch::HymbaWindow;
use selvedge::backend::{Outputs, Step, Tokens};
use selvedge::checkpoint::WeightChoice;
use selvedge::eval::perplexity;
use selvedge::generate::{FinishReason, GenerateOptions, Generation, Session};
use selvedge::runtime::{Cancel, Engine, EngineError, EngineOptions, Purpose};
use selvedge::state::{KvFormat, Sampler, SlotId};

const CASE: &str = "hymba/caseA";

fn opened(setting: Setting) -> (Engine, SlotId) {
    let mut engine = load(&cpu(), &checkpoint(CASE), setting);
    let slot = engine.open().expect("a slot");
    (engine, slot)
}

fn refusal<T>(result: Result<T, EngineError>) -> EngineError {
    match result {
        Ok(_) => panic!("something wrong was accepted"),
        Err(error) => error,
    }
}

#[test]
fn ids_that_are_no_words_are_refused_with_the_id() {
    let (mut engine, slot) = opened(Setting::default());
    // The first is the id under which the model's own meta tokens are embedded.
    for id in [97, 104, 105, u32::MAX] {
        let error = refusal(engine.enqueue(slot, &[3, id, 4], Outputs::Last));
        assert!(matches!(error, EngineError::UnknownToken { id: named, vocabulary: 97 } if named == id), "{error}");
        let options = GenerateOptions::default();
        let error = refusal(wait(Generation::start(&mut engine, slot, &[id], &options))).to_string();
        assert!(error.contains(&id.to_string()) && error.contains("97"), "{error}");
    }
    assert_eq!(engine.length(slot).expect("an open slot"), 0);
    assert!(matches!(refusal(wait(engine.prefill(slot, &[], 8, &Cancel::default()))), EngineError::EmptyPrompt));
}

#[test]
fn placeholder_ids_of_images_and_videos_are_refused() {
    let config = r#"{
        "model_type": "qwen3_5", "image_token_id": 7, "video_token_id": 9, "vision_config": {"depth": 2},
        "text_config": {
            "model_type": "qwen3_5_text", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 1,
            "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "layer_types": ["full_attention"], "tie_word_embeddings": true
        }
    }"#;
    let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
    let options = EngineOptions::new(&mut progress);
    let mut engine = wait(Engine::load_random(config, (cpu().open)(), options)).expect("a model");
    let slot = engine.open().expect("a slot");
    let mut start = |prompt: &[u32]| {
        wait(Generation::start(&mut engine, slot, prompt, &GenerateOptions::default())).err().map(|e| e.to_string())
    };
    for (prompt, name, id) in [([5, 7, 6], "`image_token_id`", "id 7"), ([9, 5, 6], "`video_token_id`", "id 9")] {
        let error = start(&prompt).expect("refused");
        assert!([name, id, "only text is supported"].iter().all(|word| error.contains(word)), "{error}");
    }
    assert_eq!(start(&[5, 6]), None, "a text is read");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_sizes() {
    let (mut engine, slot) = opened(Setting { context: Some(16), ..Setting::default() });
    let ids: Vec<u32> = (3..23).collect();
    let error = refusal(wait(engine.prefill(slot, &ids, 8, &Cancel::default())));
    assert!(matches!(error, EngineError::ContextFull { tokens: 20, used: 0, context: 16 }), "{error}");
    assert!(error.to_string().contains("20") && error.to_string().contains("16"), "{error}");
    assert_eq!(engine.length(slot).expect("an open slot"), 0, "nothing was read");

    // What fits is read to the last place, and not one token more.
    wait(engine.prefill(slot, &ids[..16], 5, &Cancel::default())).expect("a prompt that fits");
    assert_eq!(engine.room(slot).expect("an open slot"), 0);
    let error = refusal(engine.decode(slot));
    assert!(matches!(error, EngineError::ContextFull { tokens: 1, used: 16, context: 16 }), "{error}");
}

#[test]
fn a_context_beyond_the_model_is_refused() {
    let checkpoint = checkpoint(CASE);
    for asked in [0, 1025, usize::MAX] {
        let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
        let options = EngineOptions { context: Some(asked), ..EngineOptions::new(&mut progress) };
        let error = refusal(wait(Engine::load(&checkpoint, (cpu().open)(), options)));
        assert!(matches!(error, EngineError::Context { limit: 1024, .. }), "{error}");
    }
}

#[test]
fn slots_are_opened_closed_and_told_apart() {
    let (mut engine, a) = opened(Setting { slots: 2, ..Setting::default() });
    let b = engine.open().expect("a second slot");
    assert_ne!(a, b);
    assert!(matches!(refusal(engine.open()), EngineError::NoSlot(2)));
    engine.close(a).expect("an open slot");
    assert!(matches!(refusal(engine.close(a)), EngineError::SlotClosed(_)));
    assert!(matches!(refusal(engine.enqueue(a, &[3], Outputs::Last)), EngineError::SlotClosed(_)));
    let initial = engine.layout().initial_slot();
    assert!(matches!(refusal(engine.enqueue(initial, &[3], Outputs::Last)), EngineError::SlotClosed(2)));

    // A span goes on where its slot ends, and nowhere else.
    let mut span = engine.span(b, Tokens::Given(vec![3]), Outputs::Last).expect("a span");
    span.first += 1;
    let error = refusal(engine.run(&Step { spans: vec![span.clone()] }));
    assert!(matches!(error, EngineError::Position { .. }), "{error}");
    span.first -= 1;
    let error = refusal(engine.run(&Step { spans: vec![span.clone(), span] }));
    assert!(matches!(error, EngineError::Step(_)), "{error}");
    assert!(matches!(refusal(engine.run(&Step::default())), EngineError::Step(_)));

    // A slot's own token is fed only when there is one, and not that of the sequence before.
    assert!(matches!(refusal(engine.decode(b)), EngineError::NothingSampled(_)));
    engine.enqueue(b, &[3], Outputs::Last).expect("a step");
    engine.decode(b).expect("a step");
    engine.close(b).expect("an open slot");
    let again = engine.open().expect("a slot");
    engine.enqueue(again, &[3], Outputs::None).expect("a step");
    assert!(matches!(refusal(engine.decode(again)), EngineError::NothingSampled(_)));
    assert!(matches!(refusal(engine.tokenizer()), EngineError::NoTokenizer));
}

#[test]
fn pages_of_two_sequences_interleave() {
    let golden = Golden::open("hymba/caseB");
    let (ids, wanted) = (golden.ids("p0.input_ids"), &golden.get("p0.logits").data);
    for place in places() {
        let setting = Setting { slots: 2, context: Some(300), ..Setting::default() };
        let mut engine = load(&place, &checkpoint("hymba/caseB"), setting);
        let mut worst = Worst::new(format!("interleaved pages on {}", place.name), 5e-4 * place.slack);
        // The second time the pages come back in another order.
        for round in 0..2 {
            let slots = [(); 2].map(|()| engine.open().expect("a slot"));
            let mut row = 0;
            for chunk in ids.chunks(if round == 0 { 50 } else { 150 }) {
                for slot in slots {
                    let step = engine.enqueue(slot, chunk, Outputs::Last).expect("a step");
                    let at = (row + chunk.len() - 1) * 131;
                    let logits = wait(engine.logits(&step)).expect("logits");
                    worst.compare(&format!("row {row} of round {round}"), &logits, &wanted[at..at + 131]);
                }
                row += chunk.len();
            }
            slots.into_iter().for_each(|slot| engine.close(slot).expect("an open slot"));
        }
        worst.finish();
    }
}

fn generated(engine: &mut Engine, prompt: &[u32], options: &GenerateOptions) -> (Vec<u32>, FinishReason, usize) {
    let slot = engine.open().expect("a slot");
    let mut generation = wait(Generation::start(engine, slot, prompt, options)).expect("a prompt");
    let mut tokens = vec![];
    while let Some(token) = wait(generation.next(engine)).expect("a token") {
        tokens.push(token);
    }
    assert_eq!(wait(generation.next(engine)).expect("still ended"), None);
    let length = engine.length(slot).expect("an open slot");
    engine.close(slot).expect("an open slot");
    (tokens, generation.finish_reason().expect("an ended generation"), length)
}

#[test]
fn a_generation_ends_for_a_reason() {
    let golden = Golden::open("hymba/caseB");
    let (prompt, official) = (golden.ids("p0.input_ids"), golden.ids("p0.gen_tokens"));
    let end = official.iter().position(|&token| token == 2).expect("an end token among the official ones");
    for place in places() {
        let setting = Setting { window: HymbaWindow::Generate, context: Some(310), ..Setting::default() };
        let mut engine = load(&place, &checkpoint("hymba/caseB"), setting.clone());
        let options = |max_tokens| GenerateOptions { max_tokens, ..GenerateOptions::default() };

        let (tokens, reason, _) = generated(&mut engine, &prompt, &options(5));
        assert_eq!((tokens.as_slice(), reason), (&official[..5], FinishReason::Length), "{}", place.name);
        let (tokens, reason, length) = generated(&mut engine, &prompt, &options(0));
        assert_eq!((tokens.len(), reason, length), (0, FinishReason::Length, 300), "{}", place.name);
        // The prompt, ten tokens that were read, and one more that has no place.
        let (tokens, reason, length) = generated(&mut engine, &prompt, &options(100));
        assert_eq!(
            (tokens.as_slice(), reason, length),
            (&official[..11], FinishReason::Context, 310),
            "{}",
            place.name
        );

        let mut engine = load(&place, &checkpoint("hymba/caseB"), Setting { context: None, ..setting });
        let (tokens, reason, length) = generated(&mut engine, &prompt, &options(100));
        assert_eq!((tokens.as_slice(), reason), (&official[..=end], FinishReason::Stop), "{}", place.name);
        assert!((300 + end..=301 + end).contains(&length), "{}: {length}", place.name);

        let cancelled = options(100);
        cancelled.cancel.cancel();
        let (tokens, reason, length) = generated(&mut engine, &prompt, &cancelled);
        assert_eq!((tokens.len(), reason, length), (0, FinishReason::Cancelled, 0), "{}", place.name);
    }
}

#[test]
fn smaller_formats_stay_close() {
    let golden = Golden::open(CASE);
    let (ids, wanted) = (golden.ids("p0.input_ids"), &golden.get("p0.logits").data);
    for place in places() {
        // How far rounding may lead on these sharp random weights, and a bound below which nothing was rounded.
        for (weights, kv_format, tolerance) in [
            (WeightChoice::F32, KvFormat::F16, 0.05),
            (WeightChoice::F16, KvFormat::F32, 0.1),
            (WeightChoice::Bf16, KvFormat::F32, 0.8),
        ] {
            let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
            let options = EngineOptions { weights, kv_format, ..EngineOptions::new(&mut progress) };
            let mut engine = wait(Engine::load(&checkpoint(CASE), (place.open)(), options)).expect("the model loads");
            let slot = engine.open().expect("a slot");
            let mut logits = vec![];
            for span in ids.chunks(5) {
                let step = engine.enqueue(slot, span, Outputs::All).expect("a step");
                logits.extend(wait(engine.logits(&step)).expect("logits"));
            }
            let what = format!("weights {weights:?}, keys and values {kv_format:?} on {}", place.name);
            let mut worst = Worst::new(&what, tolerance);
            worst.compare("logits", &logits, wanted);
            worst.finish();
            let same = logits.iter().zip(wanted).filter(|(a, b)| (*a - *b).abs() < 1e-4).count();
            assert!(same < wanted.len() / 2, "{what}: nothing was rounded");
        }
    }
}

/// Weights, all of them finite, with which a model overflows f32 on the way: the head's, or those of the norm before it.
const OVERFLOWING: [(&str, &str); 5] = [
    ("hymba/caseA", "model.final_layernorm.weight"),
    ("falcon_h1", "lm_head.weight"),
    ("lfm2_bias", "model.embedding_norm.weight"),
    ("nemotron_h_bias", "lm_head.weight"),
    ("nemotron_h_bias", "backbone.layers.2.mixer.v_proj.weight"),
];

#[test]
fn outputs_that_are_not_finite_are_an_error_everywhere() {
    let ids = [4, 8, 15, 16, 23, 42];
    let hot = Sampler { temperature: 1.0, top_k: 20, top_p: 0.9, seed: 1, ..Sampler::default() };
    for (case, tensor) in OVERFLOWING {
        let broken = changed(case, |name, numbers| {
            if name == tensor {
                numbers.fill(3e38);
            }
        });
        for place in places() {
            let mut engine = load(&place, &broken, Setting { slots: 2, ..Setting::default() });
            let check = |error: EngineError, at: usize| {
                let what = format!("{case} on {}: {error}", place.name);
                assert!(matches!(error, EngineError::NotFinite { position, .. } if position == at), "{what}");
                assert!(error.to_string().contains("load with weights in f32"), "{what}");
            };
            for sampler in [Sampler::default(), hot.clone()] {
                let slot = engine.open().expect("a slot");
                let options = GenerateOptions { sampler, ..GenerateOptions::default() };
                let mut generation = wait(Generation::start(&mut engine, slot, &ids, &options)).expect("a prompt");
                check(refusal(wait(generation.next(&mut engine))), 5);
                assert_eq!(wait(generation.next(&mut engine)).expect("nothing more"), None);
                assert_eq!(engine.length(slot).expect("an open slot"), ids.len(), "{case} on {}", place.name);
                engine.close(slot).expect("an open slot");
                // In several spans, the first is told of.
                let slot = engine.open().expect("a slot");
                let options = GenerateOptions { chunk: 2, ..options };
                check(refusal(wait(Generation::start(&mut engine, slot, &ids, &options))), 1);
                engine.close(slot).expect("an open slot");
            }
            check(refusal(wait(perplexity(&mut engine, None, &ids, 8, &mut |_| true))), 0);
        }
    }
    // Scores.
    let head = |name: &str, numbers: &mut [f32]| {
        if name.starts_with("score") {
            numbers.fill(3e38);
        }
    };
    for place in places() {
        let setting = Setting { purpose: Purpose::Score, ..Setting::default() };
        let mut engine = load(&place, &changed("nemotron_reward", head), setting);
        let slot = engine.open().expect("a slot");
        let error = refusal(wait(engine.score(slot, &ids)));
        assert!(matches!(error, EngineError::NotFinite { position: 5, .. }), "{error}");
    }
}

#[test]
fn keys_beyond_f16_are_told_of_as_such() {
    let ids = [4, 8, 15, 16, 23, 42];
    let loud = |name: &str, numbers: &mut [f32]| {
        if name.contains("self_attn.k_proj") {
            numbers.iter_mut().for_each(|x| *x *= 1e6);
        }
    };
    for place in places() {
        for (kv_f16, chunk) in [(false, 6), (true, 6), (true, 1)] {
            let mut engine = load(&place, &changed("falcon_h1", loud), Setting { kv_f16, ..Setting::default() });
            let slot = engine.open().expect("a slot");
            let options = GenerateOptions { max_tokens: 4, chunk, ..GenerateOptions::default() };
            let tokens = wait(async {
                let mut generation = Generation::start(&mut engine, slot, &ids, &options).await?;
                let mut tokens = vec![];
                while let Some(token) = generation.next(&mut engine).await? {
                    tokens.push(token);
                }
                Ok(tokens)
            });
            match tokens {
                Ok(tokens) => assert!(!kv_f16 && tokens.len() == 4, "{}: {tokens:?}", place.name),
                Err(error) => {
                    // A span's own keys are f32: the first that reads them from the pool finds out.
                    let first = if chunk == 1 { 1 } else { ids.len() };
                    let what = format!("{}, spans of {chunk}: {error}", place.name);
                    assert!(matches!(error, EngineError::NotFinite { position, .. } if position == first), "{what}");
                    assert!(kv_f16 && error.to_string().contains("keys and values in f32"), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_conversation_reads_its_prompt_again_after_what_was_not_finite() {
    // One token alone is beyond all bounds.
    const POISON: usize = 50;
    const WIDTH: usize = 36;
    let change = |name: &str, numbers: &mut [f32]| {
        if name == "model.embed_tokens.weight" {
            numbers[POISON * WIDTH..][..WIDTH].fill(3e38);
        }
    };
    for place in places() {
        let mut engine = load(&place, &changed("falcon_h1", change), Setting::default());
        let mut session = Session::open(&mut engine).expect("a slot");
        let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
        let mut turn = |prompt: &[u32]| {
            wait(async {
                let (mut generation, read) = session.begin(&mut engine, prompt, &options).await?;
                let mut tokens = vec![];
                while let Some(token) = session.next(&mut engine, &mut generation).await? {
                    tokens.push(token);
                }
                Ok((read, tokens))
            })
        };
        let (_, first) = turn(&[4, 8, 15]).expect("a turn");
        let longer = [&[4, 8, 15][..], &first, &[16]].concat();
        let error = refusal(turn(&[&longer[..], &[POISON as u32]].concat()));
        assert!(
            matches!(error, EngineError::NotFinite { position, .. } if position == longer.len()),
            "{}: {error}",
            place.name
        );
        let (read, second) = turn(&longer).expect("a turn");
        assert_eq!(read, longer.len(), "{}: what was read is forgotten", place.name);
        let mut fresh = load(&place, &changed("falcon_h1", change), Setting::default());
        let slot = fresh.open().expect("a slot");
        assert_eq!(crate::support::generate(&mut fresh, slot, &longer, &options).0, second, "{}", place.name);
    }
}
