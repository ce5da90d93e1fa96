//! Profiles: a control plane, a client, and who may have its token.
//!
//! A [`Draft`] is what somebody wrote, each value checked as it comes in; a [`Profile`] is a draft whose values fit
//! together. Both the configuration file and the `RUNAI_*` variables are read through drafts, so each rule stands once.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::origin::Origin;
use crate::secret::Source;
use crate::system::System;
use crate::token::Bearer;

/// Which token endpoint is asked, and in what shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// The realm endpoint of the Keycloak behind the control plane.
    Keycloak,
    /// `POST /api/v2/token`, form.
    V2,
    /// `POST /api/v1/token`, JSON, grant `client_credentials`.
    V1,
    /// `POST /api/v1/token`, JSON, grant `app_token`.
    AppToken,
    /// Any endpoint of RFC 6749 §4.4.
    Oauth2,
}

impl Api {
    /// The names in configuration and options.
    pub const NAMES: [&'static str; 5] = ["keycloak", "v2", "v1", "app-token", "oauth2"];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Api> {
        Some(match name {
            "keycloak" => Api::Keycloak,
            "v2" => Api::V2,
            "v1" => Api::V1,
            "app-token" => Api::AppToken,
            "oauth2" => Api::Oauth2,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether the request is a form of RFC 6749, which is what client authentication and scopes are defined for.
    pub fn is_form(self) -> bool {
        !matches!(self, Api::V1 | Api::AppToken)
    }
}

/// How a client secret is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the body: `client_secret_post` of OpenID Connect.
    #[default]
    Post,
    /// In the `Authorization` header: RFC 6749 §2.3.1.
    Basic,
}

impl ClientAuth {
    /// The names in the configuration.
    pub const NAMES: [&'static str; 2] = ["post", "basic"];

    fn named(name: &str) -> Option<ClientAuth> {
        match name {
            "post" => Some(ClientAuth::Post),
            "basic" => Some(ClientAuth::Basic),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What the client proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A secret.
    Secret(Source, ClientAuth),
    /// A JWT that somebody else issued (RFC 7523 §2.2), in a file that is read again for each request.
    Assertion(PathBuf),
}

/// Which proxy stands between here and the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// Whatever the environment says, as curl reads it.
    #[default]
    Environment,
    /// None.
    None,
    /// This one.
    Url(String),
}

/// A profile whose values fit together.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name in the configuration, or [`ENV`].
    pub name: String,
    /// Shape of the request.
    pub api: Api,
    /// The token endpoint.
    pub endpoint: String,
    /// Id of the client.
    pub client_id: String,
    /// Its proof.
    pub proof: Proof,
    /// As sent; `None` sends none.
    pub scope: Option<String>,
    /// As sent.
    pub audience: Option<String>,
    /// As sent (RFC 8707).
    pub resource: Option<String>,
    /// The token that is handed out unless the call says otherwise.
    pub bearer: Bearer,
    /// Origins that may receive the token; the control plane's own is always among them.
    pub hosts: Vec<Origin>,
    /// If not empty: the API servers that `kubectl` may be answered for.
    pub clusters: Vec<Origin>,
    /// User name beside the token.
    #[allow(dead_code, reason = "checked here already; git and docker will hand it out")]
    pub username: String,
    /// PEM roots beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: Proxy,
    /// Budget of a fetch.
    pub timeout: Duration,
    /// Whether tokens are kept on disk.
    pub cached: bool,
    /// Where it is described: the path of the configuration, or [`ENVIRONMENT`].
    pub source: String,
}

impl Profile {
    /// The profile, if it has no source yet, as described in the configuration file `source`.
    pub fn described_in(mut self, source: &str) -> Profile {
        if self.source.is_empty() {
            source.clone_into(&mut self.source);
        }
        self
    }

    /// A variable about certificates, which counts only for the environment's own profile: for any other it could be set
    /// by whoever wrote a kubeconfig.
    pub fn tls_variable(&self, name: &str, system: &System<'_>) -> Option<OsString> {
        let value = if self.source == ENVIRONMENT { (system.env)(name) } else { None };
        value.filter(|value| !value.is_empty())
    }

    /// The certificates that are trusted beside the system's, or in their place: who names them, and where they are.
    pub fn roots(&self, system: &System<'_>) -> Option<String> {
        let variables = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| Some((name, self.tls_variable(name, system)?)));
        let own = self.ca_file.as_ref().map(|path| ("ca_file", path.clone().into_os_string()));
        let named = variables.into_iter().chain([own]).flatten();
        let roots: Vec<String> = named.map(|(name, path)| format!("{name}={}", path.to_string_lossy())).collect();
        (!roots.is_empty()).then(|| roots.join(" "))
    }

    /// Refuses a cluster that the profile does not name; a profile that names none serves all.
    ///
    /// `server` is the URL that the caller is about to talk to, `detour` what makes it uncertain that it gets there.
    ///
    /// # Errors
    /// [`Kind::NotOurs`].
    pub fn check_cluster(&self, server: Option<&str>, detour: Option<&str>) -> Result<()> {
        if self.clusters.is_empty() {
            return Ok(());
        }
        let name = &self.name;
        let Some(server) = server else {
            return Err(Error::new(
                Kind::NotOurs,
                format!("profile {name} is bound to clusters, and kubectl did not say which cluster it is for"),
                "set provideClusterInfo: true in the exec entry of the kubeconfig",
            ));
        };
        let listed = Origin::of_url(server).is_ok_and(|(origin, _)| self.clusters.contains(&origin));
        if !listed {
            return Err(Error::new(
                Kind::NotOurs,
                format!("profile {name} has no token for the cluster {server}"),
                format!("add it to clusters of profile {name} if it should have the token"),
            ));
        }
        if let Some(detour) = detour {
            return Err(Error::new(
                Kind::NotOurs,
                format!("profile {name} has no token for a kubeconfig with {detour}: it could lead to another server"),
                format!(
                    "take {detour} out of the cluster's entry in the kubeconfig, or clusters out of profile {name}"
                ),
            ));
        }
        Ok(())
    }
}

/// A value that cannot be taken, or values that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key to blame.
    pub key: &'static str,
    /// What is wrong, as the end of a sentence that starts with the key or its value.
    pub what: Cow<'static, str>,
}

impl Fault {
    fn new(key: &'static str, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault { key, what: what.into() }
    }
}

type Checked<T = ()> = std::result::Result<T, Fault>;

/// What somebody wrote for a profile. Values are checked one by one by the methods, together by [`Draft::finish`].
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
    /// Every key whose value is a text.
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

    /// Takes the text `value` for `key`, which must be one of [`Draft::TEXT_KEYS`].
    pub fn text(&mut self, key: &'static str, value: Cow<'a, str>) -> Checked {
        let fault = |what: &'static str| Fault::new(key, what);
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
                // RFC 6749 section 3.3: tokens of printable ASCII without " and \, separated by spaces.
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
        let origin = Origin::parse(value).map_err(|what| Fault::new("hosts", what))?;
        if !origin.is_https() && !origin.is_loopback() {
            return Err(Fault::new("hosts", "is plain http, which only a loopback address may be"));
        }
        self.hosts.push(origin);
        Ok(())
    }

    /// Adds an API server that may be answered for.
    pub fn cluster(&mut self, value: &str) -> Checked {
        let origin = Origin::parse(value).map_err(|what| Fault::new("clusters", what))?;
        if !origin.is_https() {
            return Err(Fault::new("clusters", "is not an https URL"));
        }
        self.clusters.push(origin);
        Ok(())
    }

    /// Says where the client secret is.
    pub fn secret(&mut self, source: Source) -> Checked {
        const KEY: &str = "client_secret";
        match &source {
            Source::File(path) if !path.is_absolute() => {
                return Err(Fault::new(KEY, "has a relative file; write its path in full, from /"));
            }
            Source::File(path) if path.to_string_lossy().chars().any(char::is_control) => {
                return Err(Fault::new(KEY, "has a file with a control character"));
            }
            Source::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
                return Err(Fault::new(KEY, "has an env that is no name of a variable"));
            }
            Source::Command(argv) if !argv.first().is_some_and(|program| Path::new(program).is_absolute()) => {
                return Err(Fault::new(KEY, "has a command that is no list starting with an absolute path"));
            }
            Source::Command(argv) if argv.iter().any(|arg| arg.contains('\0')) => {
                return Err(Fault::new(KEY, "has a command with a NUL character"));
            }
            _ => self.secret = Some(source),
        }
        Ok(())
    }

    /// Says where the client assertion is.
    pub fn assertion(&mut self, path: &str) -> Checked {
        self.assertion = Some(absolute("client_assertion", path)?);
        Ok(())
    }

    /// Makes a profile of it if everything fits together.
    pub fn finish(&self, name: &str) -> Checked<Profile> {
        let api = self.api.unwrap_or(match (&self.realm, &self.token_url) {
            (Some(_), _) => Api::Keycloak,
            (None, Some(_)) => Api::Oauth2,
            (None, None) => Api::V2,
        });
        if api == Api::Oauth2 && self.token_url.is_none() {
            return Err(Fault::new("token_url", "is missing; api oauth2 needs it"));
        }
        if api != Api::Oauth2 && self.token_url.is_some() {
            return Err(Fault::new("token_url", format!("is for api oauth2, and this profile is for {}", api.name())));
        }
        if api != Api::Oauth2 && self.url.is_none() {
            return Err(Fault::new(
                "url",
                "is missing; it is the URL of the control plane, such as https://app.run.ai",
            ));
        }
        if api == Api::Keycloak && self.realm.is_none() {
            return Err(Fault::new("realm", "is missing; api keycloak needs it"));
        }
        let client_id = self.client_id.as_ref().ok_or(Fault::new("client_id", "is missing"))?;
        let proof = self.proof(api)?;
        for (key, value) in [("scope", &self.scope), ("audience", &self.audience), ("resource", &self.resource)] {
            if value.is_some() && !api.is_form() {
                return Err(Fault::new(key, format!("cannot be sent with api {}", api.name())));
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
            source: String::new(),
        })
    }

    fn proof(&self, api: Api) -> Checked<Proof> {
        match (&self.secret, &self.assertion) {
            (None, None) => Err(Fault::new("client_secret", "is missing; it says where the secret is")),
            (Some(_), Some(_)) => Err(Fault::new("client_assertion", "cannot stand beside client_secret")),
            (Some(_), None) if self.client_auth.is_some() && !api.is_form() => {
                Err(Fault::new("client_auth", format!("cannot be chosen for api {}", api.name())))
            }
            (Some(source), None) => Ok(Proof::Secret(source.clone(), self.client_auth.unwrap_or_default())),
            (None, Some(_)) if self.client_auth.is_some() => {
                Err(Fault::new("client_auth", "is for a client_secret, not for a client_assertion"))
            }
            (None, Some(_)) if !api.is_form() => {
                Err(Fault::new("client_assertion", format!("cannot be sent with api {}", api.name())))
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
                // A form's encoding differs from a path's in one character: there a space is %20.
                let realm: String = form_urlencoded::byte_serialize(realm.as_bytes()).collect();
                format!("{url}/auth/realms/{}/protocol/openid-connect/token", realm.replace('+', "%20"))
            }
        }
    }
}

/// One of several names.
fn choice<T>(key: &'static str, value: &str, names: &[&str], named: impl Fn(&str) -> Option<T>) -> Checked<T> {
    let known = names.contains(&value).then(|| named(value)).flatten();
    known.ok_or_else(|| Fault::new(key, format!("is none of {}", names.join(", "))))
}

/// The shapes of a `client_secret`, for hints; the keyring is not among them as long as it cannot be read.
pub const SOURCES: &str = "write {\"file\": PATH}, {\"env\": NAME} or {\"command\": [PATH, ARG, …]}";

/// What to do about a value of `key` that cannot be taken.
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

/// A path that means the same wherever the program is started.
fn absolute(key: &'static str, value: &str) -> Checked<PathBuf> {
    let path = PathBuf::from(value);
    if value.chars().any(char::is_control) {
        return Err(Fault::new(key, "has a control character"));
    }
    if path.is_absolute() { Ok(path) } else { Err(Fault::new(key, "is a relative path; write it in full, from /")) }
}

/// The URL of a server that is sent a secret: https, a canonical origin, a plain path.
fn https_url<'a>(key: &'static str, value: Cow<'a, str>) -> Checked<(Cow<'a, str>, Origin)> {
    let fault = |what: &'static str| Fault::new(key, what);
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
/// What is wrong, as the end of a sentence that starts with the URL.
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

/// A duration such as `500ms`, `10s`, `2m`, `1h`; a bare number is not one.
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

/// What stands in the place of a path for a profile of the environment.
const ENVIRONMENT: &str = "environment";

/// Name of the profile that the `RUNAI_*` variables make.
pub const ENV: &str = "env";

/// The variables of the profile [`ENV`] and the keys that they stand for.
const VARIABLES: [(&str, &str); 8] = [
    ("RUNAI_URL", "url"),
    ("RUNAI_BASE_URL", "url"),
    ("RUNAI_REALM", "realm"),
    ("RUNAI_CLIENT_ID", "client_id"),
    ("RUNAI_API", "api"),
    ("RUNAI_TOKEN_URL", "token_url"),
    ("RUNAI_SCOPE", "scope"),
    ("RUNAI_CA_FILE", "ca_file"),
];

/// The profile that the environment describes, if `RUNAI_CLIENT_ID` is set.
///
/// # Errors
/// [`Kind::Config`], naming the variable.
pub fn from_env(system: &System<'_>) -> Result<Option<Profile>> {
    if system.var("RUNAI_CLIENT_ID").is_none() {
        return Ok(None);
    }
    let mut draft = Draft::default();
    let wrong = |name: &str, said: &str| {
        let verb = if system.var(name).is_some() { "correct" } else { "set" };
        Error::config(
            format!("{name} {said}"),
            format!("{verb} {name}, or unset RUNAI_CLIENT_ID to use the configuration file"),
        )
    };
    // A value is shown, unless it may hold a password.
    let refused = |name: &str, value: &str, fault: Fault| match value.contains('@') {
        true => wrong(name, &fault.what),
        false => wrong(name, &format!("({value:?}) {}", fault.what)),
    };
    for (name, key) in VARIABLES {
        let is_second = name == "RUNAI_BASE_URL" && system.var("RUNAI_URL").is_some();
        if let Some(value) = system.var(name).filter(|_| !is_second) {
            draft.text(key, Cow::Owned(value.clone())).map_err(|fault| refused(name, &value, fault))?;
        }
    }
    for host in system.var("RUNAI_HOSTS").unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty())
    {
        draft.host(host).map_err(|fault| refused("RUNAI_HOSTS", host, fault))?;
    }
    const FILE: &str = "RUNAI_CLIENT_SECRET_FILE";
    let source = match (system.var("RUNAI_CLIENT_SECRET"), system.var(FILE)) {
        (Some(_), _) => Source::Env("RUNAI_CLIENT_SECRET".to_owned()),
        // Not shown: somebody may have set it to the secret itself.
        (None, Some(file)) => Source::File(absolute("", &file).map_err(|fault| wrong(FILE, &fault.what))?),
        (None, None) => {
            return Err(Error::config(
                "RUNAI_CLIENT_ID is set, but neither RUNAI_CLIENT_SECRET nor RUNAI_CLIENT_SECRET_FILE",
                "set one of them, or unset RUNAI_CLIENT_ID to use the configuration file",
            ));
        }
    };
    let profile = draft
        .secret(source)
        .and_then(|()| draft.finish(ENV))
        .map_err(|fault| wrong(variable(fault.key), &fault.what))?;
    Ok(Some(Profile { source: ENVIRONMENT.to_owned(), ..profile }))
}

/// The variable for a key, for messages.
fn variable(key: &str) -> &str {
    match key {
        "client_secret" => "RUNAI_CLIENT_SECRET",
        _ => VARIABLES.iter().find(|(_, known)| *known == key).map_or(key, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
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
    fn names_and_values_agree() {
        for name in Api::NAMES {
            assert_eq!(Api::named(name).map(Api::name), Some(name));
        }
        assert!(Bearer::NAMES.iter().all(|name| Bearer::named(name).is_some()));
        assert!(ClientAuth::NAMES.iter().all(|name| ClientAuth::named(name).is_some()));
    }

    #[test]
    fn the_endpoint_of_each_api() {
        let endpoint = |keys: &[(&'static str, &'static str)]| {
            let mut draft = Draft::default();
            for (key, value) in keys {
                draft.text(key, (*value).into()).unwrap();
            }
            draft.text("client_id", "c".into()).unwrap();
            draft.secret(Source::Keyring).unwrap();
            draft.finish("p").map(|profile| (profile.api, profile.endpoint))
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
