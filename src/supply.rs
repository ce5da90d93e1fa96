//! Where a token comes from: the profile that a call means, its place in the cache, and the two closures of a fetch, handed
//! to the broker. Every call and command that needs a token goes through here.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::broker::{Broker, Fetch, Span, Want};
use crate::cache::{Entry, Identity};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::issuer;
use crate::origin::Origin;
use crate::profile::{Profile, Proof};
use crate::system::System;
use crate::token::{Bearer, Held};

/// What the global options say about the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// `--profile`.
    pub profile: Option<String>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--bearer`.
    pub bearer: Option<Bearer>,
}

impl Choice {
    /// The profile that a call means when it is not about an origin.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profile(&self, system: &System<'_>) -> Result<Profile> {
        self.find(None, system)?
            .ok_or_else(|| Error::config("there is no profile", "write a configuration (see the README)"))
    }

    /// The profile whose token may go to `origin`; `None`, which is not an error, if that is nobody's.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profile_for(&self, origin: &Origin, system: &System<'_>) -> Result<Option<Profile>> {
        self.find(Some(origin), system)
    }

    /// The profile whose token may go to this URL.
    ///
    /// # Errors
    /// [`Kind::NotOurs`] if that is nobody's, and as for [`config::find_profile`].
    pub fn profile_for_url(&self, url: &str, system: &System<'_>) -> Result<Profile> {
        let not_ours = |why: &str| {
            // User info may be a password, and what is no URL may be anything.
            let shown = if url.contains('@') { "the URL" } else { url };
            Error::new(
                Kind::NotOurs,
                format!("there is no token for {shown}: {why}"),
                "add its origin, such as https://api.acme.example, to hosts of the profile that should serve it",
            )
        };
        let (origin, _) = Origin::of_url(url).map_err(|fault| not_ours(&format!("it {fault}")))?;
        self.profile_for(&origin, system)?.ok_or_else(|| not_ours("no profile has its origin in its hosts"))
    }

    /// All profiles that a call about an origin may mean.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profiles(&self, system: &System<'_>) -> Result<Vec<Profile>> {
        config::profiles(self.config.as_deref(), self.profile.as_deref(), system)
    }

    fn find(&self, asked: Option<&Origin>, system: &System<'_>) -> Result<Option<Profile>> {
        let found = config::find_profile(self.config.as_deref(), self.profile.as_deref(), asked, system)?;
        if let Some(profile) = &found {
            system.note(|| format!("profile: {} ({}, client {})", profile.name, profile.endpoint, profile.client_id));
        }
        Ok(found)
    }

    /// Which token of the profile is meant.
    pub fn bearer(&self, profile: &Profile) -> Bearer {
        self.bearer.unwrap_or(profile.bearer)
    }
}

/// A token of the profile, by the broker's policy. The two closures are all that a miss has beyond a hit.
///
/// # Errors
/// Of the secret source, of the server, or [`Kind::TooShort`].
pub fn obtain(profile: &Profile, want: &Want, system: &System<'_>) -> Result<Held> {
    let broker = Broker { entry: entry(profile, system), system, timeout: profile.timeout };
    let mut fetch = Fetch {
        secret: &mut |span, deadline| issuer::proof(profile, span == Span::Whole, system, deadline),
        request: &mut |proof, deadline| issuer::fetch(profile, proof, system, deadline),
    };
    broker.obtain(want, &mut fetch)
}

/// The profile's place in the cache.
pub fn entry<'a>(profile: &'a Profile, system: &System<'_>) -> Entry<'a> {
    Entry::new(cache_dir(profile, system), identity(profile, system))
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
