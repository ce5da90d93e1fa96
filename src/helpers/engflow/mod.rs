//! `get`: headers for a URL.

mod wire;

use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::broker::TokenRequirements;
use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, read_request};
use crate::reply::Reply;
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};
use wire::{EARLY, MAX_REQUEST, Request};

/// The helper.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand { name: "get", program_names: &[], grammar, run, usage_error: Reply::from },
    refuse_others: None,
    setup: None,
    check: None,
};

/// A token that is not over as soon as it is told.
const RATHER: Duration = EARLY.saturating_mul(2);

fn grammar(command: Command) -> Command {
    command
        .about("Answer Bazel and other HTTP tools (EngFlow credential helper)")
        .after_help(
            "Called by a tool that wants the headers for a URL. Example, for Bazel: --credential_helper=*.acme.example=/path/to/runai-credential",
        )
}

/// Answers a tool that is about to send a request. The specification asks for an error for a URL that is not ours.
fn run(_: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    const HINT: &str =
        "let the tool call this command, or try it with: echo '{\"uri\":\"https://HOST/\"}' | runai-credential get";
    let (choice, host) = (&context.choice, context.host);
    let input = read_request(MAX_REQUEST, HINT, host)?;
    let request = Request::read(&input)
        .map_err(|why| Error::new(Kind::Usage, format!("the request on standard input cannot be used: {why}"), HINT))?;
    let profile = choice.profile_for_url(&request.uri, host)?;
    let want = TokenRequirements {
        bearer: choice.bearer(&profile),
        preferred_validity: RATHER,
        min_validity: None,
        exclude: None,
        detect_rejection: false,
    };
    Ok(Reply::of(request.answer(&Session::new(&profile, host).token(&want)?)))
}
