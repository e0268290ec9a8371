//! Scores of conversations by `selvedge score --messages`: every reply of the assistant, heads of nine labels, lines that are
//! no conversations.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::files::file;
use crate::support::{talking, wait};
use safetensors::SafeTensors;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::chat_template;
use selvedge::text::{ChatMessage, RenderRequest};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// The attributes of SteerLM's reward models, in their order.
const NINE: [&str; 9] = [
    "quality",
    "toxicity",
    "humor",
    "creativity",
    "helpfulness",
    "correctness",
    "coherence",
    "complexity",
    "verbosity",
];

/// A reward model with nine labels that talks.
fn model() -> TempDir {
    let folder = tempdir().expect("a folder");
    for (name, mut bytes) in talking::files("nemotron_reward") {
        if name == "config.json" {
            let mut config: Value = serde_json::from_slice(&bytes).expect("JSON");
            config["id2label"] = NINE.iter().enumerate().map(|(id, label)| (id.to_string(), json!(label))).collect();
            config["label2id"] = NINE.iter().enumerate().map(|(id, label)| ((*label).to_owned(), json!(id))).collect();
            config["num_labels"] = 9.into();
            bytes = config.to_string().into_bytes();
        } else if name == "model.safetensors" {
            let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
            let nine = |name: &str, shape: &[usize], data: &[u8]| {
                let (mut shape, mut data) = (shape.to_vec(), data.to_vec());
                if name == "score.weight" {
                    let row = data.len() / shape[0];
                    shape[0] = 9;
                    data = data.iter().copied().cycle().take(9 * row).collect();
                }
                (name.to_owned(), shape, data)
            };
            let all: Vec<(String, Vec<usize>, Vec<u8>)> =
                tensors.tensors().iter().map(|(name, view)| nine(name, view.shape(), view.data())).collect();
            let list: Vec<(&str, &str, &[usize], Vec<u8>)> =
                all.iter().map(|(name, shape, data)| (name.as_str(), "F32", shape.as_slice(), data.clone())).collect();
            bytes = file(&list);
        }
        std::fs::write(folder.path().join(name), bytes).expect("room");
    }
    folder
}

fn score(model: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("score").arg(model).args(["--device", "cpu"]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // A child that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("an end")
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A conversation of two replies.
fn conversation() -> Value {
    let message = |role: &str, content: &str| json!({ "role": role, "content": content });
    json!([
        message("system", "be kind."),
        message("user", "where is it?"),
        message("assistant", "in a house."),
        message("user", "which one?"),
        message("assistant", "that of a friend, 7 steps from here."),
    ])
}

/// Scores of a conversation as the template writes it, by its text alone.
fn of_text(model: &Path, messages: &[Value]) -> Vec<f64> {
    let checkpoint = wait(Checkpoint::open(Folder::open(model).expect("a folder"))).expect("a checkpoint");
    let template = wait(chat_template(&checkpoint)).expect("a template").expect("there is one");
    let messages = ChatMessage::list_from_openai(messages.to_vec()).expect("messages");
    let text = template.render_text(&RenderRequest::new(&messages, false)).expect("it renders").to_string();
    let output = score(model, &["--json", "--prompt", &text], "");
    assert!(output.status.success(), "{}", said(&output));
    let report = lines(&output).remove(0);
    report["scores"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|score| score["score"].as_f64().expect("a number"))
        .collect()
}

#[test]
fn every_reply_of_a_conversation_is_scored() {
    let folder = model();
    let whole = conversation();
    let input = format!("{whole}\n\n{}\n", json!({ "id": "b-7", "messages": whole }));
    let combine = ["--combine", "helpfulness=0.65,verbosity=-0.5"];
    let output = score(folder.path(), &[&["--messages", "-"], &combine[..]].concat(), &input);
    assert!(output.status.success(), "{}", said(&output));
    let out = lines(&output);
    assert_eq!(out.len(), 2);
    assert_eq!(
        (&out[0]["index"], &out[1]["index"], &out[0]["id"], &out[1]["id"]),
        (&json!(0), &json!(1), &Value::Null, &json!("b-7"))
    );
    assert_eq!(out[0]["replies"], out[1]["replies"]);
    let replies = out[0]["replies"].as_array().expect("a list");
    assert_eq!(replies.iter().map(|reply| reply["message"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(4)]);
    for reply in replies {
        let upto = reply["message"].as_u64().expect("a place") as usize;
        let wanted = of_text(folder.path(), &whole.as_array().expect("a list")[..=upto]);
        let scores = reply["scores"].as_object().expect("an object");
        assert_eq!(scores.len(), 9);
        let found: Vec<f64> = NINE.iter().map(|label| scores[*label].as_f64().expect("a number")).collect();
        // The second reply goes on where the first was read up to: the same within rounding.
        assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {wanted:?}");
        let sum =
            0.65 * scores["helpfulness"].as_f64().expect("one") - 0.5 * scores["verbosity"].as_f64().expect("one");
        assert!((reply["combined"].as_f64().expect("a number") - sum).abs() < 1e-9);
    }
    assert_ne!(replies[0]["scores"], replies[1]["scores"]);
}

#[test]
fn lines_that_are_no_conversations_are_told_and_the_others_scored() {
    let folder = model();
    let place = tempdir().expect("a folder");
    let file: PathBuf = place.path().join("lines.jsonl");
    let good = conversation();
    let bad = [
        ("{".to_owned(), "is no JSON"),
        ("7".to_owned(), "neither a list"),
        (json!({ "text": "a" }).to_string(), "`messages`"),
        (json!([{ "role": "user", "content": "a" }]).to_string(), "`assistant`"),
        (json!([{ "role": "judge", "content": "a" }]).to_string(), "`judge`"),
        (json!([{ "role": "assistant", "content": 3 }]).to_string(), "`content`"),
        (json!({ "messages": good, "tools": 3 }).to_string(), "`tools`"),
        (json!([{ "role": "assistant", "content": "a".repeat(20_000) }]).to_string(), "context"),
    ];
    let text: String = bad.iter().map(|(line, _)| format!("{line}\n")).chain([format!("{good}\n")]).collect();
    std::fs::write(&file, text).expect("room");
    let output = score(folder.path(), &["--messages", file.to_str().expect("UTF-8")], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("8 of 9 lines"), "{}", said(&output));
    let out = lines(&output);
    for ((_, words), line) in bad.iter().zip(&out) {
        assert!(line["error"].as_str().is_some_and(|why| why.contains(words)), "{words}: {line}");
    }
    assert_eq!(out[8]["replies"].as_array().map(Vec::len), Some(2));

    for (arguments, words) in [
        (&["--messages", "-", "--combine", "kindness=1"][..], "no label `kindness`; it has `quality`"),
        (&["--messages", "-", "--combine", "quality"], "LABEL=WEIGHT"),
        (&["--messages", "-", "--combine", "quality=1,quality=2"], "two weights"),
        (&["--messages", "-", "--combine", "quality=inf"], "finite"),
        (&["--messages", "nowhere.jsonl"], "nowhere.jsonl"),
        (&["--messages", "-", "--prompt", "a"], "cannot be used with"),
        (&[], "--messages"),
    ] {
        let output = score(folder.path(), arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
}
