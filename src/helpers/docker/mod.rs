//! `docker`: credentials for a registry.
//!
//! After an error docker continues without credentials and does not show the answer; skopeo stops and shows
//! it. So an error goes to standard output and to standard error. The answer is "not found" only if no
//! profile has the server.

mod check;
mod setup;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::broker::TokenRequirements;
use crate::error::{Error, Kind, Result};
use crate::helpers::{Helper, Setup, read_request};
use crate::host::Host;
use crate::origin::Origin;
use crate::os::folders;
use crate::profile::Profile;
use crate::reply::Reply;
use crate::session::{Choice, Session};
use crate::subcommand::{Context, Subcommand};
use crate::token::{Bearer, LiveToken, Validity};
use wire::{IDENTITY_TOKEN, MAX_REQUEST, Refusal, Server, StoreRequest, Verb};

/// The helper of docker.
pub static HELPER: Helper = Helper {
    subcommand: Subcommand { name: "docker", program_names: &["docker-credential-runai"], grammar, run, usage_error },
    refuse_others: None,
    setup: Some(Setup { plan: setup::plan, undo: setup::undo }),
    check: Some(check::check),
};

const USAGE: &str = "usage: docker-credential-runai get|store|erase|list|version";

fn grammar(command: Command) -> Command {
    command
        .about("Answer docker, skopeo and other clients of registries (docker-credential-helpers)")
        .arg(
            Arg::new("verb")
                .value_name("COMMAND")
                .value_parser(PossibleValuesParser::new(Verb::NAMES))
                .help("What is asked; the server comes on standard input"),
        )
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("The same as version"))
        .after_help(
            "Called by docker under the name docker-credential-runai; see integrations/docker\n\
             Example: echo registry.acme.example | docker-credential-runai get",
        )
}

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    Ok(match verb(matches) {
        Some(verb) => answer(verb, &context.choice, context.host),
        None => usage_error(Error::new(Kind::Usage, "no command was given", USAGE)),
    })
}

/// Returns the folder of docker's configuration: `$DOCKER_CONFIG`, else `~/.docker`.
fn folder(host: &dyn Host) -> Option<PathBuf> {
    host.dir("DOCKER_CONFIG").or_else(|| folders::home(host).map(|home| home.join(".docker")))
}

/// Returns the verb in the arguments. `-v` alone means `version`, as for every docker credential helper.
fn verb(matches: &ArgMatches) -> Option<Verb> {
    let named = matches.get_one::<String>("verb").and_then(|name| Verb::named(name));
    let is_version = matches.get_flag("version") || matches.get_flag("verbose");
    named.or(is_version.then_some(Verb::Version))
}

/// How long BuildKit keeps credentials. A token should live at least that long.
const BUILDKIT_CACHE_TIME: Duration = Duration::from_secs(600);

/// Answers a client of docker's protocol.
fn answer(verb: Verb, choice: &Choice, host: &dyn Host) -> Reply {
    let answered = match verb {
        Verb::Get => get(choice, host),
        Verb::Store => store(choice, host),
        Verb::Erase => erase(choice, host),
        Verb::List => Ok(list(choice, host)),
        Verb::Version => Ok(Reply::of(wire::version())),
    };
    answered.unwrap_or_else(|refusal| Reply { stderr: refusal.lines(), status: 1, ..Reply::of(refusal.answer()) })
}

/// Answers wrong arguments.
///
/// No client sends them, so the text is for a user. The exit status is 1, as in docker's protocol.
fn usage_error(error: Error) -> Reply {
    let error = Error::new(error.kind, error.what, USAGE);
    Reply { stderr: error.lines(), status: 1, ..Reply::default() }
}

fn get(choice: &Choice, host: &dyn Host) -> Result<Reply, Refusal> {
    let server = Server::read(&request(host)?)?;
    let profile = owner(&server, choice, host)?.ok_or_else(|| {
        host.note(|| format!("docker: {server} is none of the hosts of a profile"));
        Refusal::NotFound
    })?;
    if profile.username == IDENTITY_TOKEN {
        return Err(Refusal::from(Error::config(
            format!(
                "username of profile {:?} is {IDENTITY_TOKEN}, by which docker means another kind of token",
                profile.name
            ),
            "give the profile another username, or none",
        )));
    }
    let want = TokenRequirements {
        bearer: choice.bearer(&profile),
        preferred_validity: BUILDKIT_CACHE_TIME,
        min_validity: None,
        exclude: None,
        // One docker command calls the helper several times, so a second call does not mean a rejected token.
        detect_rejection: false,
    };
    let held = Session::new(&profile, host).token(&want)?;
    Ok(Reply::of(server.answer(&profile.username, &held)))
}

/// Accepts the token of this program without writing it, and refuses all other credentials.
///
/// `docker login HOST` gets the credentials from the helper, tries them, and then stores them. A user who
/// stores other credentials gets an error, and so does not believe that this program keeps them.
fn store(choice: &Choice, host: &dyn Host) -> Result<Reply, Refusal> {
    let offered = StoreRequest::read(&request(host)?)?;
    let server = &offered.server;
    let Some(profile) = owner(server, choice, host)? else {
        let what = format!("this helper keeps no passwords, and {server} is none of its hosts");
        let hint = "use another helper for that registry: name it in credHelpers or credsStore of docker's config.json";
        return Err(Refusal::from(Error::new(Kind::NotOurs, what, hint)));
    };
    if usable_token(&profile, choice, host).is_some_and(|held| offered.has_token(&held.token)) {
        return Ok(Reply::default());
    }
    let what = format!(
        "this helper keeps no passwords: it gets the token for {server} itself, and the given secret is not that token"
    );
    let hint = format!("nothing has to be stored; docker login {server} without a user or a password tries the token");
    Err(Refusal::from(Error::new(Kind::Usage, what, hint)))
}

/// Removes the cached token for a server, so that the next call gets another one.
///
/// If no profile has the server, there is nothing to remove. That is a success.
fn erase(choice: &Choice, host: &dyn Host) -> Result<Reply, Refusal> {
    let server = Server::read(&request(host)?)?;
    let profiles = match choice.profiles(host) {
        Ok(profiles) => profiles,
        // Only the user can correct the configuration, so the error is for the user and not for the client.
        Err(error) => return Ok(Reply { stderr: error.lines(), ..Reply::default() }),
    };
    for profile in
        profiles.iter().filter(|profile| server.either_scheme.iter().any(|origin| profile.hosts.contains(origin)))
    {
        let session = Session::new(profile, host);
        for bearer in Bearer::ALL {
            if let Some(held) = session.cached(bearer) {
                session.forget(bearer, &held.token);
            }
        }
    }
    Ok(Reply::default())
}

/// Lists the servers for which [`get`] would return a token without a request.
///
/// A legacy build calls `get` for every listed server. If one of these calls or `list` itself fails, it drops
/// the credentials of all registries. So only servers with a usable cached token are listed. For a broken
/// configuration the list is empty, and the error goes to standard error.
fn list(choice: &Choice, host: &dyn Host) -> Reply {
    let profiles = match choice.profiles(host) {
        Ok(profiles) => profiles,
        Err(error) => return Reply { stderr: error.lines(), ..Reply::of(wire::listing(&BTreeMap::new())) },
    };
    let mut claims: HashMap<&Origin, Vec<&Profile>> = HashMap::new();
    for profile in &profiles {
        for origin in &profile.hosts {
            claims.entry(origin).or_default().push(profile);
        }
    }
    let mut users = BTreeMap::new();
    for profile in profiles.iter().filter(|profile| profile.username != IDENTITY_TOKEN) {
        if usable_token(profile, choice, host).is_none() {
            continue;
        }
        for name in profile.hosts.iter().map(wire::name) {
            let Ok(server) = Server::read(name.as_bytes()) else { continue };
            let mut claimants = server.origins.iter().filter_map(|origin| claims.get(origin)).flatten();
            if claimants.all(|other| other.name == profile.name) {
                users.insert(name, profile.username.clone());
            }
        }
    }
    Reply::of(wire::listing(&users))
}

/// Reads the request from standard input.
fn request(host: &dyn Host) -> Result<Vec<u8>> {
    const HINT: &str = "let docker start this command, or pipe the registry's name in, such as registry.acme.example";
    let bytes = read_request(MAX_REQUEST, HINT, host)?;
    if bytes.len() > MAX_REQUEST {
        return Err(Error::new(Kind::Usage, "the request on standard input is longer than 64 KiB", HINT));
    }
    Ok(bytes)
}

/// Returns the profile whose token may go to the server, or `None` if no profile has the server.
///
/// # Errors
/// [`Kind::Ambiguous`] if two profiles have it, and as for [`Choice::profile_for`].
fn owner(server: &Server, choice: &Choice, host: &dyn Host) -> Result<Option<Profile>> {
    let mut owner: Option<Profile> = None;
    for origin in &server.origins {
        let Some(profile) = choice.profile_for(origin, host)? else { continue };
        match &owner {
            Some(first) if first.name != profile.name => {
                return Err(Error::new(
                    Kind::Ambiguous,
                    format!("the profiles {:?} and {:?} both claim {server}", first.name, profile.name),
                    "take the host out of one of them, or name the profile with --profile or RUNAI_PROFILE",
                ));
            }
            Some(_) => {}
            None => owner = Some(profile),
        }
    }
    Ok(owner)
}

/// Returns the token with which [`get`] would answer without a request.
fn usable_token(profile: &Profile, choice: &Choice, host: &dyn Host) -> Option<LiveToken> {
    let cached = Session::new(profile, host).cached(choice.bearer(profile));
    cached.filter(|held| held.validity.is_some_and(Validity::usable))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{self, Stop};

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn verb_is_read_from_the_command_line() {
        for (line, wanted, verbose) in [
            ("rc docker get", Verb::Get, false),
            ("/usr/bin/docker-credential-runai store", Verb::Store, false),
            ("docker-credential-runai --profile p erase", Verb::Erase, false),
            ("docker-credential-runai -v list", Verb::List, true),
            ("docker-credential-runai version", Verb::Version, false),
            ("docker-credential-runai --version", Verb::Version, false),
            ("docker-credential-runai -v", Verb::Version, true),
            ("rc docker --version", Verb::Version, false),
        ] {
            let Ok(invocation) = cli::parse(&args(line)) else { panic!("{line}") };
            assert_eq!((verb(invocation.arguments()), invocation.verbose), (Some(wanted), verbose), "{line}");
        }
    }

    #[test]
    fn usage_error_exits_with_dockers_status() {
        for line in [" get get", " gte", " --get", " get --config"] {
            let line = format!("docker-credential-runai{line}");
            let Err((Stop::Usage(error), Some(subcommand))) = cli::parse(&args(&line)) else { panic!("{line}") };
            let reply = (subcommand.usage_error)(error);
            assert!(
                reply.status == 1 && reply.stderr.ends_with(&format!("hint: {USAGE}\n")),
                "{line}: {}",
                reply.stderr
            );
        }
        let Ok(invocation) = cli::parse(&args("docker-credential-runai")) else { panic!("no verb") };
        assert_eq!(verb(invocation.arguments()), None);
    }
}
