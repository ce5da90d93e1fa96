//! Passes the arguments and the machine to the library, and writes its reply.

use std::process::ExitCode;

use runai_credential::error::{Error, Kind};
use runai_credential::os::{THIS_MACHINE, harden, stdio};
use runai_credential::{Append, Reply};

/// Runs the command of the arguments.
///
/// Rust's runtime opens the null device for each closed standard stream. It also ignores SIGPIPE, so a write
/// to a pipe without a reader fails with an error (docs/decisions/0020).
#[allow(clippy::disallowed_methods, reason = "the only place that reads the arguments")]
fn main() -> ExitCode {
    harden::harden();
    let args: Vec<_> = std::env::args_os().collect();
    ExitCode::from(deliver(&runai_credential::run(&args, &THIS_MACHINE)))
}

/// Writes the reply and returns the exit status. Standard output is written once and completely.
fn deliver(reply: &Reply) -> u8 {
    stdio::write_stderr(&reply.stderr);
    if reply.stdout.is_empty() {
        return reply.status;
    }
    let written = stdio::write_stdout(&reply.stdout).map_err(|error| {
        Error::new(
            Kind::Output,
            format!("standard output cannot be written: {error}"),
            "check where the output goes, and discard what was written",
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
