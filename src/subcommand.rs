//! One subcommand: its names, its grammar and its code, in one value.
//!
//! `helpers` and `commands` each list theirs in a table `ALL`; `cli` joins the two tables and builds the grammar of the one
//! subcommand that a call names.

use clap::{ArgMatches, Command};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::reply::Reply;
use crate::session::Choice;

/// The name of the program, as a kubeconfig has it and as further names link to it.
pub const PROGRAM: &str = "runai-credential";

/// A subcommand of the program.
pub struct Subcommand {
    /// Its name on the command line.
    pub name: &'static str,
    /// Further names of the program that stand for this subcommand, such as `docker-credential-runai`.
    pub program_names: &'static [&'static str],
    /// Adds arguments and help to an empty grammar of that name.
    pub grammar: fn(Command) -> Command,
    /// Does what the arguments ask for.
    pub run: fn(&ArgMatches, &Context<'_>) -> Result<Reply>,
    /// Answers arguments that the grammar rejects. A protocol may have another exit status for them.
    pub usage_error: fn(Error) -> Reply,
}

/// What every subcommand receives beside its own arguments.
pub struct Context<'a> {
    /// The global options that choose a token.
    pub choice: Choice,
    /// The machine.
    pub host: &'a dyn Host,
    /// Builds the grammar of the whole program, for completions and man pages.
    pub whole_grammar: fn() -> Command,
}

/// The hint under a usage error that has no better one.
pub const USAGE_HINT: &str = "runai-credential --help lists commands and options";
