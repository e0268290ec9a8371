//! The hub, against a server that is one in all that matters and misbehaves when it is asked to.

mod cli;
mod failures;
mod gguf;
mod hostile;
mod planted;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge::hub::{FetchEvent, Hub, HubError, Limits, ModelName, Need, Settings};
use server::{Answer, Repo, Request, Server, etag};

const NAME: &str = "weavers/tiny";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

/// The folder of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder above the package's")
}

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
        .with("1_Pooling/config.json", r#"{"pooling_mode_lasttoken": true}"#)
        .with("2_Dense/config.json", "{}")
        .with("modules.json", "[]")
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

    fn settings(&self, server: &Server) -> Settings {
        Settings {
            endpoint: server.endpoint(),
            cache: self.cache(),
            token: Some("hf_secret".into()),
            offline: false,
            pause: Duration::from_millis(5),
        }
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub::new(self.settings(server))
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
            let file = path.strip_prefix(folder).expect("a file of it").to_string_lossy().into_owned();
            assert_eq!(fs::read(&path).expect("a file"), repo.files[&file], "{file}");
            found.push(file);
        }
        found.sort();
        let wanted = [
            "1_Pooling/config.json",
            "config.json",
            "generation_config.json",
            FIRST,
            SECOND,
            "model.safetensors.index.json",
            "modules.json",
            "tokenizer.json",
        ];
        assert_eq!(found, wanted, "what is needed and nothing else");
        self.lacks("nothing is missing");
        // What has come of a file of another commit may be of use to whoever asks for that one.
        let tags: Vec<_> = repo.files.iter().map(|(file, bytes)| etag(file, bytes)).collect();
        let mut left = self.incomplete();
        left.retain(|path| tags.iter().any(|tag| path.file_stem().is_some_and(|stem| stem == tag.as_str())));
        assert!(left.is_empty(), "{left:?}");
    }

    /// Files of which only a part has come.
    fn incomplete(&self) -> Vec<PathBuf> {
        let mut files = files(&self.cache());
        files.retain(|path| path.extension().is_some_and(|extension| extension == "incomplete"));
        files
    }
}

fn name() -> ModelName {
    NAME.parse().expect("a name")
}

/// All files below a folder, and links, which are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
    paths.flat_map(|path| if is_folder(&path) { files(&path) } else { vec![path] }).collect()
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
            let folder = fetch.join().expect("no panic").expect("a model");
            // Whole for whoever has it, while others still link their files beside it.
            for file in [FIRST, SECOND, "config.json", "tokenizer.json"] {
                assert_eq!(fs::read(folder.join(file)).expect("a file"), repo.files[file], "{file}");
            }
        }
    });
    place.holds(&place.repo().join("snapshots").join(&repo.commit), &repo);
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
