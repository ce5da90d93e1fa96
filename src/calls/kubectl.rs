//! `kubectl`: a token for a Kubernetes client.

use std::time::Duration;

use crate::broker::Want;
use crate::error::{Error, Kind, Result};
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

/// Whether client-go started this process, directly or through a script.
///
/// client-go sets [`EXEC_INFO`] after the variables that a kubeconfig names, so a kubeconfig cannot take it away
/// (`client-go/plugin/pkg/client/auth/exec/exec.go`). An empty value counts as well.
pub fn is_caller(system: &System<'_>) -> bool {
    (system.env)(EXEC_INFO).is_some()
}

/// The refusal of every other subcommand under client-go.
///
/// A kubeconfig names the arguments, and kubectl's allow-list looks at the program alone. A list that allows this program
/// must not thereby allow `exec`, which runs any program, or `login`, which changes the configuration.
pub fn only_subcommand() -> Error {
    Error::new(
        Kind::Usage,
        format!("under {EXEC_INFO} only the subcommand kubectl runs"),
        format!("write args: [kubectl] in the kubeconfig; a script that kubectl calls must unset {EXEC_INFO} first"),
    )
}
