//! `terraform`: a token for a module or provider registry, or for a remote backend.

mod wire;

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, origin_call, read_request};
use crate::origin::Origin;
use crate::reply::Reply;
use crate::subcommand::{Context, Subcommand};

/// The helper.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand {
        name: "terraform",
        program_names: &["terraform-credentials-runai"],
        grammar,
        run,
        usage_error: Reply::from,
    },
    refuse_others: None,
    setup: None,
    check: None,
};

/// Terraform asks once a run, and keeps the token to its end.
const PREFERRED_VALIDITY: Duration = Duration::from_secs(600);

fn grammar(command: Command) -> Command {
    command
        .about("Answer Terraform and OpenTofu (credentials helper)")
        .arg(
            Arg::new("verb")
                .value_name("COMMAND")
                .required(true)
                .value_parser(PossibleValuesParser::new(wire::VERBS))
                .help("What Terraform wants"),
        )
        .arg(Arg::new("host").value_name("HOST").required(true).help("The host, with its port if that is not 443"))
        .after_help(
            "Called by Terraform under the name terraform-credentials-runai; see integrations/terraform\n\
             Example: terraform-credentials-runai get registry.acme.example",
        )
}

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str).unwrap_or_default();
    let (verb, host) = (text("verb"), text("host"));
    // A host that two programs could read differently belongs to no profile.
    let origin = wire::origin(host);
    if let Err(why) = origin {
        context.host.note(|| format!("terraform: no profile has this host: it {why}"));
    }
    match (verb, origin.ok()) {
        ("store", origin) => Err(refuse_to_store(host, origin.as_ref(), context)?),
        ("forget", Some(origin)) => origin_call::forget(&origin, context).map(|_| Reply::default()),
        ("get", Some(origin)) => {
            let token = origin_call::token(&origin, PREFERRED_VALIDITY, context)?;
            Ok(Reply::of(wire::answer(token.as_ref().map(|live| &live.token))))
        }
        ("get", None) => Ok(Reply::of(wire::answer(None))),
        _ => Ok(Reply::default()),
    }
}

/// Reads the credentials that `terraform login` offers to keep, and refuses them: this helper keeps none.
fn refuse_to_store(host: &str, origin: Option<&Origin>, context: &Context<'_>) -> Result<Error> {
    read_request(wire::MAX_REQUEST, "let terraform login start this command", context.host)?;
    let profile = origin.map(|origin| context.choice.profile_for(origin, context.host)).transpose()?.flatten();
    Ok(match profile {
        Some(profile) => Error::new(
            Kind::Usage,
            format!("this helper keeps no tokens: profile {} has one for {host} already", profile.name),
            "leave out terraform login for this host",
        ),
        None => Error::new(
            Kind::NotOurs,
            "this helper keeps no tokens, and no profile has that host in its hosts",
            "take credentials_helper out of the CLI configuration, or add the host to hosts of a profile",
        ),
    })
}
