//! `git`: returns a token for a git server, and removes a token that the server rejected.

mod check;
mod setup;
mod wire;

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use crate::broker::{Exclude, TokenRequirements};
use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, Setup};
use crate::host::Host;
use crate::profile::Profile;
use crate::reply::Reply;
use crate::session::{Choice, Session};
use crate::subcommand::{Context, Subcommand};
use crate::token::Bearer;
use wire::{CAPABILITIES, MAX_REQUEST, Request};

/// The helper of git.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand {
        name: "git",
        program_names: &["git-credential-runai"],
        grammar,
        run,
        usage_error: Reply::from,
    },
    refuse_others: None,
    setup: Some(Setup { plan: setup::plan, undo: setup::undo }),
    check: Some(check::check),
};

fn grammar(command: Command) -> Command {
    command
        .about("Answer git (credential helper)")
        .arg(
            Arg::new("operation")
                .value_name("OPERATION")
                .required(true)
                .help("What git wants: get, store, erase or capability; others are ignored"),
        )
        .after_help(
            "Called by git by the name git-credential-runai; see integrations/git\n\
             Example: printf 'protocol=https\\nhost=gitlab.acme.example\\n\\n' | runai-credential git get",
        )
}

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    // Any word is accepted, because later versions of git may add operations (gitcredentials(7)).
    let operation = matches.get_one::<String>("operation").map(String::as_str).unwrap_or_default();
    Ok(answer(operation, &context.choice, context.host))
}

/// Answers the operation that git requests.
///
/// An unknown operation succeeds without output, as gitcredentials(7) demands.
fn answer(operation: &str, choice: &Choice, host: &dyn Host) -> Reply {
    if operation == "capability" {
        return Reply::of(CAPABILITIES);
    }
    let input = match host.read_stdin(MAX_REQUEST + 1) {
        Ok(input) => input,
        Err(error) => return unreadable(&error).into(),
    };
    let request = match Request::read(&input) {
        _ if !matches!(operation, "get" | "erase") => return Reply::default(),
        Ok(request) if input.len() <= MAX_REQUEST => request,
        Ok(_) => return not_ours("it is too long", host),
        Err(why) => return not_ours(why, host),
    };
    let profile = match choice.profile_for(&request.origin, host) {
        Ok(Some(profile)) if request.is_for(&profile.username) => profile,
        Ok(Some(_)) => return not_ours("it names another user", host),
        Ok(None) => return not_ours("no profile has this host in its hosts", host),
        // git ignores the result of `erase`; the `get` before it has already reported this error.
        Err(_) if operation == "erase" => return Reply::default(),
        // Two profiles claim the host, so another helper has no password for it.
        Err(error) if error.kind == Kind::Ambiguous => return quit(error),
        // A broken configuration does not show which profile has the host, so the next helper may answer.
        Err(error) => return error.into(),
    };
    if operation == "erase" {
        erase(&request, &profile, host);
        return Reply::default();
    }
    get(&request, &profile, choice.bearer(&profile), host).map(Reply::of).unwrap_or_else(quit)
}

fn get(request: &Request, profile: &Profile, bearer: Bearer, host: &dyn Host) -> Result<String> {
    let rejected = request.is_second().then(|| Session::new(profile, host).cached(bearer)).flatten();
    // git names the rejected token. If the cache holds another one by now, the call may return that one.
    let exclude = rejected.filter(|held| request.rejects(&held.token)).map(|held| Exclude::This(held.token));
    let want = TokenRequirements {
        bearer,
        preferred_validity: Duration::ZERO,
        min_validity: None,
        exclude,
        detect_rejection: false,
    };
    let held = Session::new(profile, host).token(&want)?;
    Ok(request.answer(&held, &profile.username))
}

/// Removes the token of an `erase` from the cache.
///
/// It removes no other token: another process may have fetched a new one since the rejection.
fn erase(request: &Request, profile: &Profile, host: &dyn Host) {
    if let Some(token) = request.erased() {
        let session = Session::new(profile, host);
        Bearer::ALL.into_iter().for_each(|bearer| session.forget(bearer, &token));
    }
}

/// Returns an empty reply, upon which git calls the next helper. Only `--verbose` shows the reason.
fn not_ours(why: &str, host: &dyn Host) -> Reply {
    host.note(|| format!("git: the request is left to other helpers: {why}"));
    Reply::default()
}

/// Returns an error that stops git.
///
/// No other helper has a credential for this host. Without `quit=1` git would ask the user for a password,
/// and there is none.
fn quit(error: Error) -> Reply {
    Reply { stdout: b"quit=1\n".to_vec(), ..Reply::from(error) }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(
        Kind::Usage,
        format!("git's request on standard input cannot be read: {error}"),
        "let git call this command, or try it with: printf 'protocol=https\\nhost=HOST\\n' | git credential fill",
    )
}
