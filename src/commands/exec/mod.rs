//! `exec`: runs another program, and keeps a file with a fresh token for it.
//!
//! The calling thread waits for the program and passes signals on to it. A second thread renews the token.
//! When the program ends, this process exits without waiting for the second thread, even if it is in a fetch.
//! For the cache this is the same as a killed process. A lock protects the token's file. The second thread
//! changes nothing else.

mod file;

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::{Arg, ArgMatches};

use crate::broker::TokenRequirements;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::os::harden;
use crate::os::supervise::{self, Ended, Supervisor};
use crate::profile::{Profile, Proof};
use crate::reply::Reply;
use crate::secret::Source;
use crate::session::Session;
use crate::subcommand::{Context, Subcommand, USAGE_HINT};
use crate::token::{LiveToken, Validity};
use file::TokenFile;

/// The subcommand.
pub static SUBCOMMAND: Subcommand = Subcommand { name: "exec", program_names: &[], grammar, run, usage_error };

const USAGE: &str = "write the program after --: runai-credential exec -- PROGRAM ARGUMENTS";

fn grammar(command: clap::Command) -> clap::Command {
    command
        .about("Run a program beside a file with a token that stays fresh")
        .override_usage("runai-credential exec [OPTIONS] -- PROGRAM [ARGUMENTS]...")
        .arg(
            Arg::new("env")
                .long("env")
                .value_name("NAME")
                .value_parser(variable)
                .help("Put the token into this variable, too; there it is not renewed and ends while the program runs"),
        )
        .arg(
            Arg::new("command")
                .value_name("PROGRAM")
                .last(true)
                .num_args(1..)
                .value_parser(clap::value_parser!(OsString))
                .help("The program and its arguments"),
        )
        .after_help(
            "The program finds the file's name in BEARER_TOKEN_FILE and reads the file before each use.\n\
             Example: runai-credential exec -- python3 train.py",
        )
}

/// Answers wrong arguments.
fn usage_error(error: Error) -> Reply {
    let hint = if error.hint == USAGE_HINT { USAGE } else { &error.hint };
    Error::new(error.kind, error.what, hint).into()
}

/// The options of `exec`.
struct Options {
    /// `--env`: a variable that gets the first token.
    variable: Option<String>,
    /// The program and its arguments; never empty.
    command: Vec<OsString>,
}

/// The variable with the path of the token's file (WLCG bearer token discovery).
const FILE_VARIABLE: &str = "BEARER_TOKEN_FILE";

/// The variable that token discovery reads before [`FILE_VARIABLE`]. An old token in it would hide the file.
const TOKEN_VARIABLE: &str = "BEARER_TOKEN";

/// Exit statuses for a program that was not started, as `env` has them (POSIX, coreutils).
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Preferred remaining validity of the token in the file.
///
/// The program has this time for a request after it has read the file. A token that lives for less than twice
/// this time is renewed after half of its lifetime.
const VALIDITY: Duration = Duration::from_secs(600);

/// Maximum pause between attempts to renew the token.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Maximum duration of one sleep. A sleep does not count the time of a suspend, but the clocks do.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Assumed lifetime of a token for which the server states none.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// Checks the name of a variable for `--env`.
///
/// # Errors
/// The rule that the name breaks.
fn variable(name: &str) -> Result<String, &'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("a name of a variable has letters, digits and _, and no digit first");
    }
    if name == FILE_VARIABLE {
        return Err("this variable names the file");
    }
    Ok(name.to_owned())
}

/// Runs the program, and ends with its exit status or by its signal.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let words: Vec<OsString> = matches.get_many("command").into_iter().flatten().cloned().collect();
    if words.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::new(Kind::Usage, "there is no program to run", USAGE));
    }
    let options = &Options { variable: matches.get_one::<String>("env").cloned(), command: words };
    let init_guard = supervise::guard_signals_as_init();
    let profile = choice.profile(host)?;
    let share = u32::try_from(RandomState::new().hash_one(()) % 16).unwrap_or_default();
    let want = TokenRequirements {
        bearer: choice.bearer(&profile),
        // Less a random share, so that programs that started together do not renew their tokens together.
        preferred_validity: VALIDITY * (100 - share) / 100,
        min_validity: None,
        exclude: None,
        detect_rejection: false,
    };
    let held = Session::new(&profile, host).token(&want)?;

    // From here on signals do not end this process, because it has a file to remove.
    let supervisor = match Supervisor::new() {
        Ok(supervisor) => supervisor,
        Err(error) => return Ok(failed(FAILED, &format!("cannot watch for signals: {error}"))),
    };
    drop(init_guard);
    let file = match TokenFile::create(&held.token, host) {
        Ok(file) => file,
        Err(error) => {
            let what = format!("there is no place for the token's file: {error}");
            let hint = "set XDG_RUNTIME_DIR to a folder of yours with mode 0700, or TMPDIR to one that you may write";
            return Ok(Reply { status: FAILED, ..Error::config(what, hint).into() });
        }
    };
    let mut command = command(options, &profile, &held, &file);
    let shared = Arc::new(Shared { file: Mutex::new(Some(file)), renewal: Mutex::new(()) });
    let renewer = Renewer { profile, want, shared: Arc::clone(&shared) };
    if let Err(error) = renewer.start(held, host) {
        return Ok(failed(FAILED, &format!("cannot start a thread: {error}")));
    }
    let child = match harden::with_original_limits(|| supervisor.start(&mut command)) {
        Ok(child) => child,
        Err(error) => {
            drop(lock(&shared.file).take());
            return Ok(not_started(options, &error));
        }
    };
    let ended = supervisor.wait(child, &shared.renewal);
    // Removes the file. The other thread then has no file and stops.
    drop(lock(&shared.file).take());
    Ok(match ended {
        Ended::Exit(status) => Reply { status, ..Reply::default() },
        Ended::Signal(signal) => Reply { status: supervise::end_by(signal), ..Reply::default() },
    })
}

/// Returns the command for the program.
///
/// The program inherits our environment without the secrets, and gets the variables for the token.
fn command(options: &Options, profile: &Profile, held: &LiveToken, file: &TokenFile) -> Command {
    let mut words = options.command.iter();
    let mut command = Command::new(words.next().map_or_else(OsString::new, OsString::clone));
    command.args(words).env_remove("RUNAI_CLIENT_SECRET").env_remove(TOKEN_VARIABLE);
    if let Proof::Secret(Source::Env(name), _) = &profile.proof {
        command.env_remove(name);
    }
    command.env(FILE_VARIABLE, file.path());
    if let Some(name) = &options.variable {
        command.env(name, held.token.expose());
    }
    command
}

/// Returns an error of `exec` itself, with an exit status of `env`.
fn failed(status: u8, what: &str) -> Reply {
    Reply { status, ..Error::new(Kind::Usage, what, "try again with -v, which shows more").into() }
}

/// Returns the error for a program that did not start.
fn not_started(options: &Options, error: &io::Error) -> Reply {
    let program = options.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (status, hint) = match error.kind() {
        io::ErrorKind::NotFound => {
            (NOT_FOUND, "check its spelling and PATH, and for a script the program in its #! line")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => (FAILED, "try again when there are fewer processes"),
        _ => (NOT_EXECUTABLE, "it must be a program, or a script with a #! line, that you may execute (chmod +x)"),
    };
    Reply { status, ..Error::new(Kind::Usage, format!("cannot run {program}: {error}"), hint).into() }
}

/// The state that the two threads share.
struct Shared {
    /// The token's file; `None` once the program has ended.
    file: Mutex<Option<TokenFile>>,
    /// Locked during a renewal. A renewal may start a secret command, which the waiting thread must not reap.
    renewal: Mutex<()>,
}

/// Locks a mutex, even if another thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews the token in the file.
struct Renewer {
    profile: Profile,
    want: TokenRequirements,
    shared: Arc<Shared>,
}

impl Renewer {
    /// Starts the second thread. This process does not wait for it.
    fn start(self, held: LiveToken, host: &dyn Host) -> io::Result<()> {
        let host = host.for_threads().ok_or(io::ErrorKind::Unsupported)?;
        std::thread::Builder::new().spawn(move || self.keep_fresh(held, host)).map(drop)
    }

    /// Writes a new token into the file whenever the old one has little validity left.
    ///
    /// After a failure it tries again, with pauses that grow. Until then the file keeps the old token. It returns
    /// when the file is gone.
    fn keep_fresh(&self, mut held: LiveToken, host: &dyn Host) {
        let random = RandomState::new();
        let mut attempts: u32 = 0;
        let mut pause = Duration::ZERO;
        loop {
            let life = validity_of(&held, host);
            let wait = if pause.is_zero() {
                due_in(life, self.want.preferred_validity).max(first_pause(life))
            } else if life.usable() {
                // The broker pauses after a failure, too. It fetches despite the pause once the token is no
                // longer usable.
                pause.min(life.left().saturating_sub(life.margin()) + Duration::from_millis(1))
            } else {
                pause
            };
            sleep(wait, host);
            if lock(&self.shared.file).is_none() {
                return;
            }
            if self.renew(&mut held, host) {
                pause = Duration::ZERO;
                continue;
            }
            let grown = if pause.is_zero() { first_pause(life) } else { (pause * 2).min(LONGEST_PAUSE) };
            attempts = attempts.wrapping_add(1);
            let share = u32::try_from(random.hash_one(attempts) % 32).unwrap_or_default();
            pause = grown * (100 - share) / 100;
        }
    }

    /// Fetches a token and writes it into the file. Returns whether the file holds a new token.
    fn renew(&self, held: &mut LiveToken, host: &dyn Host) -> bool {
        let guard = lock(&self.shared.renewal);
        let answer = Session::new(&self.profile, host).token(&self.want);
        drop(guard);
        supervise::look_again();
        let newer = match answer {
            Ok(newer) if newer.token != held.token => newer,
            Ok(_) => return false,
            Err(error) => {
                host.note(|| format!("exec: the token is not renewed: {}", error.what));
                return false;
            }
        };
        let file = lock(&self.shared.file);
        let Some(file) = &*file else { return true };
        match file.replace(&newer.token) {
            Ok(()) => {
                host.note(|| "exec: the token is renewed".to_owned());
                *held = newer;
                true
            }
            Err(error) => {
                host.note(|| format!("exec: the token's file cannot be written: {error}"));
                false
            }
        }
    }
}

/// Returns the validity of a token at this moment.
fn validity_of(held: &LiveToken, host: &dyn Host) -> Validity {
    let life = held.validity.unwrap_or(Validity { lifetime: UNKNOWN_LIFETIME, age: Duration::ZERO });
    let passed = host.now().since(held.now, || true).unwrap_or(life.lifetime);
    Validity { age: life.age.saturating_add(passed), ..life }
}

/// Returns the time until the next token should be fetched.
fn due_in(life: Validity, preferred_validity: Duration) -> Duration {
    life.left().saturating_sub(preferred_validity.min(life.lifetime / 2)) + Duration::from_millis(1)
}

/// Returns the first pause after a failure, which is also the shortest time between two renewals.
///
/// It is one second, or a twentieth of the lifetime if that is less, and at least 50 ms.
fn first_pause(life: Validity) -> Duration {
    (life.lifetime / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// Sleeps until `duration` has passed on the clocks.
///
/// A suspend of the machine counts: at most [`LONGEST_SLEEP`] after it, the thread looks at the clocks again.
fn sleep(duration: Duration, host: &dyn Host) {
    let start = host.now();
    loop {
        let passed = host.now().since(start, || true).unwrap_or(duration);
        let left = duration.saturating_sub(passed);
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LONGEST_SLEEP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_with_malformed_name_is_refused() {
        for good in ["RUNAI_TOKEN", "_x", "a1", "BEARER_TOKEN"] {
            assert_eq!(variable(good).as_deref(), Ok(good));
        }
        for bad in ["", "1A", "A=B", "A B", "A-B", "Ä", "BEARER_TOKEN_FILE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    /// A renewal is due when ten minutes are left, or half the lifetime if that is less.
    #[test]
    fn renewal_time_follows_lifetime_and_age() {
        // lifetime, age, due in: all in seconds
        for (lifetime, age, wanted) in [(3600, 0, 3000), (3600, 3000, 0), (300, 0, 150), (2, 0, 1), (3600, 9999, 0)] {
            let life = Validity { lifetime: Duration::from_secs(lifetime), age: Duration::from_secs(age) };
            assert_eq!(due_in(life, VALIDITY).as_secs(), wanted, "{lifetime} s old {age} s");
        }
    }

    #[test]
    fn first_pause_shrinks_with_the_lifetime() {
        let first = |seconds| first_pause(Validity { lifetime: Duration::from_secs(seconds), age: Duration::ZERO });
        assert_eq!(first(3600), Duration::from_secs(1));
        assert_eq!(first(2), Duration::from_millis(100));
        assert_eq!(first(0), Duration::from_millis(50));
    }
}
