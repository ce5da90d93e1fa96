//! `docker`: credentials for a registry.
//!
//! docker shows nothing of what a helper answers but its credentials and goes on without any; skopeo stops and shows the
//! answer. So what fails here is said on both streams, and only a server that is really nobody's is "not found".

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::broker::Want;
use crate::error::{Error, Kind, Result};
use crate::origin::Origin;
use crate::profile::Profile;
use crate::protocol::docker::{self, IDENTITY_TOKEN, MAX_REQUEST, Offered, Refusal, Server, Verb};
use crate::reply::Reply;
use crate::supply::{self, Choice};
use crate::system::System;
use crate::token::{Bearer, Held, Life};

/// BuildKit keeps what it is given for ten minutes.
const CLIENT_KEEPS: Duration = Duration::from_secs(600);

/// Answers a client of docker's protocol.
pub fn answer(verb: Verb, choice: &Choice, system: &System<'_>) -> Reply {
    let answered = match verb {
        Verb::Get => get(choice, system),
        Verb::Store => store(choice, system),
        Verb::Erase => erase(choice, system),
        Verb::List => Ok(list(choice, system)),
        Verb::Version => Ok(Reply::of(docker::version())),
    };
    answered.unwrap_or_else(|refusal| Reply { stderr: refusal.lines(), status: 1, ..Reply::of(refusal.answer()) })
}

/// A command line that makes no sense. Nobody's client writes one, so this is for the eyes of people.
pub fn misused(error: &Error) -> Reply {
    Reply { stderr: error.lines(), status: 1, ..Reply::default() }
}

fn get(choice: &Choice, system: &System<'_>) -> Result<Reply, Refusal> {
    let server = Server::read(&request(system)?)?;
    let profile = owner(&server, choice, system)?.ok_or_else(|| {
        system.note(|| format!("docker: {server} is none of the hosts of a profile"));
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
    let want = Want {
        bearer: choice.bearer(&profile),
        rather: CLIENT_KEEPS,
        at_least: None,
        not: None,
        // docker asks several times in one command.
        watched: false,
    };
    let held = supply::obtain(&profile, &want, system)?;
    Ok(Reply::of(server.answer(&profile.username, &held)))
}

/// `docker login HOST` asks for the credentials, tries them, and has them stored. That is granted, and nothing is written;
/// whoever brings something else must not believe that it was kept.
fn store(choice: &Choice, system: &System<'_>) -> Result<Reply, Refusal> {
    let offered = Offered::read(&request(system)?)?;
    let server = &offered.server;
    let Some(profile) = owner(server, choice, system)? else {
        let what = format!("this helper keeps no passwords, and {server} is none of its hosts");
        let hint = "use another helper for that registry: name it in credHelpers or credsStore of docker's config.json";
        return Err(Refusal::from(Error::new(Kind::NotOurs, what, hint)));
    };
    let served = served(&profile, choice, system);
    if served.is_some_and(|held| offered.is(&held.token)) {
        return Ok(Reply::default());
    }
    let what = format!("this helper keeps no passwords: it has a token for {server} by itself, and this is not that");
    let hint = format!("nothing has to be stored; docker login {server} without a user or a password tries the token");
    Err(Refusal::from(Error::new(Kind::Usage, what, hint)))
}

/// Drops the token of a server, so that the next call gets another one. What is nobody's has been erased already.
fn erase(choice: &Choice, system: &System<'_>) -> Result<Reply, Refusal> {
    let server = Server::read(&request(system)?)?;
    let profiles = match choice.profiles(system) {
        Ok(profiles) => profiles,
        // There is nothing that the client could do about it; the user may want to.
        Err(error) => return Ok(Reply { stderr: error.lines(), ..Reply::default() }),
    };
    for profile in profiles.iter().filter(|profile| server.spelled.iter().any(|origin| profile.hosts.contains(origin)))
    {
        let entry = supply::entry(profile, system);
        for bearer in Bearer::ALL {
            let cached = entry.read(bearer, system).map(|held| held.token);
            entry.forget(bearer, cached.as_ref(), system);
        }
    }
    Ok(Reply::default())
}

/// The servers that [`get`] would answer for at once.
///
/// A legacy build asks for everything that is listed and throws the credentials of all registries away if one of these
/// calls fails, or this one. So what is not certain is not listed, and a broken configuration is an empty list: its error
/// goes to the user alone.
fn list(choice: &Choice, system: &System<'_>) -> Reply {
    let profiles = match choice.profiles(system) {
        Ok(profiles) => profiles,
        Err(error) => return Reply { stderr: error.lines(), ..Reply::of(docker::listing(&BTreeMap::new())) },
    };
    let mut claims: HashMap<&Origin, Vec<&Profile>> = HashMap::new();
    for profile in &profiles {
        for origin in &profile.hosts {
            claims.entry(origin).or_default().push(profile);
        }
    }
    let mut users = BTreeMap::new();
    for profile in profiles.iter().filter(|profile| profile.username != IDENTITY_TOKEN) {
        if served(profile, choice, system).is_none() {
            continue;
        }
        for name in profile.hosts.iter().map(docker::name) {
            let Ok(server) = Server::read(name.as_bytes()) else { continue };
            let mut claimants = server.origins.iter().filter_map(|origin| claims.get(origin)).flatten();
            if claimants.all(|other| other.name == profile.name) {
                users.insert(name, profile.username.clone());
            }
        }
    }
    Reply::of(docker::listing(&users))
}

/// What stands on standard input.
fn request(system: &System<'_>) -> Result<Vec<u8>> {
    let wrong = |what: String| {
        Error::new(
            Kind::Usage,
            what,
            "let docker start this command, or pipe the registry's name in, such as registry.acme.example",
        )
    };
    let bytes = (system.stdin)(MAX_REQUEST + 1)
        .map_err(|error| wrong(format!("the request on standard input cannot be read: {error}")))?;
    if bytes.len() > MAX_REQUEST {
        return Err(wrong("the request on standard input is longer than 64 KiB".to_owned()));
    }
    Ok(bytes)
}

/// The one profile whose token may go to the server; `None` if that is nobody's.
fn owner(server: &Server, choice: &Choice, system: &System<'_>) -> Result<Option<Profile>> {
    let mut owner: Option<Profile> = None;
    for origin in &server.origins {
        let Some(profile) = choice.profile_for(origin, system)? else { continue };
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

/// The token that [`get`] would answer with at once.
fn served(profile: &Profile, choice: &Choice, system: &System<'_>) -> Option<Held> {
    let cached = supply::entry(profile, system).read(choice.bearer(profile), system);
    cached.filter(|held| held.life.is_some_and(Life::usable))
}
