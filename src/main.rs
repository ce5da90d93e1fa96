//! The real world in, the reply out. Everything else is in the library.

use std::cell::Cell;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use runai_credential::Reply;
use runai_credential::error::{Error, Kind};
use runai_credential::system::{Moment, System, process_in};

/// Whether standard output was closed when the process started.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`: the start of std puts the null device where a standard stream is closed, and a token would vanish
/// there with exit 0.
#[ctor::ctor(unsafe)]
fn look_at_stdout() {
    let open = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_ok();
    STDOUT_CLOSED.store(!open, Ordering::Relaxed);
}

#[allow(clippy::disallowed_methods, reason = "this is where environment and clock come in")]
fn main() -> ExitCode {
    harden();
    let args: Vec<_> = std::env::args_os().collect();
    let system = System {
        env: &|name| std::env::var_os(name),
        now: &Moment::of_machine,
        boot_id: &|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(id.trim_end().to_owned())
        },
        host: &|| rustix::system::uname().nodename().to_string_lossy().into_owned(),
        parent: &|| {
            let parent = rustix::process::getppid()?.as_raw_nonzero();
            let process = process_in(&std::fs::read_to_string(format!("/proc/{parent}/stat")).ok()?)?;
            // A process may become another program and be a new client: Google's kubectl asks a first time to find out
            // the server's version, and then turns into the kubectl of that version.
            let program = std::fs::read_link(format!("/proc/{parent}/exe")).unwrap_or_default();
            Some(format!("{process} {}", program.display()))
        },
        stdin: &|most| {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(most as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        },
        notes: &|note| say(&format!("runai-credential: note: {note}\n")),
        verbose: Cell::new(false),
    };
    deliver(runai_credential::run(&args, &system))
}

/// Keeps secrets out of core files and away from other processes' debuggers. Where the system cannot, the call goes on:
/// this is a second line.
fn harden() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

/// Writes the reply: standard output whole and once, or not at all.
fn deliver(reply: Reply) -> ExitCode {
    say(&reply.stderr);
    let mut stdout = std::io::stdout().lock();
    if reply.stdout.is_empty() {
        return ExitCode::from(reply.status);
    }
    let written = match STDOUT_CLOSED.load(Ordering::Relaxed) {
        true => Err(rustix::io::Errno::BADF.into()),
        false => stdout.write_all(&reply.stdout).and_then(|()| stdout.flush()),
    };
    if let Err(error) = written {
        let error = Error::new(
            Kind::Output,
            format!("standard output cannot be written: {error}"),
            "check where the output goes; nothing of the answer should be used",
        );
        say(&error.lines());
        return ExitCode::from(error.exit_code());
    }
    ExitCode::from(reply.status)
}

/// Writes to standard error, where nobody may be listening.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
