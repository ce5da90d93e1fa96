//! The issuer: the token endpoint of a profile, and the only HTTP of this crate.
//!
//! [`request`] writes what is sent and [`answer`] reads what comes back, both without any I/O; [`transport`] carries
//! bytes; this file decides what is tried again. Nothing is followed: a redirect of a token request would carry the
//! secret to wherever it points.

mod answer;
mod proxy;
mod request;
mod transport;

use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::error::{Error, FailedRequest, Result};
use crate::host::{Deadline, Host, Moment, run_until};
use crate::profile::{Profile, Proof};
use crate::secret::{self, Secret};
use crate::token::Grant;

use request::Request;
use transport::Route;

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
    let route = Route::of(profile, host)?;
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

/// The way to an endpoint.
pub struct NetworkPath {
    /// The proxy, without user and password.
    pub via: Option<String>,
    /// Which certificates are trusted.
    pub trusts: String,
    host: String,
    port: u16,
}

impl NetworkPath {
    /// The host whose address has to be found: the endpoint's, or the proxy's.
    pub fn first(&self) -> &str {
        &self.host
    }

    /// The addresses of that host.
    ///
    /// # Errors
    /// [`Kind::Unreachable`](crate::error::Kind::Unreachable).
    pub fn addresses(&self, deadline: Deadline) -> Result<Vec<String>> {
        let failed = |why: &str| {
            let what = format!("the address of {} cannot be found: {why}", self.host);
            Error::unreachable(what, "check the spelling of url (or proxy) and the name server")
        };
        let (host, port) = (self.host.trim_matches(['[', ']']).to_owned(), self.port);
        // The system's resolver has no bound of its own.
        let found = run_until(deadline, "resolver", move || {
            let found = (host.as_str(), port).to_socket_addrs();
            found.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        });
        match found.map_err(|error| failed(&error.to_string()))? {
            Some(Ok(mut addresses)) if !addresses.is_empty() => {
                addresses.dedup();
                Ok(addresses)
            }
            Some(Ok(_)) => Err(failed("it has none")),
            Some(Err(error)) => Err(failed(error.to_string().rsplit(": ").next().unwrap_or_default())),
            None => Err(failed("the name server does not answer")),
        }
    }
}

/// Finds the way to the profile's endpoint.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) for a broken `ca_file` or proxy.
pub fn way(profile: &Profile, host: &dyn Host) -> Result<NetworkPath> {
    Ok(Route::of(profile, host)?.way())
}

/// Sees whether the endpoint answers, without anybody's secret: the outcome is a refusal where all is well.
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
    let route = Route::of(profile, host)?;
    let asked = host.now();
    host.note(|| format!("request: POST {} ({})", profile.endpoint, profile.api.name()));
    let (outcome, status, date) = match route.send(request, deadline) {
        Ok(response) => (answer::read(profile, proof, &response, asked), Some(response.status), response.date),
        Err(failure) => (Err(failure), None, None),
    };
    Ok(Probe { outcome: outcome.map_err(|failure| failure.error), status, date, asked })
}

/// Whether a request that failed may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// The answer would be the same.
    Never,
    /// After a pause of ours.
    Soon,
    /// After a pause that the server named.
    After(Duration),
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    error: Error,
    retry: Retry,
}

impl Failure {
    fn last(error: Error) -> Failure {
        Failure { error, retry: Retry::Never }
    }

    fn passing(error: Error) -> Failure {
        Failure { error, retry: Retry::Soon }
    }
}

/// A share of `most` that differs from process to process and from try to try, so that processes that failed together
/// do not come back together. That is all a jitter needs of randomness.
fn jittered(most: Duration, now: Moment) -> Duration {
    let share = now.boot_ms.unsigned_abs().wrapping_add(u64::from(std::process::id()).wrapping_mul(7919)) % 1000;
    most * share as u32 / 1000
}
