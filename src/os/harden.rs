//! Limits that this process sets for itself.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit of core files that [`harden`] found.
static CORE_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Keeps secrets out of core files and away from other processes' debuggers. Where the system cannot, the call goes on:
/// this is a second line.
///
/// Only the soft limit is lowered: no one but root could raise the hard limit again for the program that `exec` runs.
pub fn harden() {
    forbid_debuggers();
    let found = CORE_LIMIT.get_or_init(|| getrlimit(Resource::Core));
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: found.maximum });
}

/// Makes this process not dumpable: no core file, and no debugger of another process of this user.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn forbid_debuggers() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Other systems have no such switch.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn forbid_debuggers() {}

/// Does `work` with the limit that [`harden`] found. (On Linux no core of this process is written meanwhile either: it is not
/// dumpable.)
pub fn with_original_limits<T>(work: impl FnOnce() -> T) -> T {
    let Some(found) = CORE_LIMIT.get() else { return work() };
    let _ = setrlimit(Resource::Core, *found);
    let done = work();
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: found.maximum });
    done
}

/// Makes a limit on file sizes (`ulimit -f`) an error like others: without a handler its signal ends the process, and with
/// it a token that has just been fetched. Called before anything is written, so never on a hit.
pub fn survive_size_limit() {
    let seen = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), seen);
}

/// Whether a write that makes a file this long stays below the limit on file sizes (`ulimit -f`). Beyond the limit a write is a signal
/// that ends the process.
pub fn allows_file_of(bytes: u64) -> bool {
    getrlimit(Resource::Fsize).current.is_none_or(|limit| limit >= bytes)
}
