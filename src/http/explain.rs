//! What a failed exchange means, and what to do about it.

use super::{Failure, MAX_BODY, MAX_HEAD, Route};
use crate::error::{Error, printable};

/// How the standard library begins to say that a name was not resolved.
const LOOKUP: &str = "failed to lookup address information";

const CHECK_NAME: &str = "check its spelling and the name server";

impl Route {
    /// Explains why an exchange failed, in terms of this route.
    pub(super) fn explain(&self, error: &ureq::Error) -> Failure {
        let Route { host, via, roots, .. } = self;
        if let Some(fault) = tls_fault(error) {
            let (what, hint) = explain_tls(fault, host, &roots.sources);
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

    /// The address that has to be found, in words.
    fn first(&self) -> String {
        match &self.via {
            None => format!("the address of {}", self.host),
            Some(via) => format!("the address of the proxy {via}"),
        }
    }

    /// The failure of an exchange that took too long.
    pub(super) fn late(&self) -> Failure {
        let reached = self.via.as_ref().map_or_else(String::new, |via| format!(" through the proxy {via}"));
        Failure::last(Error::unreachable(
            format!("no answer from {}{reached} in time", self.host),
            "check the network and whether a proxy is needed; a slow server can be given more time with timeout",
        ))
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
