//! A fresh home directory for each test, and the program run in it. Its environment has only the test's variables.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::issuer::wire::{lock, raise_file_limit, spawn};
use crate::issuer::{CLIENT_ID, CLIENT_SECRET, Issuer, REALM};

/// The C library's text for a link that leads to itself.
pub const LINK_LOOP: &str =
    if cfg!(target_env = "musl") { "Symbolic link loop" } else { "Too many levels of symbolic links" };

/// The name of the profile in [`Home::keycloak`]'s configuration.
pub const PROFILE: &str = "prod";

/// The limit for any call, because a test that hangs reports nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A home directory, removed at the end of the test. Its folders have mode 0700: `config/`, `cache/` and `run/` (the
/// XDG directories) and `work/` (the working directory of the program).
pub struct Home {
    dir: TempDir,
}

impl Home {
    pub fn new() -> Home {
        let dir = tempfile::Builder::new()
            .prefix("runai-credential-test-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .expect("make a temporary home");
        let home = Home { dir };
        for name in ["config", "cache", "run", "work"] {
            make_dir(&home.path().join(name));
        }
        home
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the program's cache folder, which the program makes itself.
    pub fn cache_dir(&self) -> PathBuf {
        self.path().join("cache/runai-credential")
    }

    pub fn config_file(&self) -> PathBuf {
        self.path().join("config/runai-credential/config.json")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn work_dir(&self) -> PathBuf {
        self.path().join("work")
    }

    /// Writes a file with exactly this mode, independent of the umask. Its folders get mode 0700.
    pub fn write(&self, relative: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path().join(relative);
        make_dir(path.parent().expect("a path below the home"));
        let wrote = (|| {
            // The file must not be readable by others at any moment, because a test may check that.
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes.as_ref())?;
            file.set_permissions(Permissions::from_mode(mode))
        })();
        wrote.unwrap_or_else(|error: io::Error| panic!("write {}: {error}", path.display()));
        path
    }

    /// Makes a FIFO. A process that opens it blocks until another opens its other end.
    pub fn fifo(&self, relative: impl AsRef<Path>) -> PathBuf {
        let path = self.path().join(relative);
        make_dir(path.parent().expect("a path below the home"));
        let made = Command::new("mkfifo").arg("--").arg(&path).status().expect("run mkfifo");
        assert!(made.success(), "mkfifo {}: {made}", path.display());
        path
    }

    /// Writes the program's configuration file.
    pub fn config(&self, config: &Value) -> PathBuf {
        let text = serde_json::to_string_pretty(config).expect("a value prints");
        self.write(self.config_file(), text, 0o600)
    }

    /// Configures one profile for this issuer's Keycloak endpoint, with the right secret in a file.
    ///
    /// Returns the configuration, which a test may change and write again.
    pub fn keycloak(&self, issuer: &Issuer) -> Value {
        self.keycloak_at(issuer.url(), issuer.ca_pem())
    }

    /// Like [`Home::keycloak`], for any server with Keycloak's paths.
    pub fn keycloak_at(&self, url: &str, ca_pem: &str) -> Value {
        let secret = self.write("secret", format!("{CLIENT_SECRET}\n"), 0o600);
        let ca = self.write("ca.pem", ca_pem, 0o644);
        let config = json!({"profiles": {PROFILE: {
            "url": url,
            "realm": REALM,
            "client_id": CLIENT_ID,
            "client_secret": {"file": secret},
            "ca_file": ca,
        }}});
        self.config(&config);
        config
    }

    /// Like [`Home::keycloak`], with these keys added to the profile or replaced in it. `null` removes a key.
    pub fn keycloak_with(&self, issuer: &Issuer, keys: Value) -> Value {
        let mut config = self.keycloak(issuer);
        if let (Some(profile), Value::Object(keys)) = (config["profiles"][PROFILE].as_object_mut(), keys) {
            profile.extend(keys);
            profile.retain(|_, value| !value.is_null());
        }
        self.config(&config);
        config
    }

    /// Returns the program's command with these arguments, in this home, with an empty standard input.
    pub fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.tool(crate::program(), args)
    }

    /// Puts a link to the program with this name on this home's `PATH`.
    pub fn install(&self, name: &str) {
        let bin = self.path().join("bin");
        make_dir(&bin);
        let made = symlink(crate::program(), bin.join(name));
        made.unwrap_or_else(|error| panic!("link {name}: {error}"));
    }

    /// Returns the command of another program in this home. It finds the links of [`Home::install`] on its `PATH`.
    pub fn tool<S: AsRef<str>>(&self, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
        reset_ignored_signals();
        let mut command = Command::new(program);
        command
            .args(args.into_iter().map(|arg| arg.as_ref().to_owned()))
            .env_clear()
            .env("HOME", self.path())
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("XDG_RUNTIME_DIR", self.run_dir())
            .env("PATH", format!("{}:/usr/bin:/bin", self.path().join("bin").display()))
            .env("LANG", "C.UTF-8")
            .current_dir(self.work_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.run_with(args, |_| {})
    }

    /// Runs the program with a changed command: variables, directory, streams.
    #[track_caller]
    pub fn run_with<S: AsRef<str>>(
        &self,
        args: impl IntoIterator<Item = S>,
        change: impl FnOnce(&mut Command),
    ) -> Outcome {
        let mut command = self.command(args);
        change(&mut command);
        Running::start(&mut command).finish()
    }

    /// Runs the program with this standard input.
    #[track_caller]
    pub fn run_fed<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: impl Into<Vec<u8>>) -> Outcome {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut running = Running::start(&mut command);
        running.feed(input.into());
        running.finish()
    }

    /// Runs the program `count` times at once, with the same arguments.
    #[track_caller]
    pub fn spawn_many<S: AsRef<str>>(&self, count: usize, args: impl IntoIterator<Item = S>) -> Vec<Outcome> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Running::at_once((0..count).map(|_| self.command(&args)).collect())
    }

    /// Returns everything below the home except folders, by relative path, with its permission bits.
    pub fn files(&self) -> BTreeMap<PathBuf, u32> {
        const TYPE: u32 = 0o170_000;
        const DIRECTORY: u32 = 0o040_000;
        let entries = self.tree().into_iter();
        let files = entries.filter(|(_, mode)| mode & TYPE != DIRECTORY);
        files.map(|(path, mode)| (path, mode & 0o7777)).collect()
    }

    /// Returns everything below the home, by relative path, with the full `st_mode`.
    pub fn tree(&self) -> BTreeMap<PathBuf, u32> {
        let mut found = BTreeMap::new();
        walk(self.path(), &mut |path, metadata| {
            let relative = path.strip_prefix(self.path()).unwrap_or(path);
            found.insert(relative.to_owned(), metadata.permissions().mode());
        });
        found
    }

    /// Returns the regular files below the home that contain these bytes, by relative path.
    pub fn grep(&self, needle: impl AsRef<[u8]>) -> Vec<PathBuf> {
        let needle = needle.as_ref();
        assert!(!needle.is_empty(), "every file contains nothing");
        let mut found = Vec::new();
        walk(self.path(), &mut |path, metadata| {
            if !metadata.is_file() {
                return;
            }
            let bytes = fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path.strip_prefix(self.path()).unwrap_or(path).to_owned());
            }
        });
        found.sort();
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test may have removed the right to write, which the removal of the home needs.
        walk(self.dir.path(), &mut |path, metadata| {
            if metadata.is_dir() {
                let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
            }
        });
    }
}

/// A started program. Threads collect its output.
pub struct Running {
    child: Child,
    what: String,
    started: Instant,
    stdout: Collected,
    stderr: Collected,
    /// Gets one message for each pipe that reaches its end. `pipes` counts the open ones.
    ends: Receiver<()>,
    pipes: usize,
}

type Collected = Arc<Mutex<Vec<u8>>>;

impl Running {
    /// Starts any command. Threads read its pipes all the time, so that it never blocks.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let what = describe(command);
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {what}: {error}"));
        let (end, ends) = mpsc::channel();
        let mut pipes = 0;
        let mut stdout = Collected::default();
        let mut stderr = Collected::default();
        if let Some(pipe) = child.stdout.take() {
            stdout = collect(pipe, end.clone());
            pipes += 1;
        }
        if let Some(pipe) = child.stderr.take() {
            stderr = collect(pipe, end);
            pipes += 1;
        }
        Running { child, what, started, stdout, stderr, ends, pipes }
    }

    /// Runs these commands to their ends and starts all of them at once.
    #[track_caller]
    pub fn at_once(commands: Vec<Command>) -> Vec<Outcome> {
        raise_file_limit();
        // All threads are ready before the first command starts.
        let ready = Arc::new(Barrier::new(commands.len()));
        let threads: Vec<_> = commands
            .into_iter()
            .map(|mut command| {
                let ready = Arc::clone(&ready);
                spawn("storm", move || {
                    ready.wait();
                    Running::start(&mut command).finish()
                })
            })
            .collect();
        let outcomes = threads.into_iter().map(thread::JoinHandle::join);
        outcomes.map(|outcome| outcome.expect("see the panic above")).collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL. [`Running::finish`] returns the output until then.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Writes this input to the program's standard input, which must be a pipe, and closes it.
    pub fn feed(&mut self, input: Vec<u8>) {
        let mut stdin = self.child.stdin.take().expect("stdin is a pipe");
        // In a thread, because a program that does not read would block the test. A program that has ended is no error.
        spawn("feed", move || drop(stdin.write_all(&input)));
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        // The pipes end with the program, which wakes this loop at once. If a child of the program keeps them open, the
        // loop looks at the program itself every 50 ms.
        let mut status = None;
        while status.is_none() {
            let nap = Duration::from_millis(if self.pipes > 0 { 50 } else { 1 });
            if self.pipes > 0 && self.wait_for_pipe(nap) {
                continue;
            }
            status = self.child.try_wait().expect("wait for a child");
            if status.is_none() && self.pipes == 0 {
                thread::sleep(nap);
            }
            if status.is_none() && self.started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                status = self.child.wait().ok();
                let outcome = self.outcome(status.expect("status of a killed child"));
                panic!("still running after {PATIENCE:?}, killed\n{outcome}");
            }
        }
        let elapsed = self.started.elapsed();
        // With many processes, a process that was just forked for another test holds these pipes until it runs its
        // program. Without this time, it would count as a process that was left behind.
        let grace = Duration::from_secs(2);
        while self.pipes > 0 && self.wait_for_pipe(grace) {}
        Outcome { elapsed, ..self.outcome(status.expect("the loop ended")) }
    }

    /// Returns whether a pipe reached its end within this time.
    fn wait_for_pipe(&mut self, time: Duration) -> bool {
        let ended = self.ends.recv_timeout(time) != Err(RecvTimeoutError::Timeout);
        self.pipes -= usize::from(ended);
        ended
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        Outcome {
            what: self.what.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&lock(&self.stdout)).into_owned(),
            stderr: String::from_utf8_lossy(&lock(&self.stderr)).into_owned(),
            elapsed: self.started.elapsed(),
            left_behind: self.pipes > 0,
        }
    }
}

/// The result of a program, with assertions that print all of it when they fail.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line.
    pub what: String,
    /// `None`: a signal ended the program.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
    /// A process that outlived the program still had its stdout or stderr open.
    pub left_behind: bool,
}

impl Outcome {
    #[track_caller]
    pub fn code(&self, code: i32) -> &Outcome {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        self
    }

    #[track_caller]
    pub fn stdout_is(&self, expected: impl AsRef<str>) -> &Outcome {
        let expected = expected.as_ref();
        assert!(self.stdout == expected, "expected on stdout:\n{expected}\n{self}");
        self
    }

    #[track_caller]
    pub fn stdout_has(&self, part: &str) -> &Outcome {
        assert!(self.stdout.contains(part), "expected within stdout: {part:?}\n{self}");
        self
    }

    #[track_caller]
    pub fn stderr_is(&self, expected: impl AsRef<str>) -> &Outcome {
        let expected = expected.as_ref();
        assert!(self.stderr == expected, "expected on stderr:\n{expected}\n{self}");
        self
    }

    #[track_caller]
    pub fn stderr_has(&self, part: &str) -> &Outcome {
        assert!(self.stderr.contains(part), "expected within stderr: {part:?}\n{self}");
        self
    }

    /// Asserts that standard error is empty.
    #[track_caller]
    pub fn silent(&self) -> &Outcome {
        assert!(self.stderr.is_empty(), "expected nothing on stderr\n{self}");
        self
    }

    #[track_caller]
    pub fn within(&self, time: Duration) -> &Outcome {
        assert!(self.elapsed <= time, "expected an end within {time:?}\n{self}");
        self
    }

    /// Returns standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("expected JSON on stdout: {error}\n{self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- {}", self.what)?;
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "--- exit code {code}")?,
            (None, signal) => write!(f, "--- signal {}", signal.unwrap_or_default())?,
        }
        let left = if self.left_behind { ", but a child of its still has its output open" } else { "" };
        writeln!(f, " after {:?}{left}", self.elapsed)?;
        writeln!(f, "--- stdout ({} bytes)\n{}", self.stdout.len(), self.stdout)?;
        write!(f, "--- stderr ({} bytes)\n{}", self.stderr.len(), self.stderr)
    }
}

/// Returns whether a process that was started by another one ends within five seconds. A zombie counts as ended.
pub fn process_ends(pid: &str) -> bool {
    let number = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    let begun = Instant::now();
    while rustix::process::test_kill_process(number).is_ok() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')) {
            break;
        }
        if begun.elapsed() > Duration::from_secs(5) {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

fn collect(mut pipe: impl Read + Send + 'static, end: Sender<()>) -> Collected {
    let collected = Collected::default();
    let sink = Arc::clone(&collected);
    spawn("collect", move || {
        let mut chunk = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut chunk) {
            lock(&sink).extend_from_slice(&chunk[..read]);
        }
        // The receiver is gone if a child of the program held the pipe for long.
        let _ = end.send(());
    });
    collected
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Visits everything below a folder, and a folder before its content. It follows no links.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    // An entry that was removed meanwhile, or that cannot be read, is skipped.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(metadata) = entry.metadata() {
            visit(&entry.path(), &metadata);
            if metadata.is_dir() {
                walk(&entry.path(), visit);
            }
        }
    }
}

#[track_caller]
fn make_dir(path: &Path) {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
}

/// Restores the default action of signals that this process ignores, for its children. `nohup` and a shell's background
/// jobs start a process that way.
///
/// A shell cannot trap a signal that it was started to ignore (POSIX, `trap`). A signal with a handler has its default
/// action after `exec`, and the handler here does the default action as well.
fn reset_ignored_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(signal, always).expect("handle a signal");
        }
    });
}
