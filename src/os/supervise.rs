//! The program of `exec`: signals are passed on to it, its end is awaited, and orphans are reaped where this is the first process of
//! a container.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// What is passed on. Not the signals that stop: a terminal sends them to the child as well, and the default is right
/// for us.
const PASSED_ON: [Signal; 8] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CONT];

/// What a terminal sends to a whole group of processes, the child among them: a second one could mean "at once".
const OF_TERMINALS: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::WINCH];

/// How the child ended.
pub enum Ended {
    /// With this status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
}

/// Hears signals from its making on; those that come before the child is there reach it once it is.
pub struct Supervisor {
    signals: SignalsInfo<WithOrigin>,
}

/// Nobody but us waits for this child.
pub struct Started(Pid);

impl Supervisor {
    /// Begins to listen.
    pub fn new() -> io::Result<Supervisor> {
        let ignored = ignored();
        // What is ignored stays so, here and in the child (`nohup`).
        let heard = PASSED_ON.iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let heard = heard.chain([&Signal::CHILD]).map(|signal| signal.as_raw());
        Ok(Supervisor { signals: SignalsInfo::new(heard)? })
    }

    /// Starts the child. Handlers and the blocking of signals do not outlive the start of a program; std sees to the latter.
    pub fn start(&self, command: &mut Command) -> io::Result<Started> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.map(Started).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Waits for its end. `elsewhere` is locked while another thread waits for children of its own.
    pub fn wait(mut self, child: Started, elsewhere: &Mutex<()>) -> Ended {
        loop {
            if let Some(ended) = reap(child.0, elsewhere) {
                return ended;
            }
            for heard in self.signals.wait() {
                let Some(signal) = Signal::from_named_raw(heard.signal) else { continue };
                let is_there_already = OF_TERMINALS.contains(&signal) && heard.cause == Cause::Kernel;
                if signal != Signal::CHILD && !is_there_already {
                    let _ = rustix::process::kill_process(child.0, signal);
                }
            }
        }
    }
}

/// Takes note of children that have ended; says so if one of them is `child`.
fn reap(child: Pid, elsewhere: &Mutex<()>) -> Option<Ended> {
    if is_init()
        && let Ok(_guard) = elsewhere.try_lock()
    {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == child {
                return ended(status);
            }
        }
        return None;
    }
    match rustix::process::waitpid(Some(child), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => ended(status),
        _ => None,
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let exit = status.exit_status().map(|status| Ended::Exit(u8::try_from(status).unwrap_or(u8::MAX)));
    exit.or_else(|| status.terminating_signal().map(Ended::Signal))
}

/// Has the waiting thread look for children that have ended: while another one had children of its own, it did not.
pub fn look_again() {
    if is_init() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::CHILD);
    }
}

/// Whether this is the first process of a container: whoever loses its parent becomes its child, and signals do nothing to it
/// that it does not handle.
fn is_init() -> bool {
    rustix::process::getpid().is_init()
}

/// For the first process of a container, before there is a supervisor: lets the usual signals end it, as they would end
/// any other. Dropping the value ends that.
pub fn guard_signals_as_init() -> Option<InitSignalGuard> {
    is_init().then(|| {
        let is_on = Arc::new(AtomicBool::new(true));
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let number = signal.as_raw();
            let _ = signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&is_on));
        }
        InitSignalGuard(is_on)
    })
}

/// See [`guard_signals_as_init`].
pub struct InitSignalGuard(Arc<AtomicBool>);

impl Drop for InitSignalGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The signals that this process was started to ignore, a bit for each (proc(5), `SigIgn`).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Ends this process by a signal. Returns the status that a shell gives to such an end where that cannot be: the first process of a
/// container does not end so, and others that fail at it abort.
pub fn end_by(signal: i32) -> u8 {
    if !is_init() {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
