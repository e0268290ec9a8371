//! Destination of a command's `--out`: a file, or stdout where it is `-`.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};

use crate::ctrl_c::ctrl_c_ends;
use crate::error::CommandError;
use crate::part_file::{PartFile, check_not_input, check_target};

/// The destination as the user named it, found fit to be written.
pub(crate) struct Destination(PathBuf);

impl Destination {
    /// Checks the name before anything is loaded or computed: no link, device or folder, and none of the `inputs`
    /// (files, and folders with all that lies in them).
    pub(crate) fn check(path: PathBuf, inputs: &[&Path]) -> Result<Self, CommandError> {
        let this = Self(path);
        if !this.is_stdout() {
            let checked = check_target(&this.0).and_then(|_| check_not_input(&this.0, inputs));
            checked.map_err(|error| this.fault(error))?;
        } else if io::stdout().is_terminal() {
            return Err(CommandError::Misuse("--out - writes binary data, and stdout is a terminal".into()));
        }
        Ok(this)
    }

    /// Begins the file. From now on Ctrl-C ends the program and removes what there is of it.
    pub(crate) fn create(&self) -> Result<Output, CommandError> {
        if self.is_stdout() {
            return Ok(Output::Stdout(BufWriter::new(io::stdout())));
        }
        ctrl_c_ends("")?;
        PartFile::create(&self.0).map(Output::File).map_err(|error| self.fault(error))
    }

    /// The error of a write that failed.
    pub(crate) fn fault(&self, error: io::Error) -> CommandError {
        if self.is_stdout() { CommandError::Stdout(error) } else { CommandError::file(&self.0)(error) }
    }

    fn is_stdout(&self) -> bool {
        self.0.as_os_str() == "-"
    }
}

/// A destination that is being written.
pub(crate) enum Output {
    File(PartFile),
    Stdout(BufWriter<Stdout>),
}

impl Output {
    /// Gives a file its name: it is whole.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stdout(mut out) => out.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}
