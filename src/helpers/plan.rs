//! The vocabulary of a change to a tool's configuration, and of its undo.
//!
//! A helper makes a [`Plan`] from a [`SetupContext`]; `setup` prints the plan or carries it out.

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
    /// Runs a command of the tool: the program and its arguments.
    Run(PathBuf, Vec<String>),
    /// Writes a file with this text. The file has another text, or does not exist.
    Write(PathBuf, String),
    /// Removes a file that `setup` made.
    Remove(PathBuf),
    /// Makes a symbolic link at this path to the program, which is in the same folder.
    Link(PathBuf),
}

impl Action {
    /// Returns the change as a command line, or as the path of the file and its new text.
    pub fn shown(&self) -> String {
        match self {
            Action::Run(program, args) => {
                let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let words: Vec<String> = std::iter::once(&name).chain(args).map(|word| quote(word)).collect();
                // The name of a kubeconfig context may hold control characters.
                printable(&words.join(" "), 2000) + "\n"
            }
            Action::Write(path, text) => format!("{}:\n{}\n", path.display(), text.trim_end()),
            Action::Remove(path) => format!("rm {}\n", quote(&path.display().to_string())),
            Action::Link(path) => format!("ln -s {PROGRAM} {}\n", quote(&path.display().to_string())),
        }
    }
}

/// Returns a word for a POSIX shell, in quotes if it needs them.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The changes, the state before them, and remarks for the user.
#[derive(Default)]
pub struct Plan {
    /// The changes, in the order in which `setup` makes them.
    pub actions: Vec<Action>,
    /// The state before the changes, for `--undo`. `None` means that there is nothing to undo.
    pub memory: Option<Value>,
    /// What the user has to do by hand.
    pub remarks: Vec<String>,
}

/// The input of a plan.
pub struct SetupContext<'a> {
    /// The global options.
    pub choice: &'a Choice,
    /// The machine.
    pub host: &'a dyn Host,
    /// The name of the tool.
    pub tool: &'static str,
    /// `--context`: the kubeconfig context that gets the token. `None` means the current context.
    pub kubeconfig_context: Option<&'a str>,
    /// The [`Plan::memory`] of an earlier setup of the tool.
    pub memory: Option<&'a Value>,
}

impl SetupContext<'_> {
    /// Returns the profile whose token the tool gets.
    ///
    /// # Errors
    /// As for [`Choice::profile`].
    pub fn profile(&self) -> Result<Profile> {
        self.choice.profile(self.host)
    }

    /// Finds a program on the `PATH`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is not there.
    pub fn find_tool(&self, name: &str) -> Result<PathBuf> {
        process::find(name, self.host).ok_or_else(|| {
            Error::config(
                format!("{name} is not on the PATH"),
                format!("install {name}, or put its folder on the PATH"),
            )
        })
    }

    /// Finds this program on the `PATH`, by the name that the tools look for.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is not there.
    pub fn program(&self) -> Result<PathBuf> {
        process::find(PROGRAM, self.host).ok_or_else(|| {
            Error::config(
                format!("{PROGRAM} is not on the PATH, where the tools look for it"),
                "put the folder it is installed in on the PATH (cargo install uses ~/.cargo/bin)",
            )
        })
    }

    /// Returns the action that links `name` to this program, or `None` if `name` is already on the `PATH`.
    ///
    /// A tool finds a helper by a program name of its protocol, such as `git-credential-NAME`.
    ///
    /// # Errors
    /// As for [`SetupContext::program`].
    pub fn link(&self, name: &str) -> Result<Option<Action>> {
        if process::find(name, self.host).is_some() {
            return Ok(None);
        }
        Ok(Some(Action::Link(self.program()?.with_file_name(name))))
    }

    /// Returns the origins for which the tool gets this helper.
    ///
    /// These are the hosts of the profile without the control plane, which serves neither git nor images.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if no host is left. Also with `--config`, because the tool
    /// would not pass that option.
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

    /// Returns the value that an earlier setup remembered under `key`.
    pub fn remembered(&self, key: &str) -> Option<&Value> {
        self.memory.and_then(|memory| memory.get(key))
    }

    /// Returns the actions that remove the links of earlier setups.
    pub fn remembered_links(&self) -> Vec<Action> {
        let links = self.remembered("links").and_then(Value::as_array).into_iter().flatten();
        links.filter_map(|link| Some(Action::Remove(PathBuf::from(link.as_str()?)))).collect()
    }

    /// Returns the links to remember: the links of earlier setups, and `new`.
    pub fn links(&self, new: Option<&Action>) -> Value {
        let mut links: Vec<Value> = self.remembered("links").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(Action::Link(path)) = new {
            links.push(Value::from(path.display().to_string()));
        }
        Value::from(links)
    }
}
