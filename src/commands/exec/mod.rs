//! `exec`: another program, beside a file with a token that stays fresh for as long as it runs.
//!
//! The calling thread waits for the program and passes signals on; a second one renews
//! the token. It may be within a fetch when the program ends: it is left there, as if it had been killed, and what it can
//! touch beyond the cache, the token's file, is behind a lock.

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

/// Answers arguments that make no sense.
fn usage_error(error: Error) -> Reply {
    let hint = if error.hint == USAGE_HINT { USAGE } else { &error.hint };
    Error::new(error.kind, error.what, hint).into()
}

/// What was asked for.
struct Options {
    /// `--env`: a variable that is to hold the first token.
    variable: Option<String>,
    /// The program and its arguments; never empty.
    command: Vec<OsString>,
}

/// The variable that names the token's file (WLCG bearer token discovery).
const FILE_VARIABLE: &str = "BEARER_TOKEN_FILE";

/// The variable that those who look for a token read first: an old one in it would hide the file.
const TOKEN_VARIABLE: &str = "BEARER_TOKEN";

/// Exit statuses of `env` (POSIX, coreutils) where the program was not started.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How long the token in the file should have left: time for a request of the program that has just read it. Of one that
/// lives for a shorter time than twice that, half its lifetime.
const VALIDITY: Duration = Duration::from_secs(600);

/// The longest pause between attempts to renew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest sleep: a sleep does not count the time that a machine is suspended, the clocks do.
const NAP: Duration = Duration::from_secs(10);

/// What a token is taken to live of which nobody says it.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);

/// Checks the name of a variable.
///
/// # Errors
/// What is wrong with it.
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

/// Runs the program and ends as it ended.
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
        // Less a share, so that programs that started together do not come together.
        preferred_validity: VALIDITY * (100 - share) / 100,
        min_validity: None,
        exclude: None,
        detect_rejection: false,
    };
    let held = Session::new(&profile, host).token(&want)?;

    // From here on no signal ends us: there is something to remove.
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
            drop(locked(&shared.file).take());
            return Ok(not_started(options, &error));
        }
    };
    let ended = supervisor.wait(child, &shared.renewal);
    // Also takes the file from the other thread, for good.
    drop(locked(&shared.file).take());
    Ok(match ended {
        Ended::Exit(status) => Reply { status, ..Reply::default() },
        Ended::Signal(signal) => Reply { status: supervise::end_by(signal), ..Reply::default() },
    })
}

/// The program with its environment: ours, without what is secret.
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

/// Our own failure, with the status that `env` has for such.
fn failed(status: u8, what: &str) -> Reply {
    Reply { status, ..Error::new(Kind::Usage, what, "try again; more is said with -v").into() }
}

/// Says why the program did not start.
fn not_started(options: &Options, error: &io::Error) -> Reply {
    let program = options.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (status, hint) = match error.kind() {
        io::ErrorKind::NotFound => {
            (NOT_FOUND, "check its spelling and PATH; of a script also the program in its #! line")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => (FAILED, "try again when there are fewer processes"),
        _ => (NOT_EXECUTABLE, "it must be a program, or a script with a #! line, that you may execute (chmod +x)"),
    };
    Reply { status, ..Error::new(Kind::Usage, format!("cannot run {program}: {error}"), hint).into() }
}

/// What the two threads share.
struct Shared {
    /// The token's file; nothing once the program has ended.
    file: Mutex<Option<TokenFile>>,
    /// LiveToken during a renewal, which may start a secret command that is nobody else's to wait for.
    renewal: Mutex<()>,
}

/// A lock, whatever happened to those who had it before.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews the token.
struct Renewer {
    profile: Profile,
    want: TokenRequirements,
    shared: Arc<Shared>,
}

impl Renewer {
    /// Begins, in a thread that is not waited for.
    fn start(self, held: LiveToken, host: &dyn Host) -> io::Result<()> {
        let host = host.for_threads().ok_or(io::ErrorKind::Unsupported)?;
        std::thread::Builder::new().spawn(move || self.keep_fresh(held, host)).map(drop)
    }

    /// Puts a new token into the file whenever the old one has little left, until there is no file any more. A server that
    /// fails is asked again after pauses that grow; the file stays as it is until then.
    fn keep_fresh(&self, mut held: LiveToken, host: &dyn Host) {
        let random = RandomState::new();
        let mut attempts: u32 = 0;
        let mut pause = Duration::ZERO;
        loop {
            let life = validity_of(&held, host);
            let nap = match pause.is_zero() {
                true => due_in(life, self.want.preferred_validity).max(first_pause(life)),
                // The broker has its own pause, and goes to the server regardless once the token is no longer usable.
                false => match life.usable() {
                    true => pause.min(life.left().saturating_sub(life.margin()) + Duration::from_millis(1)),
                    false => pause,
                },
            };
            sleep(nap, host);
            if locked(&self.shared.file).is_none() {
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

    /// Whether there is a new token and it is in the file.
    fn renew(&self, held: &mut LiveToken, host: &dyn Host) -> bool {
        let guard = locked(&self.shared.renewal);
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
        let file = locked(&self.shared.file);
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

/// The life of a token at this moment.
fn validity_of(held: &LiveToken, host: &dyn Host) -> Validity {
    let life = held.validity.unwrap_or(Validity { lifetime: UNKNOWN_LIFETIME, age: Duration::ZERO });
    let passed = host.now().since(held.now, || true).unwrap_or(life.lifetime);
    Validity { age: life.age.saturating_add(passed), ..life }
}

/// When the next token should be fetched.
fn due_in(life: Validity, preferred_validity: Duration) -> Duration {
    life.left().saturating_sub(preferred_validity.min(life.lifetime / 2)) + Duration::from_millis(1)
}

/// The first pause after a failure, and the shortest between two renewals: a second, or less for a token that has only a
/// few.
fn first_pause(life: Validity) -> Duration {
    (life.lifetime / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// Sleeps, by the clocks: a machine that was suspended finds out soon after it wakes.
fn sleep(nap: Duration, host: &dyn Host) {
    let start = host.now();
    loop {
        let passed = host.now().since(start, || true).unwrap_or(nap);
        let left = nap.saturating_sub(passed);
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        for good in ["RUNAI_TOKEN", "_x", "a1", "BEARER_TOKEN"] {
            assert_eq!(variable(good).as_deref(), Ok(good));
        }
        for bad in ["", "1A", "A=B", "A B", "A-B", "Ä", "BEARER_TOKEN_FILE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_renewed_with_ten_minutes_or_half_its_life_left() {
        // lifetime, age, due in: all in seconds
        for (lifetime, age, wanted) in [(3600, 0, 3000), (3600, 3000, 0), (300, 0, 150), (2, 0, 1), (3600, 9999, 0)] {
            let life = Validity { lifetime: Duration::from_secs(lifetime), age: Duration::from_secs(age) };
            assert_eq!(due_in(life, VALIDITY).as_secs(), wanted, "{lifetime} s old {age} s");
        }
    }

    #[test]
    fn pauses_are_short_where_tokens_are() {
        let first = |seconds| first_pause(Validity { lifetime: Duration::from_secs(seconds), age: Duration::ZERO });
        assert_eq!(first(3600), Duration::from_secs(1));
        assert_eq!(first(2), Duration::from_millis(100));
        assert_eq!(first(0), Duration::from_millis(50));
    }
}
