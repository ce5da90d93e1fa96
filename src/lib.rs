//! The credential helper for Run:ai, as a library with one entry point: [`run`].
//!
//! A call comes in as arguments and a [`Host`] and leaves as a [`Reply`]. On its way
//!
//! 1. [`cli`] finds the [`subcommand`], which is that of one of the [`helpers`] or one of the [`commands`],
//! 2. a helper reads the request of the tool that called,
//! 3. [`config`] finds the [`profile`],
//! 4. the [`broker`], by way of [`session`], finds a good token in the [`cache`], and otherwise — only then is any of this
//!    born — reads the [`secret`] and asks the [`issuer`],
//! 5. the helper or command writes the [`reply`].
//!
//! `docs/architecture.md` is the map of these modules and of their dependencies; a test holds the code to it.

#![allow(rustdoc::private_intra_doc_links, reason = "this page is read by those who work on the crate")]

mod broker;
mod cache;
mod cli;
mod commands;
mod config;
pub mod error;
mod helpers;
pub mod host;
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

/// Does what `args` ask for; the first of them is the program's name.
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
