//! Files that commands write: over regular files only, never over what they read, whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::repository;
use tempfile::{TempDir, tempdir};

/// A copy of the demo model.
fn copy() -> TempDir {
    let folder = tempdir().expect("a folder");
    for entry in fs::read_dir(repository().join("assets/demo")).expect("the model") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("room");
    }
    folder
}

fn logits(model: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("logits").arg(model).args(["--device", "cpu"]).arg("--out").arg(out).args(more);
    command.stdin(Stdio::null()).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Has a conversation with the demo model and gives what is said on stderr.
fn chat(model: &Path, lines: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("chat").arg(model).args(["--device", "cpu"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all((lines.join("\n") + "\n").as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    // 1 where a line was refused.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
    said(&output)
}

#[test]
fn logits_never_replace_an_input() {
    let (model, place) = (copy(), tempdir().expect("a folder"));
    let ids = place.path().join("ids.txt");
    fs::write(&ids, "1 2 3").expect("room");
    let weights = fs::read(model.path().join("model.safetensors")).expect("the weights");
    let arguments = ["--tokens-file", ids.to_str().expect("a plain path")];
    let count = || fs::read_dir(model.path()).expect("a folder").count();
    let before = count();
    let twin = place.path().join("twin");
    fs::hard_link(model.path().join("model.safetensors"), &twin).expect("a second name");
    for out in [model.path().join("model.safetensors"), model.path().join("tokenizer.model"), twin, ids.clone()] {
        let output = logits(model.path(), &out, &arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        assert!(said.contains(out.to_str().expect("a plain path")) && said.contains("reads"), "{said}");
    }
    assert!(fs::read(model.path().join("model.safetensors")).expect("the weights") == weights);
    assert_eq!((count(), fs::read_to_string(&ids).expect("the ids")), (before, "1 2 3".to_owned()));
}

#[test]
fn logits_go_to_stdout_or_over_a_regular_file() {
    let (model, place) = (copy(), tempdir().expect("a folder"));
    let out = place.path().join("out");
    fs::write(&out, "old").expect("room");
    assert!(logits(model.path(), &out, &["--tokens", "5,6"]).status.success());
    let piped = logits(model.path(), Path::new("-"), &["--tokens", "5,6"]);
    assert!(piped.status.success(), "{}", said(&piped));
    assert!(fs::read(&out).expect("a file") == piped.stdout && piped.stdout.len() > 100);
    let folder = logits(model.path(), place.path(), &["--tokens", "5,6"]);
    assert!(said(&folder).contains("is a folder"), "{}", said(&folder));
    assert!(!Path::new("-").exists());
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1);
}

#[cfg(unix)]
#[test]
fn logits_leave_links_and_nodes_as_they_are() {
    use std::os::unix::fs::symlink;

    let (model, place) = (copy(), tempdir().expect("a folder"));
    let at = |name: &str| place.path().join(name);
    fs::write(at("target"), "mine").expect("room");
    symlink("target", at("link")).expect("a link");
    symlink("/dev/stdout", at("stdout")).expect("a link");
    // The temporary name that could once be guessed.
    symlink("target", at("out.part")).expect("a link");
    assert!(Command::new("mkfifo").arg(at("fifo")).status().expect("mkfifo runs").success());
    for (name, kind) in [("link", "link"), ("stdout", "link"), ("fifo", "FIFO")] {
        let output = logits(model.path(), &at(name), &["--tokens", "5"]);
        assert!(said(&output).contains(kind) && output.status.code() == Some(1), "{name}: {}", said(&output));
    }
    assert!(logits(model.path(), &at("out"), &["--tokens", "5"]).status.success());
    assert_eq!(fs::read_to_string(at("target")).expect("a file"), "mine");
    assert!(at("out.part").is_symlink() && at("link").is_symlink());
}

/// A signal while a long text is computed.
#[cfg(unix)]
fn is_removed_at(signal: &str, code: i32) {
    let (model, place) = (copy(), tempdir().expect("a folder"));
    let out = place.path().join("out");
    let ids = vec!["5"; 2000].join(",");
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("logits").arg(model.path()).args(["--device", "cpu", "--prefill", "0", "--tokens", &ids]);
    let mut child = command.arg("--out").arg(&out).spawn().expect("the binary runs");
    let there = || fs::read_dir(place.path()).expect("a folder").count();
    while there() == 0 && child.try_wait().expect("it runs").is_none() {
        std::thread::yield_now();
    }
    assert_eq!(there(), 1, "the temporary file");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    assert_eq!(child.wait().expect("an end").code(), Some(code));
    assert_eq!(there(), 0);
}

#[cfg(unix)]
#[test]
fn what_ctrl_c_cuts_is_removed() {
    is_removed_at("-INT", 130);
}

#[cfg(unix)]
#[test]
fn what_sigterm_cuts_is_removed() {
    is_removed_at("-TERM", 143);
}

#[test]
fn a_conversation_replaces_a_file_only_when_told() {
    let (model, place) = (copy(), tempdir().expect("a folder"));
    let at = |name: &str| -> PathBuf { place.path().join(name) };
    fs::write(at("thesis"), "mine").expect("room");
    let save = |word: &str, path: &Path| format!("{word} {}", path.display());
    let weights = model.path().join("model.safetensors");
    let lines = [
        "Hello.".to_owned(),
        save("/save", &at("new")),
        save("/save", &at("new")),
        save("/save", &at("thesis")),
        save("/save!", &weights),
        save("/save!", &place.path().join("no/such/folder/x")),
    ];
    let said = chat(model.path(), &lines);
    let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(faults.len(), 4, "{said}");
    assert!(faults[0].contains("new") && faults[0].contains("/save! replaces it"), "{said}");
    assert!(faults[1].contains("thesis") && faults[2].contains("reads") && faults[3].contains("no/such"), "{said}");
    assert_eq!(fs::read_to_string(at("thesis")).expect("a file"), "mine");
    assert_eq!(
        fs::read(&weights).expect("a file"),
        fs::read(repository().join("assets/demo/model.safetensors")).expect("it")
    );
    chat(model.path(), &["Hello.".to_owned(), save("/save!", &at("thesis"))]);
    let saved = fs::read_to_string(at("thesis")).expect("a file");
    assert!(saved.contains("Hello."), "{saved}");
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 2);
}
