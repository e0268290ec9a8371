//! Forms of a GPU's kernels as a user has them: measured at the first load, kept in the user's caches, told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{adapter_or_skipped, repository};
use selvedge::hub::user_caches;
use serde_json::Value;

/// `selvedge` with a folder of caches of its own.
fn command(caches: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.args(arguments).env("XDG_CACHE_HOME", caches).stdin(Stdio::null());
    // Mesa keeps compiled kernels among the user's caches too; to compile them anew takes minutes.
    if let (None, Some(usual)) = (std::env::var_os("MESA_SHADER_CACHE_DIR"), user_caches()) {
        command.env("MESA_SHADER_CACHE_DIR", usual);
    }
    command
}

/// `selvedge bench` of the demo model on the GPU, in little time.
fn bench(caches: &Path, more: &[&str]) -> Command {
    let demo = repository().join("assets/demo");
    let first = ["bench", demo.to_str().expect("a path in UTF-8"), "--device", "gpu", "--json"];
    command(caches, &[&first[..], &["--prompt", "1", "--generate", "1"], more].concat())
}

/// The forms that ran, and where they are from.
fn told(output: &Output) -> (String, String) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("panicked"), "{stderr}");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |key: &str| list[0][key].as_str().expect("a text").to_owned();
    (text("forms"), text("forms_from"))
}

fn run(caches: &Path, more: &[&str]) -> (String, String) {
    told(&bench(caches, more).output().expect("the binary runs"))
}

fn file(caches: &Path) -> PathBuf {
    caches.join("selvedge/forms.json")
}

fn entries(caches: &Path) -> usize {
    let text = fs::read(file(caches)).expect("a file");
    serde_json::from_slice::<Vec<Value>>(&text).expect("a list").len()
}

#[test]
fn forms_are_measured_once_and_told() {
    if !adapter_or_skipped() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let caches = place.path();
    let given = run(caches, &["--forms", "tile,rows,query,head,heads,apart"]);
    assert_eq!(given, ("tile,rows,query,head,heads,apart".into(), "given".into()));
    assert!(!file(caches).exists(), "what was given is not kept");

    let (forms, from) = run(caches, &[]);
    assert_eq!(from, "measured");
    assert_eq!(run(caches, &[]), (forms.clone(), "kept".into()));
    let devices = command(caches, &["devices", "--json"]).output().expect("the binary runs");
    let devices: Vec<Value> = serde_json::from_slice(&devices.stdout).expect("a list");
    let has = |device: &&Value| device["forms"] == Value::from(vec![forms.clone()]);
    assert_eq!(devices.iter().filter(has).count(), 1, "{devices:?}");
    let devices = command(caches, &["devices"]).output().expect("the binary runs");
    let line = format!("forms measured: {forms}\n");
    assert_eq!(String::from_utf8_lossy(&devices.stdout).matches(&line).count(), 1);

    assert_eq!(run(caches, &["--forms", "measured"]).1, "measured");
    assert_eq!(entries(caches), 1);
    // What is no choice of forms is replaced.
    fs::write(file(caches), "{\"forms\": [").expect("room");
    assert_eq!(run(caches, &[]).1, "measured");
    assert_eq!(entries(caches), 1);
}

#[test]
fn commands_that_end_at_once_leave_a_whole_file() {
    if !adapter_or_skipped() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let caches = place.path();
    let start = |context: &str| -> Child {
        bench(caches, &["--context", context])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs")
    };
    for child in ["256", "320"].map(start) {
        assert_eq!(told(&child.wait_with_output().expect("it ends")).1, "measured");
    }
    // Of two that write in the same moment one may be lost.
    assert!((1..=2).contains(&entries(caches)));
    assert_eq!(fs::read_dir(caches.join("selvedge")).expect("a folder").count(), 1, "temporary files stay");
}

#[test]
fn no_load_fails_for_want_of_a_place() {
    if !adapter_or_skipped() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    fs::write(place.path().join("selvedge"), "a file").expect("room");
    let output = bench(place.path(), &[]).output().expect("the binary runs");
    assert_eq!(told(&output).1, "measured");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.matches("forms of kernels are not kept").count(), 1, "{stderr}");
}

#[test]
fn a_form_of_no_such_name_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let output = bench(place.path(), &["--forms", "tile,fastest"]).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("no form `fastest`"), "{stderr}");
    assert!(stderr.contains("apart, measured"), "{stderr}");
}
