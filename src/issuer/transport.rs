//! One HTTPS request: trust, proxy, addresses, bounds. Everything here is made anew for a fetch and nothing of it
//! exists on a hit.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport, time,
};

use super::proxy;
use super::request::Request;
use super::{Failure, NetworkPath};
use crate::error::{Error, Result, printable};
use crate::host::{Deadline, Host, run_until};
use crate::origin::Origin;
use crate::os::files::{self, Trust};
use crate::profile::{self, Profile, Proxy};

/// Largest body that is read. Tokens of 32 KiB, two of them, and what surrounds them.
const MAX_BODY: u64 = 256 * 1024;

/// Largest head of an answer.
const MAX_HEAD: usize = 32 * 1024;

/// Largest file of certificates; the system's bundles have a quarter of a megabyte.
const MAX_PEM: u64 = 8 * 1024 * 1024;

/// How long one of several addresses may take to answer before the next is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where distributions keep all roots in one file, the usual first: Debian and Alpine; Fedora and RHEL, in two
/// generations; openSUSE; Alpine, macOS and the BSDs. One file is read rather than the folders of links beside it, which
/// costs a tenth of the time.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How the standard library begins to say that a name was not resolved.
const LOOKUP: &str = "failed to lookup address information";

const CHECK_NAME: &str = "check its spelling and the name server";

/// An answer, as far as it matters.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// The server's clock, in seconds since 1970.
    pub(super) date: Option<i64>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// Whether the body says that it is JSON, `application/json` or one of its kin (RFC 6839 §3.1).
    pub(super) fn is_json(&self) -> bool {
        let Some(kind) = &self.content_type else { return false };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    }
}

/// The way to the endpoint of a profile.
pub(super) struct Route {
    /// Who is at its end.
    origin: Origin,
    /// The same, for messages.
    host: String,
    /// The proxy, for messages: without user and password.
    via: Option<String>,
    proxy: Option<ureq::Proxy>,
    roots: Vec<Certificate<'static>>,
    trusts: String,
}

impl Route {
    /// Finds proxy and roots of trust.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config).
    pub(super) fn of(profile: &Profile, host: &dyn Host) -> Result<Route> {
        let (origin, _) = Origin::of_url(&profile.endpoint)
            .map_err(|fault| Error::config(format!("the URL {} {fault}", profile.endpoint), "correct url"))?;
        let chosen = match &profile.proxy {
            Proxy::None => None,
            Proxy::Url(url) => Some(("proxy", url.clone())),
            Proxy::Environment => proxy::choose(&origin, |name| host.var(name)),
        };
        let (proxy, via) = match chosen {
            None => (None, None),
            Some((name, url)) => {
                let (proxy, shown) = to_ureq(&url).map_err(|fault| {
                    Error::config(
                        format!("{name} {fault}"),
                        format!("set {name} to http://HOST:PORT or https://HOST:PORT, or set proxy to \"none\" in the profile"),
                    )
                })?;
                host.note(|| format!("proxy: {shown} (from {name})"));
                (Some(proxy), Some(shown))
            }
        };
        let (roots, trusts) = roots(profile, host)?;
        Ok(Route { host: origin.to_string(), origin, via, proxy, roots, trusts })
    }

    /// What can be said of it.
    pub(super) fn way(&self) -> NetworkPath {
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host().to_owned(), proxy.port()),
            None => (self.origin.host().to_owned(), self.origin.port()),
        };
        NetworkPath { via: self.via.clone(), trusts: self.trusts.clone(), host, port }
    }

    /// Sends `request` and reads the answer, within `deadline` whatever the other side does.
    pub(super) fn send(&self, request: &Request, deadline: Deadline) -> Result<Response, Failure> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(self.late());
        }
        let agent = self.agent(left);
        let mut post = agent.post(&request.url).header("content-type", request.content_type);
        if let Some(value) = &request.authorization {
            post = post.header("authorization", value);
        }
        let body = request.body.clone();
        // ureq bounds each step, but a proxy that drips its answer byte by byte gets a new bound with each byte. So the
        // whole of it runs beside us, and is left alone when the time is up.
        let patience = Deadline::after(left + Duration::from_millis(20));
        match run_until(patience, "exchange", move || exchange(post, &body)) {
            Ok(Some(Ok(response))) => Ok(response),
            Ok(Some(Err(error))) => Err(self.explain(&error)),
            Ok(None) => Err(self.late()),
            Err(error) => {
                let hint = "allow this user more processes (ulimit -u)";
                Err(Failure::last(Error::unreachable(format!("cannot start a thread: {error}"), hint)))
            }
        }
    }

    fn agent(&self, timeout: Duration) -> ureq::Agent {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&self.roots))
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
            // Keycloak answers in HTML to whoever would rather have that.
            .accept("application/json")
            .tls_config(tls)
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(SequentialConnector::default())
                .chain(RustlsConnector::default());
        ureq::Agent::with_parts(config, connector, DefaultResolver::default())
    }

    /// What a failed exchange means for whoever called.
    fn explain(&self, error: &ureq::Error) -> Failure {
        let Route { host, via, trusts, .. } = self;
        if let Some(fault) = tls_fault(error) {
            let (what, hint) = explain_tls(fault, host, trusts);
            return Failure::last(Error::unreachable(what, hint));
        }
        let reached = via.as_ref().map_or_else(String::new, |via| format!(" through the proxy {via}"));
        let network = match via {
            None => "check url, the network, and whether a proxy is needed (HTTPS_PROXY or proxy in the profile)",
            Some(_) => "check that proxy and the network; NO_PROXY, or proxy \"none\" in the profile, goes around it",
        };
        let passing = |what: String, hint: &str| Failure::passing(Error::unreachable(what, hint));
        let last = |what: String, hint: &str| Failure::last(Error::unreachable(what, hint));
        match error {
            ureq::Error::Timeout(_) => self.late(),
            ureq::Error::HostNotFound => passing(format!("cannot find {}", self.first()), CHECK_NAME),
            // The standard library has no kind for this one.
            ureq::Error::Io(error) if error.to_string().starts_with(LOOKUP) => {
                let why = error.to_string();
                passing(format!("cannot find {}{}", self.first(), why.trim_start_matches(LOOKUP)), CHECK_NAME)
            }
            ureq::Error::ConnectProxyFailed(said) => {
                // ureq says "proxy server responded 407/407".
                let status = said.rsplit('/').next().filter(|status| status.parse::<u16>().is_ok());
                let why = status.map_or_else(|| printable(said, 120), |status| format!("it answers HTTP {status}"));
                let hint = match status {
                    Some("407") => "give user and password in the proxy's URL: http://USER:PASSWORD@HOST:PORT",
                    _ => "check that the proxy may and can reach this host; NO_PROXY goes around it",
                };
                last(format!("the proxy {} does not connect to {host}: {why}", via.as_deref().unwrap_or("?")), hint)
            }
            ureq::Error::BodyExceedsLimit(_) => last(
                format!("the answer of {host} is larger than {} KiB", MAX_BODY / 1024),
                "check url: something that is no token endpoint answers there",
            ),
            ureq::Error::LargeResponseHeader(..) => last(
                format!("the head of the answer of {host} is larger than {} KiB", MAX_HEAD / 1024),
                "check url: something that is no token endpoint answers there",
            ),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => passing(
                format!("{host} closed the connection without a whole answer{reached}"),
                "try again; if it lasts, check that the port speaks https",
            ),
            ureq::Error::Io(error) => passing(format!("cannot reach {host}{reached}: {error}"), network),
            other => last(
                format!("the exchange with {host}{reached} failed: {}", printable(&other.to_string(), 160)),
                "check that url leads to the control plane and that the port speaks https",
            ),
        }
    }

    /// Whose address has to be found.
    fn first(&self) -> String {
        match &self.via {
            None => format!("the address of {}", self.host),
            Some(via) => format!("the address of the proxy {via}"),
        }
    }

    /// The time is up.
    fn late(&self) -> Failure {
        let reached = self.via.as_ref().map_or_else(String::new, |via| format!(" through the proxy {via}"));
        Failure::last(Error::unreachable(
            format!("no answer from {}{reached} in time", self.host),
            "check the network and whether a proxy is needed; a slow server can be given more time with timeout",
        ))
    }
}

/// Sends and reads, in the thread of its own.
fn exchange(post: ureq::RequestBuilder<ureq::typestate::WithBody>, body: &str) -> Result<Response, ureq::Error> {
    let response = post.send(body)?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, content_type, location) = (response.status().as_u16(), header("content-type"), header("location"));
    let date = header("date").and_then(|value| http_date(&value));
    let retry_after = header("retry-after").and_then(|value| retry_after(&value, date));
    let body = response.into_body().into_with_config().limit(MAX_BODY).read_to_vec()?;
    Ok(Response { status, content_type, retry_after, location, date, body })
}

/// A date of HTTP (RFC 9110 §5.6.7) in seconds since 1970.
fn http_date(value: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(value).ok().map(|date| date.timestamp())
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is compared with the server's own clock.
fn retry_after(value: &str, date: Option<i64>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(value)?.checked_sub(date?)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// The proxy for ureq, and how to name it in a message.
fn to_ureq(url: &str) -> Result<(ureq::Proxy, String), &'static str> {
    let origin = profile::proxy_url(url)?;
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, host) = rest.rsplit_once('@').map_or(("", rest), |(user, host)| (user, host));
    // curl's defaults: 443 for a proxy that speaks TLS, 1080 for one that does not.
    let scheme = if origin.is_https() { "https" } else { "http" };
    let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
    let port = match (has_port, origin.is_https()) {
        (true, _) => origin.port(),
        (false, true) => 443,
        (false, false) => 1080,
    };
    let shown = format!("{scheme}://{}:{port}", origin.host());
    let at = if user.is_empty() { "" } else { "@" };
    let proxy = ureq::Proxy::new(&format!("{scheme}://{user}{at}{}:{port}", origin.host()));
    Ok((proxy.map_err(|_| "is not a proxy URL that can be used")?, shown))
}

/// The certificates that are trusted, and their sources in words.
fn roots(profile: &Profile, host: &dyn Host) -> Result<(Vec<Certificate<'static>>, String)> {
    let var = |name: &str| profile.tls_variable(name, host);
    let mut roots = Vec::new();
    let mut sources = Vec::new();
    if let Some(file) = var("SSL_CERT_FILE") {
        let path = Path::new(&file);
        roots.extend(certificates("SSL_CERT_FILE", path)?);
        sources.push(path.display().to_string());
    } else if let Some(bundle) = BUNDLES.iter().find(|bundle| Path::new(bundle).exists()) {
        // A bundle that cannot be read is no reason to fail while ca_file may have all that is needed.
        match certificates("the system's bundle of certificates", Path::new(bundle)) {
            Ok(found) => roots.extend(found),
            Err(error) => host.note(|| format!("tls: {}", error.what)),
        }
        sources.push((*bundle).to_owned());
    }
    if let Some(dirs) = var("SSL_CERT_DIR") {
        for dir in std::env::split_paths(&dirs) {
            let files = std::fs::read_dir(&dir).into_iter().flatten().flatten().take(2000);
            roots.extend(files.filter_map(|file| certificates("a certificate", &file.path()).ok()).flatten());
            sources.push(dir.display().to_string());
        }
    }
    if let Some(path) = &profile.ca_file {
        roots.extend(certificates("ca_file", path)?);
        sources.push(path.display().to_string());
    }
    if roots.is_empty() {
        return Err(Error::config(
            "there are no certificates to check the server with",
            "install the package ca-certificates, or set ca_file to the PEM file of the authority that signed the server's",
        ));
    }
    host.note(|| format!("tls: {} certificates from {}", roots.len(), sources.join(", ")));
    Ok((roots, sources.join(" and ")))
}

/// The certificates of a PEM file.
fn certificates(what: &str, path: &Path) -> Result<Vec<Certificate<'static>>> {
    let fault = |why: String| {
        Error::config(
            format!("cannot use {what} {}: {why}", path.display()),
            "it must be a readable PEM file with at least one CERTIFICATE",
        )
    };
    let pem = files::read(path, Trust::NotWritableByAll, MAX_PEM).map_err(|error| fault(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| Certificate::from_der(&der).to_owned()))
        .collect();
    match certificates {
        Ok(found) if found.is_empty() => Err(fault("it holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(_) => Err(fault("it is not PEM".to_owned())),
    }
}

/// The TLS fault behind an error, if there is one; it may be wrapped in an I/O error.
fn tls_fault(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(fault) => Some(fault),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// What a TLS fault means, and what to do.
fn explain_tls(fault: &rustls::Error, host: &str, trusts: &str) -> (String, String) {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = fault else {
        return (
            format!("no TLS connection with {host}: {}", printable(&fault.to_string(), 160)),
            "check that the port speaks https with TLS 1.2 or newer".to_owned(),
        );
    };
    let (why, hint) = match bad {
        Bad::UnknownIssuer | Bad::BadSignature => (
            "is signed by an authority that is not trusted here".to_owned(),
            format!("set ca_file to the PEM file of the authority that signed it (trusted are {trusts})"),
        ),
        Bad::Expired | Bad::ExpiredContext { .. } => (
            "has expired".to_owned(),
            "renew the server's certificate, or correct the clock of this machine".to_owned(),
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), "correct the clock of this machine, or the server's certificate".to_owned())
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            ("is for another name".to_owned(), "use a name in url that the certificate has".to_owned())
        }
        // webpki has no name of its own for this in rustls.
        other if other.to_string().contains("CaUsedAsEndEntity") => (
            "is that of an authority (CA:TRUE), as self-signed ones often are".to_owned(),
            "give the server a certificate that an authority signed, or a self-signed one made with \
             basicConstraints=CA:FALSE, and name it in ca_file"
                .to_owned(),
        ),
        other => (
            format!("cannot be trusted: {}", printable(&other.to_string(), 120)),
            "have the server's certificate corrected".to_owned(),
        ),
    };
    (format!("the certificate of {host} {why}"), hint)
}

/// Connects to several addresses of one name in turn, giving each but the last a second. ureq gives the first of two
/// two thirds of all the time there is, so that one dead address (a black-holed IPv6, most often) would eat it.
#[derive(Debug, Default)]
struct SequentialConnector(TcpConnector);

impl<In: Transport> Connector<In> for SequentialConnector {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        if chained.is_some() || details.addrs.len() < 2 {
            return self.0.connect(details, chained);
        }
        // One of each family in turn (RFC 8305 section 4), beginning with the one that the resolver prefers.
        let first_is_v6 = details.addrs.first().is_some_and(|addr| addr.is_ipv6());
        let (mut same, mut other): (Vec<_>, Vec<_>) =
            details.addrs.iter().partition(|addr| addr.is_ipv6() == first_is_v6);
        let mut in_turn: Vec<&SocketAddr> = Vec::new();
        while !same.is_empty() || !other.is_empty() {
            if !same.is_empty() {
                in_turn.push(same.remove(0));
            }
            if !other.is_empty() {
                in_turn.push(other.remove(0));
            }
        }
        let last = in_turn.len() - 1;
        let deadline = Deadline::after(*details.timeout.after);
        for (turn, addr) in in_turn.into_iter().enumerate() {
            let left = if turn == last { deadline.left() } else { deadline.left().min(PATIENCE) };
            let mut addrs = details.resolver.empty();
            addrs.push(*addr);
            let alone = ConnectionDetails {
                uri: details.uri,
                addrs,
                config: details.config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: (details.current_time)(),
                timeout: NextTimeout { after: time::Duration::Exact(left), ..details.timeout },
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            match self.0.connect(&alone, None) {
                Err(ureq::Error::Io(_) | ureq::Error::Timeout(_)) if turn != last => {}
                done => return done,
            }
        }
        Err(ureq::Error::HostNotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_have_the_default_ports_of_curl_and_no_password_in_messages() {
        for (given, wanted) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:1080"),
            ("https://proxy.example/", "https://proxy.example:443"),
            ("http://user:pa%40ss@proxy.example:80", "http://proxy.example:80"),
            ("http://[::1]", "http://[::1]:1080"),
            ("http://[::1]:3128", "http://[::1]:3128"),
        ] {
            assert_eq!(to_ureq(given).map(|(_, shown)| shown).as_deref(), Ok(wanted), "{given}");
        }
        for bad in ["socks5://proxy.example", "http://", "http://proxy.example/path", "http://pro xy"] {
            assert!(to_ureq(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
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
