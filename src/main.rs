//! The real world in, the reply out. Everything else is in the library.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use runai_credential::Terminal;
use runai_credential::error::{Error, Kind};
use runai_credential::system::{Deadline, Moment, System, process_in};
use runai_credential::{Append, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Does what the arguments ask for.
///
/// Rust's start has opened the null device for each standard stream that was closed, and ignores SIGPIPE, so a pipe without a
/// reader is an error of the write.
#[allow(clippy::disallowed_methods, reason = "this is where environment and clock come in")]
fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    harden(args.iter().any(|arg| arg == "exec"));
    let mut reply = Reply::default();
    with_machine(&mut |system| reply = runai_credential::run(&args, system));
    ExitCode::from(deliver(reply))
}

/// Lets `work` see the real world. No state is held here, so another thread can have it as well.
#[allow(clippy::disallowed_methods, reason = "this is where environment and clock come in")]
fn with_machine(work: &mut dyn FnMut(&System<'_>)) {
    work(&System {
        env: &|name| std::env::var_os(name),
        now: &Moment::of_machine,
        boot_id: &|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(id.trim_end().to_owned())
        },
        host: &|| rustix::system::uname().nodename().to_string_lossy().into_owned(),
        parent: &|| {
            let parent = rustix::process::getppid()?.as_raw_nonzero();
            let mut stat = [0; 1024];
            let length = File::open(format!("/proc/{parent}/stat")).ok()?.read(&mut stat).ok()?;
            let process = process_in(&String::from_utf8_lossy(&stat[..length]))?;
            // A process may become another program and be a new client: Google's kubectl asks a first time to find out
            // the server's version, and then turns into the kubectl of that version.
            let program = std::fs::read_link(format!("/proc/{parent}/exe")).unwrap_or_default();
            Some(format!("{process} {}", program.display()))
        },
        stdin: &read_stdin,
        terminal: &Terminal::open,
        notes: &|note| say(&format!("runai-credential: note: {note}\n")),
        as_found: &with_core_limit_as_found,
        again: with_machine,
        verbose: Cell::new(false),
    });
}

/// Reads standard input, which nobody may type: whoever calls without a pipe would wait for something that nobody sends.
fn read_stdin(most: usize) -> io::Result<Vec<u8>> {
    let stdin = rustix::stdio::stdin();
    if stdin.is_terminal() {
        return Err(io::Error::other("it is a terminal"));
    }
    let deadline = Deadline::after(STDIN_PATIENCE);
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.left();
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut look = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut look, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let room = piece.len().min(most - bytes.len());
        match rustix::io::read(stdin, &mut piece[..room]) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() == most {
            return Ok(bytes);
        }
    }
}

/// How long whoever pipes something in may take for it.
const STDIN_PATIENCE: Duration = Duration::from_secs(10);

/// Keeps secrets out of core files and away from other processes' debuggers. Where the system cannot, the call goes on:
/// this is a second line.
///
/// Whoever `may_run` a program for somebody leaves the hard limit alone: nobody but root could raise it for the program again.
fn harden(may_run: bool) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let mut none = Rlimit { current: Some(0), maximum: Some(0) };
    if may_run {
        let found = getrlimit(Resource::Core);
        none.maximum = found.maximum;
        let _ = CORE_LIMIT.set(found);
    }
    let _ = setrlimit(Resource::Core, none);
}

/// The limit of core files that [`harden`] found, where it is to be given back.
static CORE_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Does `work` with that limit. (On Linux no core of this process is written meanwhile either: it is not dumpable.)
fn with_core_limit_as_found(work: &mut dyn FnMut()) {
    let Some(found) = CORE_LIMIT.get() else { return work() };
    let _ = setrlimit(Resource::Core, *found);
    work();
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: found.maximum });
}

/// Writes the reply: standard output whole and once, or not at all.
fn deliver(reply: Reply) -> u8 {
    say(&reply.stderr);
    if let Some(signal) = reply.signal {
        return end_by(signal);
    }
    if reply.stdout.is_empty() {
        return reply.status;
    }
    if let Err(error) = write(rustix::stdio::stdout(), &reply.stdout) {
        let error = Error::new(
            Kind::Output,
            format!("standard output cannot be written: {error}"),
            "check where the output goes; nothing of the answer should be used",
        );
        say(&error.lines());
        return error.exit_code();
    }
    match reply.then.as_ref().map(Append::carry_out) {
        Some(Err(error)) => {
            say(&error.lines());
            error.exit_code()
        }
        _ => reply.status,
    }
}

/// Ends by a signal; returns the status that a shell would make of it where that cannot be.
fn end_by(signal: i32) -> u8 {
    // The first process of a container cannot, and others that fail at it abort.
    if !rustix::process::getpid().is_init() {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Writes to standard error, where nobody may be listening.
fn say(text: &str) {
    if !text.is_empty() {
        let _ = write(rustix::stdio::stderr(), text.as_bytes());
    }
}

/// Writes all of `bytes`. Not through std's stream, which takes a descriptor that cannot be written for success (EBADF).
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
