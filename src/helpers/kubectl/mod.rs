//! `kubectl`: a token for a Kubernetes client.

mod check;
mod setup;
mod wire;

use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::broker::TokenRequirements;
use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, Setup};
use crate::host::Host;
use crate::reply::Reply;
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};
use wire::{EXEC_INFO, Request};

/// The helper.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand { name: "kubectl", program_names: &[], grammar, run, usage_error: Reply::from },
    refuse_others: Some(refuse_others),
    setup: Some(Setup { plan: setup::plan, undo: setup::undo }),
    check: Some(check::check),
};

fn grammar(command: Command) -> Command {
    command.about("Answer kubectl, helm and other Kubernetes clients (ExecCredential)").after_help(
        "Called by kubectl from the exec entry of a kubeconfig; see integrations/kubectl\n\
             Example: runai-credential setup kubectl",
    )
}

/// Answers the client that set [`EXEC_INFO`].
fn run(_: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let info = host.var(EXEC_INFO);
    let request = Request::read(info.as_deref())?;
    let profile = choice.profile(host)?;
    profile.check_cluster(request.server.as_deref(), request.detour)?;
    let want = TokenRequirements {
        bearer: choice.bearer(&profile),
        preferred_validity: Duration::ZERO,
        min_validity: None,
        exclude: None,
        // Without a request a person tries the command by hand, and may come back as often as they like.
        detect_rejection: info.is_some(),
    };
    Ok(Reply::of(request.answer(&Session::new(&profile, host).token(&want)?)))
}

/// Refuses every other subcommand where client-go started this process, directly or through a script.
///
/// client-go sets [`EXEC_INFO`] after the variables that a kubeconfig names, so a kubeconfig cannot take it away
/// (`client-go/plugin/pkg/client/auth/exec/exec.go`). An empty value counts as well. The kubeconfig names the arguments, and
/// kubectl's allow-list looks at the program alone: a list that allows this program must not thereby allow `exec`, which runs any
/// program, or `login`, which changes the configuration.
fn refuse_others(host: &dyn Host) -> Option<Error> {
    host.var_os(EXEC_INFO)?;
    Some(Error::new(
        Kind::Usage,
        format!("under {EXEC_INFO} only the subcommand kubectl runs"),
        format!("write args: [kubectl] in the kubeconfig; a script that kubectl calls must unset {EXEC_INFO} first"),
    ))
}
