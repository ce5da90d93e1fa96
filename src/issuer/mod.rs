//! The issuer: the token endpoint of a profile.
//!
//! [`request`] writes the request and [`answer`] reads the answer, both without I/O. `http` carries the bytes. This file decides which
//! request is sent again. A redirect is not followed: it would carry the secret to wherever it points.

mod answer;
mod remedy;
mod request;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, FailedRequest, Result};
use crate::host::{Deadline, Host, Moment};
use crate::http::proxy::{self, Proxy};
use crate::http::trust::TrustedFiles;
use crate::http::{NetworkPath, Request, Retry, Route};
use crate::origin::Origin;
use crate::profile::{self, Profile, Proof};
use crate::secret::{self, Secret};
use crate::token::Grant;

/// Requests for one answer, retries included.
const ATTEMPTS: u32 = 3;

/// First pause before a retry; doubled for each further one, and a random share of it is taken.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for which a server can ask to be left alone and be heeded: more is a mistake or an attack.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The proof of the profile's client, read from where it is kept, and the deadline for what follows: later where somebody,
/// who `interactive`, had to unlock a keyring.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config).
pub fn proof(profile: &Profile, interactive: bool, host: &dyn Host, deadline: Deadline) -> Result<(Secret, Deadline)> {
    match &profile.proof {
        Proof::Secret(source, _) => {
            host.note(|| format!("secret: reading {source}"));
            source.read(&profile.keyring_entry(host), interactive, host, deadline)
        }
        Proof::Assertion(path) => {
            host.note(|| format!("assertion: reading {}", path.display()));
            Ok((secret::read_assertion(path)?, deadline))
        }
    }
}

/// Trades the proof for a grant.
///
/// What can pass — a connection that fails, a server that is busy — is tried up to three times with growing random
/// pauses; what cannot is not tried again. A server that says when to come back is obeyed if the time is there.
///
/// # Errors
/// [`Kind::Denied`](crate::error::Kind::Denied) if the server refused, [`Kind::Unreachable`](crate::error::Kind::Unreachable)
/// if there was no usable answer, [`Kind::Config`](crate::error::Kind::Config) for a broken `ca_file` or proxy.
pub fn fetch(profile: &Profile, proof: &Secret, host: &dyn Host, deadline: Deadline) -> Result<Grant, FailedRequest> {
    let route = route(profile, host)?;
    let request = request::write(profile, proof);
    for attempt in 1.. {
        let obtained = host.now();
        host.note(|| format!("request: POST {} ({}, attempt {attempt})", profile.endpoint, profile.api.name()));
        let failure = match route.send(&request, deadline) {
            Ok(response) => {
                host.note(|| format!("answer: HTTP {}, {} bytes", response.status, response.body.len()));
                match answer::read(profile, proof, &response, obtained) {
                    Ok(grant) => return Ok(grant),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        let pause = match failure.retry {
            Retry::Never => return Err(failure.error.into()),
            Retry::Soon => jittered(FIRST_PAUSE * (1 << (attempt - 1)), obtained),
            Retry::After(pause) => pause,
        };
        if attempt == ATTEMPTS || pause >= deadline.left() {
            let retry_after = match failure.retry {
                Retry::After(pause) => pause.min(LONGEST_RETRY_AFTER),
                _ => Duration::ZERO,
            };
            return Err(FailedRequest { error: failure.error, retry_after });
        }
        host.note(|| format!("request: {}; trying again in {} ms", failure.error.what, pause.as_millis()));
        std::thread::sleep(pause);
    }
    unreachable!("the loop ends with its last attempt")
}

/// One request, and all that can be told from it.
pub struct Probe {
    /// What came of it.
    pub outcome: Result<Grant>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What the server's clock showed, in seconds since 1970, if it said so.
    pub date: Option<i64>,
    /// The moment before the request.
    pub asked: Moment,
}

/// The route to the profile's endpoint: its proxy and its roots of trust.
fn route(profile: &Profile, host: &dyn Host) -> Result<Route> {
    let (origin, _) = Origin::of_url(&profile.endpoint)
        .map_err(|fault| Error::config(format!("the URL {} {fault}", profile.endpoint), "correct url"))?;
    let chosen = match &profile.proxy {
        profile::Proxy::None => None,
        profile::Proxy::Url(url) => Some(("proxy", url.clone())),
        profile::Proxy::Environment => proxy::choose(&origin, |name| host.var(name)),
    };
    let proxy = chosen.map(|(name, url)| {
        let proxy = profile::proxy_url(&url).and_then(|origin| Proxy::new(&origin, &url)).map_err(|fault| {
            Error::config(
                format!("{name} {fault}"),
                format!("set {name} to http://HOST:PORT or https://HOST:PORT, or set proxy to \"none\" in the profile"),
            )
        })?;
        host.note(|| format!("proxy: {} (from {name})", proxy.shown()));
        Ok(proxy)
    });
    let variable = |name: &str| profile.tls_variable(name, host);
    let trusted = TrustedFiles {
        bundle: variable("SSL_CERT_FILE").map(PathBuf::from),
        folders: variable("SSL_CERT_DIR").iter().flat_map(std::env::split_paths).collect(),
        added: profile.ca_file.clone(),
    };
    Ok(Route::new(origin, proxy.transpose()?, trusted.read(host)?))
}

/// Describes the way to the profile's endpoint.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) for a broken `ca_file` or proxy.
pub fn way(profile: &Profile, host: &dyn Host) -> Result<NetworkPath> {
    Ok(route(profile, host)?.network_path())
}

/// Sees whether the endpoint answers, without a secret: the outcome is a refusal where all is well.
///
/// # Errors
/// As for [`way`].
pub fn reach(profile: &Profile, host: &dyn Host, deadline: Deadline) -> Result<Probe> {
    // What stands for the proof occurs in no answer, so nothing of the answer is hidden.
    let nobody = Secret::new(b"(no secret)", 16).map_err(|fault| Error::config(fault, ""))?;
    ask(profile, &nobody, &request::empty(profile), host, deadline)
}

/// Sends one request and tells all about it, for those who look for what is wrong.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if there is nothing to send it by: a broken `ca_file` or proxy.
pub fn probe(profile: &Profile, proof: &Secret, host: &dyn Host, deadline: Deadline) -> Result<Probe> {
    let request = request::write(profile, proof);
    ask(profile, proof, &request, host, deadline)
}

fn ask(profile: &Profile, proof: &Secret, request: &Request, host: &dyn Host, deadline: Deadline) -> Result<Probe> {
    let route = route(profile, host)?;
    let asked = host.now();
    host.note(|| format!("request: POST {} ({})", profile.endpoint, profile.api.name()));
    let (outcome, status, date) = match route.send(request, deadline) {
        Ok(response) => (answer::read(profile, proof, &response, asked), Some(response.status), response.date),
        Err(failure) => (Err(failure), None, None),
    };
    Ok(Probe { outcome: outcome.map_err(|failure| failure.error), status, date, asked })
}

/// A share of `most` that differs from process to process and from try to try, so that processes that failed together
/// do not come back together. That is all a jitter needs of randomness.
fn jittered(most: Duration, now: Moment) -> Duration {
    let share = now.boot_ms.unsigned_abs().wrapping_add(u64::from(std::process::id()).wrapping_mul(7919)) % 1000;
    most * share as u32 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy of a URL, in words.
    fn shown(url: &str) -> Result<String, &'static str> {
        let proxy = profile::proxy_url(url).and_then(|origin| Proxy::new(&origin, url))?;
        Ok(proxy.shown().to_owned())
    }

    #[test]
    fn proxy_without_port_has_the_default_of_curl() {
        for (given, wanted) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:1080"),
            ("https://proxy.example/", "https://proxy.example:443"),
            ("http://user:pa%40ss@proxy.example:80", "http://proxy.example:80"),
            ("http://[::1]", "http://[::1]:1080"),
            ("http://[::1]:3128", "http://[::1]:3128"),
        ] {
            assert_eq!(shown(given).as_deref(), Ok(wanted), "{given}");
        }
        for bad in ["socks5://proxy.example", "http://", "http://proxy.example/path", "http://pro xy"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
