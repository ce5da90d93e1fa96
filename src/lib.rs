//! The credential helper for Run:ai, as a library with one door: [`run`].
//!
//! A call comes in as arguments and a [`System`] and leaves as a [`Reply`]. On its way
//!
//! 1. [`cli`] says what is asked,
//! 2. the [`protocol`] of the caller reads its request,
//! 3. [`config`] finds the [`profile`],
//! 4. the [`broker`] finds a good token in the [`cache`], and otherwise — only then is any of this born — reads the
//!    [`secret`] and asks the [`issuer`],
//! 5. the protocol, or a command of [`commands`], writes the reply.
//!
//! `docs/architecture.md` is the map of these rooms and of who may know whom; a test holds the code to it.

#![forbid(unsafe_code)]
#![allow(rustdoc::private_intra_doc_links, reason = "this page is read by those who work on the crate")]

mod broker;
mod cache;
mod caller;
mod cli;
mod commands;
mod config;
pub mod error;
mod files;
mod issuer;
#[cfg(test)]
mod mutation;
mod origin;
mod profile;
mod protocol;
mod secret;
pub mod system;
mod token;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use broker::{Broker, Fetch, Not, Want};
use cache::{Entry, Identity};
use cli::{Asked, Job, Stop, Unwanted};
use error::{Error, Kind, Result};
use profile::{Profile, Proof};
use protocol::kubectl;
use system::System;
use token::{Held, Token};

/// What a call leaves behind: bytes for the two standard streams, and the exit status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// For standard output, all or nothing.
    pub stdout: Vec<u8>,
    /// For standard error; empty on success.
    pub stderr: String,
    /// The exit status.
    pub status: u8,
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        Reply { stdout: Vec::new(), stderr: error.lines(), status: error.exit_code() }
    }
}

/// Does what `args` ask for; the first of them is the program's name.
pub fn run(args: &[OsString], system: &System<'_>) -> Reply {
    match cli::parse(args) {
        Ok(asked) => {
            system.verbose.set(asked.verbose);
            match answer(&asked, system) {
                Ok(stdout) => Reply { stdout, ..Reply::default() },
                Err(error) => error.into(),
            }
        }
        Err(Stop::Print(text)) => Reply { stdout: text.into_bytes(), ..Reply::default() },
        Err(Stop::Wrong(error)) => error.into(),
    }
}

/// The bytes that answer a call.
fn answer(asked: &Asked, system: &System<'_>) -> Result<Vec<u8>> {
    match &asked.job {
        Job::Kubectl => {
            let info = system.var(kubectl::EXEC_INFO);
            let request = kubectl::Request::read(info.as_deref())?;
            let profile = profile_of(asked, system)?;
            profile.check_cluster(request.server.as_deref(), request.detour)?;
            // Without a request this is somebody trying the command by hand, who may come back as often as they like.
            let watched = info.is_some();
            let want =
                Want { bearer: bearer(asked, &profile), rather: Duration::ZERO, at_least: None, not: None, watched };
            Ok(request.answer(&obtain(&profile, &want, system)?))
        }
        Job::Token { format, newline, unwanted, min_validity } => {
            let not = match unwanted {
                None => None,
                Some(Unwanted::Cached) => Some(Not::Cached),
                Some(Unwanted::OnStdin) => Some(Not::This(rejected(system)?)),
            };
            let profile = profile_of(asked, system)?;
            let want = Want {
                bearer: bearer(asked, &profile),
                rather: if min_validity.is_some() { Duration::ZERO } else { SCRIPT_VALIDITY },
                at_least: *min_validity,
                not,
                watched: false,
            };
            Ok(commands::token::answer(&obtain(&profile, &want, system)?, *format, *newline))
        }
    }
}

/// The token on standard input, which some server refused.
fn rejected(system: &System<'_>) -> Result<Token> {
    let wrong = |what: String| {
        Error::new(Kind::Usage, what, "pipe the refused token to --rejected-stdin, for example from a variable")
    };
    let bytes = (system.stdin)(token::MAX_TOKEN + 2)
        .map_err(|error| wrong(format!("the refused token on standard input cannot be read: {error}")))?;
    let text = String::from_utf8_lossy(&bytes);
    Token::new(text.trim_end_matches(['\r', '\n']))
        .map_err(|fault| wrong(format!("the refused token on standard input {fault}")))
}

/// How long a token for a script should live if the script does not say: a minute for its work, and the margin.
const SCRIPT_VALIDITY: Duration = Duration::from_secs(70);

/// The profile that a call means when it is not about an origin.
fn profile_of(asked: &Asked, system: &System<'_>) -> Result<Profile> {
    let found = config::find_profile(asked.config.as_deref(), asked.profile.as_deref(), None, system)?;
    let profile =
        found.ok_or_else(|| Error::config("there is no profile", "write a configuration (see the README)"))?;
    system.note(|| format!("profile: {} ({}, client {})", profile.name, profile.endpoint, profile.client_id));
    Ok(profile)
}

fn bearer(asked: &Asked, profile: &Profile) -> token::Bearer {
    asked.bearer.unwrap_or(profile.bearer)
}

/// A token of the profile, by the broker's policy. The two closures are all that a miss has beyond a hit.
fn obtain(profile: &Profile, want: &Want, system: &System<'_>) -> Result<Held> {
    let broker = Broker {
        entry: Entry::new(cache_dir(profile, system), identity(profile, system)),
        system,
        timeout: profile.timeout,
    };
    let mut fetch = Fetch {
        secret: &mut |deadline| issuer::proof(profile, system, deadline),
        request: &mut |proof, deadline| issuer::fetch(profile, proof, system, deadline),
    };
    broker.obtain(want, &mut fetch)
}

/// What decides which token the endpoint gives, and so what may share a cached one.
fn identity<'a>(profile: &'a Profile, system: &System<'_>) -> Identity<'a> {
    let auth = match &profile.proof {
        Proof::Secret(_, auth) => Cow::Borrowed(auth.name()),
        Proof::Assertion(path) => Cow::Owned(format!("assertion {}", path.display())),
    };
    Identity {
        source: profile.source.as_str().into(),
        roots: profile.roots(system).map(Cow::Owned),
        endpoint: profile.endpoint.as_str().into(),
        api: profile.api.name().into(),
        client_id: profile.client_id.as_str().into(),
        auth,
        scope: profile.scope.as_deref().map(Cow::Borrowed),
        audience: profile.audience.as_deref().map(Cow::Borrowed),
        resource: profile.resource.as_deref().map(Cow::Borrowed),
    }
}

/// Where tokens are kept, if they are to be kept and there is a place.
fn cache_dir(profile: &Profile, system: &System<'_>) -> Option<PathBuf> {
    if !profile.cached {
        return None;
    }
    system
        .dir("RUNAI_CREDENTIAL_CACHE_DIR")
        .or_else(|| system.dir("XDG_CACHE_HOME").map(|dir| dir.join("runai-credential")))
        .or_else(|| system.dir("HOME").map(|dir| dir.join(".cache/runai-credential")))
}
