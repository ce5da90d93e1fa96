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
pub static ALL: [&Subcommand; 9] = [
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

/// The names of all subcommands, those of the helpers first.
fn names() -> impl Iterator<Item = &'static str> {
    helpers::ALL.iter().map(|helper| helper.subcommand.name).chain(ALL.iter().map(|subcommand| subcommand.name))
}
