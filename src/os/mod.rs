//! Everything that differs between operating systems, and nothing else.
//!
//! | capability | Linux, macOS | required on Windows |
//! |---|---|---|
//! | `files`: read a trusted file, checked on the open handle; private folders, atomic replace | owner, mode, link count, `O_NOFOLLOW`; `renameat` relative to the descriptor of the folder | owner and access list of the handle, no reparse point; replace with retries while a reader has the file open |
//! | `folders`: the folders of the user | XDG variables, else below `HOME`; `TMPDIR`, else `/tmp` | Roaming and Local AppData |
//! | `clock`: time since boot, boot id | `CLOCK_BOOTTIME` and boot_id; `CLOCK_MONOTONIC` without a boot id on macOS | a clock that counts sleep; boot time as id |
//! | `process`: find a program, run it within bounds, identify the calling process | process group; `/proc/PID`; no caller on macOS | job object, PATHEXT; process snapshot and start time |
//! | `stdio`: standard streams | poll | a thread with a deadline |
//! | `terminal`: the terminal of the user | `/dev/tty` | `CONIN$` and `CONOUT$` |
//! | `supervise`: the program of `exec` | signals, first process of a container | job object, console events |
//! | `keyring`: the secret of a client | Secret Service; Keychain on macOS | Credential Manager |
//! | `harden`: no core files, no debugger, SIGXFSZ does not end the process | resource limits, not dumpable on Linux | nothing |

pub mod clock;
pub(crate) mod files;
pub(crate) mod folders;
pub mod harden;
pub(crate) mod keyring;
pub(crate) mod process;
pub mod stdio;
pub(crate) mod supervise;
pub(crate) mod terminal;

use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::{Host, Moment, Terminal};

/// The machine on which the program runs.
pub struct ThisMachine {
    verbose: AtomicBool,
}

/// The only instance. Every thread uses it.
pub static THIS_MACHINE: ThisMachine = ThisMachine { verbose: AtomicBool::new(false) };

impl Host for ThisMachine {
    #[allow(clippy::disallowed_methods, reason = "the only place that reads the environment")]
    fn var_os(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn now(&self) -> Moment {
        clock::now()
    }

    fn boot_id(&self) -> Option<String> {
        clock::boot_id()
    }

    fn name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn caller(&self) -> Option<String> {
        process::caller()
    }

    fn read_stdin(&self, limit: usize) -> io::Result<Vec<u8>> {
        stdio::read_stdin(limit)
    }

    fn terminal(&self) -> Option<Box<dyn Terminal>> {
        Some(Box::new(terminal::ControllingTerminal::open()?))
    }

    fn is_verbose(&self) -> bool {
        self.verbose.load(Ordering::Relaxed)
    }

    fn set_verbose(&self, verbose: bool) {
        self.verbose.store(verbose, Ordering::Relaxed);
    }

    fn show_note(&self, line: &str) {
        stdio::write_stderr(&format!("runai-credential: note: {line}\n"));
    }

    fn for_threads(&self) -> Option<&'static dyn Host> {
        Some(&THIS_MACHINE)
    }
}
