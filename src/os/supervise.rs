//! Supervises the program of `exec`: passes signals on to it and waits for its end.
//!
//! As the first process of a container, it also reaps orphans (docs/decisions/0019).

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// The signals that are passed on to the child.
///
/// Stop signals are not among them: a terminal also sends them to the child, and their default is right for
/// this process.
const FORWARDED: [Signal; 8] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CONT];

/// The signals that a terminal sends to the whole process group, the child included.
///
/// They are not passed on: a program may take a second one for "stop at once".
const TERMINAL_SIGNALS: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::WINCH];

/// How the child ended.
pub enum Ended {
    /// With this exit status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
}

/// Receives signals from its creation on.
///
/// A signal that arrives before the start of the child is passed on after it.
pub struct Supervisor {
    signals: SignalsInfo<WithOrigin>,
}

/// A running child. Only this process waits for it.
pub struct Started(Pid);

impl Supervisor {
    /// Starts to receive signals.
    pub fn new() -> io::Result<Supervisor> {
        let ignored = ignored_signals();
        // An ignored signal stays ignored, here and in the child (`nohup`).
        let signals = FORWARDED.iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let signals = signals.chain([&Signal::CHILD]).map(|signal| signal.as_raw());
        Ok(Supervisor { signals: SignalsInfo::new(signals)? })
    }

    /// Starts the child.
    ///
    /// The kernel resets signal handlers when a program starts, and std resets the mask of blocked signals.
    pub fn start(&self, command: &mut Command) -> io::Result<Started> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.map(Started).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Waits for the end of the child.
    ///
    /// Another thread holds `child_lock` while it waits for children of its own.
    pub fn wait(mut self, child: Started, child_lock: &Mutex<()>) -> Ended {
        loop {
            if let Some(ended) = reap(child.0, child_lock) {
                return ended;
            }
            for received in self.signals.wait() {
                let Some(signal) = Signal::from_named_raw(received.signal) else { continue };
                let is_with_child_already = TERMINAL_SIGNALS.contains(&signal) && received.cause == Cause::Kernel;
                if signal != Signal::CHILD && !is_with_child_already {
                    let _ = rustix::process::kill_process(child.0, signal);
                }
            }
        }
    }
}

/// Reaps exited children without blocking. Returns how `child` ended, if it was among them.
///
/// As the first process of a container it reaps every child, unless another thread holds `child_lock`.
fn reap(child: Pid, child_lock: &Mutex<()>) -> Option<Ended> {
    if is_init()
        && let Ok(_guard) = child_lock.try_lock()
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

/// Wakes the waiting thread, so that it reaps children that ended while another thread held the lock.
pub fn look_again() {
    if is_init() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::CHILD);
    }
}

/// Whether this is the first process of a container.
///
/// The kernel makes orphans its children, and delivers to it only signals that it handles.
fn is_init() -> bool {
    rustix::process::getpid().is_init()
}

/// Lets the usual signals end the first process of a container, until the returned value is dropped.
///
/// This is for the time before there is a [`Supervisor`]. Returns `None` in any other process, which these
/// signals end anyway.
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

/// Lets signals end the process until it is dropped. See [`guard_signals_as_init`].
pub struct InitSignalGuard(Arc<AtomicBool>);

impl Drop for InitSignalGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Returns the signals that this process ignores since its start, one bit for each (proc(5), `SigIgn`).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Ends this process by a signal. If that is impossible, returns the exit status that a shell reports for it.
///
/// It is impossible for the first process of a container. In another process, if the signal does not end it,
/// the process aborts.
pub fn end_by(signal: i32) -> u8 {
    if !is_init() {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
