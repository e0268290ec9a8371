//! The demo model and its held-out questions.

use std::collections::BTreeMap;

use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::{FinishReason, GenerateOptions};
use selvedge::runtime::Engine;

use super::{generate, repository, wait};

/// A line of `questions.json`: question, answer, its kind, the fact's distance in tokens, and what the reference
/// (f32 arithmetic on the same weights) says instead of the answer.
type Line = (String, String, String, usize, Option<String>);

/// A question as it is put to the model.
pub struct Question {
    /// The text it is about.
    pub text: String,
    /// The whole prompt.
    pub prompt: String,
    /// What is right.
    pub answer: String,
    /// The reference's answer.
    pub said: String,
}

/// The demo model.
pub fn checkpoint() -> Checkpoint {
    let folder = repository().join("assets/demo");
    wait(Checkpoint::open(Folder::open(folder).expect("a folder"))).expect("a checkpoint")
}

/// How many questions to ask: what `SELVEDGE_DEMO_QUESTIONS` says (a number or `all`), or `usual`.
pub fn asked(usual: usize) -> Option<usize> {
    match std::env::var("SELVEDGE_DEMO_QUESTIONS").ok().as_deref() {
        Some("all") => None,
        Some(number) => Some(number.parse().expect("SELVEDGE_DEMO_QUESTIONS: a number or `all`")),
        None => Some(usual),
    }
}

/// `wanted` of the questions or all of them, spread evenly.
pub fn questions(wanted: Option<usize>) -> Vec<Question> {
    let file = repository().join("assets/demo/questions.json");
    let texts: BTreeMap<String, Vec<Line>> =
        serde_json::from_str(&std::fs::read_to_string(file).expect("the questions")).expect("JSON");
    let mut questions = vec![];
    for (text, lines) in texts {
        for (question, answer, _, _, said) in lines {
            let prompt = format!(
                "<extra_id_0>System\nYou are a helpful assistant.\n\n\
                 <extra_id_1>User\n{text}\n{question}\n<extra_id_1>Assistant\n"
            );
            questions.push(Question {
                text: text.clone(),
                prompt,
                said: said.unwrap_or_else(|| answer.clone()),
                answer,
            });
        }
    }
    assert!(questions.len() >= 300, "{} questions", questions.len());
    let wanted = wanted.unwrap_or(questions.len());
    let step = (questions.len() / wanted).max(1);
    questions.into_iter().step_by(step).take(wanted).collect()
}

/// What the model says greedily. An answer that does not end is none.
pub fn answer(engine: &mut Engine, prompt: &str) -> String {
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
