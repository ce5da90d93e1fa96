//! Other programs: how to find one on the `PATH`, how to run one within limits, and which process started
//! this one.

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

/// The time limit of [`run`].
const TIMEOUT: Duration = Duration::from_secs(20);

/// The most that [`run`] reads of each output stream, in bytes.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// The end of a program and its output.
pub struct CommandOutput {
    /// Whether its exit status was 0.
    pub is_success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Returns the path of `name` on the `PATH`.
///
/// Relative folders are skipped: they depend on the working directory.
pub fn find(name: &str, host: &dyn Host) -> Option<PathBuf> {
    let path = host.var_os("PATH")?;
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// Whether this is a file that a user may execute.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| files::is_executable(&meta))
}

/// Runs a program to its end, with empty standard input and without `RUNAI_CLIENT_SECRET`.
///
/// # Errors
/// The error of the system; `TimedOut` if the program did not end in time.
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
    let deadline = Deadline::after(TIMEOUT);
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let text = |pipe: Receiver<Vec<u8>>| {
        let bytes = pipe.recv_timeout(deadline.left()).ok();
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok_or(std::io::ErrorKind::TimedOut)
    };
    let output = text(stdout).and_then(|stdout| Ok((stdout, text(stderr)?)));
    let (stdout, stderr) = output.inspect_err(|_| kill(&mut child))?;
    // The program has closed its output, so it ends soon.
    while !deadline.passed() {
        if let Some(status) = child.try_wait()? {
            return Ok(CommandOutput { is_success: status.success(), stdout, stderr });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    kill(&mut child);
    Err(std::io::ErrorKind::TimedOut.into())
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a pipe to its end in a thread of its own, so that the program never blocks on a full pipe.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut bytes));
        let _ = sender.send(bytes);
    });
    receiver
}

/// The reason why a program gave no output.
pub enum RunError {
    /// It could not be started.
    Start(std::io::Error),
    /// Its output could not be read.
    Read(std::io::Error),
    /// It printed more than the limit.
    TooMuch,
    /// It did not end before the deadline.
    Late,
}

/// Runs a command in a process group of its own. Returns its status and standard output.
///
/// Standard input is empty. The output is at most `limit` bytes. If the command exceeds a limit, the whole
/// process group is killed. Standard error is discarded, because it may contain anything, a secret included.
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
        // The output has ended. The command may still run until the deadline.
        Some(Ok(bytes)) if bytes.len() <= limit => wait_within(&mut child, deadline),
        _ => None,
    };
    if status.is_none() {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = child.kill();
        // The child may belong to another user by now (sudo) or be in another group. It cannot be killed
        // then, so this wait is short.
        let _ = wait_within(&mut child, Deadline::after(Duration::from_millis(100)));
    }
    match (output, status) {
        (Some(Ok(bytes)), Some(status)) => Ok((status, bytes)),
        (Some(Ok(bytes)), None) if bytes.len() > limit => Err(RunError::TooMuch),
        (Some(Err(error)), _) => Err(RunError::Read(error)),
        _ => Err(RunError::Late),
    }
}

/// Reads the child's standard output to its end or to one byte beyond `limit`.
///
/// Returns `None` at the deadline.
fn read_within(child: &mut Child, limit: usize, deadline: Deadline) -> Option<std::io::Result<Vec<u8>>> {
    let stdout = child.stdout.take()?;
    // If the deadline passes, the caller kills the process group. That closes the pipe and ends this thread.
    let read = run_until(deadline, "output", move || {
        let mut bytes = Vec::new();
        stdout.take(limit as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(read) => read,
        Err(error) => Some(Err(error)),
    }
}

/// Waits for the child to end. Returns `None` at the deadline.
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

/// Returns the identifier of the parent process: process id, start time and program.
///
/// No other process has it until the next boot. The program is part of it, because a process may become
/// another program and thus another client. Google's kubectl first asks for the server's version, and then
/// becomes the kubectl of that version.
pub fn caller() -> Option<String> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let mut stat = [0; 1024];
    let length = File::open(format!("/proc/{parent}/stat")).ok()?.read(&mut stat).ok()?;
    let process = id_and_start(&String::from_utf8_lossy(&stat[..length]))?;
    let program = std::fs::read_link(format!("/proc/{parent}/exe")).unwrap_or_default();
    Some(format!("{process} {}", program.display()))
}

/// Returns process id and start time from `/proc/PID/stat` (proc(5), fields 1 and 22).
///
/// Together they identify a process until the next boot.
fn id_and_start(stat: &str) -> Option<String> {
    // The second field is the program's name in parentheses. The name may contain spaces and parentheses.
    let (pid, rest) = stat.split_once(' ')?;
    let start = rest.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_with_parentheses_is_skipped() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(id_and_start(&format!("42 (kubectl) {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(id_and_start(&format!("42 (a) b) 1 2 () {fields}")).as_deref(), Some("42 4711"));
        assert_eq!(id_and_start("42 (kubectl) S 1"), None);
        assert_eq!(id_and_start(""), None);
    }
}
