//! `git`: a token for a git server, and what becomes of one that the server refused.

use std::time::Duration;

use crate::broker::{Not, Want};
use crate::error::{Error, Kind, Result};
use crate::profile::Profile;
use crate::protocol::git::{CAPABILITIES, MAX_REQUEST, Request};
use crate::reply::Reply;
use crate::supply::{self, Choice};
use crate::system::System;
use crate::token::Bearer;

/// Answers git, which asks for `operation`. An operation that nobody knows yet is taken and ignored, as git wants it.
pub fn answer(operation: &str, choice: &Choice, system: &System<'_>) -> Reply {
    if operation == "capability" {
        return Reply::of(CAPABILITIES);
    }
    let input = match (system.stdin)(MAX_REQUEST + 1) {
        Ok(input) => input,
        Err(error) => return unreadable(&error).into(),
    };
    let request = match Request::read(&input) {
        _ if !matches!(operation, "get" | "erase") => return Reply::default(),
        Ok(request) if input.len() <= MAX_REQUEST => request,
        Ok(_) => return not_ours("it is too long", system),
        Err(why) => return not_ours(why, system),
    };
    let profile = match choice.profile_for(&request.origin, system) {
        Ok(Some(profile)) if request.is_for(&profile.username) => profile,
        Ok(Some(_)) => return not_ours("it names another user", system),
        Ok(None) => return not_ours("no profile has this host in its hosts", system),
        // Nobody gets a second answer to what went wrong with the first.
        Err(_) if operation == "erase" => return Reply::default(),
        // Two profiles claim the host, so nobody else has a password for it.
        Err(error) if error.kind == Kind::Ambiguous => return quit(error),
        // Whose host this is cannot be known; the next helper may know.
        Err(error) => return error.into(),
    };
    if operation == "erase" {
        erase(&request, &profile, system);
        return Reply::default();
    }
    get(&request, &profile, choice.bearer(&profile), system).map(Reply::of).unwrap_or_else(quit)
}

fn get(request: &Request, profile: &Profile, bearer: Bearer, system: &System<'_>) -> Result<String> {
    let refused = request.is_second().then(|| supply::entry(profile, system).read(bearer, system)).flatten();
    // If another one has come into the cache since, that one will do.
    let not = refused.filter(|held| request.refuses(&held.token)).map(|held| Not::This(held.token));
    let want = Want { bearer, rather: Duration::ZERO, at_least: None, not, watched: false };
    let held = supply::obtain(profile, &want, system)?;
    Ok(request.answer(&held, &profile.username))
}

/// Compare and forget: a refusal that comes late does not cost a token that was fetched since.
fn erase(request: &Request, profile: &Profile, system: &System<'_>) {
    if let Some(token) = request.erased() {
        let entry = supply::entry(profile, system);
        Bearer::ALL.into_iter().for_each(|bearer| entry.forget(bearer, Some(&token), system));
    }
}

/// Not ours: git goes on to the next helper, and hears nothing.
fn not_ours(why: &str, system: &System<'_>) -> Reply {
    system.note(|| format!("git: not ours: {why}"));
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
