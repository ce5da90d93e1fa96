//! The real machine in, the reply out. Everything else is in the library.

use std::process::ExitCode;

use runai_credential::error::{Error, Kind};
use runai_credential::os::{THIS_MACHINE, harden, stdio};
use runai_credential::{Append, Reply};

/// Does what the arguments ask for.
///
/// Rust's start has opened the null device for each standard stream that was closed, and ignores SIGPIPE, so a pipe without a
/// reader is an error of the write.
#[allow(clippy::disallowed_methods, reason = "this is where the arguments come in")]
fn main() -> ExitCode {
    harden::harden();
    let args: Vec<_> = std::env::args_os().collect();
    ExitCode::from(deliver(&runai_credential::run(&args, &THIS_MACHINE)))
}

/// Writes the reply, standard output whole and once, and returns the exit status.
fn deliver(reply: &Reply) -> u8 {
    stdio::write_stderr(&reply.stderr);
    if reply.stdout.is_empty() {
        return reply.status;
    }
    let written = stdio::write_stdout(&reply.stdout).map_err(|error| {
        Error::new(
            Kind::Output,
            format!("standard output cannot be written: {error}"),
            "check where the output goes; nothing of the answer should be used",
        )
    });
    let done = written.and_then(|()| reply.then.as_ref().map_or(Ok(()), Append::carry_out));
    done.map_or_else(
        |error| {
            stdio::write_stderr(&error.lines());
            error.exit_code()
        },
        |()| reply.status,
    )
}
