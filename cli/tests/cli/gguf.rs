//! GGUF files in the place of a model's folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Golden, repository};
use serde_json::Value;
use tempfile::tempdir;

fn golden(file: &str) -> PathBuf {
    repository().join("tests/goldens/gguf").join(file)
}

fn run(arguments: &[&OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge")).args(arguments).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(name: &str, model: &Path, more: &[&str]) -> Output {
    let more = more.iter().map(OsStr::new);
    run(&[name.as_ref(), model.as_os_str()].into_iter().chain(more).collect::<Vec<_>>())
}

/// Logits of a few tokens, and their number a token.
fn logits(model: &Path, more: &[&str]) -> (Vec<f32>, usize) {
    let place = tempdir().expect("a folder");
    let out = place.path().join("logits.safetensors");
    let arguments = ["--tokens", "5,6,7,8", "--device", "cpu", "--out", out.to_str().expect("UTF-8")];
    stdout(&command("logits", model, &[&arguments, more].concat()));
    let logits = Golden::read(&out);
    let logits = logits.get("logits");
    (logits.data.clone(), logits.shape[1])
}

#[test]
fn commands_read_a_file_or_the_folder_of_one() {
    let file = golden("llama/model.gguf");
    let (wanted, vocabulary) = logits(&file, &[]);
    assert!(wanted.len() == 4 * vocabulary && wanted.iter().all(|number| number.is_finite()));
    assert!(logits(&golden("llama"), &[]).0 == wanted);
    // Any file of several stands for all.
    let halves =
        ["types/split-00001-of-00002.gguf", "types/split-00002-of-00002.gguf"].map(|file| logits(&golden(file), &[]));
    assert!(halves[0] == halves[1]);

    let inspect = stdout(&command("inspect", &golden("types/q4_k_m.gguf"), &[]));
    assert!(inspect.starts_with("llama: ") && inspect.contains("GGUF, tensors by type: "), "{inspect}");
    assert!(inspect.contains(" Q4_K, ") && inspect.contains(" Q6_K"), "{inspect}");
    let inspect: Value = serde_json::from_str(&stdout(&command("inspect", &file, &["--json"]))).expect("JSON");
    assert_eq!(inspect["model_type"], "llama");
    assert_eq!(inspect["gguf"].as_object().map(|types| types.keys().cloned().collect()), Some(vec!["F32".to_owned()]));

    let bench = ["--device", "cpu", "--prompt", "4", "--generate", "2", "--json"];
    for more in [&bench[..], &[&bench[..], &["--random-weights"]].concat()] {
        serde_json::from_str::<Value>(&stdout(&command("bench", &file, more))).expect("JSON");
    }
    let tokens = ["--tokens", "5,6,7", "--device", "cpu", "--max-tokens", "3", "--json"];
    let generated: Value = serde_json::from_str(&stdout(&command("generate", &file, &tokens))).expect("JSON");
    assert_eq!(generated["tokens"].as_array().map(Vec::len), Some(3), "{generated}");
}

#[test]
fn a_converted_file_is_the_same_model() {
    let place = tempdir().expect("a folder");
    for (file, weights) in
        [("llama/model.gguf", "f32"), ("types/f16.gguf", "f16"), ("types/q8_0.gguf", "q8"), ("types/q4_k_m.gguf", "q8")]
    {
        // Beside the target, as it lies where people download to.
        let source = place.path().join("tiny.gguf");
        fs::copy(golden(file), &source).expect("room");
        let out = place.path().join("out");
        let convert = |more: &[&str]| {
            let arguments = [out.to_str().expect("UTF-8"), "--weights", weights];
            command("convert", &source, &[&arguments, more].concat())
        };
        stdout(&convert(&["--restart"]));
        assert!(out.join("config.json").is_file() && out.join("model.safetensors").is_file());
        assert!(logits(&out, &[]) == logits(&source, &["--weights", weights]), "{file}");
        let again = said(&convert(&[]));
        assert!(again.contains("holds a model already"), "{again}");

        // It goes on where it was cut, and not with other weights.
        let whole = fs::read(out.join("config.json")).expect("a file");
        fs::remove_file(out.join("config.json")).expect("a file");
        stdout(&convert(&[]));
        assert!(fs::read(out.join("config.json")).expect("a file") == whole);
        fs::remove_file(out.join("config.json")).expect("a file");
        let mut bytes = fs::read(&source).expect("a file");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&source, bytes).expect("room");
        let other = said(&convert(&[]));
        assert!(other.contains("tiny.gguf holds other weights") && other.contains("--restart"), "{other}");
    }
    let own = place.path().to_str().expect("UTF-8");
    let refused = command("convert", &place.path().join("tiny.gguf"), &[own, "--weights", "q8"]);
    assert!(refused.status.code() == Some(2) && said(&refused).contains("own folder"), "{}", said(&refused));
}

#[test]
fn files_that_are_not_there_are_told_from_those_that_are() {
    let types = golden("types");
    let error = said(&command("inspect", &types, &[]));
    assert!(error.contains("name one of them") && error.contains("q4_k_m.gguf"), "{error}");
    let missing = types.join("q9_k.gguf");
    for name in ["inspect", "generate", "chat", "logits", "convert", "serve", "perplexity", "bench"] {
        let more: &[&str] = match name {
            "generate" => &["--tokens", "1"],
            "logits" => &["--tokens", "1", "--out", "-"],
            "convert" => &["out", "--weights", "q8"],
            "perplexity" => &["--tokens-file", "ids.txt"],
            _ => &[],
        };
        let output = command(name, &missing, more);
        let error = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(
            error.contains("there is no file `") && error.contains("q9_k.gguf") && error.contains("q4_0.gguf"),
            "{name}: {error}"
        );
    }
    let empty = tempdir().expect("a folder");
    let error = said(&command("inspect", &empty.path().join("x.gguf"), &[]));
    assert!(error.contains("in its folder there is no GGUF file"), "{error}");
    // A vision tower is no model of text.
    fs::copy(golden("llama/model.gguf"), empty.path().join("tiny.gguf")).expect("room");
    fs::copy(golden("llama/model.gguf"), empty.path().join("mmproj-tiny.gguf")).expect("room");
    assert!(stdout(&command("inspect", empty.path(), &[])).starts_with("llama: "));
    // Half of a model.
    fs::copy(types.join("split-00001-of-00002.gguf"), empty.path().join("x-00001-of-00002.gguf")).expect("room");
    let error = said(&command("inspect", &empty.path().join("x-00001-of-00002.gguf"), &[]));
    assert!(error.contains("x-00002-of-00002.gguf` is not there"), "{error}");
}

#[test]
fn outputs_spare_all_files_of_a_model() {
    let place = tempdir().expect("a folder");
    let halves = ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"].map(|name| place.path().join(name));
    for (number, half) in halves.iter().enumerate() {
        fs::copy(golden(&format!("types/split-0000{}-of-00002.gguf", number + 1)), half).expect("room");
    }
    for half in &halves {
        let before = fs::read(half).expect("a file");
        let out = half.to_str().expect("UTF-8");
        let output = command("logits", &halves[0], &["--tokens", "1", "--device", "cpu", "--out", out]);
        assert!(said(&output).contains("which this command reads"), "{}", said(&output));
        assert!(fs::read(half).expect("a file") == before);
    }
}
