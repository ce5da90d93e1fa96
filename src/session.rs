//! A profile and its token.
//!
//! This module finds the profile of a call and the cache entry of its token. It passes the two closures of a
//! fetch to the broker. Every helper and command that needs a token uses this module.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::{Broker, Budget, Fetch, TokenRequirements};
use crate::cache::{Entry, Identity};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::issuer;
use crate::origin::Origin;
use crate::os::folders;
use crate::profile::{Profile, Proof};
use crate::token::{Bearer, Grant, LiveToken, Token};

/// The global options that choose a token.
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
    /// Returns the profile of a call that names no origin.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profile(&self, host: &dyn Host) -> Result<Profile> {
        self.find(None, host)?
            .ok_or_else(|| Error::config("there is no profile", "write a configuration (see the README)"))
    }

    /// Returns the profile whose token may go to `origin`. `None` if there is none, which is not an error.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profile_for(&self, origin: &Origin, host: &dyn Host) -> Result<Option<Profile>> {
        self.find(Some(origin), host)
    }

    /// Returns the profile whose token may go to this URL.
    ///
    /// # Errors
    /// [`Kind::NotOurs`] if there is none, and as for [`config::find_profile`].
    pub fn profile_for_url(&self, url: &str, host: &dyn Host) -> Result<Profile> {
        let no_token = |why: &str| {
            // User info may contain a password, and a text that is not a URL may contain anything.
            let shown = if url.contains('@') { "the URL" } else { url };
            Error::new(
                Kind::NotOurs,
                format!("there is no token for {shown}: {why}"),
                "add its origin, such as https://api.acme.example, to hosts of the profile that should serve it",
            )
        };
        let (origin, _) = Origin::of_url(url).map_err(|fault| no_token(&format!("it {fault}")))?;
        self.profile_for(&origin, host)?.ok_or_else(|| no_token("no profile has its origin in its hosts"))
    }

    /// Returns all profiles that may serve a call for an origin.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profiles(&self, host: &dyn Host) -> Result<Vec<Profile>> {
        config::profiles(self.config.as_deref(), self.profile.as_deref(), host)
    }

    fn find(&self, origin: Option<&Origin>, host: &dyn Host) -> Result<Option<Profile>> {
        let found = config::find_profile(self.config.as_deref(), self.profile.as_deref(), origin, host)?;
        if let Some(profile) = &found {
            host.note(|| format!("profile: {} ({}, client {})", profile.name, profile.endpoint, profile.client_id));
        }
        Ok(found)
    }

    /// Returns the kind of token: the global option if given, else the one of the profile.
    pub fn bearer(&self, profile: &Profile) -> Bearer {
        self.bearer.unwrap_or(profile.bearer)
    }
}

/// A profile on this machine, with the cache entry of its token.
pub struct Session<'a> {
    profile: &'a Profile,
    host: &'a dyn Host,
    entry: Entry<'a>,
}

/// The last failed token request of a profile.
pub struct LastFailure {
    /// The failure.
    pub error: Error,
    /// The time since the failure.
    pub age: Duration,
}

impl<'a> Session<'a> {
    /// Returns the session of a profile, without opening a file.
    pub fn new(profile: &'a Profile, host: &'a dyn Host) -> Session<'a> {
        let entry = Entry::new(cache_dir(profile, host), identity(profile, host));
        Session { profile, host, entry }
    }

    /// Returns a token that meets the requirements, by the policy of the broker.
    ///
    /// Only a miss calls the two closures.
    ///
    /// # Errors
    /// The error of the secret source, the error of the server, or [`Kind::TooShort`] if the token does not
    /// live as long as required.
    pub fn token(self, want: &TokenRequirements) -> Result<LiveToken> {
        let Session { profile, host, entry } = self;
        let mut fetch = Fetch {
            secret: &mut |budget, deadline| issuer::proof(profile, budget == Budget::Full, host, deadline),
            request: &mut |proof, deadline| issuer::fetch(profile, proof, host, deadline),
        };
        Broker { entry, host, timeout: profile.timeout }.obtain(want, &mut fetch)
    }

    /// Returns the cached token, even if it is no longer usable.
    pub fn cached(&self, bearer: Bearer) -> Option<LiveToken> {
        self.entry.read(bearer, self.host)
    }

    /// Removes the cached token if it is this one.
    pub fn forget(&self, bearer: Bearer, token: &Token) {
        self.entry.forget(bearer, Some(token), self.host);
    }

    /// Stores the answer of the token endpoint.
    pub fn keep(&self, grant: &Grant) {
        self.entry.store(grant, self.host);
    }

    /// Returns the last failure, unless a token was stored after it.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.entry.failure(self.host).map(|failure| LastFailure { error: failure.error, age: failure.age })
    }

    /// Removes the profile's token and failure from the cache.
    pub fn clear(&self) {
        self.entry.clear();
    }

    /// Writes and removes a file in the cache. Returns the folder.
    ///
    /// # Errors
    /// The reason why no token can be stored, as text.
    pub fn check_cache(&self) -> Result<&Path, String> {
        self.entry.check(self.host)
    }
}

/// Returns everything that decides which token the endpoint issues.
///
/// Calls with an equal identity share a cached token.
fn identity<'a>(profile: &'a Profile, host: &dyn Host) -> Identity<'a> {
    let auth = match &profile.proof {
        Proof::Secret(_, auth) => Cow::Borrowed(auth.name()),
        Proof::Assertion(path) => Cow::Owned(format!("assertion {}", path.display())),
    };
    Identity {
        source: profile.source.as_str().into(),
        roots: profile.roots(host).map(Cow::Owned),
        endpoint: profile.endpoint.as_str().into(),
        api: profile.api.name().into(),
        client_id: profile.client_id.as_str().into(),
        auth,
        scope: profile.scope.as_deref().map(Cow::Borrowed),
        audience: profile.audience.as_deref().map(Cow::Borrowed),
        resource: profile.resource.as_deref().map(Cow::Borrowed),
    }
}

/// Returns the folder of the cache; `None` if the profile is not cached or there is no such folder.
fn cache_dir(profile: &Profile, host: &dyn Host) -> Option<PathBuf> {
    if !profile.cached {
        return None;
    }
    let own = host.dir("RUNAI_CREDENTIAL_CACHE_DIR");
    own.or_else(|| folders::cache(host).map(|dir| dir.join("runai-credential")))
}
