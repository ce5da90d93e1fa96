//! The values that a user wrote for a profile, with the rules for each value and for all of them together.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Api, ClientAuth, Profile, Proof, Proxy};
use crate::origin::Origin;
use crate::secret::Source;
use crate::token::Bearer;

/// A value that breaks its rule, or values that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    /// The key with the fault.
    pub key: &'static str,
    /// The fault, as the end of a sentence that starts with the key or its value.
    pub what: Cow<'static, str>,
}

impl InvalidValue {
    fn new(key: &'static str, what: impl Into<Cow<'static, str>>) -> InvalidValue {
        InvalidValue { key, what: what.into() }
    }
}

type Checked<T = ()> = std::result::Result<T, InvalidValue>;

/// The values that a user wrote for a profile.
///
/// Each method checks one value; [`Draft::finish`] checks all together.
#[derive(Default)]
pub struct Draft<'a> {
    url: Option<(Cow<'a, str>, Origin)>,
    token_url: Option<(Cow<'a, str>, Origin)>,
    realm: Option<Cow<'a, str>>,
    api: Option<Api>,
    client_id: Option<Cow<'a, str>>,
    secret: Option<Source>,
    client_auth: Option<ClientAuth>,
    assertion: Option<PathBuf>,
    scope: Option<Cow<'a, str>>,
    audience: Option<Cow<'a, str>>,
    resource: Option<Cow<'a, str>>,
    bearer: Bearer,
    hosts: Vec<Origin>,
    clusters: Vec<Origin>,
    username: Option<Cow<'a, str>>,
    ca_file: Option<PathBuf>,
    proxy: Proxy,
    timeout: Option<Duration>,
    uncached: bool,
}

impl<'a> Draft<'a> {
    /// All keys whose value is a string.
    pub const TEXT_KEYS: [&'static str; 15] = [
        "url",
        "realm",
        "api",
        "token_url",
        "client_id",
        "client_auth",
        "scope",
        "audience",
        "resource",
        "bearer",
        "username",
        "ca_file",
        "proxy",
        "timeout",
        "cache",
    ];

    /// Sets `key`, which must be one of [`Draft::TEXT_KEYS`], to the string `value`.
    ///
    /// # Errors
    /// The rule of the key that the value breaks, as for all methods here.
    pub fn text(&mut self, key: &'static str, value: Cow<'a, str>) -> Checked {
        let fault = |what: &'static str| InvalidValue::new(key, what);
        if value.chars().any(char::is_control) {
            return Err(fault("has a control character"));
        }
        if value.is_empty() && key != "scope" {
            return Err(fault("is empty"));
        }
        match key {
            "url" => self.url = Some(https_url(key, value)?),
            "token_url" => self.token_url = Some(https_url(key, value)?),
            "realm" => {
                if value.contains('/') || value == "." || value == ".." {
                    return Err(fault("is no realm name; give the name alone, without a path"));
                }
                self.realm = Some(value);
            }
            "api" => self.api = Some(choice(key, &value, &Api::NAMES, Api::named)?),
            "client_id" => self.client_id = Some(value),
            "client_auth" => self.client_auth = Some(choice(key, &value, &ClientAuth::NAMES, ClientAuth::named)?),
            "scope" => {
                // Tokens of printable ASCII without " and \, separated by spaces (RFC 6749 §3.3).
                if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
                    return Err(fault("has a character that no scope has"));
                }
                self.scope = Some(value);
            }
            "audience" => self.audience = Some(value),
            "resource" => self.resource = Some(value),
            "bearer" => self.bearer = choice(key, &value, &Bearer::NAMES, Bearer::named)?,
            "username" => {
                if value.chars().any(|c| c.is_whitespace() || c == ':') {
                    return Err(fault("has white space or a colon, which no protocol can carry in a user name"));
                }
                self.username = Some(value);
            }
            "ca_file" => self.ca_file = Some(absolute(key, &value)?),
            "proxy" => {
                self.proxy = if value == "none" {
                    Proxy::None
                } else {
                    proxy_url(&value).map_err(fault)?;
                    Proxy::Url(value.into_owned())
                };
            }
            "timeout" => {
                let timeout = duration(&value).ok_or_else(|| fault("is no duration with a unit"))?;
                if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&timeout) {
                    return Err(fault("is not between 100ms and 10m"));
                }
                self.timeout = Some(timeout);
            }
            "cache" => self.uncached = choice(key, &value, &["disk", "none"], |name| Some(name == "none"))?,
            _ => return Err(fault("is not a key with a text")),
        }
        Ok(())
    }

    /// Adds an origin that may receive the token.
    pub fn host(&mut self, value: &str) -> Checked {
        let origin = Origin::parse(value).map_err(|what| InvalidValue::new("hosts", what))?;
        if !origin.is_https() && !origin.is_loopback() {
            return Err(InvalidValue::new("hosts", "is plain http, which only a loopback address may be"));
        }
        self.hosts.push(origin);
        Ok(())
    }

    /// Adds an API server for which `kubectl` returns the token.
    pub fn cluster(&mut self, value: &str) -> Checked {
        let origin = Origin::parse(value).map_err(|what| InvalidValue::new("clusters", what))?;
        if !origin.is_https() {
            return Err(InvalidValue::new("clusters", "is not an https URL"));
        }
        self.clusters.push(origin);
        Ok(())
    }

    /// Sets the source of the client secret.
    pub fn secret(&mut self, source: Source) -> Checked {
        const KEY: &str = "client_secret";
        match &source {
            Source::File(path) if !path.is_absolute() => {
                return Err(InvalidValue::new(KEY, "has a relative file; write its path in full, from /"));
            }
            Source::File(path) if path.to_string_lossy().chars().any(char::is_control) => {
                return Err(InvalidValue::new(KEY, "has a file with a control character"));
            }
            Source::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
                return Err(InvalidValue::new(KEY, "has an env that is no name of a variable"));
            }
            Source::Command(argv) if !argv.first().is_some_and(|program| Path::new(program).is_absolute()) => {
                return Err(InvalidValue::new(KEY, "has a command that is no list starting with an absolute path"));
            }
            Source::Command(argv) if argv.iter().any(|arg| arg.contains('\0')) => {
                return Err(InvalidValue::new(KEY, "has a command with a NUL character"));
            }
            _ => self.secret = Some(source),
        }
        Ok(())
    }

    /// Sets the file of the client assertion.
    pub fn assertion(&mut self, path: &str) -> Checked {
        self.assertion = Some(absolute("client_assertion", path)?);
        Ok(())
    }

    /// Returns the profile called `name` that `source` defines.
    ///
    /// # Errors
    /// A key that is missing, or that does not fit the others.
    pub fn finish(&self, name: &str, source: &str) -> Checked<Profile> {
        let api = self.api.unwrap_or(match (&self.realm, &self.token_url) {
            (Some(_), _) => Api::Keycloak,
            (None, Some(_)) => Api::Oauth2,
            (None, None) => Api::V2,
        });
        if api == Api::Oauth2 && self.token_url.is_none() {
            return Err(InvalidValue::new("token_url", "is missing; api oauth2 needs it"));
        }
        if api != Api::Oauth2 && self.token_url.is_some() {
            return Err(InvalidValue::new(
                "token_url",
                format!("is for api oauth2, and this profile is for {}", api.name()),
            ));
        }
        if api != Api::Oauth2 && self.url.is_none() {
            return Err(InvalidValue::new(
                "url",
                "is missing; it is the URL of the control plane, such as https://app.run.ai",
            ));
        }
        if api == Api::Keycloak && self.realm.is_none() {
            return Err(InvalidValue::new("realm", "is missing; api keycloak needs it"));
        }
        let client_id = self.client_id.as_ref().ok_or(InvalidValue::new("client_id", "is missing"))?;
        let proof = self.proof(api)?;
        for (key, value) in [("scope", &self.scope), ("audience", &self.audience), ("resource", &self.resource)] {
            if value.is_some() && !api.is_form() {
                return Err(InvalidValue::new(key, format!("cannot be sent with api {}", api.name())));
            }
        }
        let scope = match &self.scope {
            Some(scope) => Some(scope.clone().into_owned()).filter(|scope| !scope.is_empty()),
            None => (api == Api::Keycloak).then(|| "openid".to_owned()),
        };
        let mut hosts = self.hosts.clone();
        if let Some((_, own)) = &self.url
            && !hosts.contains(own)
        {
            hosts.push(own.clone());
        }
        let owned = |value: &Option<Cow<'a, str>>| value.as_ref().map(|value| value.clone().into_owned());
        Ok(Profile {
            name: name.to_owned(),
            api,
            endpoint: self.endpoint(api),
            client_id: client_id.clone().into_owned(),
            proof,
            scope,
            audience: owned(&self.audience),
            resource: owned(&self.resource),
            bearer: self.bearer,
            hosts,
            clusters: self.clusters.clone(),
            username: owned(&self.username).unwrap_or_else(|| "oauth2".to_owned()),
            ca_file: self.ca_file.clone(),
            proxy: self.proxy.clone(),
            timeout: self.timeout.unwrap_or(Duration::from_secs(10)),
            cached: !self.uncached,
            source: source.to_owned(),
        })
    }

    fn proof(&self, api: Api) -> Checked<Proof> {
        match (&self.secret, &self.assertion) {
            (None, None) => Err(InvalidValue::new("client_secret", "is missing; it says where the secret is")),
            (Some(_), Some(_)) => Err(InvalidValue::new("client_assertion", "cannot stand beside client_secret")),
            (Some(_), None) if self.client_auth.is_some() && !api.is_form() => {
                Err(InvalidValue::new("client_auth", format!("cannot be chosen for api {}", api.name())))
            }
            (Some(source), None) => Ok(Proof::Secret(source.clone(), self.client_auth.unwrap_or_default())),
            (None, Some(_)) if self.client_auth.is_some() => {
                Err(InvalidValue::new("client_auth", "is for a client_secret, not for a client_assertion"))
            }
            (None, Some(_)) if !api.is_form() => {
                Err(InvalidValue::new("client_assertion", format!("cannot be sent with api {}", api.name())))
            }
            (None, Some(path)) => Ok(Proof::Assertion(path.clone())),
        }
    }

    fn endpoint(&self, api: Api) -> String {
        let url = self.url.as_ref().map_or("", |(url, _)| url.trim_end_matches('/'));
        match api {
            Api::Oauth2 => self.token_url.as_ref().map_or_else(String::new, |(url, _)| url.to_string()),
            Api::V2 => format!("{url}/api/v2/token"),
            Api::V1 | Api::AppToken => format!("{url}/api/v1/token"),
            Api::Keycloak => {
                let realm = self.realm.as_deref().unwrap_or_default();
                // Form and path encoding differ in one character: a space is + in a form and %20 in a path.
                let realm: String = form_urlencoded::byte_serialize(realm.as_bytes()).collect();
                format!("{url}/auth/realms/{}/protocol/openid-connect/token", realm.replace('+', "%20"))
            }
        }
    }
}

/// Returns the value that `value`, one of `names`, stands for.
fn choice<T>(key: &'static str, value: &str, names: &[&str], named: impl Fn(&str) -> Option<T>) -> Checked<T> {
    let known = names.contains(&value).then(|| named(value)).flatten();
    known.ok_or_else(|| InvalidValue::new(key, format!("is none of {}", names.join(", "))))
}

/// The forms of a `client_secret`, for hints.
pub const SOURCES: &str =
    "write {\"keyring\": true}, {\"file\": PATH}, {\"env\": NAME} or {\"command\": [PATH, ARG, …]}";

/// Returns the hint for an invalid value of `key`.
pub fn remedy(key: &str) -> String {
    let like = match key {
        "url" => "https://app.run.ai",
        "token_url" => "https://idp.example/oauth/token",
        "hosts" => "https://gitlab.example",
        "clusters" => "https://kube.example:6443",
        "proxy" => "http://proxy.example:3128",
        "ca_file" => "/etc/ssl/acme.pem",
        "realm" => "acme",
        "client_id" => "ci-pipeline",
        "scope" => "openid profile",
        "username" => "oauth2",
        "timeout" => return "write it like \"10s\", \"500ms\" or \"2m\"".to_owned(),
        "client_assertion" => return "write {\"file\": PATH} with the path in full".to_owned(),
        "client_secret" => return SOURCES.to_owned(),
        _ => return format!("correct {key}, or leave it out"),
    };
    format!("write it like {like:?}")
}

/// Checks that a path is absolute. A relative path would depend on the working directory.
pub(super) fn absolute(key: &'static str, value: &str) -> Checked<PathBuf> {
    let path = PathBuf::from(value);
    if value.chars().any(char::is_control) {
        return Err(InvalidValue::new(key, "has a control character"));
    }
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(InvalidValue::new(key, "is a relative path; write it in full, from /"))
    }
}

/// Checks the URL of a server that receives a secret: https, a canonical origin, a plain path.
fn https_url<'a>(key: &'static str, value: Cow<'a, str>) -> Checked<(Cow<'a, str>, Origin)> {
    let fault = |what: &'static str| InvalidValue::new(key, what);
    let (origin, path) = Origin::of_url(&value).map_err(fault)?;
    if !origin.is_https() {
        return Err(fault("is not an https URL; a secret is never sent in clear"));
    }
    if path.contains(['?', '#']) {
        return Err(fault("has a query or a fragment; give the URL without it"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte);
    if !path.bytes().all(plain) || path.split('/').any(|part| part == "." || part == "..") {
        return Err(fault("has a path with a character or a .. that does not belong there"));
    }
    Ok((value, origin))
}

/// Checks the URL of an HTTP proxy: `http://[user:password@]host[:port]`, or `https://…`.
///
/// # Errors
/// The fault, as the end of a sentence that starts with the URL.
pub fn proxy_url(value: &str) -> std::result::Result<Origin, &'static str> {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("is not the URL of an HTTP proxy (http:// or https://)"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err("has a path; a proxy is scheme, host and port");
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Origin::of_authority(https, host)
}

/// Parses a duration such as `500ms`, `10s`, `2m` or `1h`. A number without a unit is not a duration.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_without_unit_is_refused() {
        for (given, wanted) in [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("10", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(given), wanted.map(Duration::from_millis), "{given:?}");
        }
    }

    #[test]
    fn endpoint_follows_from_the_api() {
        let endpoint = |keys: &[(&'static str, &'static str)]| {
            let mut draft = Draft::default();
            for (key, value) in keys {
                draft.text(key, (*value).into()).unwrap();
            }
            draft.text("client_id", "c".into()).unwrap();
            draft.secret(Source::Keyring).unwrap();
            draft.finish("p", "/c.json").map(|profile| (profile.api, profile.endpoint))
        };
        let url = ("url", "https://acme.run.ai/");
        for (keys, api, wanted) in [
            (&[url][..], Api::V2, "https://acme.run.ai/api/v2/token"),
            (&[url, ("api", "v1")], Api::V1, "https://acme.run.ai/api/v1/token"),
            (&[url, ("api", "app-token")], Api::AppToken, "https://acme.run.ai/api/v1/token"),
            (
                &[url, ("realm", "my realm")],
                Api::Keycloak,
                "https://acme.run.ai/auth/realms/my%20realm/protocol/openid-connect/token",
            ),
            (&[("token_url", "https://idp.example/oauth/token")], Api::Oauth2, "https://idp.example/oauth/token"),
            (&[url, ("token_url", "https://idp.example/t")], Api::Oauth2, "https://idp.example/t"),
        ] {
            assert_eq!(endpoint(keys), Ok((api, wanted.to_owned())));
        }
        assert_eq!(endpoint(&[]).unwrap_err().key, "url");
        assert_eq!(endpoint(&[url, ("api", "keycloak")]).unwrap_err().key, "realm");
        assert_eq!(endpoint(&[url, ("api", "oauth2")]).unwrap_err().key, "token_url");
        assert_eq!(endpoint(&[url, ("realm", "r"), ("token_url", "https://a.example")]).unwrap_err().key, "token_url");
        assert_eq!(endpoint(&[url, ("api", "v1"), ("scope", "openid")]).unwrap_err().key, "scope");
    }
}
