//! Servers that stall, promise too much, lead elsewhere or answer with words that should not be printed.

use super::*;

/// Limits that a test can wait for.
fn short() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(700),
        window: Duration::from_millis(300),
        least: 10_000,
        body: Duration::from_secs(2),
    }
}

/// Fetches with short limits; what was said on the way, too.
fn fetch(place: &Place, settings: Settings) -> (Result<PathBuf, HubError>, String) {
    let mut said = String::new();
    let folder = Hub::with_limits(settings, short()).fetch(&name(), Need::All, &mut |event| {
        if let FetchEvent::Notice(notice) = event {
            said.push_str(notice);
            said.push('\n');
        }
    });
    if let Err(error) = &folder {
        said.push_str(&error.to_string());
        place.lacks(FIRST);
    }
    (folder, said)
}

#[test]
fn a_trickle_is_no_download() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let trickle = |_: &Request, answer: &mut Answer| (answer.block, answer.wait) = (1, Duration::from_millis(20));
    server.mischief(on(FIRST, ALWAYS, trickle));
    let (folder, said) = fetch(&place, place.settings(&server));
    assert!(folder.is_err() && said.contains(FIRST) && said.contains("all but stands still"), "{said}");
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert!(starts.len() == 5 && starts.is_sorted() && starts[4] > 0, "gone on with, and not for ever: {starts:?}");

    // A connection that is slow once is replaced, and what it brought is kept.
    let place = Place::new();
    server.mischief(on(FIRST, 1, trickle));
    place.holds(&fetch(&place, place.settings(&server)).0.expect("a model"), &repo);
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert!(starts.len() == 2 && (1..700).contains(&starts[1]), "{starts:?}");

    // One that is merely slow is not.
    let place = Place::new();
    server.mischief(on(SECOND, ALWAYS, |_, answer| answer.wait = Duration::from_millis(60)));
    place.holds(&fetch(&place, place.settings(&server)).0.expect("a model"), &repo);
    assert_eq!(server.log().iter().filter(|request| request.gets(SECOND)).count(), 1);
}

#[test]
fn silence_is_no_download() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    server.mischief(on(FIRST, 2, |_, answer| (answer.block, answer.wait) = (5000, Duration::from_secs(60))));
    place.holds(&fetch(&place, place.settings(&server)).0.expect("a model"), &repo);
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(FIRST)).map(Request::start).collect();
    assert_eq!(starts, [0, 5000, 10_000]);
}

#[test]
fn headers_and_trailers_have_an_end() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    // (which request, what it does, what is said)
    type Case = (fn(&Request) -> bool, fn(&mut Answer), &'static str);
    let slow_head = |answer: &mut Answer| answer.head_wait = Duration::from_millis(50);
    let slow_body = |answer: &mut Answer| (answer.block, answer.wait) = (1, Duration::from_millis(50));
    let trailers = |answer: &mut Answer| {
        answer.body.truncate(20_000);
        answer.trailers = true;
    };
    let cases: [Case; 5] = [
        (|request| request.path.starts_with("/api/models/"), slow_head, "no whole answer comes within 0.7 s"),
        (|request| request.path.starts_with("/api/models/"), slow_body, ""),
        (|request| request.path.starts_with("/api/models/"), trailers, ""),
        (|request| request.method == "HEAD" && request.path.ends_with(FIRST), slow_head, "within 0.7 s"),
        (|request| request.gets(FIRST), slow_head, "within 0.7 s"),
    ];
    for (number, (which, what, words)) in cases.into_iter().enumerate() {
        let place = Place::new();
        server.mischief(move |request, answer| {
            if which(request) {
                what(answer);
            }
        });
        server.log();
        let (folder, said) = fetch(&place, place.settings(&server));
        assert!(folder.is_err() && said.contains(words), "{number}: {said}");
        assert_eq!(server.log().iter().filter(|request| which(request)).count(), 5, "{number}");
    }
    server.mischief(on(FIRST, 1, move |_, answer| trailers(answer)));
    place.holds(&fetch(&place, place.settings(&server)).0.expect("a model"), &repo);
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    let third = "model-00003-of-00003.safetensors";
    let shards = serde_json::json!({ "weight_map": { "a": FIRST, "b": SECOND, "c": third } }).to_string();
    let repo = tiny().with("model.safetensors.index.json", shards).with(third, bytes(11, 1000));
    let most = i64::MAX as u64;
    for (sizes, words) in [
        ([1 << 63, 1 << 63, 0], "9223372036854775808 bytes, and no file"),
        ([u64::MAX, 1, 1], "18446744073709551615 bytes, and no file"),
        ([most, most, most], "more bytes than can be counted"),
        ([most, most, 2], "more bytes than can be counted"),
        ([most, most, 0], "18446744073709551614 bytes are still to come"),
        ([1 << 62, 5, 5], "free"),
    ] {
        let place = Place::new();
        let server = Server::new(repo.clone());
        server.mischief(move |request, answer| {
            let file = [FIRST, SECOND, third].into_iter().position(|file| request.path.ends_with(file));
            if let Some(file) = file.filter(|_| request.method == "HEAD") {
                answer.set("X-Linked-Size", sizes[file]);
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words), "{sizes:?}: {error}");
        assert!(server.log().iter().all(|request| !request.at_store), "nothing large was begun");
        assert!(files(&place.repo()).iter().all(|path| !path.to_string_lossy().contains("incomplete")));
    }
    // A text is not made to be gigabytes long.
    let place = Place::new();
    let server = Server::new(repo);
    server.mischief(|request, answer| {
        if request.method == "HEAD" && request.path.ends_with("tokenizer.json") {
            answer.set("Content-Length", 1_u64 << 33);
        }
    });
    let error = place.fails(&server, "tokenizer.json");
    assert!(error.contains("tokenizer.json has 8589934592 bytes"), "{error}");
}

#[test]
fn a_password_in_the_endpoint_is_used_and_not_printed() {
    let repo = tiny();
    let server = Server::new(repo.clone());
    let place = Place::new();
    let with_user =
        |place: &Place| Settings { endpoint: server.endpoint().replace("//", "//me:hush@"), ..place.settings(&server) };
    place.holds(&fetch(&place, with_user(&place)).0.expect("a model"), &repo);
    for request in server.log() {
        let sent = request.headers.get("authorization").map(String::as_str);
        assert_eq!(sent, (!request.at_store).then_some("Basic bWU6aHVzaA=="), "{request:?}");
    }

    type Lie = fn(&Request, &mut Answer);
    let lies: [(Lie, &str); 9] = [
        (|_, answer| answer.refuse(401, ""), "HF_ENDPOINT"),
        (|_, answer| answer.refuse(403, ""), "HF_ENDPOINT"),
        (|_, answer| answer.refuse(403, "GatedRepo"), "accept its terms"),
        (|_, answer| answer.refuse(404, ""), "spelt right"),
        (|_, answer| answer.refuse(500, ""), "500"),
        (|_, answer| answer.refuse(302, ""), "leads nowhere"),
        (|_, answer| answer.body = b"no list".to_vec(), "not a list"),
        (|_, answer| answer.cut = Some(3), "the network fails"),
        (|_, answer| answer.head_wait = Duration::from_millis(50), "no whole answer"),
    ];
    for (lie, words) in lies {
        let place = Place::new();
        server.mischief(lie);
        let (folder, said) = fetch(&place, with_user(&place));
        assert!(folder.is_err() && said.contains(words) && !said.contains("hush"), "{words}: {said}");
    }
    // Nobody there, and addresses that are none.
    for endpoint in [
        "http://me:zqxj@127.0.0.1:1",
        "http://me:zq/xj@127.0.0.1:1",
        "http://me:zq?xj@127.0.0.1:1",
        "http://me:zq#xj@127.0.0.1:1",
        "http://me:zq xj@127.0.0.1:1",
        "http://me:zqxj@",
        "me:zqxj@127.0.0.1:1",
        "ftp://me:zqxj@127.0.0.1:1",
    ] {
        let place = Place::new();
        let (folder, said) = fetch(&place, Settings { endpoint: endpoint.into(), ..place.settings(&server) });
        let secrets = ["me:h", "//me", "hush", "hu/", "hu?", "hu#", "hu ", "hu%", "sh@"];
        assert!(folder.is_err() && !secrets.iter().any(|secret| said.contains(secret)), "{endpoint}: {said}");
    }
}

#[test]
fn signatures_of_redirects_are_not_printed() {
    let server = Server::new(tiny());
    for to in [
        "ftp://elsewhere/x?Signature=hush",
        "//elsewhere/x?Signature=hush",
        "elsewhere/x?Signature=hush",
        "//me:hush@elsewhere/x",
        "http://me:hush@127.0.0.1:1/x?Signature=hush",
        "http://127.0.0.1:1/x?Signature=hush#hush",
        "http://127.0.0.1:1?Signature=hush@x",
        "http://[hush/x?Signature=hush",
        "/x?Signature=hush",
    ] {
        let place = Place::new();
        server.mischief(move |request, answer| {
            if request.method == "GET" && request.path.ends_with(FIRST) && !request.at_store {
                answer.set("Location", to);
            }
        });
        let (folder, said) = fetch(&place, place.settings(&server));
        assert!(folder.is_err() && !said.is_empty(), "{to}");
        assert!(!said.contains("hush@") && !said.contains("=hush"), "{to}: {said}");
        // What is no address at all names no host either.
        assert!(!said.contains("hush") || to.contains("[hush"), "{to}: {said}");
    }
}

#[test]
fn a_refusal_by_another_host_is_not_the_tokens_fault() {
    for (status, words) in [
        (403, "run out"),
        (401, "run out"),
        (404, "does not have the file"),
        (410, "does not have the file"),
        (418, "not expected"),
        (407, "the proxy answers 407"),
    ] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |request, answer| {
            if request.at_store {
                // It has no say in this.
                answer.refuse(status, "GatedRepo");
            }
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains(&status.to_string()) && error.contains(words) && error.contains(FIRST), "{error}");
        for wrong in ["this token may not", "HF_TOKEN", "gated", "the hub answers"] {
            assert!(!error.contains(wrong), "{error}");
        }
        assert!(status == 407 || error.contains("127.0.0.1:"), "it says who: {error}");
    }
}

#[test]
fn waits_that_the_hub_asks_for_are_bounded() {
    for after in ["18446744073709551615", "301", "99999999999999999999999"] {
        let place = Place::new();
        let server = Server::new(tiny());
        server.mischief(move |_, answer| {
            answer.refuse(429, "");
            answer.set("Retry-After", after);
        });
        let error = place.fails(&server, FIRST);
        assert!(error.contains("429"), "{error}");
    }
}

#[test]
fn names_that_cannot_be_files_are_refused_and_shown_harmlessly() {
    let long = format!("{}.safetensors", "x".repeat(300));
    let many: serde_json::Map<_, _> =
        (0..5000).map(|n| (format!("t{n}"), format!("model-{n}.safetensors").into())).collect();
    let many = serde_json::json!({ "weight_map": many }).to_string();
    for (text, words) in [
        (index(["a\u{1b}[2Jb.safetensors", SECOND]), "a\\u{1b}[2Jb.safetensors"),
        (index(["a\u{202e}b.safetensors", SECOND]), "a\\u{202e}b.safetensors"),
        (index(["a\nb.safetensors", SECOND]), "a\\u{a}b.safetensors"),
        (index(["a\0.safetensors", SECOND]), "a\\u{0}.safetensors"),
        (index([&long, SECOND]), "not a safetensors file beside it"),
        (index(["C:\\a.safetensors", SECOND]), "not a safetensors file beside it"),
        (many, "names 5000 shards"),
    ] {
        let place = Place::new();
        let server = Server::new(tiny().with("model.safetensors.index.json", text));
        let error = place.fails(&server, FIRST);
        assert!(error.contains(words) && error.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{error:?}");
    }
    // Words of a server's.
    let place = Place::new();
    let server = Server::new(tiny());
    server.mischief(|request, answer| {
        if request.path.starts_with("/api/models/") {
            answer.body = r#"{"sha": "\u001b]0;owned\u0007", "siblings": []}"#.into();
        }
    });
    let error = place.fails(&server, FIRST);
    assert!(error.contains("\\u{1b}]0;owned") && !error.contains('\u{1b}'), "{error:?}");
    // An answer without an end.
    server.mischief(|request, answer| {
        if request.path.starts_with("/api/models/") {
            answer.body = vec![b' '; (1 << 25) + 1];
        }
    });
    let error = place.fails(&server, FIRST);
    assert!(error.contains("larger than request limit"), "{error}");
}
