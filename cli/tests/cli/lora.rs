//! LoRA adapters on the command line: merged while a model is loaded, or converted; those of other models.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{Golden, Worst, repository};
use tempfile::tempdir;

fn golden(name: &str) -> String {
    repository().join("tests/goldens").join(name).to_str().expect("UTF-8").to_owned()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge")).args(arguments).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Logits of the tokens of an adapter's golden, and the golden's own.
fn logits(model: &str, more: &[&str]) -> (Vec<f32>, Vec<f32>) {
    let golden = Golden::read(&repository().join("tests/goldens/adapters/llama/golden.safetensors"));
    let ids: Vec<String> = golden.ids("input_ids").iter().map(u32::to_string).collect();
    let place = tempdir().expect("a folder");
    let out = place.path().join("logits.safetensors");
    let arguments =
        ["logits", model, "--device", "cpu", "--tokens", &ids.join(","), "--out", out.to_str().expect("UTF-8")];
    let output = run(&[&arguments, more].concat());
    assert!(output.status.success(), "{}", said(&output));
    (Golden::read(&out).get("logits").data.clone(), golden.get("logits").data.clone())
}

fn near(what: &str, (found, wanted): (Vec<f32>, Vec<f32>)) {
    let mut worst = Worst::new(what, 6e-4);
    worst.compare("logits", &found, &wanted);
    worst.finish();
}

#[test]
fn an_adapter_is_merged_when_a_model_is_loaded_or_converted() {
    let (model, lora) = (golden("llama"), golden("adapters/llama"));
    near("--lora", logits(&model, &["--lora", &lora]));

    let place = tempdir().expect("a folder");
    let out: PathBuf = place.path().join("merged");
    let to = out.to_str().expect("UTF-8");
    let convert = |more: &[&str]| run(&[&["convert", &model, to, "--weights", "f32"], more].concat());
    let output = convert(&["--lora", &lora]);
    assert!(output.status.success(), "{}", said(&output));
    near("convert --lora", logits(to, &[]));
    // The same again would be the same; without the adapter, or with another, it is not.
    for (more, other) in [(&["--lora", &lora][..], false), (&[], true), (&["--lora", &lora, "--lora", &lora], true)] {
        let output = convert(more);
        assert!(!output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).contains("other adapters are merged"), other, "{}", said(&output));
    }
    near("convert --lora", logits(to, &[]));
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused() {
    let model = golden("llama");
    let place = tempdir().expect("a folder");
    let empty = place.path().to_str().expect("UTF-8").to_owned();
    for (lora, words) in [
        (golden("adapters/qwen3_embedding"), "is it an adapter of this model?"),
        (empty, "there is no adapter_config.json"),
        (golden("nowhere"), "nowhere"),
    ] {
        let output = run(&["generate", &model, "--tokens", "1,2", "--device", "cpu", "--lora", &lora]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    // An adapter in the place of a model: told with the option.
    let output = run(&["generate", &golden("adapters/llama"), "--tokens", "1,2"]);
    assert!(said(&output).contains("--lora FOLDER"), "{}", said(&output));
}
