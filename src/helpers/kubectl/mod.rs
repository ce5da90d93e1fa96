//! `kubectl`: returns a token for a Kubernetes client.

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

/// The helper of kubectl.
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

/// Prints the ExecCredential for the client that set [`EXEC_INFO`].
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
        // Without the variable a user runs the command by hand, and may repeat it without a rejected token.
        detect_rejection: info.is_some(),
    };
    Ok(Reply::of(request.answer(&Session::new(&profile, host).token(&want)?)))
}

/// Refuses all other subcommands if client-go started this process, directly or through a script.
///
/// The kubeconfig chooses the arguments, and kubectl's allow-list checks the program only. A list that allows
/// this program must not allow `exec`, which runs any program, or `login`, which changes the configuration.
///
/// client-go sets [`EXEC_INFO`] after the variables of the kubeconfig, so a kubeconfig cannot remove it
/// (`client-go/plugin/pkg/client/auth/exec/exec.go`). An empty value counts as set.
fn refuse_others(host: &dyn Host) -> Option<Error> {
    host.var_os(EXEC_INFO)?;
    Some(Error::new(
        Kind::Usage,
        format!("under {EXEC_INFO} only the subcommand kubectl runs"),
        format!("write args: [kubectl] in the kubeconfig; a script that kubectl calls must unset {EXEC_INFO} first"),
    ))
}
