//! The standard streams.

use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::Deadline;

/// The time limit for reading a piped input.
const STDIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads standard input to its end, at most `limit` bytes.
///
/// # Errors
/// `Other` if it is a terminal: tools pass the request through a pipe, and a read from a terminal would wait
/// forever. `TimedOut` if the end does not come within 10 s. Otherwise the error of the system.
pub fn read_stdin(limit: usize) -> io::Result<Vec<u8>> {
    let stdin = rustix::stdio::stdin();
    if stdin.is_terminal() {
        return Err(io::Error::other("it is a terminal"));
    }
    let deadline = Deadline::after(STDIN_TIMEOUT);
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.left();
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut descriptors = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut descriptors, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let count = piece.len().min(limit - bytes.len());
        match rustix::io::read(stdin, &mut piece[..count]) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() == limit {
            return Ok(bytes);
        }
    }
}

/// Writes all of `bytes` to standard output.
///
/// # Errors
/// The error of the system; `BrokenPipe` if the pipe has no reader.
pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    write(rustix::stdio::stdout(), bytes)
}

/// Writes to standard error. Ignores a failure, because there may be no reader.
pub fn write_stderr(text: &str) {
    if !text.is_empty() {
        let _ = write(rustix::stdio::stderr(), text.as_bytes());
    }
}

/// Writes all of `bytes` to a descriptor.
///
/// Does not use the streams of std: they report success for a descriptor that cannot be written (EBADF).
fn write(stream: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(stream, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
