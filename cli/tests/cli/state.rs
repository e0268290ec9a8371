//! Saved states: `generate --save-state` and `--restore-state`, `chat --session`, `chat --cache-dir`, `state`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::chat::read;
use crate::support::talking;
use serde_json::Value;

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints as JSON.
fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Messages of a command that fails.
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(1) && !err.contains("panicked"), "{arguments:?}: {err}");
    err
}

/// A golden that talks, as a folder.
fn model(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, bytes) in talking::files(name) {
        std::fs::write(folder.path().join(file), bytes).expect("a written file");
    }
    folder
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn a_generation_goes_on_from_its_state() {
    let work = tempfile::tempdir().expect("a folder");
    let (state, later) = (path(&work, "a.state"), path(&work, "b.state"));
    for name in ["falcon_h1", "qwen3_5"] {
        let model = model(name);
        let model = model.path().to_str().expect("a text");
        let common = ["--device", "cpu", "--json", "--temperature", "0"];
        let generate = |more: &[&str]| json(&[&["generate", model][..], &common, more].concat());
        let whole = generate(&["--tokens", "30,31,32,33", "--max-tokens", "20"]);
        let first = generate(&["--tokens", "30,31,32,33", "--max-tokens", "8", "--save-state", &state]);
        // The token that was chosen last comes with the prompt.
        let ids: Vec<String> = whole["tokens"].as_array().expect("ids").iter().map(Value::to_string).collect();
        let next = ids[8].clone();
        let second =
            generate(&["--tokens", &next, "--max-tokens", "11", "--restore-state", &state, "--save-state", &later]);
        let made = [&first["tokens"], &second["tokens"]].map(|tokens| tokens.as_array().expect("ids").clone());
        let joined: Vec<String> =
            made[0].iter().chain([&whole["tokens"][8]]).chain(&made[1]).map(Value::to_string).collect();
        assert_eq!(joined, ids, "{name}");
        assert_eq!((&second["prompt_tokens"], &second["cached_tokens"]), (&13.into(), &11.into()), "{name}");

        let told = json(&["state", &later, "--json"]);
        assert_eq!(told["tokens"].as_array().expect("ids").len(), 24);
        assert!(told["bytes"]["recurrent"].as_u64().expect("bytes") > 0);
        let told = text(&run(&["state", &later]).stdout);
        assert!(told.contains("recurrent states") && told.contains("23 read, 1 chosen and not read"), "{told}");
    }
    let other = model("falcon_h1");
    let arguments = ["generate", other.path().to_str().expect("a text"), "--device", "cpu", "--tokens", "3"];
    let err = refusal(&[&arguments[..], &["--restore-state", &state]].concat());
    assert!(err.contains("a model of another architecture") && err.contains("qwen3_5"), "{err}");
    let bytes = std::fs::read(&state).expect("a file");
    for (bad, word) in [(&bytes[..bytes.len() - 9], "safetensors"), (b"nothing", "not a saved state")] {
        std::fs::write(&state, bad).expect("a written file");
        let err = refusal(&[&arguments[..], &["--restore-state", &state]].concat());
        assert!(err.contains(word) && err.contains("a.state"), "{err}");
        assert!(refusal(&["state", &state]).contains(word));
    }
    // A folder, and a file of the model.
    let weights = other.path().join("model.safetensors").display().to_string();
    for bad in [work.path().to_str().expect("a text"), &weights] {
        refusal(&[&arguments[..], &["--save-state", bad]].concat());
    }
    assert_eq!(std::fs::read(weights).expect("weights"), talking::files("falcon_h1")[1].1, "untouched");
}

/// Answers and messages of a conversation with a script.
fn chat(arguments: &[&str], lines: &[&str]) -> (i32, Vec<String>, String) {
    let mut command = binary();
    command.args(["chat", "--device", "cpu", "--verbose", "--temperature", "0"]).args(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code().unwrap_or(-1), out.lines().map(str::to_owned).collect(), err)
}

const STORY: &str = "One cold day Mia visited the lake. Ben saw a goat. What animal did Ben see?";

#[test]
fn a_conversation_is_kept_in_its_file() {
    let work = tempfile::tempdir().expect("a folder");
    let file = path(&work, "talk.state");
    let lines = ["Hello.", STORY, "Where did Mia go?"];
    let (_, unbroken, err) = chat(&[], &lines);
    let wanted = read(&err);
    let (code, first, _) = chat(&["--session", &file], &lines[..2]);
    assert_eq!((code, &first[..]), (0, &unbroken[..2]));
    let (code, then, err) = chat(&["--session", &file], &lines[2..]);
    assert_eq!((code, &then[..]), (0, &unbroken[2..]), "{err}");
    assert!(err.contains("going on with 5 messages"), "{err}");
    assert_eq!(read(&err), wanted[2..], "nothing is read twice");
    let told = json(&["state", &file, "--json"]);
    assert_eq!(told["conversation"].as_array().expect("messages").len(), 7);
    assert!(told["checkpoints"].as_array().expect("places").len() >= 3);

    // What cannot be used is left as it is.
    let good = std::fs::read(&file).expect("a file");
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 4;
    std::fs::write(&file, &bad).expect("a written file");
    let (code, _, err) = chat(&["--session", &file], &["Hello."]);
    assert!(code == 1 && err.contains("damaged") && err.contains("talk.state"), "{err}");
    assert_eq!(std::fs::read(&file).expect("a file"), bad);
    std::fs::write(&file, &good).expect("a written file");
    let other = model("falcon_h1");
    let (code, _, err) = chat(&[other.path().to_str().expect("a text"), "--session", &file], &["hello."]);
    assert!(code == 1 && err.contains("a model of another architecture"), "{err}");
    assert_eq!(std::fs::read(&file).expect("a file"), good);
}

#[test]
fn branches_of_a_conversation_read_what_is_new_in_them() {
    let lines = [
        STORY,
        "/fork",
        "Where did Mia go?",
        "/switch 1",
        "Where did Mia go?",
        "/switch 2",
        "/back",
        "Hello.",
        "/switch 3",
    ];
    let (code, said, err) = chat(&[], &lines);
    assert_eq!(code, 1, "there is no third branch");
    assert!(err.contains("takes a number from 1 to 2"), "{err}");
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(said[1], said[2], "the same question in both branches");
    let read = read(&err);
    assert!(read[2] < read[1], "the second branch finds what the first one read: {read:?}");
    assert!(read[3] < 20, "{read:?}");
    for (bad, word) in [
        ("/switch", "number of a branch"),
        ("/switch x", "number from"),
        ("/back 7", "1 were asked"),
        ("/fork 2", "takes nothing"),
    ] {
        let (code, _, err) = chat(&[], &["Hello.", bad]);
        assert!(code == 1 && err.contains(word), "{bad}: {err}");
    }
}

#[test]
fn a_folder_remembers_what_was_read_in_earlier_runs() {
    let work = tempfile::tempdir().expect("a folder");
    let cache = path(&work, "cache");
    let (_, first, err) = chat(&["--cache-dir", &cache], &[STORY]);
    let all = read(&err)[0];
    let (_, again, err) = chat(&["--cache-dir", &cache], &[STORY, "Where did Mia go?"]);
    assert_eq!(first[0], again[0]);
    assert!(read(&err)[0] < 12 && all > 30, "{all}, then {err}");
    // Each file has a fault, and the conversation goes on.
    for entry in std::fs::read_dir(&cache).expect("a folder") {
        std::fs::write(entry.expect("an entry").path(), b"rubbish").expect("a written file");
    }
    let (code, again, err) = chat(&["--cache-dir", &cache], &[STORY]);
    assert_eq!((code, &again[0]), (0, &first[0]));
    assert!(err.contains("it is removed") && read(&err)[0] == all, "{err}");
    let (code, _, err) = chat(&["--cache-limit", "1KB"], &["Hello."]);
    assert!(code == 2 && err.contains("--cache-dir"), "{err}");
    let (code, _, err) = chat(&["--cache-dir", &cache, "--cache-limit", "some"], &["Hello."]);
    assert!(code == 2 && err.contains("--cache-limit"), "{err}");
    let file = path(&work, "file");
    std::fs::write(&file, b"").expect("a written file");
    let (code, _, err) = chat(&["--cache-dir", &file], &["Hello."]);
    assert!(code == 1 && err.contains("file"), "{err}");
}

/// A conversation that is killed: the turns that had been told as over.
fn killed(cache: &Path, after: Duration) -> usize {
    let mut command = binary();
    command.args(["chat", "--device", "cpu", "--verbose", "--temperature", "0", "--cache-dir"]).arg(cache);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child: Child = pipes.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all((TURNS.join("\n") + "\n").as_bytes()).expect("a script");
    drop(stdin);
    let mut told = BufReader::new(child.stderr.take().expect("a pipe"));
    let (mut over, mut line) = (0, String::new());
    // The clock begins with the first answer: loading writes nothing.
    let mut begun = None;
    loop {
        line.clear();
        if told.read_line(&mut line).unwrap_or(0) == 0 {
            break;
        }
        over += usize::from(line.contains(" tokens read, "));
        let begun = *begun.get_or_insert_with(Instant::now);
        if begun.elapsed() >= after {
            break;
        }
    }
    // SIGKILL on Unix.
    let _ = child.kill();
    child.wait().expect("an end");
    // What was written to the pipe before the end counts.
    let rest = told.lines().map_while(Result::ok).filter(|line| line.contains(" tokens read, ")).count();
    over + rest
}

const TURNS: [&str; 5] = ["Hello.", STORY, "Where did Mia go?", "Hello.", "Thank you."];

#[test]
fn nothing_that_was_told_is_lost_by_a_kill() {
    // Within the time that a conversation takes here, most of them before its end.
    let begun = Instant::now();
    let (_, unbroken, err) = chat(&[], &TURNS);
    let (wanted, most) = (read(&err), begun.elapsed().as_millis() as u32 / 2);
    let mut seed = 0x9e37_79b9_u32;
    let mut at_every_turn = [0; TURNS.len() + 1];
    for round in 0..50 {
        let work = tempfile::tempdir().expect("a folder");
        let cache: PathBuf = work.path().join("cache");
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        let over = killed(&cache, Duration::from_millis(u64::from(seed % most.max(1))));
        at_every_turn[over] += 1;
        let (code, said, err) = chat(&["--cache-dir", &cache.display().to_string()], &TURNS);
        assert_eq!((code, &said), (0, &unbroken), "round {round}: {err}");
        assert!(!err.contains("note:"), "round {round}: something half-written was found: {err}");
        // Of the turns that were told as over nothing is read but generation prompts.
        for (turn, (&again, &new)) in read(&err).iter().zip(&wanted).enumerate().take(over) {
            assert!(again < 12 && again <= new, "round {round}, turn {turn}: {again} tokens were read again of {new}");
        }
    }
    println!("killed after so many turns: {at_every_turn:?}");
    assert!(at_every_turn.iter().filter(|&&count| count > 0).count() > 2, "{at_every_turn:?}");
}
