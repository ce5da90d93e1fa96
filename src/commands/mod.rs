//! The commands that users and their scripts call.
//!
//! Each file holds the grammar, the options and the code of one command.

mod completions;
mod doctor;
mod exec;
mod login;
mod logout;
mod man;
mod secret_file;
mod setup;
mod status;
mod token;

use crate::helpers;
use crate::subcommand::Subcommand;

/// All commands, in the order in which the help lists them.
static ALL: [&Subcommand; 9] = [
    &token::SUBCOMMAND,
    &login::SUBCOMMAND,
    &logout::SUBCOMMAND,
    &status::SUBCOMMAND,
    &doctor::SUBCOMMAND,
    &setup::SUBCOMMAND,
    &completions::SUBCOMMAND,
    &man::SUBCOMMAND,
    &exec::SUBCOMMAND,
];

/// Returns all subcommands in the order of the help: first the helpers, then the commands.
pub fn subcommands() -> impl Iterator<Item = &'static Subcommand> {
    helpers::ALL.into_iter().map(|helper| &helper.subcommand).chain(ALL)
}
