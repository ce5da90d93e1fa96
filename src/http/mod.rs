//! One HTTPS request within a deadline: trust, proxy, addresses, bounds.
//!
//! This module receives an origin, roots, a proxy and a deadline. It does not know profiles. Each fetch creates
//! its values anew; a hit creates none of them. The client follows no redirect.

mod connect;
mod explain;
pub mod proxy;
pub mod trust;

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};

use crate::error::{Error, Result};
use crate::host::{Deadline, run_until};
use crate::origin::Origin;
use connect::SequentialConnector;
use proxy::Proxy;
use trust::Roots;

/// Largest response body in bytes: two tokens of 32 KiB, and the JSON around them.
const MAX_BODY: u64 = 256 * 1024;

/// Largest header section of a response, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// A POST request. `body` and `authorization` may contain a secret.
pub struct Request {
    /// The URL of the endpoint.
    pub url: String,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// The body.
    pub body: String,
}

/// The parts of an HTTP response that the program uses.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: Option<String>,
    /// The pause that the server requests with `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Value of the `Location` header: the target of a redirect.
    pub location: Option<String>,
    /// The server's clock, from the `Date` header, in seconds since 1970.
    pub date: Option<i64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the content type is JSON: `application/json`, or `application/*+json` (RFC 6839 §3.1).
    pub fn is_json(&self) -> bool {
        let Some(kind) = &self.content_type else { return false };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    }
}

/// Whether the program may send a failed request again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A retry would fail in the same way.
    Never,
    /// After a pause that the program chooses.
    Soon,
    /// After the pause that the server requested.
    After(Duration),
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub error: Error,
    /// Whether the program may send the request again.
    pub retry: Retry,
}

impl Failure {
    /// Returns a failure that a retry would not cure.
    pub fn last(error: Error) -> Failure {
        Failure { error, retry: Retry::Never }
    }

    /// Returns a failure that a retry may cure.
    pub fn passing(error: Error) -> Failure {
        Failure { error, retry: Retry::Soon }
    }
}

/// The connection parameters for an origin: proxy and roots of trust.
pub struct Route {
    origin: Origin,
    /// The origin as text, for messages.
    host: String,
    /// The proxy without user and password, for messages.
    via: Option<String>,
    proxy: Option<ureq::Proxy>,
    roots: Roots,
}

impl Route {
    /// Creates the route to `origin`, directly or through a proxy.
    pub fn new(origin: Origin, proxy: Option<Proxy>, roots: Roots) -> Route {
        let (proxy, via) = proxy.map(|Proxy { ureq, shown }| (ureq, shown)).unzip();
        Route { host: origin.to_string(), origin, via, proxy, roots }
    }

    /// Returns a description of this route for `doctor`.
    pub fn network_path(&self) -> NetworkPath {
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host().to_owned(), proxy.port()),
            None => (self.origin.host().to_owned(), self.origin.port()),
        };
        NetworkPath { via: self.via.clone(), trusts: self.roots.sources.clone(), host, port }
    }

    /// Sends `request` and reads the response. Returns at most 20 ms after `deadline`.
    ///
    /// This holds even if the server or the proxy stalls.
    pub fn send(&self, request: &Request, deadline: Deadline) -> Result<Response, Failure> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(self.timeout_failure());
        }
        let agent = self.agent(left);
        let mut post = agent.post(&request.url).header("content-type", request.content_type);
        if let Some(value) = &request.authorization {
            post = post.header("authorization", value);
        }
        let body = request.body.clone();
        // ureq bounds each read. A proxy that sends its answer byte by byte gets a new bound with each byte. So a
        // thread runs the whole exchange, and we abandon the thread at the deadline.
        let thread_deadline = Deadline::after(left + Duration::from_millis(20));
        match run_until(thread_deadline, "exchange", move || exchange(post, &body)) {
            Ok(Some(Ok(response))) => Ok(response),
            Ok(Some(Err(error))) => Err(self.explain(&error)),
            Ok(None) => Err(self.timeout_failure()),
            Err(error) => {
                let hint = "allow this user more processes (ulimit -u)";
                Err(Failure::last(Error::unreachable(format!("cannot start a thread: {error}"), hint)))
            }
        }
    }

    fn agent(&self, timeout: Duration) -> ureq::Agent {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&self.roots.certificates))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD)
            .max_idle_connections(0)
            .proxy(self.proxy.clone())
            .timeout_global(Some(timeout))
            .user_agent(concat!("runai-credential/", env!("CARGO_PKG_VERSION")))
            // Keycloak sends HTML to a client that prefers HTML.
            .accept("application/json")
            .tls_config(tls)
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(SequentialConnector::default())
                .chain(RustlsConnector::default());
        ureq::Agent::with_parts(config, connector, DefaultResolver::default())
    }
}

/// A description of a route, for messages.
pub struct NetworkPath {
    /// The proxy, without user and password.
    pub via: Option<String>,
    /// The sources of the trusted certificates, as text.
    pub trusts: String,
    host: String,
    port: u16,
}

impl NetworkPath {
    /// Returns the host that the resolver looks up: the proxy, or without one the endpoint.
    pub fn first(&self) -> &str {
        &self.host
    }

    /// Returns the addresses of the host that [`NetworkPath::first`] names.
    ///
    /// # Errors
    /// [`Kind::Unreachable`](crate::error::Kind::Unreachable) if the resolver finds none before `deadline`.
    pub fn addresses(&self, deadline: Deadline) -> Result<Vec<String>> {
        let failed = |why: &str| {
            let what = format!("the address of {} cannot be found: {why}", self.host);
            Error::unreachable(what, "check the spelling of url (or proxy) and the name server")
        };
        let (host, port) = (self.host.trim_matches(['[', ']']).to_owned(), self.port);
        // The system's resolver takes no deadline, so it runs in a thread that we can abandon.
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

/// Sends the request and reads the response. Runs in the thread of [`Route::send`].
fn exchange(post: ureq::RequestBuilder<ureq::typestate::WithBody>, body: &str) -> Result<Response, ureq::Error> {
    let response = post.send(body)?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, content_type, location) = (response.status().as_u16(), header("content-type"), header("location"));
    let date = header("date").and_then(|value| http_date(&value));
    let retry_after = header("retry-after").and_then(|value| retry_after(&value, date));
    let body = response.into_body().into_with_config().limit(MAX_BODY).read_to_vec()?;
    Ok(Response { status, content_type, retry_after, location, date, body })
}

/// Parses an HTTP date (RFC 9110 §5.6.7). Returns seconds since 1970.
fn http_date(value: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(value).ok().map(|date| date.timestamp())
}

/// Parses `Retry-After` (RFC 9110 §10.2.3), which is a number of seconds or a date.
///
/// A date counts from `date`, the server's own clock.
fn retry_after(value: &str, date: Option<i64>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(value)?.checked_sub(date?)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_accepts_seconds_or_date() {
        let date = http_date("Sat, 21 Nov 2026 20:00:00 GMT");
        for (value, wanted) in [
            ("5", Some(5)),
            ("Sat, 21 Nov 2026 20:00:07 GMT", Some(7)),
            ("Sat, 21 Nov 2026 19:00:00 GMT", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, date), wanted.map(Duration::from_secs), "{value}");
        }
    }
}
