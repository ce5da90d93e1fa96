//! `get`: headers for a URL.

use std::time::Duration;

use crate::broker::Want;
use crate::error::{Error, Kind, Result};
use crate::protocol::engflow::{EARLY, MAX_REQUEST, Request};
use crate::reply::Reply;
use crate::supply::{self, Choice};
use crate::system::System;

/// A token that is not over as soon as it is told.
const RATHER: Duration = EARLY.saturating_mul(2);

/// Answers a tool that is about to send a request.
///
/// # Errors
/// [`Kind::NotOurs`] for a URL that is nobody's, which is what the specification asks for, and whatever stands in the way of a
/// token.
pub fn answer(choice: &Choice, system: &System<'_>) -> Result<Reply> {
    let wrong = |what: String| {
        let hint =
            "let the tool call this command, or try it with: echo '{\"uri\":\"https://HOST/\"}' | runai-credential get";
        Error::new(Kind::Usage, what, hint)
    };
    let input = (system.stdin)(MAX_REQUEST + 1)
        .map_err(|error| wrong(format!("the request on standard input cannot be read: {error}")))?;
    let request =
        Request::read(&input).map_err(|why| wrong(format!("the request on standard input cannot be used: {why}")))?;
    let profile = choice.profile_for_url(&request.uri, system)?;
    let want = Want { bearer: choice.bearer(&profile), rather: RATHER, at_least: None, not: None, watched: false };
    Ok(Reply::of(request.answer(&supply::obtain(&profile, &want, system)?)))
}
