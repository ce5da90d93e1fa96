//! A desktop session for one test: a message bus with a real Secret Service (gnome-keyring).

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::home::{Home, Outcome, Running};

/// The password of the keyring.
const PASSWORD: &str = "of the keyring";

/// A bus in the home's run-time folder, where the program looks for it. The bus starts no services.
pub struct Session<'a> {
    home: &'a Home,
    bus: Child,
    daemon: Option<Child>,
}

impl<'a> Session<'a> {
    /// Starts a bus without a keyring.
    pub fn without_keyring(home: &'a Home) -> Session<'a> {
        let socket = home.run_dir().join("bus");
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            socket.display()
        );
        let config = home.write("bus.conf", config, 0o600);
        let mut command = home.tool("dbus-daemon", ["--nofork", "--nopidfile"]);
        command.arg(format!("--config-file={}", config.display())).stderr(Stdio::null()).stdout(Stdio::null());
        let bus = command.spawn().expect("start dbus-daemon (Debian package dbus)");
        wait_for("the bus", || socket.exists());
        Session { home, bus, daemon: None }
    }

    /// Starts a bus with an unlocked keyring.
    pub fn start(home: &'a Home) -> Session<'a> {
        let mut session = Session::without_keyring(home);
        session.start_keyring(true);
        session
    }

    /// Starts the keyring's daemon. It finds the secrets that an earlier daemon stored.
    pub fn start_keyring(&mut self, unlocked: bool) {
        let mut command = self.home.tool("gnome-keyring-daemon", ["--foreground", "--components=secrets"]);
        if unlocked {
            command.arg("--unlock");
        }
        command.env("XDG_DATA_HOME", self.home.path().join("data")).stdin(Stdio::piped());
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", self.home.run_dir().join("bus").display()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = command.spawn().expect("start gnome-keyring-daemon (Debian package gnome-keyring)");
        let mut stdin = daemon.stdin.take().expect("a pipe");
        stdin.write_all(PASSWORD.as_bytes()).expect("write the password");
        drop(stdin);
        self.daemon = Some(daemon);
        let owned = || {
            let asked = "--session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner";
            let mut ask = self.home.tool("dbus-send", asked.split(' ').chain(["string:org.freedesktop.secrets"]));
            self.in_session(&mut ask);
            Running::start(&mut ask).finish().stdout.contains("boolean true")
        };
        wait_for("the keyring", owned);
        if unlocked {
            // The daemon reports success even for a wrong password. Only a stored secret proves that it is unlocked.
            wait_for("the keyring to open", || {
                let mut store = self.home.tool("secret-tool", ["store", "--label=canary", "canary", "yes"]);
                store.stdin(Stdio::piped());
                self.in_session(&mut store);
                let mut running = Running::start(&mut store);
                running.feed(b"canary".to_vec());
                running.finish().code == Some(0)
            });
            self.secret_tool(&["clear", "canary", "yes"]);
        }
    }

    fn in_session(&self, command: &mut Command) {
        let bus = format!("unix:path={}", self.home.run_dir().join("bus").display());
        command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    }

    /// Ends the keyring's daemon.
    pub fn end_keyring(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Locks the keyring: replaces the daemon with one that does not know the password.
    pub fn lock(&mut self) {
        self.end_keyring();
        self.start_keyring(false);
    }

    /// Stops the keyring's daemon with SIGSTOP: it runs and never answers.
    pub fn freeze(&self) {
        let daemon = self.daemon.as_ref().expect("a keyring").id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &daemon]).status().expect("run kill");
        assert!(stopped.success());
    }

    /// Runs the keyring's own program.
    pub fn secret_tool(&self, args: &[&str]) -> Outcome {
        let mut command = self.home.tool("secret-tool", args);
        self.in_session(&mut command);
        Running::start(&mut command).finish()
    }

    /// Stores a secret with the keyring's own program.
    pub fn secret_tool_store(&self, secret: &str, attributes: &[&str]) {
        let mut command = self.home.tool("secret-tool", ["store", "--label=by hand"].iter().chain(attributes));
        self.in_session(&mut command);
        command.stdin(Stdio::piped());
        let mut running = Running::start(&mut command);
        running.feed(secret.as_bytes().to_vec());
        running.finish().code(0);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.end_keyring();
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

/// Starts a bus that accepts calls and never answers. It exists as long as the value.
pub fn mute_bus(home: &Home) -> UnixListener {
    UnixListener::bind(home.run_dir().join("bus")).expect("a socket")
}

#[track_caller]
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < patience, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the program at its own terminal, with a person who waits for each text and then types the answer.
///
/// The standard output of the outcome is the text that the terminal showed.
pub fn at_terminal(home: &Home, args: &[&str], dialogue: &[(&str, &str)]) -> Outcome {
    let program = crate::program();
    person(home, &[&[program.to_str().expect("a path in UTF-8")], args].concat(), dialogue)
}

/// Like [`at_terminal`], for any command with its full path.
pub fn person(home: &Home, line: &[&str], dialogue: &[(&str, &str)]) -> Outcome {
    const PERSON: &str = r"
import json, os, pty, select, sys
dialogue, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
shown, since = b'', 0
while True:
    ready, _, _ = select.select([terminal], [], [], 30)
    if not ready:
        sys.stdout.write(shown.decode() + '\n(nothing more came)\n'); os.kill(pid, 9); break
    try:
        got = os.read(terminal, 4096)
    except OSError:
        break
    if not got:
        break
    shown += got
    if dialogue and dialogue[0][0].encode() in shown[since:]:
        since = len(shown)
        os.write(terminal, dialogue.pop(0)[1].encode())
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(shown.decode().replace('\r\n', '\n'))
sys.exit(status if status >= 0 else 128 - status)
";
    let dialogue = serde_json::to_string(dialogue).expect("a value prints");
    Running::start(&mut home.tool("python3", ["-c", PERSON, &dialogue].iter().chain(line))).finish()
}

/// Returns the number of the keyring's files.
pub fn keyring_files(home: &Home) -> usize {
    fs::read_dir(home.path().join("data/keyrings")).map_or(0, Iterator::count)
}
