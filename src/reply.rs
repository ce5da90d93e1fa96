//! What a call leaves behind.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// Bytes for the two standard streams, and the exit status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// For standard output, all or nothing.
    pub stdout: Vec<u8>,
    /// For standard error; empty on success.
    pub stderr: String,
    /// The exit status.
    pub status: u8,
    /// To be appended to a file, but only once standard output has been delivered.
    pub then: Option<Append>,
}

/// A line for a file that somebody else made and reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Append {
    /// The file, which must be there.
    pub path: PathBuf,
    /// What is added at its end, in one piece.
    pub line: String,
}

impl Append {
    /// Adds the line; before it the end of a line that somebody left open.
    ///
    /// # Errors
    /// [`Kind::Output`].
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
    /// Success, with this on standard output.
    pub fn of(stdout: impl Into<Vec<u8>>) -> Reply {
        Reply { stdout: stdout.into(), ..Reply::default() }
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        Reply { stderr: error.lines(), status: error.exit_code(), ..Reply::default() }
    }
}
