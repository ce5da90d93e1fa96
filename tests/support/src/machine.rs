//! The program inside the test's own process, on a machine whose clock the test can move.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use runai_credential::Reply;
use runai_credential::system::{Moment, System};

use crate::Home;

/// A machine with the variables of a [`Home`], some time after now.
#[derive(Clone)]
pub struct Machine {
    pub variables: BTreeMap<String, OsString>,
    /// How far both clocks are ahead.
    pub ahead: Duration,
    /// How far both clocks are behind.
    pub behind: Duration,
    /// How far somebody has set the wall clock ahead, beyond that, in milliseconds.
    pub wall_set_by: i64,
    pub boot_id: &'static str,
    pub host: &'static str,
    /// Which process calls.
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

    /// The same machine, later.
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

    /// Also what `-v` says.
    pub fn call_noting(&self, args: &[&str]) -> (Reply, String) {
        let notes = RefCell::new(String::new());
        let millis = |time: Duration| i64::try_from(time.as_millis()).expect("a time");
        let ahead = millis(self.ahead) - millis(self.behind);
        let system = System {
            env: &|name| self.variables.get(name).cloned(),
            now: &|| {
                let now = Moment::of_machine();
                Moment { unix_ms: now.unix_ms + ahead + self.wall_set_by, boot_ms: now.boot_ms + ahead }
            },
            boot_id: &|| Some(self.boot_id.to_owned()),
            host: &|| self.host.to_owned(),
            parent: &|| self.parent.map(str::to_owned),
            stdin: &|most| Ok(self.stdin.iter().copied().take(most).collect()),
            terminal: &|| None,
            as_found: &|work| work(),
            again: |_| panic!("nothing that a test calls here needs another thread"),
            notes: &|note| {
                notes.borrow_mut().push_str(note);
                notes.borrow_mut().push('\n');
            },
            verbose: Cell::new(false),
        };
        let args: Vec<OsString> = std::iter::once(&"runai-credential").chain(args).map(OsString::from).collect();
        let reply = runai_credential::run(&args, &system);
        let notes = notes.borrow().clone();
        (reply, notes)
    }
}
