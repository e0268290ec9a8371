//! The same through the binary: what users type and read.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DEMO: &str = "weavers/demo";

/// The demo model, on the hub.
fn demo() -> Repo {
    let folder = repository().join("assets/demo");
    let file = |name: &str| fs::read(folder.join(name)).expect("a file of the demo");
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    names.iter().fold(Repo::new(DEMO, 'd'), |repo, name| repo.with(name, file(name)))
}

/// `selvedge ARGUMENTS` with a cache of its own and nothing of this machine's settings.
fn command(place: &Place, server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy().to_ascii_lowercase();
        if name.starts_with("hf_")
            || name.starts_with("hugging")
            || name.ends_with("_proxy")
            || name == "transformers_offline"
        {
            command.env_remove(variable);
        }
    }
    command.args(arguments).env("HF_HOME", place.folder.path()).env("HF_HUB_CACHE", place.cache());
    command.env("HF_ENDPOINT", server.endpoint()).stdin(Stdio::null());
    command
}

pub fn selvedge(place: &Place, server: &Server, arguments: &[&str]) -> Output {
    command(place, server, arguments).output().expect("the binary runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

pub fn failure(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty() && !message.contains("panicked"), "{message}");
    let error = message.lines().last().and_then(|line| line.strip_prefix("error: "));
    error.unwrap_or_else(|| panic!("no error in {message}")).to_owned()
}

const PROMPT: [&str; 7] = ["--device", "cpu", "--prompt", "One sunny morning", "--max-tokens", "6", "--json"];

fn generate(model: &str, more: &[&str]) -> Vec<String> {
    [&["generate", model], &PROMPT[..], more].concat().into_iter().map(str::to_owned).collect()
}

fn tokens(output: &Output) -> serde_json::Value {
    let json: serde_json::Value = serde_json::from_str(&stdout(output)).expect("JSON");
    assert_eq!(json["tokens"].as_array().map(Vec::len), Some(6), "{json}");
    json["tokens"].clone()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_fetched_model_speaks() {
    let place = Place::new();
    let server = Server::new(demo());
    let folder = format!("{}/assets/demo", repository().display());
    let expected = tokens(&selvedge(&place, &server, &words(&generate(&folder, &[]))));

    let output = selvedge(&place, &server, &["fetch", DEMO]);
    let printed = stdout(&output);
    let snapshot = place.cache().join("models--weavers--demo/snapshots").join("d".repeat(40));
    assert_eq!(printed.trim_end(), snapshot.display().to_string());
    let said = text(&output.stderr);
    assert!(said.contains("fetching weavers/demo from the hub") && said.contains("4 files"), "{said}");
    let output = selvedge(&place, &server, &["fetch", DEMO]);
    assert_eq!((stdout(&output), text(&output.stderr).contains("nothing was missing")), (printed, true));
    server.publish("v2", Repo { commit: "f".repeat(40), ..demo() });
    assert!(stdout(&selvedge(&place, &server, &["fetch", DEMO, "--revision", "v2"])).contains(&"f".repeat(40)));
    server.log();

    // By its name, at a branch and at a commit, without a word to the hub.
    let commit = format!("{DEMO}@{}", "d".repeat(40));
    for model in [DEMO, "weavers/demo@main", &commit, &snapshot.display().to_string()] {
        for more in [&[][..], &["--offline"]] {
            let output = selvedge(&place, &server, &words(&generate(model, more)));
            assert_eq!(tokens(&output), expected);
            assert!(!text(&output.stderr).contains("fetching"), "{}", text(&output.stderr));
        }
    }
    assert!(server.log().is_empty());
}

#[test]
fn every_command_fetches_what_it_is_named() {
    let server = Server::new(demo());
    let place = Place::new();
    let inspect = selvedge(&place, &server, &["inspect", DEMO, "--json"]);
    let inspect: serde_json::Value = serde_json::from_str(&stdout(&inspect)).expect("JSON");
    assert_eq!(inspect["model_type"], "hymba");
    assert!(server.log().iter().all(|request| !request.at_store), "a config is enough to inspect a model");

    let output = selvedge(&place, &server, &words(&generate(DEMO, &[])));
    tokens(&output);
    assert!(text(&output.stderr).contains("fetching weavers/demo from the hub"), "{}", text(&output.stderr));

    let place = Place::new();
    let mut child = command(&place, &server, &["chat", DEMO, "--device", "cpu"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("a pipe").write_all(b"Hello.\n").expect("a question");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn offline_says_what_to_do() {
    let place = Place::new();
    let server = Server::new(demo());
    for arguments in
        [&["fetch", DEMO, "--offline"][..], &words(&generate(DEMO, &["--offline"])), &["chat", DEMO, "--offline"]]
    {
        let error = failure(&selvedge(&place, &server, arguments));
        assert!(error.contains("selvedge fetch weavers/demo") && error.contains("offline"), "{error}");
        for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            let arguments: Vec<_> = arguments.iter().copied().filter(|word| *word != "--offline").collect();
            let output = command(&place, &server, &arguments).env(variable, "1").output().expect("runs");
            assert!(failure(&output).contains("offline"));
        }
    }
    assert!(server.log().is_empty(), "nobody was asked");
}

#[test]
fn what_is_no_model_is_told_from_what_the_hub_lacks() {
    let place = Place::new();
    let server = Server::new(demo());
    for model in ["no/such/folder", "nowhere", "./a/b", "/a/b"] {
        let error = failure(&selvedge(&place, &server, &words(&generate(model, &[]))));
        assert!(error.contains(model) && error.contains("owner/name"), "{error}");
        assert!(server.log().is_empty());
    }
    let error = failure(&selvedge(&place, &server, &words(&generate("no/model", &[]))));
    assert!(error.contains("no folder `no/model`") && error.contains("404"), "{error}");
    for arguments in
        [&["fetch", "weavers/demo@x", "--revision", "y"][..], &["cache", "remove", "weavers/demo@x"], &["fetch"]]
    {
        assert_eq!(selvedge(&place, &server, arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_token_is_read_where_python_keeps_it() {
    let server = Server::new(demo());
    let place = Place::new();
    let inspect = ["inspect", DEMO];
    let token = |output: Output| {
        stdout(&output);
        fs::remove_dir_all(place.cache()).expect("a cache");
        server.log()[0].headers.get("authorization").cloned()
    };
    assert_eq!(token(selvedge(&place, &server, &inspect)), None);
    fs::write(place.folder.path().join("token"), "hf_file\n").expect("a file");
    assert_eq!(token(selvedge(&place, &server, &inspect)).as_deref(), Some("Bearer hf_file"));
    let output = command(&place, &server, &inspect).env("HF_TOKEN", "hf_variable").output().expect("runs");
    assert_eq!(token(output).as_deref(), Some("Bearer hf_variable"));
    let file = place.folder.path().join("elsewhere");
    fs::write(&file, "hf_path").expect("a file");
    let output = command(&place, &server, &inspect).env("HF_TOKEN_PATH", &file).output().expect("runs");
    assert_eq!(token(output).as_deref(), Some("Bearer hf_path"));
    // Without HF_HUB_CACHE, the cache is in HF_HOME.
    let output = command(&place, &server, &inspect).env_remove("HF_HUB_CACHE").output().expect("runs");
    stdout(&output);
    assert!(place.folder.path().join("hub/models--weavers--demo").is_dir());
}

#[test]
fn the_cache_is_shown_and_cleared() {
    let place = Place::new();
    let server = Server::new(demo());
    let empty = selvedge(&place, &server, &["cache", "list"]);
    assert_eq!(stdout(&empty), "");
    assert!(text(&empty.stderr).contains("no models"));
    assert_eq!(stdout(&selvedge(&place, &server, &["cache", "list", "--json"])), "[]\n");

    stdout(&selvedge(&place, &server, &["fetch", DEMO]));
    server.publish("v1", Repo { commit: "e".repeat(40), ..demo() });
    stdout(&selvedge(&place, &server, &["inspect", "weavers/demo@v1"]));
    let list = stdout(&selvedge(&place, &server, &["cache", "list"]));
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(
        lines[0].starts_with("model ") && lines[1].contains("main (dddddddd)") && lines[1].contains("MiB"),
        "{list}"
    );
    assert!(lines[2].contains("v1 (eeeeeeee)") && lines[2].contains("incomplete"), "{list}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&selvedge(&place, &server, &["cache", "list", "--json"]))).expect("JSON");
    assert_eq!(
        (&json[0]["repo"], &json[0]["refs"][0], &json[0]["complete"]),
        (&DEMO.into(), &"main".into(), &true.into())
    );
    let bytes: usize = demo().files.values().map(Vec::len).sum();
    assert_eq!(json[0]["bytes"], bytes);
    assert_eq!(json[0]["revision"], "d".repeat(40));
    assert!(json[0]["last_used"].as_u64().is_some_and(|seconds| seconds > 1_700_000_000));
    assert!(Path::new(json[0]["path"].as_str().expect("a path")).join("config.json").is_file());

    let remove = |answer: &str, more: &[&str]| {
        let arguments = [&["cache", "remove", DEMO], more].concat();
        let mut command = command(&place, &server, &arguments);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let _ = child.stdin.take().expect("a pipe").write_all(answer.as_bytes());
        let output = child.wait_with_output().expect("an end");
        text(&output.stderr)
    };
    for answer in ["", "n\n", "\n", "what?\n"] {
        let said = remove(answer, &[]);
        assert!(said.contains("remove weavers/demo (") && said.contains("nothing was removed"), "{said}");
    }
    assert!(remove("y\n", &[]).contains("removed weavers/demo"));
    assert_eq!(stdout(&selvedge(&place, &server, &["cache", "list", "--json"])), "[]\n");
    stdout(&selvedge(&place, &server, &["fetch", DEMO]));
    assert!(remove("", &["--yes"]).contains("removed"));
    let error = failure(&selvedge(&place, &server, &["cache", "remove", DEMO, "--yes"]));
    assert!(error.contains("not in the cache"), "{error}");
}

#[test]
fn proxies_are_used_and_their_passwords_not_printed() {
    let place = Place::new();
    let server = Server::new(demo());
    server.mischief(|_, answer| answer.refuse(407, ""));
    let proxied = |variable: &str, proxy: &str| {
        let output = command(&place, &server, &["fetch", DEMO]).env(variable, proxy).output().expect("runs");
        let error = failure(&output);
        assert!(!text(&output.stderr).contains("hush"), "{error}");
        error
    };
    let address = server.endpoint().replace("//", "//me:hush@");
    let error = proxied("HTTP_PROXY", &address);
    assert!(error.contains("407") && error.contains("HTTPS_PROXY"), "{error}");
    for broken in ["http://me:hush@", "nonsense://me:hush@host:1"] {
        let error = proxied("HTTPS_PROXY", broken);
        assert!(error.contains("HTTPS_PROXY is not the address of a proxy"), "{error}");
    }
}

/// Waits until something is so.
fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never comes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A model of which enough has come to stop it, and not all.
fn slowly(server: &Server, milliseconds: u64) {
    server.mischief(on(FIRST, ALWAYS, move |_, answer| answer.wait = Duration::from_millis(milliseconds)));
}

fn unfinished(place: &Place, repo: &Repo) -> u64 {
    let blob = place.repo().join("blobs").join(etag(FIRST, &repo.files[FIRST]));
    fs::metadata(blob.with_added_extension("incomplete")).map_or(0, |part| part.len())
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("kill runs").success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_and_the_same_command_goes_on() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    slowly(&server, 150);
    let mut child = command(&place, &server, &["fetch", NAME]).stderr(Stdio::piped()).spawn().expect("runs");
    until(|| unfinished(&place, &repo) > 100_000);
    signal(&child, "-INT");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("words");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(said.contains("stopped; the same command goes on"), "{said}");
    place.lacks(FIRST);

    // Not even a program that is killed leaves more behind.
    let mut child = command(&place, &server, &["fetch", NAME]).spawn().expect("runs");
    let before = unfinished(&place, &repo);
    until(|| unfinished(&place, &repo) > before + 100_000);
    signal(&child, "-KILL");
    child.wait().expect("an end");
    place.lacks(FIRST);

    let there = unfinished(&place, &repo);
    server.mischief(|_, _| {});
    server.log();
    let output = selvedge(&place, &server, &["fetch", NAME]);
    let snapshot = stdout(&output);
    assert!(text(&output.stderr).contains("here already"), "{}", text(&output.stderr));
    place.holds(Path::new(snapshot.trim_end()), &repo);
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert_eq!(starts, [there as usize]);
}

#[cfg(unix)]
#[test]
fn a_disk_that_runs_full_leaves_nothing_partial() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    // No file may be longer than 400 blocks of 512 bytes; what cannot be written is an error, as on a full disk.
    let mut shell = Command::new("sh");
    let fetch = command(&place, &server, &[]);
    for (name, value) in fetch.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let script = "trap '' XFSZ; ulimit -f 400 && exec \"$0\" fetch weavers/tiny";
    let output = shell.args([OsStr::new("-c"), script.as_ref(), fetch.get_program()]).output().expect("a shell");
    let error = failure(&output);
    assert!(error.contains(".incomplete") && error.contains("File too large"), "{error}");
    place.lacks(FIRST);
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), None);
    assert!(unfinished(&place, &repo) > 0, "what came is kept");

    let snapshot = stdout(&selvedge(&place, &server, &["fetch", NAME]));
    place.holds(Path::new(snapshot.trim_end()), &repo);
}

#[cfg(unix)]
#[test]
fn several_programs_share_one_download() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    slowly(&server, 30);
    let start = || command(&place, &server, &["fetch", NAME]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let first = start().expect("runs");
    until(|| unfinished(&place, &repo) > 0);
    let others = [start().expect("runs"), start().expect("runs")];
    // Until all have ended, a folder may also hold the link that one of them is putting in its place.
    let ends = [first].into_iter().chain(others).map(|child| child.wait_with_output().expect("an end"));
    for output in ends.collect::<Vec<_>>() {
        place.holds(Path::new(stdout(&output).trim_end()), &repo);
    }
    let log = server.log();
    for file in [FIRST, SECOND] {
        assert_eq!(log.iter().filter(|request| request.gets(file)).count(), 1, "{file}");
    }
}

#[cfg(unix)]
#[test]
fn what_python_has_fetched_is_found() {
    use std::os::unix::fs::symlink;
    let (place, repo, server) = (Place::new(), demo(), Server::new(demo()));
    let folder = place.cache().join("models--weavers--demo");
    let snapshot = folder.join("snapshots").join(&repo.commit);
    for path in [folder.join("blobs"), folder.join("refs"), snapshot.clone()] {
        fs::create_dir_all(path).expect("a folder");
    }
    fs::write(folder.join("refs/main"), &repo.commit).expect("a file");
    for (file, bytes) in &repo.files {
        let etag = etag(file, bytes);
        fs::write(folder.join("blobs").join(&etag), bytes).expect("a blob");
        symlink(format!("../../blobs/{etag}"), snapshot.join(file)).expect("a link");
    }
    tokens(&selvedge(&place, &server, &words(&generate(DEMO, &[]))));
    assert!(server.log().is_empty());
}
