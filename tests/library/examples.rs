//! The examples that show the library, called as their own programs call it, with the demo model.

use std::path::PathBuf;

use crate::support::{repository, wait};

/// The example's own program is not run here.
#[expect(dead_code)]
#[path = "../../examples/batch.rs"]
mod batch;
#[expect(dead_code)]
#[path = "../../examples/chat.rs"]
mod chat;
#[expect(dead_code)]
#[path = "../../examples/logits.rs"]
mod logits;

fn demo() -> PathBuf {
    repository().join("assets/demo")
}

/// Prompt and continuation of the reference, whose tokens are far from any other choice.
fn hello() -> (String, String) {
    let cases = std::fs::read_to_string(demo().join("greedy.json")).expect("the demo's texts");
    let cases: serde_json::Value = serde_json::from_str(&cases).expect("JSON");
    let text = |name: &str| cases[0][name].as_str().expect("a text").to_owned();
    assert_eq!(cases[0]["name"], "hello");
    (text("prompt"), text("text"))
}

#[test]
fn chat_answers() {
    let mut answer = String::new();
    wait(chat::chat(&demo(), "Hello.", &mut |text| answer.push_str(text))).expect("an answer");
    assert_eq!(answer, hello().1);
}

#[test]
fn logits_are_largest_for_the_token_that_follows() {
    let (prompt, text) = hello();
    let found = wait(logits::next_tokens(&demo(), &prompt, 3)).expect("logits");
    assert!(found.len() == 3 && found.is_sorted_by(|a, b| a.1 >= b.1), "{found:?}");
    assert!(text.starts_with(found[0].0.trim()) && !found[0].0.trim().is_empty(), "{found:?} before {text:?}");
}

#[test]
fn a_batch_continues_every_text_as_it_would_alone() {
    let (prompt, text) = hello();
    let texts = [prompt.as_str(), "One cold day Mia"];
    let together = wait(batch::batch(&demo(), &texts, 8)).expect("texts");
    assert!(text.starts_with(&together[0]) && together[0].len() > 8, "{together:?}");
    let alone = wait(batch::batch(&demo(), &texts[1..], 8)).expect("a text");
    assert_eq!(together[1..], alone);
}

/// The library on the README's first screen is the body of `examples/chat.rs`.
#[test]
fn the_readme_shows_the_example() {
    let read = |file: &str| std::fs::read_to_string(repository().join(file)).expect("a file of the repository");
    let (example, readme) = (read("examples/chat.rs"), read("README.md"));
    let body = example.split_once("-> Result<(), Box<dyn Error>> {\n").expect("the function").1;
    let body = body.split_once("    Ok(())\n").expect("its end").0;
    let shown: String = body.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    assert!(readme.contains(&shown), "README.md does not show this:\n{shown}");
}
