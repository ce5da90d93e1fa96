//! What a call leaves behind.

use crate::error::Error;

/// Bytes for the two standard streams, and the exit status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// For standard output, all or nothing.
    pub stdout: Vec<u8>,
    /// For standard error; empty on success.
    pub stderr: String,
    /// The exit status.
    pub status: u8,
    /// The signal that ended the program we ran, to end by as well: who waits for us learns it as if we were not there.
    pub signal: Option<i32>,
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
