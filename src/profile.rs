//! Profiles: a control plane, a client, and the servers that may receive its token.
//!
//! A [`Draft`] collects the values that a user wrote, and checks each one. A [`Profile`] is a draft whose
//! values fit together. The configuration file and the `RUNAI_*` variables are both read through drafts, so
//! each rule exists once.

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

/// The token endpoint, and the form of the request to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// The realm endpoint of the Keycloak behind the control plane.
    Keycloak,
    /// `POST /api/v2/token` with a form.
    V2,
    /// `POST /api/v1/token` with JSON, grant `client_credentials`.
    V1,
    /// `POST /api/v1/token` with JSON, grant `app_token`.
    AppToken,
    /// Any token endpoint of RFC 6749 §4.4.
    Oauth2,
}

names!(Api { Keycloak: "keycloak", V2: "v2", V1: "v1", AppToken: "app-token", Oauth2: "oauth2" });

impl Api {
    /// Whether the request is a form of RFC 6749.
    ///
    /// Client authentication and scopes are defined for such a form only.
    pub fn is_form(self) -> bool {
        !matches!(self, Api::V1 | Api::AppToken)
    }
}

/// How the request carries the client secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the body: `client_secret_post` of OpenID Connect.
    #[default]
    Post,
    /// In the `Authorization` header: RFC 6749 §2.3.1.
    Basic,
}

names!(ClientAuth { Post: "post", Basic: "basic" });

/// The proof by which the client authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A client secret.
    Secret(Source, ClientAuth),
    /// A JWT from another issuer (RFC 7523 §2.2). Its file is read again for each request.
    Assertion(PathBuf),
}

/// The proxy between this machine and the token endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// The proxy that the environment names, by curl's rules.
    #[default]
    Environment,
    /// No proxy.
    None,
    /// The proxy with this URL.
    Url(String),
}

/// A profile whose values fit together.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name in the configuration, or [`ENV`].
    pub name: String,
    /// Form of the token request.
    pub api: Api,
    /// URL of the token endpoint.
    pub endpoint: String,
    /// Id of the client.
    pub client_id: String,
    /// The proof by which the client authenticates.
    pub proof: Proof,
    /// The scope, as the request sends it. `None` sends none.
    pub scope: Option<String>,
    /// The audience, as the request sends it.
    pub audience: Option<String>,
    /// The resource, as the request sends it (RFC 8707).
    pub resource: Option<String>,
    /// The token that a call returns unless it chooses another one.
    pub bearer: Bearer,
    /// Origins that may receive the token. The origin of the control plane is always among them.
    pub hosts: Vec<Origin>,
    /// API servers for which `kubectl` returns the token. Empty means all.
    pub clusters: Vec<Origin>,
    /// User name beside the token, for protocols with one.
    pub username: String,
    /// PEM file of trusted roots, in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy to the token endpoint.
    pub proxy: Proxy,
    /// Time budget of a fetch.
    pub timeout: Duration,
    /// Whether tokens are cached on disk.
    pub cached: bool,
    /// Where the profile is defined: the path of the configuration file, or [`ENVIRONMENT`].
    pub source: String,
}

impl Profile {
    /// Returns a variable about certificates, unless it is empty or does not count for this profile.
    ///
    /// It counts only for the profile from the environment. For any other profile the author of a kubeconfig could
    /// set it.
    pub fn tls_variable(&self, name: &str, host: &dyn Host) -> Option<OsString> {
        let value = if self.source == ENVIRONMENT { host.var_os(name) } else { None };
        value.filter(|value| !value.is_empty())
    }

    /// Returns the settings that add to the system's trusted roots or replace them: each name with its path.
    pub fn roots(&self, host: &dyn Host) -> Option<String> {
        let variables = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| Some((name, self.tls_variable(name, host)?)));
        let own = self.ca_file.as_ref().map(|path| ("ca_file", path.clone().into_os_string()));
        let named = variables.into_iter().chain([own]).flatten();
        let roots: Vec<String> = named.map(|(name, path)| format!("{name}={}", path.to_string_lossy())).collect();
        (!roots.is_empty()).then(|| roots.join(" "))
    }

    /// Returns the keyring entry of the client secret.
    pub fn keyring_entry(&self, host: &dyn Host) -> keyring::Entry {
        keyring::Entry::new(&self.endpoint, &self.client_id, self.roots(host).as_deref())
    }

    /// Checks that the profile may serve a cluster. A profile without `clusters` serves all.
    ///
    /// `server` is the URL that the client is about to call. `detour` is the kubeconfig key, if any, with
    /// which the client may reach another server.
    ///
    /// # Errors
    /// [`Kind::NotOurs`] if the server is unknown, if the profile does not name it, or if there is a detour.
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

/// The [`Profile::source`] of a profile from the environment.
const ENVIRONMENT: &str = "environment";
