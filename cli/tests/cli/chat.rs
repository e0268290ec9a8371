//! `selvedge chat` as a script meets it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::repository;

fn demo() -> PathBuf {
    repository().join("assets/demo")
}

/// `selvedge ARGUMENTS`, with lines on stdin.
fn talk(arguments: &[&str], lines: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that refuses its model does not read.
    let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    drop(stdin);
    child.wait_with_output().expect("an end")
}

fn chat(lines: &[&str], more: &[&str]) -> (Vec<String>, String) {
    chat_until(0, lines, more)
}

/// The same with an exit code of its own: 1 where a line is refused.
fn chat_until(code: i32, lines: &[&str], more: &[&str]) -> (Vec<String>, String) {
    let output = talk(&[&["chat", "--device", "cpu", "--verbose"], more].concat(), lines);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{err}");
    (out.lines().map(str::to_owned).collect(), err)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The reference's answer to "Hello.", and the tokens of its prompt.
fn greeting() -> (String, usize) {
    let file = std::fs::read_to_string(demo().join("greedy.json")).expect("the demo's texts");
    let cases: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    let hello = cases.as_array().and_then(|cases| cases.iter().find(|case| case["name"] == "hello")).expect("hello");
    (hello["text"].as_str().expect("a text").to_owned(), hello["ids"].as_array().expect("ids").len())
}

/// Tokens read in each turn, as `--verbose` tells them.
pub fn read(err: &str) -> Vec<usize> {
    let numbers = err.lines().filter_map(|line| line.split_once(" tokens read, "));
    numbers.map(|(number, _)| number.parse().expect("a number")).collect()
}

#[test]
fn a_conversation_reads_each_turn_once() {
    let (greeting, prompt) = greeting();
    let (said, err) = chat(&["Hello.", "Hello.", "/regenerate", "/new", "Hello."], &[]);
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!((&said[0], &said[3]), (&greeting, &greeting));
    assert_eq!(said[1], said[2], "the same question has the same answer");
    let read = read(&err);
    assert_eq!(read[0], prompt);
    assert!(read[1] < prompt, "the second turn reads its own tokens: {read:?}");
    assert!(read[2] < read[1] && read[3] < read[1], "what is asked again is remembered: {read:?}");
}

#[test]
fn a_question_can_be_edited_and_a_conversation_saved() {
    let (greeting, _) = greeting();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let save = format!("/save {}", file.display());
    let demo = demo();
    let model = demo.to_str().expect("a plain path");
    let (said, _) = chat(&["What?", "/edit Hello.", &save, "/quit", "Hello."], &[model]);
    assert_eq!(said.last(), Some(&greeting));
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("the file")).expect("JSON");
    let saved: Vec<_> = saved.as_array().expect("a list").iter().map(|m| m["content"].as_str()).collect();
    assert_eq!(saved[1..], [Some("Hello."), Some(greeting.as_str())]);
}

#[test]
fn no_arguments_is_a_conversation_too() {
    let output = talk(&[], &["/quit"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_full_context_is_told_and_the_conversation_goes_on() {
    let (greeting, prompt) = greeting();
    let context = (prompt + 30).to_string();
    let lines = ["Hello.", "Hello. Hello. Hello. Hello.", "/new", "Hello."];
    let (said, err) = chat_until(1, &lines, &["--context", &context]);
    assert_eq!(said, [greeting.clone(), greeting]);
    assert!(err.contains(&format!("the context holds {context}")) && err.contains("/new"), "{err}");
}

/// The demo model with a chat template of its own in the folder.
fn templated(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo().join(file), folder.path().join(file)).expect("a copy");
    }
    std::fs::write(folder.path().join("chat_template.jinja"), template).expect("a file");
    folder
}

/// Template of the demo model's training.
fn trained() -> String {
    let config = std::fs::read_to_string(demo().join("tokenizer_config.json")).expect("the demo's config");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["chat_template"].as_str().expect("a template").to_owned()
}

#[test]
fn a_question_that_the_template_refuses_is_told_and_the_conversation_goes_on() {
    let (greeting, _) = greeting();
    let refuse = "{% if messages[-1].content == 'Silence.' %}{{ raise_exception('silence is nothing') }}{% endif %}";
    let folder = templated(&(refuse.to_owned() + &trained()));
    let file = folder.path().join("talk.json");
    let save = format!("/save {}", file.display());
    let model = folder.path().to_str().expect("a plain path");
    let lines = ["Silence.", "Hello.", "Silence.", "/edit Silence.", &save, "/new", "Hello."];
    let (said, err) = chat_until(1, &lines, &[model]);
    assert_eq!(said, [greeting.clone(), greeting]);
    assert_eq!(err.matches("silence is nothing").count(), 3, "{err}");
    assert!(err.contains("chat template") && err.contains("unchanged") && err.contains("/new"), "{err}");
    let saved = std::fs::read_to_string(file).expect("the file");
    assert!(!saved.contains("Silence.") && saved.contains("Hello."), "{saved}");
}

#[test]
fn a_template_without_a_place_for_a_system_message_does_without() {
    let refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}";
    let folder = templated(&(refuse.to_owned() + &trained()));
    let (said, err) = chat(&["Hello.", "/new", "Hello."], &[folder.path().to_str().expect("a plain path")]);
    assert!(said.len() == 2 && said[0] == said[1] && !err.contains("error"), "{said:?} {err}");
}

#[test]
fn a_hostile_template_is_an_error_with_its_line() {
    for (template, line) in [
        ("a\n{{ messages", "line 2"),
        ("{% for a in range(9999) %}\n{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}", "line 2"),
        ("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", "line 1"),
    ] {
        let folder = templated(template);
        let model = folder.path().to_str().expect("a plain path");
        let output = talk(&["chat", model, "--device", "cpu"], &["Hello."]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("chat template") && error.contains(line), "{error}");
    }
}

#[test]
fn the_conversation_in_the_readme_is_held_again() {
    let readme = include_str!("../../../README.md");
    let recorded = readme.split("```text\n").find(|block| block.starts_with("> Hello.")).expect("a recording");
    let recorded: Vec<&str> = recorded.split("```").next().expect("an end").lines().collect();
    let lines: Vec<&str> = recorded.iter().filter_map(|line| line.strip_prefix("> ")).collect();
    assert_eq!(lines.len(), 10);
    let (said, err) = chat(&lines, &[]);
    let mut counts = err.lines().filter(|line| line.contains(" tokens read, "));
    let mut again = vec![];
    for (line, said) in lines.iter().zip(&said) {
        again.extend([format!("> {line}"), said.clone(), format!("({})", counts.next().unwrap_or_default())]);
    }
    assert_eq!(again, recorded);
}
