//! Runs the program inside the test's own process, on a machine whose clock the test can move.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runai_credential::Reply;
use runai_credential::host::{Host, Moment};
use runai_credential::os::clock;

use crate::Home;

/// A machine with the variables of a [`Home`], at a time that the test sets.
#[derive(Clone)]
pub struct Machine {
    pub variables: BTreeMap<String, OsString>,
    /// How far both clocks are ahead.
    pub ahead: Duration,
    /// How far both clocks are behind.
    pub behind: Duration,
    /// How far the wall clock is ahead in addition, in milliseconds, as after a change by a user.
    pub wall_set_by: i64,
    pub boot_id: &'static str,
    pub host: &'static str,
    /// The process that calls the program.
    pub parent: Option<&'static str>,
    pub stdin: Vec<u8>,
}

impl Machine {
    pub fn of(home: &Home) -> Machine {
        let command = home.command(["token"]);
        let variables = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_owned())))
            .collect();
        Machine {
            variables,
            ahead: Duration::ZERO,
            behind: Duration::ZERO,
            wall_set_by: 0,
            boot_id: "one boot",
            host: "node-1",
            parent: None,
            stdin: Vec::new(),
        }
    }

    /// Returns the same machine at a later time.
    pub fn after(&self, time: Duration) -> Machine {
        Machine { ahead: self.ahead + time, ..self.clone() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Machine {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    pub fn call(&self, args: &[&str]) -> Reply {
        self.call_noting(args).0
    }

    /// Like [`Machine::call`], and also returns the notes of `-v`.
    pub fn call_noting(&self, args: &[&str]) -> (Reply, String) {
        let args: Vec<OsString> = std::iter::once(&"runai-credential").chain(args).map(OsString::from).collect();
        let call = Call { machine: self, verbose: AtomicBool::new(false), notes: Mutex::default() };
        let reply = runai_credential::run(&args, &call);
        let notes = call.notes.into_inner().expect("the notes");
        (reply, notes)
    }
}

/// One call on a machine.
struct Call<'a> {
    machine: &'a Machine,
    verbose: AtomicBool,
    notes: Mutex<String>,
}

impl Host for Call<'_> {
    fn var_os(&self, name: &str) -> Option<OsString> {
        self.machine.variables.get(name).cloned()
    }

    fn now(&self) -> Moment {
        let millis = |time: Duration| i64::try_from(time.as_millis()).expect("a time");
        let ahead = millis(self.machine.ahead) - millis(self.machine.behind);
        let now = clock::now();
        Moment { unix_ms: now.unix_ms + ahead + self.machine.wall_set_by, boot_ms: now.boot_ms + ahead }
    }

    fn boot_id(&self) -> Option<String> {
        Some(self.machine.boot_id.to_owned())
    }

    fn name(&self) -> String {
        self.machine.host.to_owned()
    }

    fn caller(&self) -> Option<String> {
        self.machine.parent.map(str::to_owned)
    }

    fn read_stdin(&self, limit: usize) -> io::Result<Vec<u8>> {
        Ok(self.machine.stdin.iter().copied().take(limit).collect())
    }

    fn is_verbose(&self) -> bool {
        self.verbose.load(Ordering::Relaxed)
    }

    fn set_verbose(&self, verbose: bool) {
        self.verbose.store(verbose, Ordering::Relaxed);
    }

    fn show_note(&self, line: &str) {
        let mut notes = self.notes.lock().expect("the notes");
        notes.push_str(line);
        notes.push('\n');
    }
}
