//! Turns a failed exchange into an error message and a hint.

use super::{Failure, MAX_BODY, MAX_HEAD, Route};
use crate::error::{Error, printable};

/// Beginning of the standard library's message for a failed name lookup.
const LOOKUP: &str = "failed to lookup address information";

const CHECK_NAME: &str = "check its spelling and the name server";

impl Route {
    /// Returns the failure for `error`. The message names the host and the proxy of this route.
    pub(super) fn explain(&self, error: &ureq::Error) -> Failure {
        let Route { host, via, roots, .. } = self;
        if let Some(fault) = tls_fault(error) {
            let (what, hint) = explain_tls(fault, host, &roots.sources);
            return Failure::last(Error::unreachable(what, hint));
        }
        let via_proxy = via.as_ref().map_or_else(String::new, |via| format!(" through the proxy {via}"));
        let network = match via {
            None => "check url, the network, and whether a proxy is needed (HTTPS_PROXY or proxy in the profile)",
            Some(_) => "check that proxy and the network; NO_PROXY, or proxy \"none\" in the profile, goes around it",
        };
        let passing = |what: String, hint: &str| Failure::passing(Error::unreachable(what, hint));
        let last = |what: String, hint: &str| Failure::last(Error::unreachable(what, hint));
        match error {
            ureq::Error::Timeout(_) => self.timeout_failure(),
            ureq::Error::HostNotFound => passing(format!("cannot find {}", self.address_in_words()), CHECK_NAME),
            // The standard library has no `ErrorKind` for a failed lookup, so only the text identifies it.
            ureq::Error::Io(error) if error.to_string().starts_with(LOOKUP) => {
                let message = error.to_string();
                let reason = message.trim_start_matches(LOOKUP);
                passing(format!("cannot find {}{reason}", self.address_in_words()), CHECK_NAME)
            }
            ureq::Error::ConnectProxyFailed(said) => {
                // The text of ureq is "proxy server responded 407/407".
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
                format!("{host} closed the connection without a whole answer{via_proxy}"),
                "try again; if it lasts, check that the port speaks https",
            ),
            ureq::Error::Io(error) => passing(format!("cannot reach {host}{via_proxy}: {error}"), network),
            other => last(
                format!("the exchange with {host}{via_proxy} failed: {}", printable(&other.to_string(), 160)),
                "check that url leads to the control plane and that the port speaks https",
            ),
        }
    }

    /// Returns "the address of …" for the host that the resolver looks up: the proxy, or the endpoint.
    fn address_in_words(&self) -> String {
        match &self.via {
            None => format!("the address of {}", self.host),
            Some(via) => format!("the address of the proxy {via}"),
        }
    }

    /// Returns the failure for an exchange that exceeded its deadline.
    pub(super) fn timeout_failure(&self) -> Failure {
        let via_proxy = self.via.as_ref().map_or_else(String::new, |via| format!(" through the proxy {via}"));
        Failure::last(Error::unreachable(
            format!("no answer from {}{via_proxy} in time", self.host),
            "check the network and whether a proxy is needed; a slow server can be given more time with timeout",
        ))
    }
}

/// Returns the TLS error in `error`, if there is one. ureq may wrap it in an I/O error.
fn tls_fault(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(fault) => Some(fault),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Returns the message and the hint for a TLS error.
///
/// `trusts` lists the sources of the trusted certificates, for the hint.
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
        // rustls has no variant for this error of webpki, so only the text identifies it.
        other if other.to_string().contains("CaUsedAsEndEntity") => (
            "is a CA certificate (CA:TRUE), as many self-signed certificates are".to_owned(),
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
