//! `get`: HTTP headers for a URL.

mod wire;

use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::broker::TokenRequirements;
use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, read_request};
use crate::reply::Reply;
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};
use wire::{EXPIRY_MARGIN, MAX_REQUEST, Request};

/// The helper of EngFlow's protocol.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand { name: "get", program_names: &[], grammar, run, usage_error: Reply::from },
    refuse_others: None,
    setup: None,
    check: None,
};

/// Preferred remaining validity of the token.
///
/// The answer states an expiry that is earlier by [`EXPIRY_MARGIN`]. A token with only that much left would
/// expire as soon as the tool gets it, so this is twice the margin.
const PREFERRED_VALIDITY: Duration = EXPIRY_MARGIN.saturating_mul(2);

fn grammar(command: Command) -> Command {
    command
        .about("Answer Bazel and other HTTP tools (EngFlow credential helper)")
        .after_help(
            "Called by a tool that wants the headers for a URL. Example, for Bazel: --credential_helper=*.acme.example=/path/to/runai-credential",
        )
}

/// Prints the headers for the URL that the tool is about to call.
///
/// A URL that no profile serves is an error: the specification asks for one.
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
        preferred_validity: PREFERRED_VALIDITY,
        min_validity: None,
        exclude: None,
        detect_rejection: false,
    };
    Ok(Reply::of(request.answer(&Session::new(&profile, host).token(&want)?)))
}
