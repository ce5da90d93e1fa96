//! Other programs: found on the `PATH`, run within bounds to ask or tell them something, and the one that called this one.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::files;
use crate::host::{Deadline, Host, run_until};

/// How long one of them may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most that is read of what one of them says.
const MOST: u64 = 4 * 1024 * 1024;

/// What a program said.
pub struct CommandOutput {
    /// Whether it ended with success.
    pub is_success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Where `name` is on the `PATH`. Relative folders of it are left out: they would mean the working directory.
pub fn find(name: &str, host: &dyn Host) -> Option<PathBuf> {
    let path = host.var_os("PATH")?;
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// Whether this is a file that may be run.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| files::is_executable(&meta))
}

/// Runs a program to its end, with nothing on standard input and without our secrets.
///
/// # Errors
/// That of the system; `TimedOut` if it did not end in time.
pub fn run<S: AsRef<std::ffi::OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
) -> std::io::Result<CommandOutput> {
    let mut child = Command::new(program)
        .args(args)
        .env_remove("RUNAI_CLIENT_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let deadline = Deadline::after(PATIENCE);
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let text = |pipe: Receiver<Vec<u8>>| {
        let bytes = pipe.recv_timeout(deadline.left()).ok();
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok_or(std::io::ErrorKind::TimedOut)
    };
    let said = text(stdout).and_then(|stdout| Ok((stdout, text(stderr)?)));
    let (stdout, stderr) = said.inspect_err(|_| end(&mut child))?;
    // With its streams closed it is as good as over.
    while !deadline.passed() {
        if let Some(status) = child.try_wait()? {
            return Ok(CommandOutput { is_success: status.success(), stdout, stderr });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    end(&mut child);
    Err(std::io::ErrorKind::TimedOut.into())
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a pipe to its end in a thread of its own, so that no program waits for a reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(MOST).read_to_end(&mut bytes));
        let _ = sender.send(bytes);
    });
    receiver
}

/// Why a program gave no output.
pub enum RunError {
    /// It could not be started.
    Start(std::io::Error),
    /// Its output could not be read.
    Read(std::io::Error),
    /// It printed more than allowed.
    TooMuch,
    /// It did not end before the deadline.
    Late,
}

/// Runs a command with nothing on standard input, in a process group that is killed with it; returns its status and its standard
/// output, of at most `limit` bytes.
///
/// What it writes to standard error is dropped: it may be anything, a secret included.
///
/// # Errors
/// [`RunError`].
pub fn run_in_group(
    command: &mut Command,
    limit: usize,
    deadline: Deadline,
) -> Result<(ExitStatus, Vec<u8>), RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(RunError::Start)?;
    let output = read_within(&mut child, limit, deadline);
    let status = match &output {
        // Standard output has ended; what is left of it may take no longer than the rest of the time.
        Some(Ok(bytes)) if bytes.len() <= limit => wait_within(&mut child, deadline),
        _ => None,
    };
    if status.is_none() {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = child.kill();
        // It may be another user's by now (sudo), or in another group: then it is left alone.
        let _ = wait_within(&mut child, Deadline::after(Duration::from_millis(100)));
    }
    match (output, status) {
        (Some(Ok(bytes)), Some(status)) => Ok((status, bytes)),
        (Some(Ok(bytes)), None) if bytes.len() > limit => Err(RunError::TooMuch),
        (Some(Err(error)), _) => Err(RunError::Read(error)),
        _ => Err(RunError::Late),
    }
}

/// Reads the child's standard output to its end, or one byte beyond `limit`, or until `deadline`: `None`.
fn read_within(child: &mut Child, limit: usize, deadline: Deadline) -> Option<std::io::Result<Vec<u8>>> {
    let stdout = child.stdout.take()?;
    // The thread ends with the pipe, and the pipe with the process group.
    let read = run_until(deadline, "output", move || {
        let mut bytes = Vec::new();
        stdout.take(limit as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(read) => read,
        Err(error) => Some(Err(error)),
    }
}

/// Waits for the child to end, until `deadline`: `None`.
fn wait_within(child: &mut Child, deadline: Deadline) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if deadline.passed() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2).min(deadline.left()));
    }
}

/// Returns what identifies the calling process: process id, start time and program. No other process has it until the next boot.
///
/// A process may become another program and be a new client: Google's kubectl asks a first time to find out the server's version,
/// and then turns into the kubectl of that version.
pub fn caller() -> Option<String> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let mut stat = [0; 1024];
    let length = File::open(format!("/proc/{parent}/stat")).ok()?.read(&mut stat).ok()?;
    let process = id_and_start(&String::from_utf8_lossy(&stat[..length]))?;
    let program = std::fs::read_link(format!("/proc/{parent}/exe")).unwrap_or_default();
    Some(format!("{process} {}", program.display()))
}

/// Process id and start time of a `/proc/PID/stat` (proc(5), fields 1 and 22), which together name a process for as long as
/// the machine runs.
fn id_and_start(stat: &str) -> Option<String> {
    // The second field is a name in parentheses, which may hold anything.
    let (pid, rest) = stat.split_once(' ')?;
    let start = rest.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_may_hold_anything() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(id_and_start(&format!("42 (kubectl) {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(id_and_start(&format!("42 (a) b) 1 2 () {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(id_and_start("42 (kubectl) S 1"), None);
        assert_eq!(id_and_start(""), None);
    }
}
