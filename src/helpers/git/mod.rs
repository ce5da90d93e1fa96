//! `git`: a token for a git server, and what becomes of one that the server refused.

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

/// The helper.
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
    // Any word, because git may come to know others.
    let operation = matches.get_one::<String>("operation").map(String::as_str).unwrap_or_default();
    Ok(answer(operation, &context.choice, context.host))
}

/// Answers git, which asks for `operation`. An operation that nobody knows yet is taken and ignored, as git wants it.
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
        // Nobody gets a second answer to what went wrong with the first.
        Err(_) if operation == "erase" => return Reply::default(),
        // Two profiles claim the host, so nobody else has a password for it.
        Err(error) if error.kind == Kind::Ambiguous => return quit(error),
        // Whose host this is cannot be known; the next helper may know.
        Err(error) => return error.into(),
    };
    if operation == "erase" {
        erase(&request, &profile, host);
        return Reply::default();
    }
    get(&request, &profile, choice.bearer(&profile), host).map(Reply::of).unwrap_or_else(quit)
}

fn get(request: &Request, profile: &Profile, bearer: Bearer, host: &dyn Host) -> Result<String> {
    let refused = request.is_second().then(|| Session::new(profile, host).cached(bearer)).flatten();
    // If another one has come into the cache since, that one will do.
    let exclude = refused.filter(|held| request.refuses(&held.token)).map(|held| Exclude::This(held.token));
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

/// Compare and forget: a refusal that comes late does not cost a token that was fetched since.
fn erase(request: &Request, profile: &Profile, host: &dyn Host) {
    if let Some(token) = request.erased() {
        let session = Session::new(profile, host);
        Bearer::ALL.into_iter().for_each(|bearer| session.forget(bearer, &token));
    }
}

/// Not ours: git goes on to the next helper, and hears nothing.
fn not_ours(why: &str, host: &dyn Host) -> Reply {
    host.note(|| format!("git: not ours: {why}"));
    Reply::default()
}

/// Ours, and nobody else could help: git stops here, instead of asking for a password that does not exist.
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
