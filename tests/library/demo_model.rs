//! The demo model answers questions about texts that training never showed as well as its card says.
//!
//! Two dozen of the questions by default, six of them on a GPU. `SELVEDGE_DEMO_QUESTIONS` sets how many, and has them
//! asked in 16 bits on the GPU, too; `all` of them takes a quarter of an hour.

use crate::support::demo::{self, Question};
use crate::support::{places, wait};
use selvedge::checkpoint::WeightChoice;
use selvedge::runtime::{Engine, EngineOptions};
use selvedge::state::KvFormat;

#[test]
fn it_answers_as_its_card_says() {
    let checkpoint = demo::checkpoint();
    let all = std::env::var_os("SELVEDGE_DEMO_QUESTIONS").is_some();
    let questions = demo::questions(demo::asked(24));
    for place in places() {
        // More questions are no other work for a GPU.
        let few = if place.slow { 3 } else { 6 };
        let step = if all || place.name == "cpu" { 1 } else { questions.len().div_ceil(few) };
        let questions: Vec<&Question> = questions.iter().step_by(step).collect();
        let reference = questions.iter().filter(|q| q.said == q.answer).count();
        // One and a half in a hundred; of a few questions one.
        let near = (questions.len() * 3 / 200).max(1);
        let mut settings = vec![(WeightChoice::Auto, KvFormat::F32)];
        if all && place.name != "cpu" {
            settings.push((WeightChoice::F16, KvFormat::F16));
        }
        for (weights, kv_format) in settings {
            let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
            let options = EngineOptions { weights, kv_format, ..EngineOptions::new(&mut progress) };
            let mut engine = wait(Engine::load(&checkpoint, (place.open)(), options)).expect("the model loads");
            let answers: Vec<String> = questions.iter().map(|q| demo::answer(&mut engine, &q.prompt)).collect();
            let right = questions.iter().zip(&answers).filter(|(q, said)| q.answer == **said).count();
            let same = questions.iter().zip(&answers).filter(|(q, said)| q.said == **said).count();
            let what = format!("weights {weights:?}, keys and values {kv_format:?} on {}", place.name);
            println!("{what}: {right} of {} right, {same} as the reference", questions.len());
            assert!(right.abs_diff(reference) <= near, "{what}: {right} right, the reference {reference}");
            assert!(same + near >= questions.len(), "{what}: {same} of {} as the reference", questions.len());
        }
    }
}
