//! Requests tokens from the issuer, the token endpoint of a profile.
//!
//! [`request`] writes the request and [`answer`] reads the response, both without I/O. `http` transfers the bytes.
//! This file decides which requests the program sends again. It follows no redirect: the target of the redirect
//! would receive the secret.

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

/// Most requests for one grant, retries included.
const ATTEMPTS: u32 = 3;

/// Longest pause before the first retry. It doubles for each further retry. The pause is a random share of it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest `Retry-After` that a failure record keeps. A server that requests more has a mistake or is an attacker.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Reads the proof of the profile's client from its source.
///
/// Also returns the deadline for the request: `deadline`, later by the time that the user spends in an unlock
/// prompt of the keyring. The keyring may open a prompt only if `interactive` is set.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if the secret or the assertion cannot be read.
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

/// Requests a grant with the proof.
///
/// Sends the request up to three times, with growing random pauses, if the failure may pass: a failed connection
/// or a busy server. Any other failure ends the attempts. If the server requests a pause and `deadline` permits
/// it, the retry waits that long.
///
/// # Errors
/// [`Kind::Denied`](crate::error::Kind::Denied) if the server refuses the client,
/// [`Kind::Unreachable`](crate::error::Kind::Unreachable) if there is no usable answer,
/// [`Kind::Config`](crate::error::Kind::Config) for a broken `ca_file` or proxy.
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
            Retry::Soon => jitter(FIRST_PAUSE * (1 << (attempt - 1)), obtained),
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

/// The result of a single request, for diagnosis.
pub struct Probe {
    /// The grant, or the error.
    pub outcome: Result<Grant>,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// The server's clock in seconds since 1970, if the answer has a `Date` header.
    pub date: Option<i64>,
    /// The time just before the request.
    pub asked: Moment,
}

/// Returns the route to the profile's endpoint, with its proxy and its roots of trust.
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

/// Returns a description of the route to the profile's endpoint.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) for a broken `ca_file` or proxy.
pub fn way(profile: &Profile, host: &dyn Host) -> Result<NetworkPath> {
    Ok(route(profile, host)?.network_path())
}

/// Sends one request without a secret, to see whether the endpoint answers.
///
/// A working endpoint refuses this request. So the expected outcome is
/// [`Kind::Denied`](crate::error::Kind::Denied).
///
/// # Errors
/// As for [`way`].
pub fn reach(profile: &Profile, host: &dyn Host, deadline: Deadline) -> Result<Probe> {
    // `answer::read` hides the proof in the text of the server. No answer contains this placeholder.
    let placeholder = Secret::new(b"(no secret)", 16).map_err(|fault| Error::config(fault, ""))?;
    send_once(profile, &placeholder, &request::empty(profile), host, deadline)
}

/// Sends one request with the proof and returns all that the answer shows, for `login` and `doctor`.
///
/// # Errors
/// As for [`way`].
pub fn probe(profile: &Profile, proof: &Secret, host: &dyn Host, deadline: Deadline) -> Result<Probe> {
    let request = request::write(profile, proof);
    send_once(profile, proof, &request, host, deadline)
}

fn send_once(
    profile: &Profile,
    proof: &Secret,
    request: &Request,
    host: &dyn Host,
    deadline: Deadline,
) -> Result<Probe> {
    let route = route(profile, host)?;
    let asked = host.now();
    host.note(|| format!("request: POST {} ({})", profile.endpoint, profile.api.name()));
    let (outcome, status, date) = match route.send(request, deadline) {
        Ok(response) => (answer::read(profile, proof, &response, asked), Some(response.status), response.date),
        Err(failure) => (Err(failure), None, None),
    };
    Ok(Probe { outcome: outcome.map_err(|failure| failure.error), status, date, asked })
}

/// Returns a share of `most` that differs between processes and between attempts.
///
/// So processes that fail at the same time do not retry at the same time. This needs no better random numbers.
fn jitter(most: Duration, now: Moment) -> Duration {
    let share = now.boot_ms.unsigned_abs().wrapping_add(u64::from(std::process::id()).wrapping_mul(7919)) % 1000;
    most * share as u32 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the proxy of a URL as messages show it.
    fn shown(url: &str) -> Result<String, &'static str> {
        let proxy = profile::proxy_url(url).and_then(|origin| Proxy::new(&origin, url))?;
        Ok(proxy.shown().to_owned())
    }

    #[test]
    fn proxy_without_port_uses_curl_default() {
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
