//! The commands that people and their scripts call. Each file holds a command's grammar, its options and its code.

mod completions;
mod doctor;
mod exec;
mod login;
mod logout;
mod man;
mod setup;
mod status;
mod token;

use crate::helpers;
use crate::subcommand::Subcommand;

/// All commands, in the order of the help.
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

/// All subcommands, in the order of the help: those of the helpers first.
pub fn subcommands() -> impl Iterator<Item = &'static Subcommand> {
    helpers::ALL.into_iter().map(|helper| &helper.subcommand).chain(ALL)
}
