//! The reply: everything that a call leaves behind.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// The bytes for the two standard streams, and the exit status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// For standard output. All of it is written, or the call fails.
    pub stdout: Vec<u8>,
    /// For standard error; empty on success.
    pub stderr: String,
    /// The exit status.
    pub status: u8,
    /// A line for a file. It is appended only after standard output has been written.
    pub then: Option<Append>,
}

/// A line for a file that another program creates and reads, such as the runner of GitHub Actions.
#[derive(Debug, PartialEq, Eq)]
pub struct Append {
    /// The file. It must exist.
    pub path: PathBuf,
    /// The text to append, in one write.
    pub line: String,
}

impl Append {
    /// Appends the line. If the file ends in an incomplete line, ends that line first.
    ///
    /// # Errors
    /// [`Kind::Output`] if the file cannot be opened or written.
    pub fn carry_out(&self) -> Result<()> {
        let appended = File::options().read(true).append(true).open(&self.path).and_then(|mut file| {
            let mut last = [b'\n'];
            if file.metadata()?.len() > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            let gap = if last == *b"\n" { "" } else { "\n" };
            file.write_all(format!("{gap}{}", self.line).as_bytes())
        });
        appended.map_err(|error| {
            Error::new(
                Kind::Output,
                format!("{} cannot be appended to: {error}", self.path.display()),
                "run this in a step of a GitHub Actions job, where the runner makes that file",
            )
        })
    }
}

impl Reply {
    /// Returns a successful reply with this standard output.
    pub fn of(stdout: impl Into<Vec<u8>>) -> Reply {
        Reply { stdout: stdout.into(), ..Reply::default() }
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        Reply { stderr: error.lines(), status: error.exit_code(), ..Reply::default() }
    }
}
