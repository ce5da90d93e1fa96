//! `setup`: tells kubectl, git or docker to ask us, by the tool's own command where it has one, and takes that back.
//!
//! Each tool makes a [`Plan`], which is then shown (`--print`) or carried out. What was there before is kept in
//! `setup.json` beside the configuration, so that `--undo` restores it and nothing else.

mod docker;
mod git;
mod kubectl;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{self, File};
use crate::error::{Error, Result, printable};
use crate::files::{self, Links};
use crate::profile::Profile;
use crate::reply::Reply;
use crate::supply::Choice;
use crate::system::System;
use crate::tools;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Whom to tell.
    pub tool: Tool,
    /// `--print`: show what would be done.
    pub print: bool,
    /// `--undo`: take it back.
    pub undo: bool,
    /// `--context` of kubectl; the current one without it.
    pub context: Option<String>,
}

/// A tool that can be told to ask us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// kubectl, and whatever else reads a kubeconfig.
    Kubectl,
    /// git.
    Git,
    /// docker, and whatever else reads its configuration.
    Docker,
}

impl Tool {
    /// The names on the command line.
    pub const NAMES: [&'static str; 3] = ["kubectl", "git", "docker"];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Tool> {
        match name {
            "kubectl" => Some(Tool::Kubectl),
            "git" => Some(Tool::Git),
            "docker" => Some(Tool::Docker),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// One change.
enum Action {
    /// Run a command of the tool.
    Run(PathBuf, Vec<String>),
    /// Write a file, which now says something else or is not there.
    Write(PathBuf, String),
    /// Remove a file that we made.
    Remove(PathBuf),
    /// Make a link to the program, by its name, in the same folder.
    Link(PathBuf),
}

/// The changes, what to remember for taking them back, and what to say.
#[derive(Default)]
struct Plan {
    actions: Vec<Action>,
    /// What was there before; `None` remembers nothing more.
    memory: Option<Value>,
    /// What somebody has to do who can do more than we.
    remarks: Vec<String>,
}

/// Everything that a plan is made from.
struct Scene<'a> {
    choice: &'a Choice,
    system: &'a System<'a>,
    options: &'a Options,
    /// What an earlier setup of the tool remembered.
    memory: Option<&'a Value>,
}

/// The name of the program, as a kubeconfig has it and the helpers' names link to it.
const PROGRAM: &str = "runai-credential";

/// Tells a tool to ask us, or takes that back.
///
/// # Errors
/// Whatever stands in the way.
pub fn run(options: &Options, choice: &Choice, system: &System<'_>) -> Result<Reply> {
    let memory = Memory::open(choice, system)?;
    let tool = options.tool.name();
    let scene = Scene { choice, system, options, memory: memory.known.get(tool) };
    let plan = match (options.tool, options.undo) {
        (_, true) if scene.memory.is_none() => {
            return Ok(Reply::of(format!("Nothing to undo: setup {tool} has changed nothing.\n")));
        }
        (Tool::Kubectl, false) => kubectl::plan(&scene)?,
        (Tool::Kubectl, true) => kubectl::undo(&scene)?,
        (Tool::Git, false) => git::plan(&scene)?,
        (Tool::Git, true) => git::undo(&scene)?,
        (Tool::Docker, false) => docker::plan(&scene)?,
        (Tool::Docker, true) => docker::undo(&scene)?,
    };
    let mut said = String::new();
    match (plan.actions.is_empty(), options.undo) {
        (false, _) => {}
        (true, false) => said += &format!("Nothing to change: {tool} asks runai-credential already.\n"),
        (true, true) => said += &format!("Nothing to restore: {tool} is as it was.\n"),
    }
    let keeps = !options.print && !plan.actions.is_empty();
    if keeps && !options.undo {
        // First what is needed for the way back.
        memory.clone().with(tool, plan.memory).save()?;
    }
    for action in &plan.actions {
        if !options.print {
            action.carry_out()?;
        }
        said += &action.shown();
    }
    if !options.print && options.undo {
        // Last, so that what failed can be tried again.
        memory.with(tool, None).save()?;
    }
    for remark in &plan.remarks {
        let _ = writeln!(said, "note: {remark}");
    }
    Ok(Reply::of(said))
}

impl Action {
    fn carry_out(&self) -> Result<()> {
        let failed = |what: &Path, error: &std::io::Error| {
            let what = format!("{} cannot be written: {error}", what.display());
            Error::config(what, "see who owns it and its folder, and whether the disk is full; then run setup again")
        };
        match self {
            Action::Run(program, args) => {
                let said = tools::run(program, args).map_err(|error| {
                    Error::config(
                        format!("{} does not run: {error}", program.display()),
                        "see whether it works by hand",
                    )
                })?;
                if said.is_success {
                    return Ok(());
                }
                let why = printable(said.stderr.trim(), 300);
                Err(Error::config(
                    format!("this failed: {}: {why}", self.shown().trim()),
                    "correct that, then run setup again",
                ))
            }
            Action::Write(path, text) => {
                config::replace(path, text.as_bytes(), 0o600).map_err(|error| failed(path, &error))
            }
            Action::Remove(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, &error)),
                _ => Ok(()),
            },
            Action::Link(path) => std::os::unix::fs::symlink(PROGRAM, path).map_err(|error| {
                let what = format!("{} cannot be made: {error}", path.display());
                Error::config(what, format!("make that link yourself, in any folder of the PATH, to {PROGRAM}"))
            }),
        }
    }

    /// As a command, or the file with what it will say.
    fn shown(&self) -> String {
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

impl Scene<'_> {
    fn profile(&self) -> Result<Profile> {
        self.choice.profile(self.system)
    }

    /// A tool that setup needs.
    fn tool(&self, name: &str) -> Result<PathBuf> {
        tools::find(name, self.system).ok_or_else(|| {
            Error::config(
                format!("{name} is not on the PATH"),
                format!("install {name}, or put its folder on the PATH"),
            )
        })
    }

    /// Where the program is, by the name that tools will look for.
    fn program(&self) -> Result<PathBuf> {
        tools::find(PROGRAM, self.system).ok_or_else(|| {
            Error::config(
                format!("{PROGRAM} is not on the PATH, where the tools look for it"),
                "put the folder it is installed in on the PATH (cargo install uses ~/.cargo/bin)",
            )
        })
    }

    /// The link by which a tool finds us under the name of its protocol, if it is not there yet.
    fn link(&self, name: &str) -> Result<Option<Action>> {
        if tools::find(name, self.system).is_some() {
            return Ok(None);
        }
        Ok(Some(Action::Link(self.program()?.with_file_name(name))))
    }

    /// The origins that a tool is told about: those of the profile, without the control plane's own, which serves neither
    /// git nor images.
    fn hosts(&self) -> Result<Vec<String>> {
        let profile = self.profile()?;
        if self.choice.config.is_some() {
            return Err(Error::config(
                format!("{} cannot be told to use the configuration of --config", self.options.tool.name()),
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
                format!(
                    "profile {} has no hosts, so there is nothing to tell {}",
                    profile.name,
                    self.options.tool.name()
                ),
                "name them: runai-credential login --host https://gitlab.acme.example, or hosts in the configuration",
            ));
        }
        Ok(hosts)
    }

    /// What an earlier setup remembered under `key`.
    fn remembered(&self, key: &str) -> Option<&Value> {
        self.memory.and_then(|memory| memory.get(key))
    }

    /// The links that an earlier setup made.
    fn remembered_links(&self) -> Vec<Action> {
        let links = self.remembered("links").and_then(Value::as_array).into_iter().flatten();
        links.filter_map(|link| Some(Action::Remove(PathBuf::from(link.as_str()?)))).collect()
    }

    /// The links to remember: those made before, and `new`.
    fn links(&self, new: Option<&Action>) -> Value {
        let mut links: Vec<Value> = self.remembered("links").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(Action::Link(path)) = new {
            links.push(Value::from(path.display().to_string()));
        }
        Value::from(links)
    }
}

/// What the setups remember, by tool.
#[derive(Clone)]
struct Memory {
    path: PathBuf,
    known: Map<String, Value>,
}

impl Memory {
    fn open(choice: &Choice, system: &System<'_>) -> Result<Memory> {
        let path = File::open(choice.config.as_deref(), system)?.path().with_file_name("setup.json");
        let broken = |why: String| {
            let what = format!("{}, which says what setup has changed, cannot be read: {why}", path.display());
            Error::config(what, "correct it, or remove it and undo by hand")
        };
        let known = match files::read(&path, Links::Followed, 1024 * 1024, files::not_writable_by_all) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(broken(error.to_string())),
        };
        Ok(Memory { path, known })
    }

    fn with(mut self, tool: &str, memory: Option<Value>) -> Memory {
        match memory {
            Some(memory) => drop(self.known.insert(tool.to_owned(), memory)),
            None => drop(self.known.remove(tool)),
        }
        self
    }

    fn save(&self) -> Result<()> {
        if self.known.is_empty() {
            return Action::Remove(self.path.clone()).carry_out();
        }
        let text = serde_json::to_string_pretty(&self.known).unwrap_or_default() + "\n";
        Action::Write(self.path.clone(), text).carry_out()
    }
}
