//! Folders of `selvedge convert`: what a conversion goes on with, what it refuses, and what it leaves alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::repository;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const RECORD: &str = "selvedge-conversion.json";
const LOCK: &str = ".selvedge-convert.lock";
const Q8: [&str; 4] = ["--weights", "q8", "--shard", "1"];

fn convert(model: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("convert").arg(model).arg(out).args(more).output().expect("the binary runs")
}

/// Converts and gives what is said.
fn converted(model: &Path, out: &Path, more: &[&str]) -> String {
    let output = convert(model, out, more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Is refused, which changes nothing in the folder, and gives what is said.
fn refused(model: &Path, out: &Path, more: &[&str]) -> String {
    let before = files(out);
    let output = convert(model, out, more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    let mut after = files(out);
    if !before.contains_key(LOCK) {
        after.remove(LOCK);
    }
    assert!(before == after, "{said}: {:?} became {:?}", before.keys(), after.keys());
    said
}

/// Every file of a folder; none if it is not there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    paths
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into(), fs::read(&path).expect("it")))
        .collect()
}

/// A copy of the demo model, of two MB in 8 bits, to be changed.
fn copy() -> TempDir {
    let folder = tempdir().expect("a folder");
    for (name, bytes) in files(&repository().join("assets/demo")) {
        fs::write(folder.path().join(name), bytes).expect("room");
    }
    folder
}

/// A folder in which a conversion of `model` was cut before its last shard.
fn cut(model: &Path, options: &[&str]) -> (TempDir, PathBuf) {
    let place = tempdir().expect("a folder");
    let out = place.path().join("out");
    converted(model, &out, options);
    fs::remove_file(out.join("config.json")).expect("it was there");
    let last = shards(&out).pop().expect("a shard");
    fs::remove_file(out.join(last)).expect("it was there");
    (place, out)
}

fn shards(out: &Path) -> Vec<String> {
    files(out).into_keys().filter(|name| name.ends_with(".safetensors")).collect()
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("a file");
    change(&mut bytes);
    fs::write(file, bytes).expect("room");
}

fn flip_last(file: &Path) {
    change(file, |bytes| *bytes.last_mut().expect("a byte") ^= 1);
}

#[test]
fn another_source_is_refused() {
    let model = copy();
    let (_place, out) = cut(model.path(), &Q8);
    let weights = model.path().join("model.safetensors");
    let original = fs::read(&weights).expect("a file");
    // One bit of one weight, which is in the shard that is still to be made.
    flip_last(&weights);
    let said = refused(model.path(), &out, &Q8);
    assert!(said.contains("model.safetensors holds other weights") && said.contains("--restart"), "{said}");
    fs::write(&weights, &original).expect("room");
    let config = model.path().join("config.json");
    let text = fs::read_to_string(&config).expect("a file");
    fs::write(&config, text.trim_end().to_owned() + "\n\n\n").expect("room");
    assert!(refused(model.path(), &out, &Q8).contains("another config.json"));
    fs::write(&config, text).expect("room");
    // Under another name it is the same.
    let moved = copy();
    converted(moved.path(), &out, &Q8);
    let whole = tempdir().expect("a folder");
    converted(model.path(), whole.path(), &Q8);
    assert!(files(whole.path()) == files(&out));
}

#[test]
fn other_options_are_refused_until_told_to_start_over() {
    let model = copy();
    let (_place, out) = cut(model.path(), &Q8);
    for (options, said) in [
        (["--weights", "q4", "--shard", "1"], "--weights was q8 and is q4"),
        (["--weights", "q8", "--shard", "2"], "--shard was 1 MiB and is 2 MiB"),
    ] {
        let heard = refused(model.path(), &out, &options);
        assert!(heard.contains(said) && heard.contains("--restart"), "{heard}");
    }
    let plain = [&Q8[..], &["--rounding", "plain"]].concat();
    assert!(refused(model.path(), &out, &plain).contains("--rounding was mse and is absmax"));
    // A later version may round otherwise.
    change(&out.join(RECORD), |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("text").replace("\"quantiser\": 1", "\"quantiser\": 0");
        *bytes = text.into_bytes();
    });
    assert!(refused(model.path(), &out, &Q8).contains("version of the rounding"));
    fs::write(out.join("notes.txt"), "mine").expect("room");
    let single = ["--weights", "q4"];
    converted(model.path(), &out, &[&single[..], &["--restart"]].concat());
    let fresh = tempdir().expect("a folder");
    converted(model.path(), fresh.path(), &single);
    let mut got = files(&out);
    assert_eq!(got.remove("notes.txt").as_deref(), Some(&b"mine"[..]), "it is not the conversion's");
    assert!(got == files(fresh.path()), "nothing of the first conversion is left: {:?}", got.keys());
    // The other way, over a finished folder.
    assert!(refused(model.path(), &out, &Q8).contains("holds a model already"));
    assert!(refused(model.path(), &out, &single).contains("--restart"));
    converted(model.path(), &out, &[&Q8[..], &["--restart"]].concat());
    let names: Vec<String> = files(&out).into_keys().collect();
    assert!(!names.contains(&"model.safetensors".to_owned()) && names.contains(&"notes.txt".to_owned()), "{names:?}");
}

#[test]
fn finished_shards_are_checked_bit_by_bit() {
    let model = copy();
    let whole = tempdir().expect("a folder");
    converted(model.path(), whole.path(), &Q8);
    let wanted = files(whole.path());
    for harm in [
        flip_last as fn(&Path),
        |file| change(file, |bytes| bytes.truncate(99)),
        |file| {
            fs::remove_file(file).expect("it was there");
        },
    ] {
        let (_place, out) = cut(model.path(), &Q8);
        let first = shards(&out).remove(0);
        harm(&out.join(&first));
        let said = converted(model.path(), &out, &Q8);
        assert!(said.contains(&format!("{first} is not as")), "{said}");
        assert!(files(&out) == wanted);
    }
}

#[test]
fn one_conversion_at_a_time_works_in_a_folder() {
    let model = copy();
    let (_place, out) = cut(model.path(), &Q8);
    let lock = File::options().create(true).write(true).truncate(false).open(out.join(LOCK)).expect("a lock");
    lock.try_lock().expect("it is free");
    for more in [&Q8[..], &["--weights", "q4", "--restart"]] {
        assert!(refused(model.path(), &out, more).contains("another conversion is at work"));
    }
    // Who held it has ended without removing it.
    drop(lock);
    assert!(out.join(LOCK).exists());
    converted(model.path(), &out, &Q8);
    assert!(!out.join(LOCK).exists());
}

#[test]
fn two_conversions_at_once_leave_a_sound_folder() {
    let model = copy();
    let place = tempdir().expect("a folder");
    let out = place.path().join("out");
    let start = |weights: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        command.arg("convert").arg(model.path()).arg(&out).args(["--weights", weights, "--shard", "1"]);
        command.spawn().expect("the binary runs")
    };
    let mut both = [start("q8"), start("q4m")];
    let ended = both.each_mut().map(|child| child.wait().expect("it ends").success());
    assert_eq!(ended.iter().filter(|&&done| done).count(), 1, "one converts, the other is refused");
    let alone = place.path().join("alone");
    converted(model.path(), &alone, &["--weights", if ended[0] { "q8" } else { "q4m" }, "--shard", "1"]);
    assert!(files(&out) == files(&alone));
}

#[test]
fn folders_of_others_are_left_alone() {
    let model = copy();
    let place = tempdir().expect("a folder");
    let out = place.path().join("out");
    fs::create_dir(&out).expect("a folder");
    fs::write(out.join("thesis.txt"), "mine").expect("room");
    for more in [&Q8[..], &[&Q8[..], &["--restart"]].concat()] {
        assert!(refused(model.path(), &out, more).contains("thesis.txt"));
    }
    assert_eq!(files(&out).len(), 1);
    // A name that a loader would take for a part of the model.
    let (_place, out) = cut(model.path(), &Q8);
    for name in ["model.safetensors", "vocab.json", "model-00001-of-00099.safetensors"] {
        fs::write(out.join(name), "mine").expect("room");
        for more in [&Q8[..], &[&Q8[..], &["--restart"]].concat()] {
            let before = fs::read(out.join(name)).expect("it is there");
            let output = convert(model.path(), &out, more);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(name), "{name}: {said}");
            assert_eq!(fs::read(out.join(name)).expect("it is there"), before);
            assert!(!out.join("config.json").exists());
        }
        fs::remove_file(out.join(name)).expect("it was there");
    }
    // A record that lists what no conversion writes.
    let mut record: Value = serde_json::from_slice(&fs::read(out.join(RECORD)).expect("a record")).expect("JSON");
    record["files"]["../thesis.txt"] = Value::Null;
    fs::write(out.join(RECORD), record.to_string()).expect("room");
    assert!(refused(model.path(), &out, &[&Q8[..], &["--restart"]].concat()).contains("../thesis.txt"));
    for text in ["", "{}", "[1", "null"] {
        fs::write(out.join(RECORD), text).expect("room");
        assert!(refused(model.path(), &out, &Q8).contains(RECORD));
    }
}

#[test]
fn the_target_is_no_part_of_the_source() {
    let model = copy();
    let before = files(model.path());
    let inside = model.path().join("deep/out");
    for (out, said) in [
        (model.path().to_owned(), "own folder"),
        (model.path().join("."), "own folder"),
        (inside, "lies in the model's"),
    ] {
        assert!(refused(model.path(), &out, &Q8).contains(said), "{}", out.display());
    }
    assert!(!model.path().join("deep").exists() && files(model.path()) == before);
    let (place, file) = (tempdir().expect("a folder"), "a file");
    fs::write(place.path().join(file), "mine").expect("room");
    assert!(refused(model.path(), &place.path().join(file), &Q8).contains(file));
}

#[cfg(unix)]
#[test]
fn no_link_is_followed_into_or_out_of_a_conversion() {
    use std::os::unix::fs::symlink;

    let (model, place) = (copy(), tempdir().expect("a folder"));
    let secret = place.path().join("secret");
    fs::write(&secret, "secret").expect("room");
    symlink(&secret, model.path().join("LICENSE")).expect("a link");
    fs::write(model.path().join("licence"), "free").expect("room");
    symlink("licence", model.path().join("NOTICE")).expect("a link");
    let fifo = Command::new("mkfifo").arg(model.path().join("LICENSE.md")).status().expect("mkfifo runs");
    assert!(fifo.success());
    let out = place.path().join("out");
    let said = converted(model.path(), &out, &Q8);
    assert!(said.contains("LICENSE: is a symbolic link") && said.contains("LICENSE.md: is a FIFO"), "{said}");
    let made = files(&out);
    assert!(!made.contains_key("LICENSE") && !made.contains_key("LICENSE.md"), "{:?}", made.keys());
    assert_eq!(made["NOTICE"], b"free", "a link within the folder is the folder's own");
    assert!(!made.values().any(|bytes| bytes == b"secret"));
    // Files of the hub's cache are links, to where its files lie.
    let cache = place.path().join("models--a--b");
    let snapshot = cache.join("snapshots/0123");
    fs::create_dir_all(&snapshot).expect("a folder");
    fs::create_dir(cache.join("blobs")).expect("a folder");
    for (index, (name, bytes)) in files(model.path()).into_iter().enumerate() {
        fs::write(cache.join(format!("blobs/{index}")), bytes).expect("room");
        symlink(format!("../../blobs/{index}"), snapshot.join(name)).expect("a link");
    }
    let hub = place.path().join("hub");
    converted(&snapshot, &hub, &Q8);
    assert!(files(&hub).contains_key("tokenizer.json"));
    // Links planted in the target.
    for name in ["model-00001-of-00003.safetensors", "tokenizer.json", "config.json", LOCK, RECORD] {
        let (_place, out) = cut(model.path(), &Q8);
        let _ = fs::remove_file(out.join(name));
        symlink(&secret, out.join(name)).expect("a link");
        let output = convert(model.path(), &out, &Q8);
        assert!(!output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(&secret).expect("a file"), b"secret", "{name}");
    }
}
