//! `setup`: makes kubectl, git or docker call this program, and undoes that.
//!
//! Each helper makes a [`Plan`](crate::helpers::plan::Plan), which this command prints (`--print`) or carries
//! out. A plan uses the tool's own command where there is one. This command saves the state before the changes
//! in `setup.json` beside the configuration. So `--undo` restores that state and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::config::ConfigFile;
use crate::error::{Error, Kind, Result, printable};
use crate::helpers::plan::{Action, SetupContext};
use crate::helpers::{self, Setup};
use crate::host::Host;
use crate::os::files::{self, Trust};
use crate::os::process::run as run_program;
use crate::reply::Reply;
use crate::session::Choice;
use crate::subcommand::{Context, PROGRAM, Subcommand, USAGE_HINT};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "setup", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Tell kubectl, git or docker to ask runai-credential")
        .arg(
            Arg::new("tool")
                .value_name("TOOL")
                .required(true)
                .value_parser(PossibleValuesParser::new(tools().map(|(name, _)| name)))
                .help("The tool to configure"),
        )
        .arg(Arg::new("print").long("print").action(ArgAction::SetTrue).help("Show what would be done, and do nothing"))
        .arg(Arg::new("undo").long("undo").action(ArgAction::SetTrue).help("Restore what was there before"))
        .arg(
            Arg::new("context")
                .long("context")
                .value_name("NAME")
                .help("kubectl: the context that is to use the token [default: the current one]"),
        )
        .after_help("Example: runai-credential setup kubectl --context acme")
}

/// Returns the tools that `setup` can configure, by name.
fn tools() -> impl Iterator<Item = (&'static str, &'static Setup)> {
    helpers::ALL.iter().filter_map(|helper| Some((helper.subcommand.name, helper.setup.as_ref()?)))
}

/// Makes a tool call this program, or undoes that.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let (print, undo) = (matches.get_flag("print"), matches.get_flag("undo"));
    let named = matches.get_one::<String>("tool").map(String::as_str);
    let Some((tool, setup)) = tools().find(|(name, _)| Some(*name) == named) else {
        return Err(Error::new(Kind::Usage, "no tool was named", USAGE_HINT));
    };
    let memory = Memory::open(choice, host)?;
    let kubeconfig_context = matches.get_one::<String>("context").map(String::as_str);
    let setup_context = SetupContext { choice, host, tool, kubeconfig_context, memory: memory.known.get(tool) };
    if undo && setup_context.memory.is_none() {
        return Ok(Reply::of(format!("Nothing to undo: setup {tool} has changed nothing.\n")));
    }
    let plan = if undo { (setup.undo)(&setup_context)? } else { (setup.plan)(&setup_context)? };
    let mut report = String::new();
    match (plan.actions.is_empty(), undo) {
        (false, _) => {}
        (true, false) => report += &format!("Nothing to change: {tool} asks runai-credential already.\n"),
        (true, true) => report += &format!("Nothing to restore: {tool} is as it was.\n"),
    }
    if !print && !undo && !plan.actions.is_empty() {
        // Saved before the first change, so that `--undo` can revert a setup that is interrupted.
        memory.clone().with(tool, plan.memory).save()?;
    }
    for action in &plan.actions {
        if !print {
            carry_out(action)?;
        }
        report += &action.shown();
    }
    if !print && undo {
        // Removed after the last change, so that the user can repeat an undo that failed.
        memory.with(tool, None).save()?;
    }
    for remark in &plan.remarks {
        let _ = writeln!(report, "note: {remark}");
    }
    Ok(Reply::of(report))
}

/// Makes one change.
fn carry_out(action: &Action) -> Result<()> {
    let failed = |what: &Path, error: &std::io::Error| {
        let what = format!("{} cannot be written: {error}", what.display());
        Error::config(what, "see who owns it and its folder, and whether the disk is full; then run setup again")
    };
    match action {
        Action::Run(program, args) => {
            let output = run_program(program, args).map_err(|error| {
                Error::config(format!("{} does not run: {error}", program.display()), "see whether it works by hand")
            })?;
            if output.is_success {
                return Ok(());
            }
            let why = printable(output.stderr.trim(), 300);
            Err(Error::config(
                format!("this failed: {}: {why}", action.shown().trim()),
                "correct that, then run setup again",
            ))
        }
        Action::Write(path, text) => files::replace(path, text.as_bytes(), 0o600).map_err(|error| failed(path, &error)),
        Action::Remove(path) => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, &error)),
            _ => Ok(()),
        },
        Action::Link(path) => files::create_link(PROGRAM, path).map_err(|error| {
            let what = format!("{} cannot be made: {error}", path.display());
            Error::config(what, format!("make that link yourself, in any folder of the PATH, to {PROGRAM}"))
        }),
    }
}

/// The state before the setups, by tool.
#[derive(Clone)]
struct Memory {
    path: PathBuf,
    known: Map<String, Value>,
}

impl Memory {
    fn open(choice: &Choice, host: &dyn Host) -> Result<Memory> {
        let path = ConfigFile::open(choice.config.as_deref(), host)?.path().with_file_name("setup.json");
        let broken = |why: String| {
            let what = format!("{}, which says what setup has changed, cannot be read: {why}", path.display());
            Error::config(what, "correct it, or remove it and undo by hand")
        };
        let known = match files::read(&path, Trust::NotWritableByAll, 1024 * 1024) {
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
            return carry_out(&Action::Remove(self.path.clone()));
        }
        let text = serde_json::to_string_pretty(&self.known).unwrap_or_default() + "\n";
        carry_out(&Action::Write(self.path.clone(), text))
    }
}
