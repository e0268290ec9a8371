//! Output files: whole or not there, and only ever in place of a regular file.
//!
//! Bytes go into a temporary file of a random name in the same folder, which is created anew (so that no link planted
//! under a name that can be guessed is followed) and renamed once it is complete and on the disk. A symbolic link, a
//! device, a FIFO, a socket or a folder under the final name is refused, and so is a file that the command reads.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use selvedge::checkpoint::COMPANIONS;
use selvedge::checkpoint::gguf::files_of;
use tempfile::{Builder, NamedTempFile};

const PREFIX: &str = ".selvedge-";
const SUFFIX: &str = ".part";
/// Random characters of a temporary name.
const RANDOM: usize = 8;

/// A file under a temporary name. It gets its own name once it is whole; dropped before that, it is removed.
pub(crate) struct PartFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    _unfinished: Unfinished,
}

impl PartFile {
    /// Begins a file that shall be called `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::with_prefix(path, PREFIX)
    }

    /// The same with a temporary name by which [`is_part`] knows it again.
    pub(crate) fn with_prefix(path: &Path, prefix: &str) -> io::Result<Self> {
        check_target(path)?;
        let mut builder = Builder::new();
        builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder(path))?;
        let unfinished = Unfinished::new(file.path());
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), _unfinished: unfinished })
    }

    /// Gives the file its name. A regular file of that name is replaced, and its permissions are kept.
    pub(crate) fn finish(self) -> io::Result<()> {
        let path = self.path.clone();
        let file = self.complete()?;
        file.persist(&path).map_err(|e| e.error)?;
        sync_folder(folder(&path));
        Ok(())
    }

    /// Gives the file its name, unless there is something of that name already.
    pub(crate) fn finish_new(self) -> io::Result<()> {
        let path = self.path.clone();
        let file = self.complete()?;
        file.persist_noclobber(&path).map_err(|e| e.error)?;
        sync_folder(folder(&path));
        Ok(())
    }

    /// Brings all bytes onto the disk.
    fn complete(self) -> io::Result<NamedTempFile> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Once more: the file may have been long in the making.
        if let Some(found) = check_target(&self.path)? {
            keep_permissions(file.as_file(), &found)?;
        }
        // After a power cut, too, a name must stand for a whole file.
        file.as_file().sync_all()?;
        Ok(file)
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The entry of a temporary file in the list of those that are being written.
struct Unfinished(PathBuf);

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

impl Unfinished {
    fn new(path: &Path) -> Self {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.0);
    }
}

/// Removes the temporary files of a program that is about to exit without returning from what it does.
pub(crate) fn remove_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = fs::remove_file(path);
    }
}

/// The form of the temporary names that [`PartFile::with_prefix`] makes.
pub(crate) fn is_part(name: &str, prefix: &str) -> bool {
    let random = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Metadata of an output file that is there already; an error unless it is a regular file.
pub(crate) fn check_target(path: &Path) -> io::Result<Option<Metadata>> {
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "names a folder; an output file needs a name"));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => {
            let kind = kind(&found);
            Err(io::Error::other(format!("is {kind}; only a regular file is written or replaced: name another")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kind of a file that is not a regular one.
pub(crate) fn kind(found: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        } else if kind.is_fifo() {
            return "a FIFO";
        } else if kind.is_socket() {
            return "a socket";
        }
    }
    match found.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a folder",
        _ => "not a regular file",
    }
}

/// Refuses an output file that is one of the command's inputs, under whatever name: a file, another file of the same GGUF
/// model, or one in an input folder. A new file there is refused where its name would make it a part of the model.
pub(crate) fn check_not_input(path: &Path, inputs: &[&Path]) -> io::Result<()> {
    let refuse = |input: &Path, what: &str| {
        let said = format!("{what} {}, which this command reads; name another file", input.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, said))
    };
    let place = folder(path).canonicalize().ok();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let found = fs::metadata(path).ok();
    let same = |input: &Path| {
        let input_found = fs::metadata(input).ok();
        found.as_ref().zip(input_found.as_ref()).is_some_and(|(a, b)| is_same(path, a, input, b))
    };
    for &input in inputs {
        if same(input) {
            return refuse(input, "is");
        }
        if !input.is_dir() {
            let name = input.file_name().and_then(OsStr::to_str).unwrap_or_default();
            for other in files_of(name).into_iter().map(|name| input.with_file_name(name)) {
                if same(&other) {
                    return refuse(&other, "is");
                }
            }
            continue;
        }
        let root = input.canonicalize()?;
        if is_model_file(&name) && place.as_ref() == Some(&root) {
            return refuse(input, "would become a part of");
        }
        // Through links: the files of the hub's cache lie elsewhere.
        for entry in fs::read_dir(input)? {
            let file = entry?.path();
            if same(&file) {
                return refuse(&file, "is");
            }
        }
    }
    Ok(())
}

/// Names of files that a model consists of: what loaders read and `convert` writes.
pub(crate) fn is_model_file(name: &str) -> bool {
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = numbers.and_then(|numbers| numbers.split_once("-of-"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(a, b)| digits(a) && digits(b))
        || ["config.json", "model.safetensors", "model.safetensors.index.json"].contains(&name)
        || COMPANIONS.contains(&name)
}

/// True if two names stand for one file.
#[cfg(unix)]
pub(crate) fn is_same(_: &Path, a: &Metadata, _: &Path, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// True if two names stand for one file.
#[cfg(not(unix))]
pub(crate) fn is_same(a: &Path, _: &Metadata, b: &Path, _: &Metadata) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// The folder that a file lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a new file the permissions of the one that it replaces and, where the system allows that, its owner.
fn keep_permissions(file: &File, replaced: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Refused to all but root, whose file would otherwise shut out its owner.
        let _ = fchown(file, Some(replaced.uid()), Some(replaced.gid()));
    }
    file.set_permissions(replaced.permissions())
}

/// Brings a new name onto the disk. A file system that does not know this of folders keeps names by itself.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = PartFile::create(path)?;
        file.write_all(bytes)?;
        file.finish()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let mut cut = PartFile::create(&path).expect("a file");
        cut.write_all(b"half").expect("room");
        let there = names(folder.path());
        assert!(there.len() == 1 && is_part(&there[0], PREFIX), "{there:?}");
        drop(cut);
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
        write(&path, b"whole").expect("a name");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
        for other in ["model.part", ".selvedge-model.part", ".selvedge-abc/efgh.part", ".selvedge-.part"] {
            assert!(!is_part(other, PREFIX), "{other}");
        }
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("talk.json");
        PartFile::create(&path).expect("a file").finish_new().expect("there was none");
        fs::write(&path, "mine").expect("room");
        let error = PartFile::create(&path).expect("a file").finish_new().expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("a file"), b"mine");
        assert_eq!(names(folder.path()), ["talk.json"]);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let place = tempfile::tempdir().expect("a folder");
        for path in ["", "/", ".", "..", "new/"].map(|name| place.path().join(name)) {
            assert!(write(&path, b"x").is_err(), "{}", path.display());
        }
        let error = write(place.path(), b"x").expect_err("a folder");
        assert!(error.to_string().contains("a folder"), "{error}");
        assert!(write(Path::new(""), b"x").is_err());
        assert!(names(place.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_stays_as_it_is() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        use std::process::Command;

        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "mine").expect("room");
        symlink("target", at("link")).expect("a link");
        symlink("nowhere", at("dangling")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        let made = Command::new("mkfifo").arg(at("fifo")).status().expect("mkfifo runs");
        assert!(made.success());
        // A node of its own, with the numbers of /dev/null. Only root may make one.
        let mut mknod = Command::new("mknod");
        mknod.arg(at("node")).args(["c", "1", "3"]).stderr(std::process::Stdio::null());
        let node = mknod.status().is_ok_and(|status| status.success());
        let before = names(folder.path());
        let cases =
            [("link", "link"), ("dangling", "link"), ("socket", "socket"), ("fifo", "FIFO"), ("node", "device")];
        for (name, said) in cases.iter().filter(|(name, _)| node || *name != "node") {
            let error = write(&at(name), b"x").expect_err(name).to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        assert_eq!(names(folder.path()), before);
        assert_eq!(fs::read(at("target")).expect("a file"), b"mine");
        let kind = |name: &str| fs::symlink_metadata(at(name)).expect("it is there").file_type();
        assert!(kind("link").is_symlink() && kind("fifo").is_fifo() && kind("socket").is_socket());
        assert!(!node || kind("node").is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn what_comes_under_the_name_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        let file = PartFile::create(&path).expect("a file");
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        assert!(file.finish().is_err());
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_of_the_replaced_file_stay() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        for mode in [0o600, 0o640, 0o755] {
            fs::write(&path, "old").expect("room");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            write(&path, b"new").expect("a regular file");
            assert_eq!(fs::read(&path).expect("a file"), b"new");
            assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, mode);
            fs::remove_file(&path).expect("it is there");
        }
        // A new file is as any program's.
        fs::write(folder.path().join("other"), "").expect("room");
        write(&path, b"new").expect("a new file");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("a file").permissions().mode();
        assert_eq!(mode("out"), mode("other"));
    }

    #[cfg(unix)]
    #[test]
    fn inputs_are_no_outputs() {
        use std::os::unix::fs::symlink;

        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        for folder in ["model", "model/deep", "blobs", "cached"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        for file in ["model/model.safetensors", "blobs/abc", "ids.txt", "out"] {
            fs::write(at(file), file).expect("room");
        }
        symlink(at("blobs/abc"), at("cached/model.safetensors")).expect("a link");
        symlink("model", at("alias")).expect("a link");
        fs::hard_link(at("model/model.safetensors"), at("twin")).expect("a second name");
        let (model, cached, ids) = (at("model"), at("cached"), at("ids.txt"));
        for name in ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "y.gguf"] {
            fs::write(at(name), name).expect("a file");
        }
        let gguf = at("x-00001-of-00002.gguf");
        let check = |name: &str| check_not_input(&at(name), &[&model, &cached, &ids, &gguf]);
        for name in [
            "model/model.safetensors",
            "model/tokenizer.json",
            "model/deep/../config.json",
            "alias/model-00001-of-00002.safetensors",
            "alias/model.safetensors",
            "twin",
            "blobs/abc",
            "cached/config.json",
            "ids.txt",
            "x-00001-of-00002.gguf",
            "x-00002-of-00002.gguf",
        ] {
            let error = check(name).expect_err(name).to_string();
            assert!(error.contains("reads"), "{error}");
        }
        for name in ["out", "new", "model/new", "config.json", "model/deep/config.json", "no/such/folder", "y.gguf"] {
            check(name).expect(name);
        }
    }
}
