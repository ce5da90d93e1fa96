//! The credential helper for Run:ai, as a library with one door: [`run`].
//!
//! A call comes in as arguments and a [`System`] and leaves as a [`Reply`]. On its way
//!
//! 1. [`cli`] says what is asked, and by that which of the [`calls`] or [`commands`] takes over,
//! 2. the [`protocol`] of the caller reads its request,
//! 3. [`config`] finds the [`profile`],
//! 4. the [`broker`], by way of [`supply`], finds a good token in the [`cache`], and otherwise — only then is any of this
//!    born — reads the [`secret`] and asks the [`issuer`],
//! 5. the protocol writes the [`reply`].
//!
//! `docs/architecture.md` is the map of these rooms and of who may know whom; a test holds the code to it.

#![allow(rustdoc::private_intra_doc_links, reason = "this page is read by those who work on the crate")]

mod broker;
mod cache;
mod caller;
mod calls;
mod cli;
mod commands;
mod config;
pub mod error;
mod files;
mod issuer;
mod keyring;
#[cfg(test)]
mod mutation;
mod origin;
mod patch;
mod profile;
mod protocol;
mod reply;
mod secret;
mod supply;
pub mod system;
mod terminal;
mod token;
mod tools;

use std::ffi::OsString;

use cli::{Job, Stop};
pub use reply::{Append, Reply};
use system::System;
pub use terminal::Terminal;

/// Does what `args` ask for; the first of them is the program's name.
pub fn run(args: &[OsString], system: &System<'_>) -> Reply {
    let parsed = cli::parse(args);
    let may_run_under_kubectl = match &parsed {
        Ok(asked) => asked.job == Job::Kubectl,
        Err(stop) => !matches!(stop, Stop::WrongDocker(_)),
    };
    if !may_run_under_kubectl && calls::kubectl::is_caller(system) {
        return calls::kubectl::only_subcommand().into();
    }
    let asked = match parsed {
        Ok(asked) => asked,
        Err(Stop::Print(text)) => return Reply::of(text),
        Err(Stop::Wrong(error)) => return error.into(),
        Err(Stop::WrongDocker(error)) => return calls::docker::misused(&error),
    };
    system.verbose.set(asked.verbose);
    let choice = &asked.choice;
    let reply = match &asked.job {
        Job::Docker(verb) => Ok(calls::docker::answer(*verb, choice, system)),
        Job::Kubectl => calls::kubectl::answer(choice, system),
        Job::Git(verb) => Ok(calls::git::answer(verb, choice, system)),
        Job::Get => calls::engflow::answer(choice, system),
        Job::Doctor(options) => Ok(commands::doctor::run(options, choice, system)),
        Job::Setup(options) => commands::setup::run(options, choice, system),
        Job::Completions(shell) => Ok(Reply::of(cli::completions(*shell))),
        Job::Man(subcommand) => Ok(Reply::of(cli::man(subcommand.as_deref()))),
        Job::Login(login) => commands::login::login(login, choice, system),
        Job::Logout => commands::login::logout(choice, system),
        Job::Status(format) => commands::status::run(*format, choice, system),
        Job::Exec(options) => commands::exec::run(options, choice, system),
        Job::Token(options) => commands::token::run(options, choice, system),
    };
    reply.unwrap_or_else(Reply::from)
}
