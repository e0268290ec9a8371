//! File of the forms of kernels that were measured on this machine: `selvedge/forms.json` among the user's caches.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

use futures::future::{LocalBoxFuture, ready};

use crate::part_file::{PartFile, check_target};
use crate::terminal::status;
use selvedge::backend::webgpu::{FormStore, LONGEST_FORMS};
use selvedge::hub::user_caches;

/// The file, whether it is there or not.
#[derive(Debug)]
pub(crate) struct FormFile(PathBuf);

impl FormFile {
    /// The user's; `None` where a user has no folder for caches.
    pub(crate) fn of_user() -> Option<Self> {
        Some(Self(user_caches()?.join("selvedge").join("forms.json")))
    }
}

impl FormStore for FormFile {
    fn read(&self) -> LocalBoxFuture<'_, Option<String>> {
        Box::pin(ready(read(&self.0).ok()))
    }

    fn write(&self, text: String) -> LocalBoxFuture<'_, ()> {
        if let Err(error) = write(&self.0, &text) {
            // A server that loads several models need not say it of each.
            static TOLD: Once = Once::new();
            let path = self.0.display();
            TOLD.call_once(|| {
                status!("note: {path}: {error}; forms of kernels are not kept, and each load measures them");
            });
        }
        Box::pin(ready(()))
    }
}

/// The text of a regular file, or as much of it as a store's may be.
fn read(path: &Path) -> io::Result<String> {
    // A FIFO would wait for whoever writes to it.
    check_target(path)?;
    let mut text = String::new();
    File::open(path)?.take(LONGEST_FORMS).read_to_string(&mut text)?;
    Ok(text)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut file = PartFile::create(path)?;
    file.write_all(text.as_bytes())?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path) -> FormFile {
        FormFile(folder.join("selvedge/forms.json"))
    }

    fn read(file: &FormFile) -> Option<String> {
        pollster::block_on(FormStore::read(file))
    }

    #[test]
    fn what_was_written_last_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = file(folder.path());
        assert_eq!(read(&file), None);
        for text in ["[]", "[1]"] {
            pollster::block_on(file.write(text.into()));
            assert_eq!(read(&file).as_deref(), Some(text));
        }
        fs::write(&file.0, [0xff]).expect("room");
        assert_eq!(read(&file), None);
    }

    #[test]
    fn a_place_that_is_none_fails_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("selvedge"), "a file").expect("room");
        let file = file(folder.path());
        pollster::block_on(file.write("[]".into()));
        assert_eq!(read(&file), None);
    }

    #[test]
    fn texts_that_are_written_at_once_stay_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let texts = ["a", "b", "c", "d"].map(|letter| letter.repeat(5000));
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| {
                    let file = file(folder.path());
                    for _ in 0..10 {
                        pollster::block_on(file.write(text.clone()));
                        let found = read(&file).expect("a text");
                        assert!(texts.contains(&found), "{} bytes", found.len());
                    }
                });
            }
        });
        let names = fs::read_dir(folder.path().join("selvedge")).expect("a folder");
        assert_eq!(names.count(), 1, "temporary files stay");
    }
}
