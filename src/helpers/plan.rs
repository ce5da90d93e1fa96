//! The vocabulary of a change of a tool's configuration, and of its undo.
//!
//! A helper makes a [`Plan`] out of a [`SetupContext`]; `setup` shows it or carries it out.

use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Error, Result, printable};
use crate::host::Host;
use crate::os::process;
use crate::profile::Profile;
use crate::session::Choice;
use crate::subcommand::PROGRAM;

/// One change.
pub enum Action {
    /// Run a command of the tool.
    Run(PathBuf, Vec<String>),
    /// Write a file, which now says something else or is not there.
    Write(PathBuf, String),
    /// Remove a file that we made.
    Remove(PathBuf),
    /// Make a link to the program, by its name, in the same folder.
    Link(PathBuf),
}

impl Action {
    /// As a command, or the file with what it will say.
    pub fn shown(&self) -> String {
        match self {
            Action::Run(program, args) => {
                let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let words: Vec<String> = std::iter::once(&name).chain(args).map(|word| quoted(word)).collect();
                // A context may be called anything.
                printable(&words.join(" "), 2000) + "\n"
            }
            Action::Write(path, text) => format!("{}:\n{}\n", path.display(), text.trim_end()),
            Action::Remove(path) => format!("rm {}\n", quoted(&path.display().to_string())),
            Action::Link(path) => format!("ln -s {PROGRAM} {}\n", quoted(&path.display().to_string())),
        }
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The changes, what to remember for taking them back, and what to say.
#[derive(Default)]
pub struct Plan {
    /// In the order in which they are made.
    pub actions: Vec<Action>,
    /// What was there before, for `--undo`; `None` leaves nothing to undo.
    pub memory: Option<Value>,
    /// What the user has to do by hand.
    pub remarks: Vec<String>,
}

/// Everything that a plan is made from.
pub struct SetupContext<'a> {
    /// The global options.
    pub choice: &'a Choice,
    /// The machine.
    pub host: &'a dyn Host,
    /// The name of the tool.
    pub tool: &'static str,
    /// `--context`: the context of the kubeconfig that is to use the token; the current one without it.
    pub kubeconfig_context: Option<&'a str>,
    /// What an earlier setup of the tool remembered.
    pub memory: Option<&'a Value>,
}

impl SetupContext<'_> {
    /// The profile whose token the tool is to get.
    ///
    /// # Errors
    /// As for [`Choice::profile`].
    pub fn profile(&self) -> Result<Profile> {
        self.choice.profile(self.host)
    }

    /// A tool that setup needs.
    pub fn find_tool(&self, name: &str) -> Result<PathBuf> {
        process::find(name, self.host).ok_or_else(|| {
            Error::config(
                format!("{name} is not on the PATH"),
                format!("install {name}, or put its folder on the PATH"),
            )
        })
    }

    /// Where the program is, by the name that tools will look for.
    pub fn program(&self) -> Result<PathBuf> {
        process::find(PROGRAM, self.host).ok_or_else(|| {
            Error::config(
                format!("{PROGRAM} is not on the PATH, where the tools look for it"),
                "put the folder it is installed in on the PATH (cargo install uses ~/.cargo/bin)",
            )
        })
    }

    /// The link by which a tool finds us under the name of its protocol, if it is not there yet.
    pub fn link(&self, name: &str) -> Result<Option<Action>> {
        if process::find(name, self.host).is_some() {
            return Ok(None);
        }
        Ok(Some(Action::Link(self.program()?.with_file_name(name))))
    }

    /// The origins that a tool is told about: those of the profile, without the control plane's own, which serves neither
    /// git nor images.
    pub fn hosts(&self) -> Result<Vec<String>> {
        let profile = self.profile()?;
        if self.choice.config.is_some() {
            return Err(Error::config(
                format!("{} cannot be told to use the configuration of --config", self.tool),
                "set RUNAI_CREDENTIAL_CONFIG where the tool runs, and run setup without --config",
            ));
        }
        let hosts: Vec<String> = profile
            .hosts
            .iter()
            .filter(|origin| !profile.endpoint.starts_with(&format!("{origin}/")))
            .map(ToString::to_string)
            .collect();
        if hosts.is_empty() {
            return Err(Error::config(
                format!("profile {} has no hosts, so there is nothing to tell {}", profile.name, self.tool),
                "name them: runai-credential login --host https://gitlab.acme.example, or hosts in the configuration",
            ));
        }
        Ok(hosts)
    }

    /// What an earlier setup remembered under `key`.
    pub fn remembered(&self, key: &str) -> Option<&Value> {
        self.memory.and_then(|memory| memory.get(key))
    }

    /// The links that an earlier setup made.
    pub fn remembered_links(&self) -> Vec<Action> {
        let links = self.remembered("links").and_then(Value::as_array).into_iter().flatten();
        links.filter_map(|link| Some(Action::Remove(PathBuf::from(link.as_str()?)))).collect()
    }

    /// The links to remember: those made before, and `new`.
    pub fn links(&self, new: Option<&Action>) -> Value {
        let mut links: Vec<Value> = self.remembered("links").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(Action::Link(path)) = new {
            links.push(Value::from(path.display().to_string()));
        }
        Value::from(links)
    }
}
