//! The helpers: subcommands that other tools call. Each tool has a folder.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the subcommand, from the request of the tool to the reply, and the tool's [`Helper`] |
//! | `wire.rs` | the protocol. Pure: bytes and variables in, bytes out; no cache, HTTP, file or clock |
//! | `setup.rs` | the plan by which `setup` makes the tool call this program, and its undo |
//! | `check.rs` | the findings of `doctor` in the configuration of the tool |
//!
//! [`ALL`] is the only list of tools. Subcommands, program names, `setup`, `doctor`, completions and man
//! pages follow from it.

pub mod check;
mod origin_call;
pub mod plan;

mod docker;
mod engflow;
mod git;
mod kubectl;
mod terraform;

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::profile::Profile;
use crate::session::Choice;
use crate::subcommand::Subcommand;
use check::Report;
use plan::{Plan, SetupContext};

/// All helpers, in the order in which the help lists them.
pub static ALL: [&Helper; 5] = [&kubectl::HELPER, &git::HELPER, &docker::HELPER, &engflow::HELPER, &terraform::HELPER];

/// One tool: the subcommand that it calls, and how `setup` and `doctor` treat its configuration.
pub struct Helper {
    /// The subcommand that the tool calls.
    pub subcommand: Subcommand,
    /// Refuses all other subcommands if the environment shows that this tool started the program.
    pub refuse_others: Option<fn(&dyn Host) -> Option<Error>>,
    /// How `setup` changes the configuration of the tool.
    pub setup: Option<Setup>,
    /// Adds the findings in the configuration of the tool to the report of `doctor`.
    pub check: Option<fn(Option<&Profile>, &Choice, &mut Report<'_>)>,
}

/// How `setup` changes the configuration of a tool.
pub struct Setup {
    /// Plans the changes that make the tool call this program.
    pub plan: fn(&SetupContext<'_>) -> Result<Plan>,
    /// Plans the changes that restore the configuration from before the setup.
    pub undo: fn(&SetupContext<'_>) -> Result<Plan>,
}

/// Checks that `subcommand` may run.
///
/// The environment may show which tool started the program. The helper of that tool may refuse all other
/// subcommands.
///
/// # Errors
/// [`Kind::Usage`]: the refusal of that helper.
pub fn check_caller(subcommand: &Subcommand, host: &dyn Host) -> Result<()> {
    let others = ALL.iter().filter(|helper| helper.subcommand.name != subcommand.name);
    others.filter_map(|helper| helper.refuse_others).find_map(|refuse| refuse(host)).map_or(Ok(()), Err)
}

/// Reads the request of a tool from standard input.
///
/// Returns at most `limit` bytes and one more. By the additional byte the protocol recognises a request that
/// is too long. `hint` tells the user how to run the command by hand.
///
/// # Errors
/// [`Kind::Usage`] if standard input cannot be read, is a terminal, or does not end in time.
fn read_request(limit: usize, hint: &str, host: &dyn Host) -> Result<Vec<u8>> {
    host.read_stdin(limit + 1).map_err(|error| {
        Error::new(Kind::Usage, format!("the request on standard input cannot be read: {error}"), hint)
    })
}
