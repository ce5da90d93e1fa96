//! The machine as the library sees it: environment, clock, host name, standard input, notes.
//!
//! Each function that needs the machine receives a [`Host`]. So a test can move the time or set a variable
//! without changing its own process. There are two implementations: `os::ThisMachine` and the one of the
//! tests. Only they read the environment and the clock; `clippy.toml` forbids both elsewhere. Apart from the
//! monotonic clock of
//! [`Deadline`] and the thread of [`run_until`], this module is pure.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::printable;

/// What the program reads from its machine, and what it shows there.
pub trait Host: Send + Sync {
    /// Returns an environment variable.
    fn var_os(&self, name: &str) -> Option<OsString>;

    /// Returns the present on both clocks.
    fn now(&self) -> Moment;

    /// Returns an identifier of the running kernel.
    ///
    /// Two readings of [`Moment::boot_ms`] can be compared only if both have the same identifier.
    fn boot_id(&self) -> Option<String> {
        None
    }

    /// Returns the name of the machine. Only the jitter of the refresh uses it.
    fn name(&self) -> String {
        String::new()
    }

    /// Returns an identifier of the parent process. No other process has it until the next boot.
    fn caller(&self) -> Option<String> {
        None
    }

    /// Reads standard input to its end, at most `limit` bytes.
    ///
    /// A caller that refuses longer input passes one byte more than it accepts.
    ///
    /// # Errors
    /// The error of the system, `Other` if standard input is a terminal, `TimedOut` if its end does not come
    /// in time.
    fn read_stdin(&self, limit: usize) -> io::Result<Vec<u8>>;

    /// Opens the terminal of the user who started the program, if there is one.
    fn terminal(&self) -> Option<Box<dyn Terminal>> {
        None
    }

    /// Whether the user gave `--verbose`.
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
    /// Returns a variable as text.
    ///
    /// An empty variable counts as unset, as in the XDG and proxy conventions. A variable that is not Unicode
    /// also counts as unset: it can be neither a URL nor a name nor a number.
    pub fn var(&self, name: &str) -> Option<String> {
        self.var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
    }

    /// Returns a variable that holds a directory.
    ///
    /// A relative path is ignored (XDG base directory specification 0.8).
    pub fn dir(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.var_os(name)?);
        path.is_absolute().then_some(path)
    }

    /// Shows a step of the call if `--verbose` was given. The text must not contain a secret.
    ///
    /// Without `--verbose`, `text` is not called.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.is_verbose() {
            self.show_note(&printable(&text(), 1000));
        }
    }
}

/// A user at a terminal. The terminal is separate from the standard streams, which carry the protocols.
pub trait Terminal {
    /// Shows a text: several lines, or the beginning of one.
    ///
    /// # Errors
    /// The error of the terminal.
    fn show(&mut self, text: &str) -> io::Result<()>;

    /// Shows a question and returns the answer, without white space at either end.
    ///
    /// # Errors
    /// The error of the terminal; `UnexpectedEof` if the user closed the input (Ctrl-D).
    fn ask(&mut self, question: &str) -> io::Result<String>;

    /// Shows a question and returns the answer, which the terminal does not show.
    ///
    /// # Errors
    /// As for [`Terminal::ask`]; `Interrupted` for Ctrl-C.
    fn ask_secret(&mut self, question: &str) -> io::Result<String>;
}

/// A point in time on two clocks.
///
/// Other machines share the wall clock, and a user may set it. The clock since boot includes suspend. No user
/// can set it, but it starts again at a reboot (docs/decisions/0007).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
    /// Milliseconds since boot.
    pub boot_ms: i64,
}

/// The difference between the two clocks that counts as drift, in milliseconds. NTP slews by at most 0.05 %.
const SLEW_MS: i64 = 2_000;

impl Moment {
    /// Returns the time since `earlier`; `None` if it cannot be known.
    ///
    /// It cannot be known if the wall clock was set back and the machine was rebooted since then.
    ///
    /// The clocks nearly always agree, and then nothing else is read. If they disagree, there are three
    /// causes. A user set the clock, or the machine was paused, or `earlier` comes from another boot or host.
    /// `same_boot` reads a file to recognise the third cause. Within one boot the longer time counts. At
    /// worst a token is dropped too early, which costs a request.
    pub fn since(self, earlier: Moment, same_boot: impl FnOnce() -> bool) -> Option<Duration> {
        let wall = self.unix_ms.saturating_sub(earlier.unix_ms);
        let boot = self.boot_ms.saturating_sub(earlier.boot_ms);
        let slack = SLEW_MS.saturating_add(boot.saturating_abs() / 2_000);
        let passed = if wall.abs_diff(boot) <= slack.unsigned_abs() {
            // A reading slightly ahead of now is slew. One far ahead on both clocks is from a forged or
            // foreign record.
            let passed = wall.max(boot);
            if passed > -SLEW_MS { passed.max(0) } else { passed }
        } else if boot >= 0 && same_boot() {
            wall.max(boot)
        } else {
            wall
        };
        u64::try_from(passed).ok().map(Duration::from_millis)
    }

    /// Returns the wall time of this moment plus `by`, in seconds since 1970.
    pub fn unix_seconds_after(self, by: Duration) -> i64 {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.unix_ms.saturating_add(by).div_euclid(1000)
    }
}

/// A time limit on the monotonic clock, which no user can set.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

#[allow(clippy::disallowed_methods, reason = "only a deadline reads the monotonic clock")]
impl Deadline {
    /// Returns the deadline that is `budget` from now, at most an hour.
    pub fn after(budget: Duration) -> Deadline {
        let now = Instant::now();
        // No caller waits longer than an hour for a token, and the sum must not overflow.
        Deadline(now + budget.min(Duration::from_secs(3600)))
    }

    /// Returns the remaining time; zero after the deadline.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the deadline has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// Returns this deadline plus `time`, at most an hour later.
    pub fn later_by(self, time: Duration) -> Deadline {
        Deadline(self.0 + time.min(Duration::from_secs(3600)))
    }

    /// Returns the earlier of this deadline and `budget` from now.
    pub fn at_most(self, budget: Duration) -> Deadline {
        Deadline(self.0.min(Deadline::after(budget).0))
    }
}

/// Runs `work` in a thread until `deadline`. Returns its result, or `None` if it did not end in time.
///
/// After the deadline the thread is abandoned. This is for work without a time limit of its own: reading a
/// pipe, the resolver, the libraries of a keyring.
///
/// # Errors
/// The error of the system if it cannot start a thread.
pub fn run_until<T: Send + 'static>(
    deadline: Deadline,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    // After the deadline there is no receiver, and `send` fails.
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
    fn age_follows_the_credible_clock() {
        // The columns: name, now, earlier, same boot, age in seconds.
        let cases = [
            ("both agree", at(1100, 200), at(1000, 100), true, Some(100)),
            (
                "wall clock set forward by a day, or machine paused for a day",
                at(87_500, 200),
                at(1000, 100),
                true,
                Some(86_500),
            ),
            ("wall clock set back by a day", at(-85_300, 200), at(1000, 100), true, Some(100)),
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
    fn agreeing_clocks_read_no_boot_id() {
        at(1100, 200).since(at(1000, 100), || panic!("a hit must not read another file"));
    }
}
