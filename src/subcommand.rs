//! One subcommand: its names, its grammar and its code, in one value.
//!
//! `helpers` and `commands` each have a table `ALL` of their subcommands. `commands::subcommands` joins the
//! two tables. `cli` builds the grammar of the one subcommand that a call names.

use clap::{ArgMatches, Command};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::reply::Reply;
use crate::session::Choice;

/// The name of the program. A kubeconfig contains it, and the links of other program names lead to it.
pub const PROGRAM: &str = "runai-credential";

/// A subcommand of the program.
pub struct Subcommand {
    /// Its name on the command line.
    pub name: &'static str,
    /// Other program names that select this subcommand, such as `docker-credential-runai`.
    pub program_names: &'static [&'static str],
    /// Adds arguments and help to an empty grammar of that name.
    pub grammar: fn(Command) -> Command,
    /// Runs the subcommand with its arguments.
    pub run: fn(&ArgMatches, &Context<'_>) -> Result<Reply>,
    /// Returns the reply to arguments that the grammar rejects. A protocol may require its own exit status.
    pub usage_error: fn(Error) -> Reply,
}

/// What every subcommand receives in addition to its arguments.
pub struct Context<'a> {
    /// The global options that choose a token.
    pub choice: Choice,
    /// The machine.
    pub host: &'a dyn Host,
    /// Builds the grammar of the whole program, for completions and man pages.
    pub whole_grammar: fn() -> Command,
}

/// The hint of a usage error without a better one.
pub const USAGE_HINT: &str = "runai-credential --help lists commands and options";
