//! "Origin in, token out": the part that all protocols share in which a tool asks about one origin.

use std::time::Duration;

use crate::broker::TokenRequirements;
use crate::error::Result;
use crate::origin::Origin;
use crate::session::Session;
use crate::subcommand::Context;
use crate::token::{Bearer, LiveToken};

/// Returns a token for `origin`, or `None` if no profile has the origin among its hosts.
///
/// The token has `preferred_validity` left if the server issues such a token.
///
/// # Errors
/// The configuration is broken, two profiles have the origin, the secret cannot be read, or the server fails.
pub fn token(origin: &Origin, preferred_validity: Duration, context: &Context<'_>) -> Result<Option<LiveToken>> {
    let (choice, host) = (&context.choice, context.host);
    let Some(profile) = choice.profile_for(origin, host)? else { return Ok(None) };
    let requirements = TokenRequirements {
        bearer: choice.bearer(&profile),
        preferred_validity,
        min_validity: None,
        exclude: None,
        detect_rejection: false,
    };
    Session::new(&profile, host).token(&requirements).map(Some)
}

/// Removes the cached tokens for `origin`, so that the next call gets another one.
///
/// Returns whether a profile has the origin.
///
/// # Errors
/// The configuration is broken, or two profiles have the origin.
pub fn forget(origin: &Origin, context: &Context<'_>) -> Result<bool> {
    let Some(profile) = context.choice.profile_for(origin, context.host)? else { return Ok(false) };
    let session = Session::new(&profile, context.host);
    for bearer in Bearer::ALL {
        if let Some(cached) = session.cached(bearer) {
            session.forget(bearer, &cached.token);
        }
    }
    Ok(true)
}
