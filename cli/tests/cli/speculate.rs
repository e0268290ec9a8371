//! `--speculate`: the same text, counts of drafts, and models that cannot draft.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Golden, folder};

fn selvedge(command: &str, model: &str, arguments: &[&str]) -> Output {
    let mut all = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    all.arg(command).arg(folder(model)).args(["--device", "cpu"]).args(arguments).output().expect("the binary runs")
}

fn json(output: &Output) -> Value {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(&text(&output.stdout)).expect("JSON")
}

#[test]
fn a_text_is_the_same_and_its_drafts_are_counted() {
    let ids: Vec<String> = Golden::open("draft_qwen3_5").ids("input_ids").iter().map(u32::to_string).collect();
    let ids = ids.join(",");
    let generate = |more: &[&str]| {
        let arguments = [&["--tokens", &ids, "--max-tokens", "12", "--json"], more].concat();
        json(&selvedge("generate", "draft_qwen3_5", &arguments))
    };
    let plain = generate(&[]);
    assert_eq!(plain["speculation"], Value::Null);
    for more in [&["--speculate"][..], &["--speculate=3"]] {
        let speculated = generate(more);
        assert_eq!(speculated["tokens"], plain["tokens"], "{more:?}");
        let counts = &speculated["speculation"];
        let count = |name: &str| counts[name].as_u64().expect("a count");
        assert_eq!(count("tokens"), count("steps") + count("accepted"), "{counts}");
        assert!(count("drafted") > 0 && counts["tokens_per_step"].as_f64() >= Some(1.0), "{counts}");
    }
    let bench =
        json(&selvedge("bench", "draft_qwen3_5", &["--speculate", "--generate", "6", "--prompt", "9", "--json"]));
    assert!(bench[0]["speculation"]["drafted"].as_u64() > Some(0), "{bench}");
}

#[test]
fn what_cannot_draft_is_refused() {
    for (model, arguments, words) in [
        ("llama", &["--speculate", "--tokens", "5"][..], ["has no heads for later tokens", "leave `--speculate` out"]),
        ("draft_qwen3_5", &["--tokens", "5", "--speculate=8"], ["--speculate", "1..=7"]),
    ] {
        let output = selvedge("generate", model, arguments);
        let message = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success() && words.iter().all(|word| message.contains(word)), "{message}");
    }
}
