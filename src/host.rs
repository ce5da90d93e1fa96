//! The machine as the library sees it: environment, clock, host, standard input, notes.
//!
//! Everything receives a [`Host`] and asks it, so that a test can move time or set a variable without touching the process that
//! it runs in. There are two: `os::ThisMachine` and that of the tests. Only they read the environment or the clock; `clippy.toml`
//! forbids it elsewhere. This module is pure.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::printable;

/// What the program may ask of the machine that it runs on.
pub trait Host: Send + Sync {
    /// Returns an environment variable.
    fn var_os(&self, name: &str) -> Option<OsString>;

    /// Returns the present on both clocks.
    fn now(&self) -> Moment;

    /// Returns an identifier of the running kernel: two readings of [`Moment::boot_ms`] can be compared only under the same one.
    fn boot_id(&self) -> Option<String> {
        None
    }

    /// Returns the name of the machine. It feeds the jitter of the refresh and nothing else.
    fn name(&self) -> String {
        String::new()
    }

    /// Returns an identifier of the process that started this one, which no other process has until the next boot.
    fn caller(&self) -> Option<String> {
        None
    }

    /// Reads standard input to its end, at most `limit` bytes. A caller that has to refuse longer input asks for one byte more
    /// than it takes.
    ///
    /// # Errors
    /// Those of the system, `Other` if it is a terminal, `TimedOut` if the end does not come.
    fn read_stdin(&self, limit: usize) -> io::Result<Vec<u8>>;

    /// Opens the terminal of the person who started the program, if there is one.
    fn terminal(&self) -> Option<Box<dyn Terminal>> {
        None
    }

    /// Whether `--verbose` was given.
    fn is_verbose(&self) -> bool;

    /// Sets whether notes are shown.
    fn set_verbose(&self, verbose: bool);

    /// Shows a line of `--verbose`.
    fn show_note(&self, line: &str);

    /// Returns this host for a thread that outlives the call.
    fn for_threads(&self) -> Option<&'static dyn Host> {
        None
    }
}

impl dyn Host + '_ {
    /// Returns a variable as text. Empty counts as unset, as the XDG and proxy conventions have it; what is not Unicode
    /// cannot be a URL, a name or a number of ours and counts as unset too.
    pub fn var(&self, name: &str) -> Option<String> {
        self.var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
    }

    /// Returns a variable that holds a directory. Relative ones are ignored (XDG base directory specification 0.8).
    pub fn dir(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.var_os(name)?);
        path.is_absolute().then_some(path)
    }

    /// Notes a step for `--verbose`; the text is not even made otherwise. Never a secret.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.is_verbose() {
            self.show_note(&printable(&text(), 1000));
        }
    }
}

/// A person at a terminal, apart from the standard streams, which belong to the protocols.
pub trait Terminal {
    /// Shows a text, which is several lines or the beginning of one.
    ///
    /// # Errors
    /// Those of the terminal.
    fn show(&mut self, text: &str) -> io::Result<()>;

    /// Asks a question; the answer comes without its white space on either side.
    ///
    /// # Errors
    /// Those of the terminal; `UnexpectedEof` if it was closed (Ctrl-D).
    fn ask(&mut self, question: &str) -> io::Result<String>;

    /// Asks for something that must not be seen.
    ///
    /// # Errors
    /// As for [`Terminal::ask`]; `Interrupted` for Ctrl-C.
    fn ask_secret(&mut self, question: &str) -> io::Result<String>;
}

/// A point in time on two clocks: the wall, which other machines share and anybody may set, and the time since the
/// machine booted (suspend included), which nobody can set but which a reboot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
    /// Milliseconds since boot.
    pub boot_ms: i64,
}

/// How far the two clocks may drift apart before it looks like somebody set one. NTP slews by at most 0.05 %.
const SLEW_MS: i64 = 2_000;

impl Moment {
    /// How long ago `earlier` was; `None` where that cannot be known, because the wall clock was set back and the
    /// machine has been rebooted since.
    ///
    /// Where both clocks agree (always, nearly) nothing else is looked at. Where they do not, somebody set the clock, or
    /// the machine was paused, or the reading is from another boot or host; `same_boot`, a file to read, tells the last.
    /// Within one boot the longer time is believed: at worst a token is thrown away too early, which costs a request.
    pub fn since(self, earlier: Moment, same_boot: impl FnOnce() -> bool) -> Option<Duration> {
        let wall = self.unix_ms.saturating_sub(earlier.unix_ms);
        let boot = self.boot_ms.saturating_sub(earlier.boot_ms);
        let slack = SLEW_MS.saturating_add(boot.saturating_abs() / 2_000);
        let passed = if wall.abs_diff(boot) <= slack.unsigned_abs() {
            // A little ahead of now is slew; far ahead on both clocks is a forged or foreign record.
            let passed = wall.max(boot);
            if passed > -SLEW_MS { passed.max(0) } else { passed }
        } else if boot >= 0 && same_boot() {
            wall.max(boot)
        } else {
            wall
        };
        u64::try_from(passed).ok().map(Duration::from_millis)
    }

    /// This moment's wall time, later by `by`, in seconds since 1970.
    pub fn unix_seconds_after(self, by: Duration) -> i64 {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.unix_ms.saturating_add(by).div_euclid(1000)
    }
}

/// A bound on how long something may take, on a clock that nobody can set.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

#[allow(clippy::disallowed_methods, reason = "a deadline is the one user of the monotonic clock")]
impl Deadline {
    /// `budget` from now.
    pub fn after(budget: Duration) -> Deadline {
        let now = Instant::now();
        // An absurdly long budget is an hour: nobody waits longer for a token, and the sum must not overflow.
        Deadline(now + budget.min(Duration::from_secs(3600)))
    }

    /// What is left; zero once it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// This one, later by `time`.
    pub fn later_by(self, time: Duration) -> Deadline {
        Deadline(self.0 + time.min(Duration::from_secs(3600)))
    }

    /// The earlier one of this and `budget` from now.
    pub fn at_most(self, budget: Duration) -> Deadline {
        Deadline(self.0.min(Deadline::after(budget).0))
    }
}

/// Runs `work` in a thread until `deadline`. Returns what it returned, or `None` if it was not done in time; then the thread is
/// abandoned. For work that cannot be bounded: reads of a pipe, the resolver, libraries of a keyring.
///
/// # Errors
/// That of the system, if there is no thread to be had.
pub fn run_until<T: Send + 'static>(
    deadline: Deadline,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    // No one receives if it took too long.
    thread::Builder::new().name(name.to_owned()).spawn(move || sender.send(work()))?;
    Ok(receiver.recv_timeout(deadline.left()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: i64, boot_s: i64) -> Moment {
        Moment { unix_ms: unix_s * 1000, boot_ms: boot_s * 1000 }
    }

    #[test]
    fn age_follows_the_clock_that_can_be_believed() {
        // (now, earlier, same boot, age in seconds)
        let cases = [
            ("both agree", at(1100, 200), at(1000, 100), true, Some(100)),
            ("wall set forward by a day, or paused for one", at(87_500, 200), at(1000, 100), true, Some(86_500)),
            ("wall set back by a day", at(-85_300, 200), at(1000, 100), true, Some(100)),
            ("rebooted, uptime shorter", at(1100, 10), at(1000, 100), false, Some(100)),
            ("rebooted a day ago, uptime longer", at(87_500, 200), at(1000, 100), false, Some(86_500)),
            ("rebooted and set back", at(500, 10), at(1000, 100), false, None),
            ("another host with the same wall clock", at(1100, 9_000_000), at(1000, 100), false, Some(100)),
            ("from the future of both clocks", at(1000, 100), at(5000, 4100), true, None),
            ("slewed by a second", at(1101, 200), at(1000, 100), true, Some(101)),
        ];
        for (name, now, earlier, same_boot, wanted) in cases {
            let age = now.since(earlier, || same_boot);
            assert_eq!(age, wanted.map(Duration::from_secs), "{name}");
        }
    }

    #[test]
    fn agreeing_clocks_do_not_ask_for_the_boot_id() {
        at(1100, 200).since(at(1000, 100), || panic!("a hit must not read another file"));
    }
}
