//! The hub, against a server that is one in all that matters and misbehaves when it is asked to.

mod cli;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use selvedge::hub::{FetchEvent, Hub, HubError, ModelName, Need, Settings};
use server::{Answer, Repo, Request, Server, etag};

const NAME: &str = "weavers/tiny";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

/// Bytes that never repeat at a distance that anything here could confuse.
fn bytes(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(next).collect()
}

fn index(shards: [&str; 2]) -> String {
    serde_json::json!({ "metadata": {}, "weight_map": { "a": shards[0], "b": shards[1], "c": shards[0] } }).to_string()
}

/// A model in two shards, with files that nobody needs.
fn tiny() -> Repo {
    Repo::new(NAME, 'a')
        .with("config.json", r#"{"model_type": "hymba"}"#)
        .with("tokenizer.json", bytes(1, 3000))
        .with("generation_config.json", "{}")
        .with("model.safetensors.index.json", index([FIRST, SECOND]))
        .with(FIRST, bytes(2, 700_000))
        .with(SECOND, bytes(3, 300_000))
        .with("README.md", "# Tiny")
        .with("pytorch_model.bin", bytes(4, 1000))
        .with("consolidated.safetensors", bytes(5, 1000))
        .with("tiny-q4.gguf", bytes(6, 1000))
}

/// A cache of its own, inside a folder in which nothing else may appear.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub::new(Settings {
            endpoint: server.endpoint(),
            cache: self.cache(),
            token: Some("hf_secret".into()),
            offline: false,
            pause: Duration::from_millis(5),
        })
    }

    fn fetch(&self, server: &Server) -> Result<PathBuf, HubError> {
        self.hub(server).fetch(&name(), Need::All, &mut |_| {})
    }

    /// Why a fetch fails; and that it leaves nothing that could be taken for a file of the model.
    fn fails(&self, server: &Server, unfinished: &str) -> String {
        let error = self.fetch(server).expect_err("a failure").to_string();
        assert!(!error.contains("hf_secret") && !error.contains("Signature"), "{error}");
        self.lacks(unfinished);
        assert_eq!(self.hub(server).cache().find(&name(), Need::Weights), None, "half a model is not found");
        error
    }

    fn repo(&self) -> PathBuf {
        self.cache().join("models--weavers--tiny")
    }

    /// Nothing stands where this file should, and all that stands anywhere is whole.
    fn lacks(&self, file: &str) {
        for path in files(self.folder.path()) {
            let last = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert_ne!(last, file, "{}", path.display());
            if path.parent().is_some_and(|folder| folder.ends_with("blobs")) && !last.ends_with(".incomplete") {
                let blob = fs::read(&path).expect("a blob");
                assert!([etag("x", &blob), etag("x.bin", &blob)].contains(&last), "{} is not whole", path.display());
            }
        }
    }

    /// Holds a fetched folder to the files that the hub serves.
    fn holds(&self, folder: &Path, repo: &Repo) {
        assert_eq!(folder, self.repo().join("snapshots").join(&repo.commit));
        let mut found = vec![];
        for path in files(folder) {
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert_eq!(fs::read(&path).expect("a file"), repo.files[&file], "{file}");
            found.push(file);
        }
        found.sort();
        let wanted =
            ["config.json", "generation_config.json", FIRST, SECOND, "model.safetensors.index.json", "tokenizer.json"];
        assert_eq!(found, wanted, "what is needed and nothing else");
        self.lacks("nothing is missing");
        let left: Vec<_> = files(&self.cache()).into_iter().filter(|path| path.ends_with(".incomplete")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn name() -> ModelName {
    NAME.parse().expect("a name")
}

/// All files below a folder, links too.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Mischief with the bytes of one file, as long as `times` lasts.
fn on(
    file: &'static str,
    times: usize,
    mut what: impl FnMut(&Request, &mut Answer) + Send + 'static,
) -> impl FnMut(&Request, &mut Answer) + Send {
    let mut left = times;
    move |request, answer| {
        if left > 0 && request.gets(file) {
            left -= 1;
            what(request, answer);
        }
    }
}

const ALWAYS: usize = usize::MAX;

#[test]
fn a_model_comes_whole_and_once() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Config), None);
    let mut told = vec![];
    let folder = place.hub(&server).fetch(&name(), Need::All, &mut |event| match event {
        FetchEvent::Start { files, total, done } => told.push((files, total, done, 0)),
        FetchEvent::Progress { done, .. } => told.last_mut().expect("a start").3 = done,
        FetchEvent::Notice(notice) => panic!("{notice}"),
    });
    place.holds(&folder.expect("a model"), &repo);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], (2, 1_000_000, 0, 1_000_000), "the progress ends where it should");
    let log = server.log();
    assert!(log.iter().all(|request| !request.path.contains(".gguf") && !request.path.contains("README")));
    for request in &log {
        let token = request.headers.get("authorization");
        assert_eq!(token.is_some(), !request.at_store, "the token is for the hub alone: {request:?}");
        assert_eq!(request.headers.get("accept-encoding").map(String::as_str), Some("identity"));
    }

    // As Python's library lays it out.
    assert_eq!(fs::read_to_string(place.repo().join("refs/main")).expect("a ref"), repo.commit);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(place.repo().join("snapshots").join(&repo.commit).join(FIRST)).expect("a link"),
        Path::new("../../blobs").join(etag(FIRST, &repo.files[FIRST]))
    );

    // Again: the hub is asked for the commit, and that is all.
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    assert_eq!(server.log().len(), 1);
    // By its commit, it is found without asking.
    let commit = name().at(&repo.commit).expect("a commit");
    assert!(place.hub(&server).cache().find(&commit, Need::All).is_some());

    // Another commit brings what has changed.
    let next = Repo { commit: "b".repeat(40), ..repo.clone() }.with(SECOND, bytes(7, 400_000));
    server.publish("main", next.clone());
    place.holds(&place.fetch(&server).expect("a model"), &next);
    let gets = server.log().into_iter().filter(|request| request.at_store).collect::<Vec<_>>();
    assert!(gets.len() == 1 && gets[0].gets(SECOND), "{gets:?}");
    let list = place.hub(&server).cache().list().expect("a list");
    let refs: Vec<_> = list.iter().map(|cached| (cached.commit.as_str(), cached.refs.len(), cached.complete)).collect();
    assert_eq!(refs, [(repo.commit.as_str(), 0, true), (next.commit.as_str(), 1, true)]);
}

#[test]
fn revisions_are_asked_for_by_name() {
    let (place, main) = (Place::new(), tiny());
    let server = Server::new(main.clone());
    let other = Repo { commit: "c".repeat(40), ..main.clone() }.with(FIRST, bytes(8, 1234));
    server.publish("refs/pr/1", other.clone());
    let model = name().at("refs/pr/1").expect("a revision");
    let folder = place.hub(&server).fetch(&model, Need::All, &mut |_| {}).expect("a model");
    place.holds(&folder, &other);
    assert_eq!(place.hub(&server).cache().find(&model, Need::All), Some(folder));
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Config), None, "main is another");
    assert_eq!(place.hub(&server).cache().list().expect("a list")[0].refs, ["refs/pr/1"]);
    let missing = name().at("v9").expect("a revision");
    let error = place.hub(&server).fetch(&missing, Need::All, &mut |_| {}).expect_err("no such").to_string();
    assert!(error.contains("404") && error.contains("/revision/v9"), "{error}");
}

#[test]
fn only_the_config_is_fetched_where_that_is_enough() {
    let place = Place::new();
    let server = Server::new(tiny());
    let folder = place.hub(&server).fetch(&name(), Need::Config, &mut |_| {}).expect("a config");
    assert_eq!(files(&folder), [folder.join("config.json")]);
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Config), Some(folder));
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), None);
}

#[test]
fn a_model_without_a_tokenizer_is_complete_once_that_is_known() {
    let (place, mut repo) = (Place::new(), tiny());
    repo.files.remove("tokenizer.json");
    let server = Server::new(repo);
    let folder = place.fetch(&server).expect("a model");
    assert_eq!(place.hub(&server).cache().find(&name(), Need::All), Some(folder.clone()));
    // As Python's library leaves it when it was never asked for the tokenizer.
    fs::remove_dir_all(place.repo().join(".no_exist")).expect("a mark");
    assert_eq!(place.hub(&server).cache().find(&name(), Need::All), None);
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), Some(folder));
}

#[test]
fn cut_connections_go_on_where_they_were_cut() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, 8, |_, answer| answer.cut = Some(70_000)));
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert_eq!(starts, [0, 70_000, 140_000, 210_000, 280_000, 350_000, 420_000, 490_000, 560_000]);
}

#[test]
fn an_attempt_that_failed_is_gone_on_with() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, ALWAYS, |request, answer| answer.cut = Some(250_000 - request.start().min(250_000))));
    let error = place.fails(&server, FIRST);
    assert!(error.contains(FIRST) && error.contains("250000 of 700000") && error.contains("kept"), "{error}");
    server.mischief(|_, _| {});
    server.log();
    let mut start = None;
    let folder = place.hub(&server).fetch(&name(), Need::All, &mut |event| {
        if let FetchEvent::Start { total, done, .. } = event {
            start = Some((total, done));
        }
    });
    place.holds(&folder.expect("a model"), &repo);
    assert_eq!(start, Some((1_000_000, 250_000)));
    let log = server.log();
    let gets: Vec<_> = log.iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert_eq!(gets, [250_000]);
}

#[test]
fn a_file_that_changes_between_attempts_is_not_mixed() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, ALWAYS, |request, answer| answer.cut = Some(250_000 - request.start().min(250_000))));
    place.fails(&server, FIRST);
    // The branch moves on: the new file is another, and what came of the old one is none of its business.
    let next = Repo { commit: "b".repeat(40), ..repo.clone() }.with(FIRST, bytes(9, 700_000));
    server.publish("main", next.clone());
    server.mischief(|_, _| {});
    place.holds(&place.fetch(&server).expect("a model"), &next);

    // What lies there under the new name is of something else, in part or too long.
    for rubbish in [bytes(10, 100_000), bytes(10, 700_000), bytes(10, 800_000)] {
        let place = Place::new();
        fs::create_dir_all(place.repo().join("blobs")).expect("a folder");
        let blob = place.repo().join("blobs").join(etag(FIRST, &next.files[FIRST]));
        fs::write(blob.with_added_extension("incomplete"), rubbish).expect("rubbish");
        place.holds(&place.fetch(&server).expect("a model"), &next);
    }
}

#[test]
fn wrong_bytes_are_refused() {
    for file in [FIRST, "config.json"] {
        let (place, repo) = (Place::new(), tiny());
        let server = Server::new(repo.clone());
        server.mischief(on(file, ALWAYS, |_, answer| {
            if let Some(byte) = answer.body.last_mut() {
                *byte ^= 1;
            }
        }));
        let error = place.fails(&server, file);
        assert!(
            error.contains(&format!("{file}: its hash is")) && error.contains(&etag(file, &repo.files[file])),
            "{error}"
        );
        assert!(files(&place.cache()).iter().all(|path| !path.ends_with(".incomplete")), "nothing of it is kept");
        server.mischief(|_, _| {});
        place.holds(&place.fetch(&server).expect("a model"), &repo);
    }
}

#[test]
fn wrong_lengths_are_refused() {
    // (what the answer says, what the error says)
    type Lie = (fn(&Request, &mut Answer), &'static str);
    let lies: [Lie; 3] = [
        (|_, answer| answer.set("Content-Length", 700_001), "promised 700000 bytes and sends a file of 700001"),
        (|_, answer| answer.set("Content-Length", 5), "sends a file of 5"),
        (|_, answer| answer.body.truncate(0), "sends a file of 0"),
    ];
    for (lie, words) in lies {
        let (place, repo) = (Place::new(), tiny());
        let server = Server::new(repo.clone());
        server.mischief(on(FIRST, ALWAYS, lie));
        let error = place.fails(&server, FIRST);
        assert!(error.contains(FIRST) && error.contains(words), "{error}");
        server.mischief(|_, _| {});
        place.holds(&place.fetch(&server).expect("a model"), &repo);
    }
    // No length at all: what comes is counted.
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, 2, |request, answer| {
        answer.endless = true;
        answer.cut = (request.start() == 0).then_some(1000);
    }));
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    // The promise itself is wrong.
    for (promised, words) in [(700_010, "sends a file of 700000"), (699_990, "sends a file of 700000")] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |request, answer| {
            if request.method == "HEAD" && request.path.ends_with(FIRST) {
                answer.set("X-Linked-Size", promised);
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn servers_without_ranges_start_again() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let whole = repo.files[FIRST].clone();
    let mut cuts = vec![600_000, 500_000, 100];
    server.mischief(on(FIRST, ALWAYS, move |_, answer| {
        answer.status = 200;
        answer.headers.retain(|(name, _)| *name != "Content-Range");
        answer.body.clone_from(&whole);
        answer.cut = cuts.pop();
    }));
    place.holds(&place.fetch(&server).expect("a model"), &repo);

    // Other bytes than those that were asked for, and none at all.
    for (range, words) in [("bytes 7-699999/700000", "were asked for"), ("bytes */700000", "were asked for")] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(on(FIRST, ALWAYS, move |request, answer| match request.start() {
            0 => answer.cut = Some(1000),
            _ => answer.set("Content-Range", range),
        }));
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words) && error.contains("1000"), "{error}");
    }
    let place = Place::new();
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, 2, move |request, answer| match request.start() {
        0 => answer.cut = Some(1000),
        _ => answer.refuse(416, ""),
    }));
    place.holds(&place.fetch(&server).expect("a model"), &repo);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, reason, words) in [
        (401, "", &["no such model, or it is private", "HF_TOKEN"][..]),
        (401, "GatedRepo", &["gated", "/weavers/tiny", "accept its terms"]),
        (403, "GatedRepo", &["gated", "accept its terms"]),
        (403, "", &["this token may not", "/weavers/tiny"]),
        (404, "", &["spelt right"]),
        (404, "RevisionNotFound", &["no such revision"]),
        (410, "", &["not expected"]),
    ] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |_, answer| answer.refuse(status, reason));
        let error = place.fails(&server, FIRST);
        assert!(error.contains(&status.to_string()), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(server.log().len(), 1, "asking again would not help");
        // The same for a file.
        server.mischief(move |request, answer| {
            if request.path.contains(FIRST) {
                answer.refuse(status, reason);
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(FIRST), "{error}");
    }
}

#[test]
fn troubles_of_the_hub_are_waited_for() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let asked = Arc::new(AtomicUsize::new(0));
    // Every third answer is a failure: the list, what files are, and their bytes.
    let count = asked.clone();
    server.mischief(move |_, answer| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number.is_multiple_of(3) {
            answer.refuse([500, 502, 503, 504][number / 3 % 4], "");
        }
    });
    place.holds(&place.fetch(&server).expect("a model"), &repo);

    let place = Place::new();
    server.mischief(|_, answer| answer.refuse(500, ""));
    server.log();
    let error = place.fails(&server, FIRST);
    assert!(error.contains("500"), "{error}");
    assert_eq!(server.log().len(), 5, "it is not asked for ever");

    // A server that is not there.
    let address = server.endpoint();
    drop(server);
    let server = Server::new(tiny());
    let settings = Settings { endpoint: address, ..settings_of(&place, &server) };
    let error = Hub::new(settings).fetch(&name(), Need::All, &mut |_| {}).expect_err("nobody there").to_string();
    assert!(error.contains("the network fails"), "{error}");
}

fn settings_of(place: &Place, server: &Server) -> Settings {
    let (endpoint, cache) = (server.endpoint(), place.cache());
    Settings { endpoint, cache, token: None, offline: false, pause: Duration::from_millis(5) }
}

#[test]
fn the_hub_is_given_the_time_that_it_asks_for() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let busy = |seconds: u64| {
        move |_: &Request, answer: &mut Answer| {
            answer.refuse(429, "");
            answer.set("Retry-After", seconds);
        }
    };
    server.mischief(on(SECOND, 1, busy(1)));
    let (begun, mut notices) = (Instant::now(), vec![]);
    let folder = place.hub(&server).fetch(&name(), Need::All, &mut |event| {
        if let FetchEvent::Notice(notice) = event {
            notices.push(notice.to_owned());
        }
    });
    place.holds(&folder.expect("a model"), &repo);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(notices.len() == 1 && notices[0].contains("429") && notices[0].contains("1 s"), "{notices:?}");

    // Nobody waits for an hour before a screen that says nothing.
    let place = Place::new();
    server.mischief(on(SECOND, ALWAYS, busy(3600)));
    let error = place.fails(&server, SECOND);
    assert!(error.contains("429") && error.contains("3600 s"), "{error}");
}

#[test]
fn hostile_names_lead_nowhere() {
    type Lie = fn(&Request, &mut Answer);
    let stranger = |file: &str| {
        let index = index([file, SECOND]);
        tiny().with("model.safetensors.index.json", index).with(file, "hostile")
    };
    for file in [
        "../../../escaped.safetensors",
        "/tmp/escaped.safetensors",
        "..\\escaped.safetensors",
        "a/b.safetensors",
        ".safetensors",
        "escaped.sh",
    ] {
        let place = Place::new();
        let server = Server::new(stranger(file));
        let error = place.fails(&server, FIRST);
        assert!(error.contains(&format!("`{file}`")) && error.contains("not a safetensors file beside it"), "{error}");
        contained(&place);
    }
    // Names that are not asked for are not taken either.
    let place = Place::new();
    let hostile = tiny().with("../../escaped.json", "hostile").with("/tmp/escaped", "hostile");
    place.holds(&place.fetch(&Server::new(hostile)).expect("a model"), &tiny());
    contained(&place);

    let lies: [(Lie, &str); 8] = [
        (|_, answer| answer.set("X-Linked-Etag", "\"../../../escaped\""), "entity tag"),
        (|_, answer| answer.set("X-Linked-Etag", "\"\""), "entity tag"),
        (|_, answer| answer.set("X-Linked-Etag", "a".repeat(4000)), "entity tag"),
        (|_, answer| answer.set("X-Linked-Size", "-1"), "size"),
        (|_, answer| answer.set("Location", "file:///etc/passwd"), "file:///etc/passwd"),
        (|_, answer| answer.set("Location", "//elsewhere/x"), "not taken for safe"),
        (|request, answer| (answer.refuse(302, ""), answer.set("Location", &request.path)).1, "without an end"),
        (|_, answer| *answer = Answer { status: 200, ..Answer::default() }, "entity tag"),
    ];
    for (lie, words) in lies {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |request, answer| {
            if request.method == "HEAD" && request.path.contains(FIRST) {
                lie(request, answer);
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words), "{error}");
        contained(&place);
    }
    for (body, words) in [
        (r#"{"sha": "../../../escaped", "siblings": []}"#, "not a commit"),
        (r#"{"siblings": []}"#, "not a list of files"),
        ("<html>Log in to the hotel's network</html>", "is this address a hub's?"),
        ("", "not a list of files"),
    ] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |request, answer| {
            if request.path.starts_with("/api/models/") {
                *answer = Answer { status: 200, body: body.into(), ..Answer::default() };
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words), "{error}");
        contained(&place);
    }
}

/// Nothing lies outside the model's part of the cache.
fn contained(place: &Place) {
    for path in files(place.folder.path()) {
        let inside = path.starts_with(place.repo()) || path.starts_with(place.cache().join(".locks"));
        assert!(inside && !path.to_string_lossy().contains("escaped"), "{}", path.display());
    }
    assert!(!Path::new("/tmp/escaped.safetensors").exists() && !Path::new("/tmp/escaped").exists());
}

#[test]
fn models_that_cannot_be_read_are_told_before_anything_is_fetched() {
    let bare = |files: &[&str]| files.iter().fold(Repo::new(NAME, 'a'), |repo, file| repo.with(file, "{}"));
    for (repo, words) in [
        (bare(&["README.md"]), "no config.json"),
        (bare(&["config.json", "pytorch_model.bin", "x.gguf"]), "no weights as safetensors"),
        (tiny().with("model.safetensors.index.json", index([FIRST, "gone.safetensors"])), "`gone.safetensors`"),
        (tiny().with("model.safetensors.index.json", "{}"), "is not an index"),
        (tiny().with("model.safetensors.index.json", r#"{"weight_map": {}}"#), "names no shards"),
    ] {
        let place = Place::new();
        let server = Server::new(repo);
        let error = place.fails(&server, FIRST);
        assert!(error.contains(NAME) && error.contains(words), "{error}");
        assert!(server.log().iter().all(|request| !request.at_store));
    }
}

#[test]
fn room_is_looked_for_before_it_is_used() {
    let place = Place::new();
    let server = Server::new(tiny());
    server.mischief(|request, answer| {
        if request.method == "HEAD" && request.path.ends_with(SECOND) {
            answer.set("X-Linked-Size", 1_u64 << 60);
        }
    });
    let error = place.fails(&server, FIRST);
    assert!(error.contains("1152921504607546976 bytes") && error.contains("free"), "{error}");
    assert!(server.log().iter().all(|request| !request.at_store), "nothing large was begun");
}

#[test]
fn many_may_fetch_the_same_model() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(|request, answer| {
        if request.at_store {
            answer.wait = Duration::from_millis(5);
        }
    });
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| place.fetch(&server))).collect();
        for fetch in fetches {
            place.holds(&fetch.join().expect("no panic").expect("a model"), &repo);
        }
    });
    let log = server.log();
    for file in [FIRST, SECOND, "config.json", "tokenizer.json"] {
        let gets = log.iter().filter(|request| request.gets(file)).count();
        assert_eq!(gets, 1, "{file} was fetched {gets} times");
    }
}

#[test]
fn what_somebody_cut_is_fetched_again() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    place.fetch(&server).expect("a model");
    let blob = place.repo().join("blobs").join(etag(SECOND, &repo.files[SECOND]));
    // The link leads nowhere.
    fs::remove_file(&blob).expect("a blob");
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), None);
    assert!(!place.hub(&server).cache().list().expect("a list")[0].complete);
    place.holds(&place.fetch(&server).expect("a model"), &repo);
}

#[test]
fn removing_removes_one_model_and_all_of_it() {
    let place = Place::new();
    let server = Server::new(tiny());
    place.fetch(&server).expect("a model");
    let other = Repo { name: "weavers/other", ..tiny() };
    let other_server = Server::new(other);
    let other: ModelName = "weavers/other".parse().expect("a name");
    place.hub(&other_server).fetch(&other, Need::All, &mut |_| {}).expect("a model");
    let hub = place.hub(&server);
    assert_eq!(hub.cache().list().expect("a list").len(), 2);
    let weights = 1_000_000;
    let size = hub.cache().size(NAME).expect("a size");
    assert!((weights..weights + 10_000).contains(&size), "{size}");
    hub.cache().remove(NAME).expect("removed");
    let left = hub.cache().list().expect("a list");
    assert!(left.len() == 1 && left[0].repo == "weavers/other" && left[0].complete);
    assert!(files(&place.cache()).iter().all(|path| path.to_string_lossy().contains("weavers--other")));
    let error = hub.cache().remove(NAME).expect_err("gone").to_string();
    assert!(error.contains("not in the cache"), "{error}");
}

#[test]
fn strangers_in_the_cache_are_left_alone() {
    let (place, server) = (Place::new(), Server::new(tiny()));
    for folder in
        ["models--", "models--a", "models--..--x", "datasets--a--b", "models--a--b/snapshots/x", ".locks", "version"]
    {
        fs::create_dir_all(place.cache().join(folder)).expect("a folder");
    }
    fs::write(place.cache().join("models--a--file"), "").expect("a file");
    fs::create_dir_all(place.cache().join("models--a--b/refs")).expect("a folder");
    fs::write(place.cache().join("models--a--b/refs/main"), "no commit").expect("a file");
    assert_eq!(place.hub(&server).cache().list().expect("a list"), []);
}
