//! The helpers: what other tools call, one folder a tool.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | the call, from the request of the tool to the reply, and the [`Helper`] of the table |
//! | `wire.rs` | the protocol. Pure: bytes and variables in, bytes out; no cache, no HTTP, no files, no clock |
//! | `setup.rs` | how `setup` makes the tool call this program, and undoes that |
//! | `check.rs` | what `doctor` looks at in the configuration of the tool |
//!
//! No other module names a tool: subcommands, program names, `setup`, `doctor`, completions and man pages follow from [`ALL`].

pub mod check;
pub mod plan;

mod docker;
mod engflow;
mod git;
mod kubectl;

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::profile::Profile;
use crate::session::Choice;
use crate::subcommand::Subcommand;
use check::Report;
use plan::{Plan, SetupContext};

/// All helpers, in the order of the help.
pub static ALL: [&Helper; 4] = [&kubectl::HELPER, &git::HELPER, &docker::HELPER, &engflow::HELPER];

/// What a tool calls, and how the tool is told to.
pub struct Helper {
    /// The subcommand that the tool calls.
    pub subcommand: Subcommand,
    /// Returns the refusal of every other subcommand, if the environment shows that this tool started the program.
    pub refuse_others: Option<fn(&dyn Host) -> Option<Error>>,
    /// How `setup` changes the configuration of the tool.
    pub setup: Option<Setup>,
    /// Adds the findings in the configuration of the tool to a diagnosis.
    pub check: Option<fn(Option<&Profile>, &Choice, &mut Report<'_>)>,
}

/// How `setup` changes the configuration of a tool.
pub struct Setup {
    /// Plans what makes the tool call this program.
    pub plan: fn(&SetupContext<'_>) -> Result<Plan>,
    /// Plans what restores the configuration that was there before.
    pub undo: fn(&SetupContext<'_>) -> Result<Plan>,
}

/// Checks that the tool that started the program, if the environment shows one, may call this subcommand.
///
/// # Errors
/// The refusal of that tool's helper, [`Kind::Usage`].
pub fn check_caller(subcommand: &Subcommand, host: &dyn Host) -> Result<()> {
    let others = ALL.iter().filter(|helper| helper.subcommand.name != subcommand.name);
    others.filter_map(|helper| helper.refuse_others).find_map(|refuse| refuse(host)).map_or(Ok(()), Err)
}

/// Reads the request of a tool from standard input, at most `limit` bytes and one more: the protocol refuses a longer one.
///
/// `hint` says how to start the command by hand.
///
/// # Errors
/// [`Kind::Usage`].
fn read_request(limit: usize, hint: &str, host: &dyn Host) -> Result<Vec<u8>> {
    host.read_stdin(limit + 1).map_err(|error| {
        Error::new(Kind::Usage, format!("the request on standard input cannot be read: {error}"), hint)
    })
}
