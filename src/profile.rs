//! Profiles: a control plane, a client, and who may have its token.
//!
//! A [`Draft`] is what somebody wrote, each value checked as it comes in; a [`Profile`] is a draft whose values fit
//! together. Both the configuration file and the `RUNAI_*` variables are read through drafts, so each rule stands once.

mod draft;
mod environment;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::origin::Origin;
use crate::os::keyring;
use crate::secret::Source;
use crate::token::Bearer;

pub use draft::{Draft, InvalidValue, SOURCES, duration, proxy_url, remedy};
pub use environment::{ENV, from_env};

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
    /// A variable about certificates, which counts only for the environment's own profile: for any other it could be set
    /// by whoever wrote a kubeconfig.
    pub fn tls_variable(&self, name: &str, host: &dyn Host) -> Option<OsString> {
        let value = if self.source == ENVIRONMENT { host.var_os(name) } else { None };
        value.filter(|value| !value.is_empty())
    }

    /// The certificates that are trusted beside the system's, or in their place: who names them, and where they are.
    pub fn roots(&self, host: &dyn Host) -> Option<String> {
        let variables = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| Some((name, self.tls_variable(name, host)?)));
        let own = self.ca_file.as_ref().map(|path| ("ca_file", path.clone().into_os_string()));
        let named = variables.into_iter().chain([own]).flatten();
        let roots: Vec<String> = named.map(|(name, path)| format!("{name}={}", path.to_string_lossy())).collect();
        (!roots.is_empty()).then(|| roots.join(" "))
    }

    /// The place of its client's secret in the keyring.
    pub fn keyring_entry(&self, host: &dyn Host) -> keyring::Entry {
        keyring::Entry::new(&self.endpoint, &self.client_id, self.roots(host).as_deref())
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

/// What stands in the place of a path for a profile of the environment.
const ENVIRONMENT: &str = "environment";
