//! Chooses the proxy for a URL from the environment, as curl does, and parses its URL. Pure.
//!
//! The order of the variables and the matching of hosts follow curl (`lib/url.c`, `lib/noproxy.c`): users behind
//! a proxy test their connection with curl. The order is `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`.
//! None of them counts if `no_proxy` or `NO_PROXY` names the host. The lower-case variable of a pair wins. An
//! empty variable counts as unset.

use std::net::IpAddr;

use crate::origin::Origin;

/// Returns the proxy for requests to `origin` and the variable that names it.
///
/// `None` stands for a direct connection.
pub fn choose(origin: &Origin, var: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let excluded = var("no_proxy").or_else(|| var("NO_PROXY"));
    if excluded.is_some_and(|list| excludes(&list, origin)) {
        return None;
    }
    ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].into_iter().find_map(|name| Some((name, var(name)?)))
}

/// Whether `list` names the host of `origin`.
///
/// The list has host names, addresses and address blocks, separated by commas or blanks.
fn excludes(list: &str, origin: &Origin) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    match origin.address() {
        Some(address) => entries.into_iter().any(|entry| names_address(entry, address)),
        None => entries.into_iter().any(|entry| names_host(entry, origin.host())),
    }
}

/// Whether `entry` names `host`.
///
/// `example.com` and `.example.com` both name that host and its subdomains.
fn names_host(entry: &str, host: &str) -> bool {
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry).to_ascii_lowercase();
    match host.strip_suffix(entry.as_str()) {
        Some(below) => !entry.is_empty() && (below.is_empty() || below.ends_with('.')),
        None => false,
    }
}

/// Whether `entry` is this address, or a block around it such as `10.0.0.0/8` (curl 7.86 and later).
fn names_address(entry: &str, address: IpAddr) -> bool {
    let (base, bits) = match entry.split_once('/') {
        Some((base, bits)) => (base, bits.parse().ok()),
        None => (entry, Some(128)),
    };
    let base = base.strip_prefix('[').and_then(|base| base.strip_suffix(']')).unwrap_or(base);
    let (Ok(base), Some(bits)) = (base.parse::<IpAddr>(), bits) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            same_prefix(base.to_bits().into(), address.to_bits().into(), 32, bits)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => same_prefix(base.to_bits(), address.to_bits(), 128, bits),
        _ => false,
    }
}

/// Whether two numbers of `width` bits have the same upper `bits`.
fn same_prefix(one: u128, other: u128, width: u32, bits: u32) -> bool {
    let ignored = width.saturating_sub(bits);
    (one ^ other).checked_shr(ignored).unwrap_or(0) == 0
}

/// A proxy for the connection to an origin.
pub struct Proxy {
    pub(super) ureq: ureq::Proxy,
    /// The URL without user and password, for messages.
    pub(super) shown: String,
}

impl Proxy {
    /// Returns the proxy at `url`. `origin` is the scheme, host and port of `url`.
    ///
    /// # Errors
    /// The reason, as the end of a sentence that starts with the URL.
    pub fn new(origin: &Origin, url: &str) -> Result<Proxy, &'static str> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, host) = rest.rsplit_once('@').map_or(("", rest), |(user, host)| (user, host));
        // The default ports of curl: 443 for a proxy with TLS, 1080 for a proxy without.
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
        Ok(Proxy { ureq: proxy.map_err(|_| "is not a proxy URL that can be used")?, shown })
    }

    /// Returns the URL of the proxy without user and password, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, vars: &[(&str, &str)]) -> Option<String> {
        let var = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        choose(&Origin::parse(url).unwrap(), |name| var(name).filter(|value| !value.is_empty())).map(|(_, proxy)| proxy)
    }

    #[test]
    fn proxy_variables_follow_curl_order() {
        for (vars, wanted) in [
            (&[][..], None),
            (&[("HTTPS_PROXY", "u")], Some("u")),
            (&[("HTTPS_PROXY", "u"), ("https_proxy", "l")], Some("l")),
            (&[("HTTPS_PROXY", "u"), ("https_proxy", "")], Some("u")),
            (&[("ALL_PROXY", "a")], Some("a")),
            (&[("ALL_PROXY", "a"), ("HTTPS_PROXY", "u")], Some("u")),
            (&[("HTTP_PROXY", "h"), ("http_proxy", "h")], None),
            (&[("HTTPS_PROXY", "u"), ("NO_PROXY", "*")], None),
            (&[("HTTPS_PROXY", "u"), ("NO_PROXY", "*"), ("no_proxy", "other.example")], Some("u")),
        ] {
            assert_eq!(chosen("https://app.run.ai", vars).as_deref(), wanted, "{vars:?}");
        }
    }

    #[test]
    fn no_proxy_list_matches_like_curl() {
        for (list, url, direct) in [
            ("run.ai", "https://app.run.ai", true),
            (".run.ai", "https://app.run.ai", true),
            (".run.ai", "https://run.ai", true),
            ("RUN.ai.", "https://app.run.ai", true),
            ("un.ai", "https://app.run.ai", false),
            ("app.run.ai:443", "https://app.run.ai", false),
            ("localhost,run.ai", "https://app.run.ai", true),
            ("localhost run.ai", "https://app.run.ai", true),
            ("a*", "https://app.run.ai", false),
            (",", "https://app.run.ai", false),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.1.2.3", "https://10.1.2.3", true),
            ("10.1.2.3", "https://10.1.2.30", false),
            ("0.0.0.0/0", "https://10.1.2.3", true),
            ("10.0.0.0/x", "https://10.1.2.3", false),
            ("::1", "https://[::1]", true),
            ("[::1]", "https://[::1]", true),
            ("2001:db8::/32", "https://[2001:db8::5]", true),
            ("2001:db8::/32", "https://[2001:db9::5]", false),
        ] {
            let vars = [("https_proxy", "p"), ("no_proxy", list)];
            assert_eq!(chosen(url, &vars).is_none(), direct, "{list} for {url}");
        }
    }
}
