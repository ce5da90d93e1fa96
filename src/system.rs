//! The real world, as far as this crate lets it in: environment, clock, host, notes.
//!
//! Everything else receives a [`System`] and asks it, so that a test can move time or set a variable without touching
//! the process it runs in. Nothing outside this file and `main` may read the environment or the clock; `clippy.toml` bans it.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::terminal::Terminal;

/// What the program may ask of the machine it runs on.
pub struct System<'a> {
    /// An environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The present, on both clocks.
    pub now: &'a dyn Fn() -> Moment,
    /// Names the running kernel: two readings of [`Moment::boot_ms`] can be compared only under the same one.
    pub boot_id: &'a dyn Fn() -> Option<String>,
    /// Tells this machine from others; feeds the jitter of the refresh, nothing else.
    pub host: &'a dyn Fn() -> String,
    /// Names the process that started this one, so that no other process has the same name until the next boot.
    pub parent: &'a dyn Fn() -> Option<String>,
    /// Reads standard input to its end, at most as many bytes as given. A caller that has to refuse longer input asks for
    /// one more than it takes.
    pub stdin: &'a dyn Fn(usize) -> std::io::Result<Vec<u8>>,
    /// The person at the terminal, if there is one.
    pub terminal: &'a dyn Fn() -> Option<Terminal>,
    /// Runs something with the limits that this process was started with and has since lowered for itself: the start of a
    /// program that somebody wants run as if we were not there.
    pub as_found: &'a dyn Fn(&mut dyn FnMut()),
    /// Hands the same world to another thread's work.
    pub again: Again,
    /// Receives the steps that `--verbose` shows, one line each.
    pub notes: &'a dyn Fn(&str),
    /// Whether anyone wants the notes; set once the command line is understood.
    pub verbose: Cell<bool>,
}

/// Hands a [`System`] to some work, on whatever thread.
pub type Again = fn(&mut dyn FnMut(&System<'_>));

impl System<'_> {
    /// A variable as text. Empty counts as unset, as the XDG and proxy conventions have it; what is not Unicode
    /// cannot be a URL, a name or a number of ours and counts as unset too.
    pub fn var(&self, name: &str) -> Option<String> {
        (self.env)(name)?.into_string().ok().filter(|value| !value.is_empty())
    }

    /// A variable that holds a directory. Relative ones are ignored (XDG base directory specification 0.8).
    pub fn dir(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from((self.env)(name)?);
        path.is_absolute().then_some(path)
    }

    /// Says a step to whoever asked for `--verbose`; the text is not even made otherwise. Never a secret.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.verbose.get() {
            (self.notes)(&crate::error::printable(&text(), 1000));
        }
    }
}

/// Process and start time of a `/proc/PID/stat` (proc(5), fields 1 and 22), which together name a process for as long as
/// the machine runs.
pub fn process_in(stat: &str) -> Option<String> {
    // The second field is a name in parentheses, which may hold anything.
    let (pid, rest) = stat.split_once(' ')?;
    let start = rest.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
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
    /// Now, on the clocks of this machine.
    #[allow(clippy::disallowed_methods, reason = "this is the one reading of the clock")]
    pub fn of_machine() -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let boot = rustix::time::clock_gettime(clock);
        Moment {
            unix_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            boot_ms: boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000),
        }
    }

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
    fn the_name_of_a_process_may_hold_anything() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(process_in(&format!("42 (kubectl) {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(process_in(&format!("42 (a) b) 1 2 () {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(process_in("42 (kubectl) S 1"), None);
        assert_eq!(process_in(""), None);
    }

    #[test]
    fn agreeing_clocks_do_not_ask_for_the_boot_id() {
        at(1100, 200).since(at(1000, 100), || panic!("a hit must not read another file"));
    }
}
