//! The demo model answers questions about texts that training never showed as well as its card says.
//!
//! Two dozen of the questions on every backend by default. `SELVEDGE_DEMO_QUESTIONS` sets how many, and has them asked
//! in 16 bits on the GPU, too; `all` of them takes a quarter of an hour.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use selvedge::checkpoint::{Checkpoint, Folder, WeightChoice};
use selvedge::engine::{Engine, EngineOptions, FinishReason, GenerateOptions};
use selvedge::state::KvFormat;
use support::{generate, places, wait};

/// A line of `questions.json`: question, answer, its kind, the fact's distance in tokens, and what the reference
/// (f32 arithmetic on the same weights) says instead of the answer.
type Line = (String, String, String, usize, Option<String>);

struct Question {
    prompt: String,
    answer: String,
    /// The reference's answer.
    said: String,
}

/// `wanted` of the questions or all of them, spread evenly.
fn questions(wanted: Option<usize>) -> Vec<Question> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/questions.json");
    let texts: BTreeMap<String, Vec<Line>> =
        serde_json::from_str(&std::fs::read_to_string(file).expect("the questions")).expect("JSON");
    let mut questions = vec![];
    for (text, lines) in texts {
        for (question, answer, _, _, said) in lines {
            let prompt = format!(
                "<extra_id_0>System\nYou are a helpful assistant.\n\n\
                 <extra_id_1>User\n{text}\n{question}\n<extra_id_1>Assistant\n"
            );
            questions.push(Question { prompt, said: said.unwrap_or_else(|| answer.clone()), answer });
        }
    }
    assert!(questions.len() >= 300, "{} questions", questions.len());
    let wanted = wanted.unwrap_or(questions.len());
    let step = (questions.len() / wanted).max(1);
    questions.into_iter().step_by(step).take(wanted).collect()
}

/// What the model says greedily. An answer that does not end is none.
fn answer(engine: &mut Engine, prompt: &str) -> String {
    let tokenizer = engine.tokenizer().expect("a tokenizer");
    let prompt = tokenizer.encode_prompt(prompt).expect("ids");
    let slot = engine.open().expect("a slot");
    let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
    let (said, reason) = generate(engine, slot, &prompt, &options);
    engine.close(slot).expect("an open slot");
    match reason {
        FinishReason::Stop => tokenizer.decode(&said).expect("text"),
        _ => String::new(),
    }
}

#[test]
fn it_answers_as_its_card_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let checkpoint = wait(Checkpoint::open(Folder::open(folder).expect("a folder"))).expect("a checkpoint");
    let asked = std::env::var("SELVEDGE_DEMO_QUESTIONS").ok();
    let wanted = match asked.as_deref() {
        Some("all") => None,
        Some(number) => Some(number.parse().expect("SELVEDGE_DEMO_QUESTIONS: a number or `all`")),
        None => Some(24),
    };
    let questions = questions(wanted);
    for place in places() {
        // What takes others a second takes these a minute.
        let questions = if place.slow { &questions[..questions.len().min(3)] } else { &questions[..] };
        let reference = questions.iter().filter(|q| q.said == q.answer).count();
        // One and a half in a hundred; of a few questions one.
        let near = (questions.len() * 3 / 200).max(1);
        let mut settings = vec![(WeightChoice::Auto, KvFormat::F32)];
        if asked.is_some() && place.name != "cpu" {
            settings.push((WeightChoice::F16, KvFormat::F16));
        }
        for (weights, kv_format) in settings {
            let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
            let options = EngineOptions { weights, kv_format, ..EngineOptions::new(&mut progress) };
            let mut engine = wait(Engine::load(&checkpoint, (place.open)(), options)).expect("the model loads");
            let answers: Vec<String> = questions.iter().map(|q| answer(&mut engine, &q.prompt)).collect();
            let right = questions.iter().zip(&answers).filter(|(q, said)| q.answer == **said).count();
            let same = questions.iter().zip(&answers).filter(|(q, said)| q.said == **said).count();
            let what = format!("weights {weights:?}, keys and values {kv_format:?} on {}", place.name);
            println!("{what}: {right} of {} right, {same} as the reference", questions.len());
            assert!(right.abs_diff(reference) <= near, "{what}: {right} right, the reference {reference}");
            assert!(same + near >= questions.len(), "{what}: {same} of {} as the reference", questions.len());
        }
    }
}
