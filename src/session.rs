//! A profile and its token: which profile a call means, the place of its token in the cache, and the two closures of a fetch, handed
//! to the broker. Every helper and command that needs a token goes through here.

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
    pub fn profile(&self, host: &dyn Host) -> Result<Profile> {
        self.find(None, host)?
            .ok_or_else(|| Error::config("there is no profile", "write a configuration (see the README)"))
    }

    /// The profile whose token may go to `origin`; `None`, which is not an error, if that is nobody's.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profile_for(&self, origin: &Origin, host: &dyn Host) -> Result<Option<Profile>> {
        self.find(Some(origin), host)
    }

    /// The profile whose token may go to this URL.
    ///
    /// # Errors
    /// [`Kind::NotOurs`] if that is nobody's, and as for [`config::find_profile`].
    pub fn profile_for_url(&self, url: &str, host: &dyn Host) -> Result<Profile> {
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
        self.profile_for(&origin, host)?.ok_or_else(|| not_ours("no profile has its origin in its hosts"))
    }

    /// All profiles that a call about an origin may mean.
    ///
    /// # Errors
    /// As for [`config::find_profile`].
    pub fn profiles(&self, host: &dyn Host) -> Result<Vec<Profile>> {
        config::profiles(self.config.as_deref(), self.profile.as_deref(), host)
    }

    fn find(&self, asked: Option<&Origin>, host: &dyn Host) -> Result<Option<Profile>> {
        let found = config::find_profile(self.config.as_deref(), self.profile.as_deref(), asked, host)?;
        if let Some(profile) = &found {
            host.note(|| format!("profile: {} ({}, client {})", profile.name, profile.endpoint, profile.client_id));
        }
        Ok(found)
    }

    /// Which token of the profile is meant.
    pub fn bearer(&self, profile: &Profile) -> Bearer {
        self.bearer.unwrap_or(profile.bearer)
    }
}

/// A profile on this machine: its token, its place in the cache, and how a token is fetched.
pub struct Session<'a> {
    profile: &'a Profile,
    host: &'a dyn Host,
    entry: Entry<'a>,
}

/// The last failure of a profile's token request.
pub struct LastFailure {
    /// Why it failed.
    pub error: Error,
    /// How long ago.
    pub age: Duration,
}

impl<'a> Session<'a> {
    /// The session of a profile. It opens nothing.
    pub fn new(profile: &'a Profile, host: &'a dyn Host) -> Session<'a> {
        let entry = Entry::new(cache_dir(profile, host), identity(profile, host));
        Session { profile, host, entry }
    }

    /// Returns a token that meets the requirements, by the broker's policy. The two closures are all that a miss has beyond
    /// a hit.
    ///
    /// # Errors
    /// Of the secret source, of the server, or [`Kind::TooShort`].
    pub fn token(self, want: &TokenRequirements) -> Result<LiveToken> {
        let Session { profile, host, entry } = self;
        let mut fetch = Fetch {
            secret: &mut |budget, deadline| issuer::proof(profile, budget == Budget::Full, host, deadline),
            request: &mut |proof, deadline| issuer::fetch(profile, proof, host, deadline),
        };
        Broker { entry, host, timeout: profile.timeout }.obtain(want, &mut fetch)
    }

    /// Returns the cached token, whether it is still usable or not.
    pub fn cached(&self, bearer: Bearer) -> Option<LiveToken> {
        self.entry.read(bearer, self.host)
    }

    /// Removes the cached token if it is this one.
    pub fn forget(&self, bearer: Bearer, token: &Token) {
        self.entry.forget(bearer, Some(token), self.host);
    }

    /// Keeps what the token endpoint gave.
    pub fn keep(&self, grant: &Grant) {
        self.entry.store(grant, self.host);
    }

    /// Returns the last failure, unless a token came after it.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.entry.failure(self.host).map(|failure| LastFailure { error: failure.error, age: failure.age })
    }

    /// Removes all that is kept for the profile.
    pub fn clear(&self) {
        self.entry.clear();
    }

    /// Writes and removes a file in the cache; returns the folder.
    ///
    /// # Errors
    /// Why tokens cannot be kept.
    pub fn check_cache(&self) -> Result<&Path, String> {
        self.entry.check(self.host)
    }
}

/// What decides which token the endpoint gives, and so what may share a cached one.
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

/// Where tokens are kept, if they are to be kept and there is a place.
fn cache_dir(profile: &Profile, host: &dyn Host) -> Option<PathBuf> {
    if !profile.cached {
        return None;
    }
    let own = host.dir("RUNAI_CREDENTIAL_CACHE_DIR");
    own.or_else(|| folders::cache(host).map(|dir| dir.join("runai-credential")))
}
