//! Origins: the servers that may receive a token.
//!
//! An [`Origin`] is always canonical. The input may differ from the canonical form only where every client
//! agrees: in ASCII case, and by the default port of the scheme.
//!
//! An input is refused if two URL parsers could read it differently. Examples are user info, escapes, an
//! address in an unusual notation, and a trailing dot. So no URL can lead a client to a host that the
//! configuration does not name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Scheme, host and port (RFC 6454) in canonical form. The scheme is `https` or `http`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    /// Lower case; an IPv6 address has brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// Parses `https://host[:port]` or `http://host[:port]` with nothing after it.
    ///
    /// # Errors
    /// The reason, as the end of a sentence that starts with the URL.
    pub fn parse(text: &str) -> Result<Origin, &'static str> {
        match split(text)? {
            (origin, "") => Ok(origin),
            _ => Err("goes on after the host; an origin is https://host[:port] and no more"),
        }
    }

    /// Parses an absolute URL. Returns its origin and the unchanged rest: path, query and fragment.
    ///
    /// # Errors
    /// As for [`Origin::parse`].
    pub fn of_url(url: &str) -> Result<(Origin, &str), &'static str> {
        let (origin, rest) = split(url)?;
        // Parsers have disagreed about where the host ends before these characters
        // (`https://a.example?@b.example`).
        if rest.starts_with(['?', '#']) {
            return Err("has no path between its host and what follows");
        }
        if rest.contains('\\') || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has a character after its host that no URL has");
        }
        Ok((origin, rest))
    }

    /// Parses `host[:port]` for a known scheme.
    ///
    /// # Errors
    /// As for [`Origin::parse`].
    pub fn of_authority(https: bool, authority: &str) -> Result<Origin, &'static str> {
        if authority.contains('@') {
            return Err("holds user info; leave out everything up to the @");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (address, after) = bracketed.split_once(']').ok_or("has a [ without its ]")?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or("has something other than a port after ]")?),
                };
                (ipv6(address)?, port)
            }
            None => {
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (authority, None),
                };
                (name(host)?, port)
            }
        };
        let port = match port {
            None if https => 443,
            None => 80,
            Some(text) => number(text)?,
        };
        Ok(Origin { https, host, port })
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Returns the host in lower case; an IPv6 address has brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, the default port of the scheme included.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is always this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Returns the host as an address, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse().ok().map(IpAddr::V6),
            None => self.host.parse().ok().map(IpAddr::V4),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

/// Returns the origin at the beginning of a URL, and the rest unchecked.
fn split(url: &str) -> Result<(Origin, &str), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme; it should start with https://")?;
    let https = if scheme.eq_ignore_ascii_case("https") {
        true
    } else if scheme.eq_ignore_ascii_case("http") {
        false
    } else {
        return Err("is neither an https nor an http URL");
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    Ok((Origin::of_authority(https, authority)?, rest))
}

/// Checks a host name or an IPv4 address in its canonical notation. Returns it in lower case.
fn name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("has no host");
    }
    if host.len() > 253 {
        return Err("has a host name of more than 253 characters");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        return Err("has a character in its host that no host name has");
    }
    if host.ends_with('.') {
        return Err("has a host that ends in a dot");
    }
    if host
        .split('.')
        .any(|label| label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-'))
    {
        return Err("has a malformed host name");
    }
    let host = host.to_ascii_lowercase();
    // If the last label is a number, WHATWG parsers read the host as an IPv4 address, in any of its
    // notations.
    let last = host.rsplit('.').next().unwrap_or(&host);
    let is_numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("has an IPv4 address in an unusual notation; write it as four decimal numbers");
    }
    Ok(host)
}

/// Checks an IPv6 address in the notation of RFC 5952. Returns it in brackets.
fn ipv6(text: &str) -> Result<String, &'static str> {
    let address: Ipv6Addr = text.parse().map_err(|_| "has a malformed IPv6 address")?;
    let lower = text.to_ascii_lowercase();
    // An IPv4 address inside an IPv6 address has two notations, and each is canonical by one of the rules
    // (RFC 5952 section 5, WHATWG).
    if address.to_string() != lower || lower.contains('.') {
        return Err("has an IPv6 address in an unusual notation; write it as RFC 5952 has it");
    }
    Ok(format!("[{lower}]"))
}

/// Parses a port without sign, blanks or leading zeros.
fn number(text: &str) -> Result<u16, &'static str> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_plain => Ok(port),
        _ => Err("has a malformed port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn origin_is_shown_in_one_spelling() {
        for (given, shown) in [
            ("https://app.run.ai", "https://app.run.ai"),
            ("HTTPS://App.Run.AI:443", "https://app.run.ai"),
            ("https://registry.acme.example:5000", "https://registry.acme.example:5000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
            ("https://under_score.example", "https://under_score.example"),
        ] {
            assert_eq!(Origin::parse(given).map(|o| o.to_string()).as_deref(), Ok(shown), "{given}");
        }
    }

    #[test]
    fn ambiguous_url_is_no_origin() {
        for given in [
            "",
            "app.run.ai",
            "https:/app.run.ai",
            "https:///app.run.ai",
            "https://",
            "ftp://a.example",
            "https://a@b.example",
            "https://a:b@c.example",
            "https://a.example/",
            "https://a.example?x",
            "https://a.example#x",
            "https://a.example.",
            "https://.a.example",
            "https://a..example",
            "https://-a.example",
            "https://a.example:",
            "https://a.example:0443",
            "https://a.example:+443",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:443:443",
            "https://a.example\\b",
            "https://a%2eexample",
            "https://a.exa mple",
            "https://a.example\t",
            "https://a.example\n",
            "https://ａ.example",
            "https://a。example",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://127.0.0.0x1",
            "https://a.0x",
            "https://[::1",
            "https://[::1]x",
            "https://[0:0::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[fe80::1%25eth0]",
            "https://::1",
            " https://a.example",
        ] {
            assert!(Origin::parse(given).is_err(), "{given:?} was accepted");
        }
    }

    #[test]
    fn text_after_host_cannot_change_it() {
        for (given, shown) in [
            ("https://a.example/", "https://a.example /"),
            ("https://a.example:443/v1/?q=@b.example#f", "https://a.example /v1/?q=@b.example#f"),
            ("https://a.example/@b.example/x", "https://a.example /@b.example/x"),
            ("https://a.example//b.example", "https://a.example //b.example"),
        ] {
            let read = Origin::of_url(given).map(|(origin, rest)| format!("{origin} {rest}"));
            assert_eq!(read.as_deref(), Ok(shown), "{given}");
        }
        for given in [
            "https://a.example?@b.example/",
            "https://a.example#@b.example/",
            "https://a.example/\\b.example",
            "https://a.example/\t",
            "https://a.example/ b",
            "https://a.example/\r\nHost: b.example",
            "https://a.example/ä",
        ] {
            assert!(Origin::of_url(given).is_err(), "{given:?} was accepted");
        }
    }

    /// Pieces of URLs, good and bad, that have misled parsers.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => proptest::sample::select(vec![
                "https", "http", "HTTPS", "://", ":", "/", "//", "\\", "@", "?", "#", ".", "..", "[", "]", "%2e", "%00", "%40",
                "%2f", "a.example", "A.Example", "b.example", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "::1", "[::1]",
                "[::ffff:1.2.3.4]", "localhost", ":443", ":80", ":0443", ":65536", ":+443", "user", "user:pw@", "\t", "\n", "\r",
                "\0", " ", "\u{3002}", "\u{ff0e}", "\u{ad}", "\u{2044}", "ß", "xn--a", "_", "-", "~", "|", "^", ";", ",",
                "&", "/v1/", "\u{130}", "\u{212a}", "00", "0", "1", "0x", "example.", "!",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ]
    }

    proptest! {
        // To run it longer, set PROPTEST_CASES=1000000. Each case is a good URL with a few damaged places, or
        // consists of pieces only.
        #[test]
        fn other_parsers_read_the_same_origin(
            pieces in proptest::collection::vec(piece(), 0..8),
            start in proptest::sample::select(vec!["", "https://", "https://a.example", "https://a.example:5000/", "https://a.example/p"]),
            at: usize,
        ) {
            let mut text = start.to_owned();
            for (count, piece) in pieces.iter().enumerate() {
                let places = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect::<Vec<_>>();
                // Mostly at the end, where the URL continues; sometimes in its middle.
                let place = if (at >> count) & 3 == 0 { places[(at >> count) % places.len()] } else { text.len() };
                text.insert_str(place, piece);
            }
            if let Ok((origin, _)) = Origin::of_url(&text) {
                let ours = (origin.is_https(), origin.host().to_owned(), origin.port());
                // The WHATWG rules, which browsers, Node.js and many Rust programs follow.
                let url = url::Url::parse(&text);
                let whatwg = url.as_ref().ok().filter(|url| url.username().is_empty() && url.password().is_none());
                let whatwg = whatwg.map(|url| {
                    (url.scheme() == "https", url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(0))
                });
                // The WHATWG parser also refuses labels that are not Punycode. That changes no host. It must
                // accept everything else.
                if url.is_ok() || !ours.1.contains("xn--") {
                    prop_assert_eq!(whatwg.as_ref(), Some(&ours), "{:?}", text);
                }
                // RFC 3986 to the letter. It allows no `|` and no `^` in a path or query, so this parser
                // refuses such a URL. The host is already known there.
                if let Ok(uri) = fluent_uri::Uri::parse(text.as_str()) {
                    let authority = uri.authority().expect("an authority");
                    let port = authority.port_to_u16().expect("a port").unwrap_or(if ours.0 { 443 } else { 80 });
                    let strict = (uri.scheme().as_str().eq_ignore_ascii_case("https"), authority.host().to_ascii_lowercase(), port);
                    prop_assert_eq!(&strict, &ours, "{:?}", text);
                    prop_assert!(authority.userinfo().is_none(), "{:?}", text);
                }
            }
        }

        /// git and docker send a bare authority. It is read like the authority of a URL.
        #[test]
        fn authority_is_read_as_in_url(pieces in proptest::collection::vec(piece(), 0..5)) {
            let authority = pieces.concat();
            if let Ok(origin) = Origin::of_authority(true, &authority) {
                prop_assert_eq!(Origin::parse(&format!("https://{authority}")), Ok(origin), "{:?}", authority);
            }
        }
    }

    #[test]
    fn loopback_lookalike_name_is_not_loopback() {
        for (given, wanted) in [
            ("http://127.0.0.1", true),
            ("http://127.9.9.9:5000", true),
            ("http://[::1]", true),
            ("http://localhost:5000", true),
            ("http://127.0.0.1.nip.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Origin::parse(given).unwrap().is_loopback(), wanted, "{given}");
        }
    }
}
