//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that is being written as `NAME.part`. It gets its name once it is whole; what was cut is removed.
pub(crate) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl PartFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let part = path.with_added_extension("part");
        let file = BufWriter::new(File::create(&part)?);
        Ok(Self { path: path.to_owned(), part, file })
    }

    /// Gives the file its name, in place of one that may be there.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        // After a power cut, too, a name must stand for a whole file.
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)
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

impl Drop for PartFile {
    fn drop(&mut self) {
        // There is nothing to remove once the file is in its place.
        let _ = fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let names = || -> Vec<_> {
            fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("a file").file_name()).collect()
        };
        let mut cut = PartFile::create(&path).expect("a file");
        cut.write_all(b"half").expect("room");
        assert_eq!(names(), ["model.safetensors.part"]);
        drop(cut);
        assert!(names().is_empty(), "{:?}", names());

        let mut whole = PartFile::create(&path).expect("a file");
        whole.write_all(b"whole").expect("room");
        whole.finish().expect("a name");
        assert_eq!(names(), ["model.safetensors"]);
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
    }
}
