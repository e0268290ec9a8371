//! GGUF models on the hub: the choice by a tag, models of several files, files in folders.

use super::cli::{failure, selvedge, stdout, text};
use super::*;

const Q8: &str = "tiny-Q8_0.gguf";
const LARGE: [&str; 2] = ["BF16/tiny-BF16-00001-of-00002.gguf", "BF16/tiny-BF16-00002-of-00002.gguf"];

/// A repository of GGUF models, as their makers lay them out.
fn zoo() -> Repo {
    Repo::new(NAME, 'a')
        .with("README.md", "# Tiny")
        .with("config.json", r#"{"model_type": "llama"}"#)
        .with("generation_config.json", r#"{"temperature": 0.5}"#)
        .with("tiny-Q4_K_M.gguf", bytes(1, 300_000))
        .with("tiny-UD-Q4_K_M.gguf", bytes(2, 310_000))
        .with("tiny-UD-Q4_K_XL.gguf", bytes(3, 320_000))
        .with(Q8, bytes(4, 600_000))
        .with(LARGE[0], bytes(5, 700_000))
        .with(LARGE[1], bytes(6, 400_000))
        .with("mmproj-F16.gguf", bytes(7, 1000))
        .with("imatrix.gguf", bytes(8, 1000))
}

const TAGS: &str = "BF16, Q4_K_M, Q8_0, UD-Q4_K_M, UD-Q4_K_XL";

fn tagged(tag: &str) -> ModelName {
    format!("{NAME}:{tag}").parse().expect("a name")
}

fn fetch(place: &Place, server: &Server, model: &ModelName) -> Result<PathBuf, HubError> {
    place.hub(server).fetch(model, Need::All, &mut |_| {})
}

/// Paths below the snapshot.
fn snapshot(place: &Place, repo: &Repo) -> Vec<String> {
    let folder = place.repo().join("snapshots").join(&repo.commit);
    let paths = files(&folder).into_iter().map(|path| path.strip_prefix(&folder).expect("within").to_owned());
    let mut paths: Vec<String> = paths.map(|path| path.to_string_lossy().into_owned()).collect();
    paths.sort();
    paths
}

#[test]
fn a_tag_stands_for_one_file() {
    let (place, repo) = (Place::new(), zoo());
    let server = Server::new(repo.clone());
    let folder = place.repo().join("snapshots").join(&repo.commit);
    for (tag, file) in [
        ("Q4_K_M", "tiny-Q4_K_M.gguf"),
        ("q4_k_m", "tiny-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "tiny-UD-Q4_K_M.gguf"),
        ("Q4_K_XL", "tiny-UD-Q4_K_XL.gguf"),
        (Q8, Q8),
    ] {
        let model = tagged(tag);
        let path = fetch(&place, &server, &model).expect(tag);
        assert_eq!(path, folder.join(file), "{tag}");
        assert_eq!(fs::read(&path).expect("a file"), repo.files[file]);
        for need in [Need::Config, Need::Weights, Need::All] {
            assert_eq!(place.hub(&server).cache().find(&model, need), Some(path.clone()), "{tag}");
        }
    }
    let wanted = ["generation_config.json", "tiny-Q4_K_M.gguf", Q8, "tiny-UD-Q4_K_M.gguf", "tiny-UD-Q4_K_XL.gguf"];
    assert_eq!(snapshot(&place, &repo), wanted, "what is needed and nothing else");
    server.log();
    // Again, and at its commit.
    fetch(&place, &server, &tagged("Q8_0")).expect("a model");
    assert_eq!(server.log().len(), 1, "the hub is asked for the commit, and that is all");
    let commit = tagged("Q8_0").at(&repo.commit).expect("a commit");
    assert_eq!(place.hub(&server).cache().find(&commit, Need::All), Some(folder.join(Q8)));
    // What is not there is not found, nor what would be another model on the hub.
    let cache = place.hub(&server).cache().clone();
    for tag in ["BF16", "Q4_K", "tiny", "tiny-Q6_K.gguf", LARGE[0]] {
        assert_eq!(cache.find(&tagged(tag), Need::Weights), None, "{tag}");
    }
    assert_eq!(cache.find(&name(), Need::Weights), None, "nobody said that without a tag it is one of these");
    let list = cache.list().expect("a list");
    assert_eq!(list[0].gguf.join(", "), "Q4_K_M, Q8_0, UD-Q4_K_M, UD-Q4_K_XL");
    assert!(list[0].complete && list[0].refs == ["main"] && list[0].bytes > 1_530_000, "{list:?}");
}

#[test]
fn another_models_file_is_not_taken_for_it() {
    let (place, server) = (Place::new(), Server::new(zoo()));
    fetch(&place, &server, &tagged("UD-Q4_K_M")).expect("a model");
    // Here it is the only one that holds the tag; on the hub there is one whose whole tag it is.
    assert_eq!(place.hub(&server).cache().find(&tagged("Q4_K_M"), Need::Weights), None);
    assert!(fetch(&place, &server, &tagged("Q4_K_M")).expect("a model").ends_with("tiny-Q4_K_M.gguf"));
}

#[test]
fn all_files_of_a_model_come_and_keep_their_folder() {
    let (place, repo) = (Place::new(), zoo());
    let server = Server::new(repo.clone());
    for tag in ["bf16", LARGE[1], "tiny-BF16-00001-of-00002.gguf"] {
        let path = fetch(&place, &server, &tagged(tag)).expect("a model");
        assert!(path.ends_with(LARGE[0]), "the first file stands for all: {}", path.display());
        assert_eq!(place.hub(&server).cache().find(&tagged(tag), Need::All), Some(path));
    }
    assert_eq!(snapshot(&place, &repo), LARGE);
    assert_eq!(server.log().iter().filter(|request| request.at_store).count(), 2, "each once");
    let folder = place.repo().join("snapshots").join(&repo.commit);
    for file in LARGE {
        assert_eq!(fs::read(folder.join(file)).expect("a file"), repo.files[file]);
        #[cfg(unix)]
        assert_eq!(
            fs::read_link(folder.join(file)).expect("a link"),
            Path::new("../../../blobs").join(etag(file, &repo.files[file]))
        );
    }
    let list = place.hub(&server).cache().list().expect("a list");
    assert_eq!((list[0].bytes, list[0].gguf.join(", ")), (1_100_000, "BF16".to_owned()));

    // One of its files is gone: no model any more, and only that one is fetched.
    fs::remove_file(place.repo().join("blobs").join(etag(LARGE[1], &repo.files[LARGE[1]]))).expect("a blob");
    assert_eq!(place.hub(&server).cache().find(&tagged("BF16"), Need::Config), None);
    assert!(!place.hub(&server).cache().list().expect("a list")[0].complete);
    server.log();
    fetch(&place, &server, &tagged("BF16")).expect("a model");
    let log = server.log();
    let stored: Vec<_> = log.iter().filter(|request| request.at_store).collect();
    assert!(stored.len() == 1 && stored[0].path.contains(LARGE[1]), "{stored:?}");

    // The hub has not all of them.
    let (place, mut repo) = (Place::new(), zoo());
    repo.files.remove(LARGE[0]);
    let error = fetch(&place, &Server::new(repo), &tagged("BF16")).expect_err("a part is missing").to_string();
    assert!(error.contains("is one of 2, and the hub does not have BF16/tiny-BF16-00001"), "{error}");
    assert_eq!(files(&place.cache()), [] as [PathBuf; 0]);
}

#[test]
fn without_a_tag_the_only_model_is_taken() {
    let only = || Repo::new(NAME, 'a').with(Q8, bytes(4, 600_000)).with("mmproj-F16.gguf", bytes(7, 1000));
    for need in [Need::Config, Need::Weights, Need::All] {
        let (place, server) = (Place::new(), Server::new(only()));
        let path = place.hub(&server).fetch(&name(), need, &mut |_| {}).expect("a model");
        assert!(path.ends_with(Q8));
        assert_eq!(place.hub(&server).cache().find(&name(), Need::All), Some(path));
        assert_eq!(snapshot(&place, &only()), [Q8]);
    }
    // A config is enough for whoever asks for no more.
    let (place, server) = (Place::new(), Server::new(only().with("config.json", "{}")));
    let folder = place.hub(&server).fetch(&name(), Need::Config, &mut |_| {}).expect("a config");
    assert_eq!(files(&folder), [folder.join("config.json")]);

    // Where there are safetensors, they are meant.
    let (place, server) = (Place::new(), Server::new(tiny()));
    fetch(&place, &server, &tagged("q4")).expect("a model");
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), None);
    let folder = fetch(&place, &server, &name()).expect("a model");
    assert!(folder.join(FIRST).is_file(), "{}", folder.display());
    assert_eq!(place.hub(&server).cache().find(&name(), Need::All), Some(folder));
    assert_eq!(place.hub(&server).cache().list().expect("a list")[0].gguf, ["q4"]);
}

#[test]
fn errors_name_the_tags_that_are_there() {
    let server = Server::new(zoo());
    let base = Repo { commit: "b".repeat(40), ..zoo() };
    server.publish("v1", base.with("chat/tiny-Q8_0.gguf", bytes(9, 1000)));
    for (model, words) in [
        (NAME, "there are 5 models in GGUF files; name one, as in weavers/tiny:BF16; there are"),
        ("weavers/tiny:Q6_K", "no GGUF file is of the tag `Q6_K`; name one, as in weavers/tiny:BF16; there are"),
        ("weavers/tiny:F16", "no GGUF file is of the tag `F16`"),
        ("weavers/tiny:mmproj-F16.gguf", "no GGUF file is of the tag `mmproj-F16.gguf`"),
        ("weavers/tiny@v1:Q6_K", "weavers/tiny@v1:BF16"),
        (
            "weavers/tiny@v1:Q8_0",
            "stands for 2 models; name one by its file, as in weavers/tiny@v1:chat/tiny-Q8_0.gguf",
        ),
    ] {
        let place = Place::new();
        server.log();
        let error = fetch(&place, &server, &model.parse().expect("a name")).expect_err(model).to_string();
        assert!(error.contains(words), "{error}");
        assert!(model.contains("v1") || error.contains(TAGS), "{error}");
        assert_eq!(server.log().len(), 1, "nothing is fetched");
        assert_eq!(files(&place.cache()), [] as [PathBuf; 0]);
    }
    let server = Server::new(Repo::new(NAME, 'a').with("config.json", "{}"));
    let error = fetch(&Place::new(), &server, &tagged("Q4_0")).expect_err("none").to_string();
    assert!(error.contains("there is no model in a GGUF file"), "{error}");
    let mut repo = tiny();
    repo.files.remove("tiny-q4.gguf");
    let error = fetch(&Place::new(), &Server::new(repo), &tagged("Q4_0")).expect_err("none").to_string();
    assert!(error.ends_with("but safetensors, which are weavers/tiny"), "{error}");
}

#[test]
fn a_cut_file_is_gone_on_with_and_checked() {
    let (place, repo) = (Place::new(), zoo());
    let server = Server::new(repo.clone());
    server.mischief(on(Q8, ALWAYS, |request, answer| answer.cut = Some(250_000 - request.start().min(250_000))));
    let model = tagged("Q8_0");
    let error = fetch(&place, &server, &model).expect_err("cut").to_string();
    assert!(error.contains("250000 of 600000") && error.contains("kept"), "{error}");
    place.lacks(Q8);
    let cache = place.hub(&server).cache().clone();
    assert_eq!(cache.find(&model, Need::Config), None);
    let list = cache.list().expect("a list");
    assert!(list.len() == 1 && !list[0].complete && list[0].gguf.is_empty(), "{list:?}");
    server.mischief(|_, _| {});
    server.log();
    let mut start = None;
    let fetched = place.hub(&server).fetch(&model, Need::Weights, &mut |event| {
        if let FetchEvent::Start { files, total, done } = event {
            start = Some((files, total, done));
        }
    });
    assert_eq!(fs::read(fetched.expect("a model")).expect("a file"), repo.files[Q8]);
    assert_eq!(start, Some((1, 600_000, 250_000)));
    let starts: Vec<_> = server.log().iter().filter(|request| request.gets(Q8)).map(Request::start).collect();
    assert_eq!(starts, [250_000]);

    // Other bytes than those that were promised.
    let place = Place::new();
    server.mischief(on(Q8, ALWAYS, |_, answer| answer.body[7] ^= 1));
    let error = fetch(&place, &server, &model).expect_err("wrong").to_string();
    assert!(error.contains(&format!("{Q8}: its hash is")), "{error}");
    place.lacks(Q8);

    // More than a text may have is no fault of weights, but the disk has an end.
    server.mischief(|request, answer| {
        if request.method == "HEAD" && request.path.ends_with(Q8) {
            answer.set("X-Linked-Size", 1_u64 << 60);
        }
    });
    let error = fetch(&place, &server, &model).expect_err("too large").to_string();
    assert!(error.contains("bytes are still to come") && error.contains("free"), "{error}");
}

#[test]
fn hostile_files_are_no_models() {
    let hostile = [
        "../../escaped-Q4_0.gguf",
        "/tmp/escaped-Q4_0.gguf",
        "a//escaped-Q4_0.gguf",
        "..\\escaped-Q4_0.gguf",
        "a\\escaped-Q4_0.gguf",
        ".escaped-Q4_0.gguf",
        "x/.y/escaped-Q4_0.gguf",
        "escaped\u{1b}[2J-Q4_0.gguf",
        "escaped\n-Q4_0.gguf",
        "1/2/3/4/escaped-Q4_0.gguf",
    ];
    let repo = hostile.iter().fold(Repo::new(NAME, 'a').with(Q8, "sound"), |repo, file| repo.with(file, "hostile"));
    let (place, server) = (Place::new(), Server::new(repo));
    let error = fetch(&place, &server, &tagged("Q4_0")).expect_err("none of them").to_string();
    assert!(error.contains("there are Q8_0") && !error.contains("escaped"), "{error}");
    let path = fetch(&place, &server, &name()).expect("the only one that is a model");
    assert!(path.ends_with(Q8));
    assert!(files(place.folder.path()).iter().all(|path| !path.to_string_lossy().contains("escaped")));
    // A count of files that nobody has.
    let server = Server::new(Repo::new(NAME, 'a').with("x-00001-of-99999.gguf", "hostile"));
    let error = fetch(&place, &server, &name()).expect_err("parts are missing").to_string();
    assert!(error.contains("does not have x-00002-of-99999.gguf"), "{error}");
}

#[cfg(unix)]
#[test]
fn planted_folders_and_notes_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let (place, repo) = (Place::new(), zoo());
    let server = Server::new(repo.clone());
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("a folder");
    let snapshot = place.repo().join("snapshots").join(&repo.commit);
    fs::create_dir_all(&snapshot).expect("a folder");
    symlink(&elsewhere, snapshot.join("BF16")).expect("a link");
    let error = fetch(&place, &server, &tagged("BF16")).expect_err("planted").to_string();
    assert!(error.contains("BF16") && error.contains("not written through"), "{error}");
    assert_eq!(files(&elsewhere), [] as [PathBuf; 0]);
    // Files that are not of the cache are not found through it.
    for file in LARGE {
        fs::write(place.folder.path().join(file.replace("BF16/", "elsewhere/")), "planted").expect("a file");
    }
    fs::create_dir_all(place.repo().join("refs")).expect("a folder");
    fs::write(place.repo().join("refs/main"), &repo.commit).expect("a ref");
    let cache = place.hub(&server).cache().clone();
    assert_eq!(cache.find(&tagged("BF16"), Need::Weights), None);
    let notes = place.repo().join(".selvedge/gguf").join(&repo.commit);
    fs::create_dir_all(&notes).expect("a folder");
    fs::write(place.folder.path().join("planted.gguf"), "planted").expect("a file");
    for note in [LARGE[0], "../../../../planted.gguf", "/etc/passwd", "x.gguf\n", "", "tiny-Q8_0.gguf"] {
        fs::write(notes.join("tag.q2_k"), note).expect("a note");
        assert_eq!(cache.find(&tagged("Q2_K"), Need::Config), None, "{note}");
    }
    assert!(!cache.list().expect("a list")[0].complete);
}

#[cfg(unix)]
#[test]
fn what_python_has_fetched_is_found_by_its_tag() {
    use std::os::unix::fs::symlink;
    let (place, repo, server) = (Place::new(), zoo(), Server::new(zoo()));
    let snapshot = place.repo().join("snapshots").join(&repo.commit);
    for path in [place.repo().join("blobs"), place.repo().join("refs"), snapshot.join("BF16")] {
        fs::create_dir_all(path).expect("a folder");
    }
    fs::write(place.repo().join("refs/main"), &repo.commit).expect("a file");
    for file in [Q8, "tiny-UD-Q4_K_M.gguf", LARGE[0], LARGE[1]] {
        let etag = etag(file, &repo.files[file]);
        fs::write(place.repo().join("blobs").join(&etag), &repo.files[file]).expect("a blob");
        let up = if file.contains('/') { "../../../blobs" } else { "../../blobs" };
        symlink(format!("{up}/{etag}"), snapshot.join(file)).expect("a link");
    }
    let cache = place.hub(&server).cache().clone();
    for (tag, file) in
        [("q8_0", Some(Q8)), ("BF16", Some(LARGE[0])), ("UD-Q4_K_M", Some("tiny-UD-Q4_K_M.gguf")), ("Q4_K_M", None)]
    {
        assert_eq!(cache.find(&tagged(tag), Need::All), file.map(|file| snapshot.join(file)), "{tag}");
    }
    assert!(server.log().is_empty());
}

#[test]
fn commands_take_models_by_their_tags() {
    let golden = repository().join("tests/goldens/gguf");
    let read = |file: &str| fs::read(golden.join(file)).expect("a golden");
    let halves = ["split-00001-of-00002.gguf", "split-00002-of-00002.gguf"];
    let repo = Repo::new(NAME, 'a')
        .with("tiny-F32.gguf", read("llama/model.gguf"))
        .with("F16/tiny-F16-00001-of-00002.gguf", read(&format!("types/{}", halves[0])))
        .with("F16/tiny-F16-00002-of-00002.gguf", read(&format!("types/{}", halves[1])));
    let (place, server) = (Place::new(), Server::new(repo.clone()));
    let snapshot = place.repo().join("snapshots").join(&repo.commit);
    let output = selvedge(&place, &server, &["fetch", "weavers/tiny:f16"]);
    let printed = stdout(&output);
    assert_eq!(Path::new(printed.trim_end()), snapshot.join("F16/tiny-F16-00001-of-00002.gguf"));
    assert!(text(&output.stderr).contains("fetching weavers/tiny:f16 from the hub"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("2 files"), "{}", text(&output.stderr));

    let logits = |model: &str, more: &[&str]| {
        let out = place.folder.path().join("logits.safetensors");
        let out = out.to_str().expect("UTF-8");
        let arguments = [&["logits", model, "--tokens", "1,2,3", "--device", "cpu", "--out", out], more].concat();
        stdout(&selvedge(&place, &server, &arguments));
        fs::read(out).expect("logits")
    };
    let local = |file: &str| logits(golden.join(file).to_str().expect("UTF-8"), &[]);
    let (whole, split) = (local("llama/model.gguf"), local(&format!("types/{}", halves[0])));
    assert!(whole == logits("weavers/tiny:F32", &[]), "fetched on the way");
    server.log();
    assert!(whole == logits("weavers/tiny:F32", &["--offline"]));
    assert!(split == logits("weavers/tiny:F16", &[]) && split == logits(printed.trim_end(), &[]));
    assert!(server.log().is_empty());

    let inspect = stdout(&selvedge(&place, &server, &["inspect", "weavers/tiny:F32", "--json"]));
    let inspect: serde_json::Value = serde_json::from_str(&inspect).expect("JSON");
    assert!(inspect["gguf"]["F32"].as_u64().is_some_and(|count| count > 0), "{inspect}");
    let error = failure(&selvedge(&place, &server, &["inspect", "weavers/tiny:Q8_0"]));
    assert!(error.contains("there are F16, F32"), "{error}");
    let error = failure(&selvedge(&place, &server, &["fetch", "weavers/tiny:Q8_0", "--offline"]));
    assert!(error.contains("selvedge fetch weavers/tiny:Q8_0"), "{error}");

    let list = stdout(&selvedge(&place, &server, &["cache", "list"]));
    assert!(list.contains("weavers/tiny:F16 :F32") && !list.contains("incomplete"), "{list}");
    let json = stdout(&selvedge(&place, &server, &["cache", "list", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["gguf"], serde_json::json!(["F16", "F32"]));
    let remove = |model: &str| selvedge(&place, &server, &["cache", "remove", model, "--yes"]);
    let refused = remove("weavers/tiny:F32");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("`selvedge cache remove weavers/tiny`"), "{}", text(&refused.stderr));
    stdout(&remove(NAME));
    assert_eq!(files(&place.cache()), [] as [PathBuf; 0]);
}
