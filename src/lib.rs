//! The credential helper for Run:ai, as a library with one entry point: [`run`].
//!
//! [`run`] receives the arguments and a [`Host`], and returns a [`Reply`]. The steps of a call:
//!
//! 1. [`cli`] finds the [`subcommand`], which belongs to one of the [`helpers`] or [`commands`].
//! 2. A helper reads the request of the tool that called.
//! 3. [`config`] finds the [`profile`].
//! 4. [`session`] calls the [`broker`], which looks for a good token in the [`cache`]. If there is none, the broker
//!    reads the [`secret`] and sends a request through the [`issuer`]. Both create what they need only then.
//! 5. The helper or command writes the [`reply`].
//!
//! `docs/architecture.md` lists the modules and their dependencies. A test compares the code with it.

#![allow(rustdoc::private_intra_doc_links, reason = "the readers of this page work on the crate")]

#[macro_use]
mod names;

mod broker;
mod cache;
mod cli;
mod commands;
mod config;
pub mod error;
mod helpers;
pub mod host;
mod http;
mod issuer;
#[cfg(test)]
mod mutation;
mod origin;
pub mod os;
mod patch;
mod profile;
mod reply;
mod secret;
mod session;
mod subcommand;
mod token;

use std::ffi::OsString;

use cli::Stop;
use host::Host;
pub use reply::{Append, Reply};
use subcommand::Context;

/// Runs the command of `args`, the first of which is the name of the program. Returns its reply.
pub fn run(args: &[OsString], host: &dyn Host) -> Reply {
    let invocation = match cli::parse(args) {
        Ok(invocation) => invocation,
        Err((Stop::Print(text), _)) => return Reply::of(text),
        Err((Stop::Usage(error), None)) => return error.into(),
        Err((Stop::Usage(error), Some(subcommand))) => {
            let refusal = helpers::check_caller(subcommand, host).err();
            return refusal.map_or_else(|| (subcommand.usage_error)(error), Reply::from);
        }
    };
    if let Err(refusal) = helpers::check_caller(invocation.subcommand, host) {
        return refusal.into();
    }
    host.set_verbose(invocation.verbose);
    let context = Context { choice: invocation.choice.clone(), host, whole_grammar: cli::whole_grammar };
    (invocation.subcommand.run)(invocation.arguments(), &context).unwrap_or_else(Reply::from)
}
