//! Networks that fail, hubs that lie, and hubs that say no.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

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
        assert!(place.incomplete().is_empty(), "nothing of it is kept");
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
        (bare(&["config.json", "pytorch_model.bin", "mmproj-F16.gguf"]), "no weights as safetensors"),
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
