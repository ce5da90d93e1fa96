//! The protocol ExecCredential of `client.authentication.k8s.io`, in the versions `v1` and `v1beta1`.
//!
//! kubectl, helm and every client-go program run the command in `users[].user.exec` of a kubeconfig. The
//! request comes in the variable `KUBERNETES_EXEC_INFO`. Standard input belongs to the user and is never
//! read.
//!
//! Source: kubernetes/client-go, `plugin/pkg/client/auth/exec/exec.go`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, printable};
use crate::token::{LiveToken, rfc3339};

/// The variable that holds the request.
pub const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The request of the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The version of the answer. The client accepts only the version that its kubeconfig names.
    api_version: &'static str,
    /// URL of the API server, if the kubeconfig has `provideClusterInfo: true`.
    pub server: Option<String>,
    /// The kubeconfig key, if any, with which the client may reach another server than `server`.
    pub detour: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo<'a> {
    #[serde(borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

impl Cluster {
    fn detour(&self) -> Option<&'static str> {
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if self.insecure_skip_tls_verify == Some(true) {
            Some("insecure-skip-tls-verify")
        } else if is_set(&self.tls_server_name) {
            Some("tls-server-name")
        } else if is_set(&self.proxy_url) {
            Some("proxy-url")
        } else {
            None
        }
    }
}

impl Request {
    /// Parses the value of [`EXEC_INFO`].
    ///
    /// Without the variable the request is for `v1`: a user runs the command by hand.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the value is not an ExecCredential of a known version.
    pub fn read(info: Option<&str>) -> Result<Request> {
        let Some(info) = info else {
            return Ok(Request { api_version: VERSIONS[0], server: None, detour: None });
        };
        let refuse = |why: &str| {
            let hint = "let kubectl start this command; it sets the variable itself";
            Error::config(format!("{EXEC_INFO} is not an ExecCredential: {why}"), hint)
        };
        // The protocol sends an object. serde's derived parser would accept an array of the values, too.
        if !info.trim_ascii_start().starts_with('{') {
            return Err(refuse("it is no JSON object"));
        }
        let info: ExecInfo<'_> = serde_json::from_str(info).map_err(|error| refuse(&error.to_string()))?;
        if let Some(kind) = info.kind.filter(|kind| kind != "ExecCredential") {
            return Err(refuse(&format!("its kind is {kind:?}")));
        }
        let requested = info.api_version.unwrap_or_default();
        let requested = requested.as_ref();
        let api_version = VERSIONS.into_iter().find(|known| *known == requested).ok_or_else(|| {
            Error::config(
                format!(
                    "the kubeconfig asks for apiVersion {:?}, which this command does not speak",
                    printable(requested, 80)
                ),
                format!("set apiVersion of the exec entry to {} (or {})", VERSIONS[0], VERSIONS[1]),
            )
        })?;
        let cluster = info.spec.and_then(|spec| spec.cluster);
        let detour = cluster.as_ref().and_then(Cluster::detour);
        Ok(Request { api_version, server: cluster.and_then(|cluster| cluster.server), detour })
    }

    /// Returns the answer with the token: one JSON object and a newline.
    ///
    /// For a token of unknown lifetime the answer has no `expirationTimestamp`. The client then keeps the
    /// token until the server rejects it.
    pub fn answer(&self, held: &LiveToken) -> Vec<u8> {
        let answer = Answer {
            kind: "ExecCredential",
            api_version: self.api_version,
            status: Status { token: held.token.expose(), expiration_timestamp: held.advertised_expiry().map(rfc3339) },
        };
        // Serialising strings and optional strings cannot fail.
        let mut bytes = serde_json::to_vec(&answer).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    kind: &'a str,
    api_version: &'a str,
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_timestamp: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::Moment;
    use crate::token::{Token, Validity};
    use proptest::prelude::*;
    use std::time::Duration;

    fn held(lifetime: Option<u64>) -> LiveToken {
        let life = lifetime.map(|seconds| Validity { lifetime: Duration::from_secs(seconds), age: Duration::ZERO });
        let now = Moment { unix_ms: 1_795_291_200_000, boot_ms: 0 };
        LiveToken { token: Token::new("t0k.en").unwrap(), validity: life, now, is_new: false }
    }

    #[test]
    fn answer_has_the_requested_api_version() {
        let ask = |info: Option<String>| {
            Request::read(info.as_deref()).map(|request| String::from_utf8(request.answer(&held(Some(3600)))).unwrap())
        };
        let answer = |version: &str| {
            format!(
                "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/{version}\",\
                 \"status\":{{\"token\":\"t0k.en\",\"expirationTimestamp\":\"2026-11-21T20:59:50Z\"}}}}\n"
            )
        };
        let info = |version: &str| {
            format!(
                "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/{version}\",\"spec\":{{\"interactive\":false}}}}\n"
            )
        };
        assert_eq!(ask(None), Ok(answer("v1")));
        assert_eq!(ask(Some(info("v1"))), Ok(answer("v1")));
        assert_eq!(ask(Some(info("v1beta1"))), Ok(answer("v1beta1")));
        assert_eq!(ask(Some(info("v1alpha1"))).unwrap_err().kind, Kind::Config);
    }

    #[test]
    fn token_without_lifetime_has_no_expiration() {
        let answer = String::from_utf8(Request::read(None).unwrap().answer(&held(None))).unwrap();
        assert!(answer.ends_with("\"status\":{\"token\":\"t0k.en\"}}\n"), "{answer}");
    }

    #[test]
    fn request_yields_server_and_detour() {
        let request = |cluster: &str| {
            Request::read(Some(&format!(
                "{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"spec\":{{\"cluster\":{cluster},\"interactive\":true}}}}"
            )))
            .map(|request| (request.server, request.detour))
        };
        let server = Some("https://k.example:6443".to_owned());
        assert_eq!(request("null"), Ok((None, None)));
        assert_eq!(
            request(r#"{"server":"https://k.example:6443","config":null,"future":1}"#),
            Ok((server.clone(), None))
        );
        assert_eq!(
            request(r#"{"server":"https://k.example:6443","insecure-skip-tls-verify":true}"#),
            Ok((server.clone(), Some("insecure-skip-tls-verify")))
        );
        for (key, value) in [("tls-server-name", "\"a.example\""), ("proxy-url", "\"http://p.example\"")] {
            let cluster = format!("{{\"server\":\"https:\\/\\/k.example:6443\",{key:?}:{value}}}");
            assert_eq!(request(&cluster), Ok((server.clone(), Some(key))));
        }
        let escaped = r#"{"kind":"Exec\u0043redential","apiVersion":"client.authentication.k8s.io\/v1","spec":null}"#;
        assert!(Request::read(Some(escaped)).is_ok());
        assert!(request("7").is_err());
    }

    #[test]
    fn request_of_other_kind_is_refused() {
        for info in
            ["", "{", "[]", "null", "7", "{}", r#"{"kind":"Pod","apiVersion":"client.authentication.k8s.io/v1"}"#]
        {
            assert_eq!(Request::read(Some(info)).unwrap_err().kind, Kind::Config, "{info}");
        }
    }

    const SEEDS: &[&str] = &[
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#,
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io\/v1beta1","spec":{"cluster":{"server":
           "https://k.example:6443","tls-server-name":"k","insecure-skip-tls-verify":false,"proxy-url":null,"config":{}}}}"#,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Any value of the variable yields an answer in one of the two versions, or an error in one line.
        #[test]
        fn request_damaged_yields_answer_or_error(info in crate::mutation::mutated(SEEDS)) {
            match Request::read(Some(&String::from_utf8_lossy(&info))) {
                Ok(request) => prop_assert!(VERSIONS.contains(&request.api_version)),
                Err(error) => prop_assert!(!error.what.chars().chain(error.hint.chars()).any(char::is_control)),
            }
        }
    }
}
