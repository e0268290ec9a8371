//! A cache to which others write: links, pipes and wrong bytes where the cache's own files should be.

#![cfg(unix)]

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use super::*;

const VICTIM: &str = "what nobody may change";

fn blob(place: &Place, repo: &Repo, file: &str) -> PathBuf {
    place.repo().join("blobs").join(etag(file, &repo.files[file]))
}

/// Puts a link at a path of the cache, with the folders above it.
fn plant(path: &Path, target: &Path) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    symlink(target, path).expect("a link");
}

#[test]
fn nothing_is_written_through_links() {
    let repo = tiny();
    let tag = etag(FIRST, &repo.files[FIRST]);
    let commit = &repo.commit;
    let model = "models--weavers--tiny";
    for (planted, to_folder, may_succeed) in [
        (model.to_owned(), true, false),
        (format!("{model}/blobs"), true, false),
        (format!("{model}/snapshots"), true, false),
        (format!("{model}/snapshots/{commit}"), true, false),
        (format!("{model}/refs"), true, false),
        (format!("{model}/.selvedge"), true, true),
        (format!("{model}/.selvedge/verified"), true, true),
        (".locks".to_owned(), true, false),
        (format!(".locks/{model}"), true, false),
        (format!(".locks/{model}/{tag}.lock"), false, false),
        (format!("{model}/blobs/{tag}.incomplete"), false, false),
        (format!("{model}/blobs/{tag}"), false, true),
        (format!("{model}/refs/main"), false, true),
        (format!("{model}/snapshots/{commit}/config.json"), false, true),
        (format!("{model}/snapshots/{commit}/{FIRST}"), false, true),
        (format!("{model}/.selvedge/verified/{tag}"), false, true),
    ] {
        for dangling in [false, true] {
            let place = Place::new();
            let server = Server::new(repo.clone());
            let outside = place.folder.path().join("outside");
            fs::create_dir(&outside).expect("a folder");
            let victim = outside.join("victim");
            let target = if to_folder { outside.join("folder") } else { victim.clone() };
            if !dangling {
                fs::write(&victim, VICTIM).expect("a file");
                fs::create_dir(outside.join("folder")).expect("a folder");
            }
            plant(&place.cache().join(&planted), &target);
            let fetched = place.fetch(&server);
            match &fetched {
                Ok(folder) => {
                    assert!(may_succeed, "{planted}");
                    for (file, bytes) in repo.files.iter().filter(|(file, _)| folder.join(file).exists()) {
                        assert_eq!(&fs::read(folder.join(file)).expect("a file"), bytes, "{planted}: {file}");
                    }
                    assert_eq!(place.hub(&server).cache().find(&name(), Need::All).as_ref(), Some(folder));
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(!may_succeed && error.contains(&planted), "{planted}: {error}");
                    assert!(error.contains("remove it"), "{planted}: {error}");
                }
            }
            let left = files(&outside);
            if dangling {
                assert!(left.is_empty(), "{planted}: {left:?}");
            } else {
                assert_eq!(left, std::slice::from_ref(&victim), "{planted}");
                assert_eq!(fs::read_to_string(&victim).expect("a file"), VICTIM, "{planted}");
            }
        }
    }
}

#[test]
fn what_is_read_lies_in_the_models_part_of_the_cache() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let folder = place.fetch(&server).expect("a model");
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    for file in ["config.json", FIRST, "model.safetensors.index.json"] {
        let link = folder.join(file);
        let other = elsewhere.join(file);
        fs::write(&other, &repo.files[file]).expect("a file");
        fs::remove_file(&link).expect("a link");
        symlink(&other, &link).expect("a link");
        assert_eq!(place.hub(&server).cache().find(&name(), Need::Weights), None, "{file}");
        assert!(!place.hub(&server).cache().list().expect("a list")[0].complete, "{file}");
        place.holds(&place.fetch(&server).expect("a model"), &repo);
        assert_eq!(fs::read(&other).expect("a file"), repo.files[file]);
    }
    // Branches are short files, and no devices, and their folders have no loops.
    let refs = place.repo().join("refs");
    fs::remove_file(refs.join("main")).expect("a file");
    symlink("/dev/zero", refs.join("main")).expect("a link");
    for loop_ in ["a", "b", "c"] {
        symlink(".", refs.join(loop_)).expect("a link");
    }
    fs::write(refs.join("long"), vec![b'a'; 1 << 20]).expect("a file");
    assert_eq!(place.hub(&server).cache().find(&name(), Need::Config), None);
    assert_eq!(place.hub(&server).cache().list().expect("a list")[0].refs, Vec::<String>::new());
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    assert_eq!(fs::read_to_string(refs.join("main")).expect("a file"), repo.commit);
}

#[test]
fn pipes_and_files_with_other_names_are_not_written_to() {
    let repo = tiny();
    let tag = etag(FIRST, &repo.files[FIRST]);
    for planted in
        [format!(".locks/models--weavers--tiny/{tag}.lock"), format!("models--weavers--tiny/blobs/{tag}.incomplete")]
    {
        let place = Place::new();
        let server = Server::new(repo.clone());
        let path = place.cache().join(&planted);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        let error = place.fetch(&server).expect_err("a pipe").to_string();
        assert!(error.contains(&planted) && error.contains("remove it"), "{error}");
    }
    let place = Place::new();
    let server = Server::new(repo.clone());
    let victim = place.folder.path().join("victim");
    fs::write(&victim, VICTIM).expect("a file");
    let part = blob(&place, &repo, FIRST).with_added_extension("incomplete");
    fs::create_dir_all(part.parent().expect("a folder")).expect("folders");
    fs::hard_link(&victim, &part).expect("a link");
    let error = place.fetch(&server).expect_err("another's file").to_string();
    assert!(error.contains(".incomplete") && error.contains("remove it"), "{error}");
    assert_eq!(fs::read_to_string(&victim).expect("a file"), VICTIM);
    fs::remove_file(&part).expect("a link");
    place.holds(&place.fetch(&server).expect("a model"), &repo);
}

#[test]
fn removing_a_link_leaves_what_it_leads_to() {
    let place = Place::new();
    let server = Server::new(tiny());
    let outside = place.folder.path().join("outside");
    fs::create_dir_all(outside.join("blobs")).expect("a folder");
    fs::write(outside.join("blobs/x"), VICTIM).expect("a file");
    plant(&place.repo(), &outside);
    plant(&place.cache().join(".locks"), &outside);
    place.hub(&server).cache().remove(NAME).expect("removed");
    assert!(fs::symlink_metadata(place.repo()).is_err());
    assert_eq!(files(&outside), [outside.join("blobs/x")]);
}

#[test]
fn other_bytes_of_the_same_size_are_not_the_file() {
    let repo = tiny();
    for file in [FIRST, "config.json", "tokenizer.json"] {
        // There before anything is fetched, under the right name.
        let place = Place::new();
        let server = Server::new(repo.clone());
        let blob = blob(&place, &repo, file);
        fs::create_dir_all(blob.parent().expect("a folder")).expect("a folder");
        fs::write(&blob, bytes(99, repo.files[file].len())).expect("a blob");
        place.holds(&place.fetch(&server).expect("a model"), &repo);
        assert_eq!(server.log().iter().filter(|request| request.gets(file)).count(), 1, "{file}");

        // Changed later, by somebody who sets the times back.
        let times = fs::metadata(&blob).expect("a blob");
        let times = fs::FileTimes::new().set_modified(times.modified().expect("a time"));
        fs::write(&blob, bytes(98, repo.files[file].len())).expect("a blob");
        fs::File::options().write(true).open(&blob).expect("a blob").set_times(times).expect("times");
        place.holds(&place.fetch(&server).expect("a model"), &repo);
        let log = server.log();
        assert_eq!(
            log.iter().filter(|request| request.method == "GET" && !request.path.contains("/api/models")).count(),
            2,
            "{log:?}"
        );
    }
}

#[test]
fn what_another_program_left_is_read_once() {
    let (place, repo) = (Place::new(), tiny());
    let server = Server::new(repo.clone());
    let blob = blob(&place, &repo, FIRST);
    fs::create_dir_all(blob.parent().expect("a folder")).expect("a folder");
    fs::write(&blob, &repo.files[FIRST]).expect("a blob");
    let note = place.repo().join(".selvedge/verified").join(etag(FIRST, &repo.files[FIRST]));
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    assert!(server.log().iter().all(|request| !request.gets(FIRST)), "it is there already");
    // It is not read again: the note is the one of the first time.
    let first = fs::metadata(&note).expect("a note").ino();
    place.holds(&place.fetch(&server).expect("a model"), &repo);
    assert_eq!(fs::metadata(&note).expect("a note").ino(), first);
    // And what it says must fit.
    fs::write(&note, "700000 is what it should be").expect("a note");
    fs::write(&blob, bytes(97, 700_000)).expect("a blob");
    place.holds(&place.fetch(&server).expect("a model"), &repo);
}
