//! Limits that this process sets for itself.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on core files before [`harden`] changed it.
static CORE_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Keeps secrets out of core files and away from the debuggers of other processes.
///
/// If the system cannot do this, the call goes on: this is a second line of defence. Only the soft limit is
/// lowered. If the hard limit were lowered, only root could raise it again for the program that `exec` runs.
pub fn harden() {
    forbid_debuggers();
    let found = CORE_LIMIT.get_or_init(|| getrlimit(Resource::Core));
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: found.maximum });
}

/// Makes this process not dumpable: no core file, and no other process of this user can attach a debugger.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn forbid_debuggers() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Does nothing: other systems have no such switch.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn forbid_debuggers() {}

/// Runs `work` with the limit on core files that [`harden`] found.
///
/// On Linux, this process writes no core file meanwhile either, because it is not dumpable.
pub fn with_original_limits<T>(work: impl FnOnce() -> T) -> T {
    let Some(found) = CORE_LIMIT.get() else { return work() };
    let _ = setrlimit(Resource::Core, *found);
    let done = work();
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: found.maximum });
    done
}

/// Turns the limit on file sizes (`ulimit -f`) into an ordinary error of the write.
///
/// Without a handler, its signal (SIGXFSZ) ends the process and loses a token that was just fetched. The
/// program calls this before it writes any file, so never on a hit.
pub fn survive_size_limit() {
    let seen = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), seen);
}

/// Whether a file of this size stays within the limit on file sizes (`ulimit -f`).
///
/// A write beyond the limit raises a signal that ends the process.
pub fn allows_file_of(bytes: u64) -> bool {
    getrlimit(Resource::Fsize).current.is_none_or(|limit| limit >= bytes)
}
