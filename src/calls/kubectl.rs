//! `kubectl`: a token for a Kubernetes client.

use std::time::Duration;

use crate::broker::Want;
use crate::error::Result;
use crate::protocol::kubectl::{EXEC_INFO, Request};
use crate::reply::Reply;
use crate::supply::{self, Choice};
use crate::system::System;

/// Answers the client that set [`EXEC_INFO`].
///
/// # Errors
/// Whatever stands in the way of a token; a cluster that is not the profile's among them.
pub fn answer(choice: &Choice, system: &System<'_>) -> Result<Reply> {
    let info = system.var(EXEC_INFO);
    let request = Request::read(info.as_deref())?;
    let profile = choice.profile(system)?;
    profile.check_cluster(request.server.as_deref(), request.detour)?;
    let want = Want {
        bearer: choice.bearer(&profile),
        rather: Duration::ZERO,
        at_least: None,
        not: None,
        // Without a request this is somebody trying the command by hand, who may come back as often as they like.
        watched: info.is_some(),
    };
    Ok(Reply::of(request.answer(&supply::obtain(&profile, &want, system)?)))
}
