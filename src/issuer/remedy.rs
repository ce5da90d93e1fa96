//! Chooses the hint for a refusal of a token endpoint. Pure.

/// The parts of a refusal that its remedy depends on.
pub(super) struct Refusal<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The error code of RFC 6749 section 5.2; empty without one.
    pub(super) error: &'a str,
    /// The server's description of the error; empty without one.
    pub(super) description: &'a str,
    /// The client that the server refused.
    pub(super) client_id: &'a str,
    /// The client secret or the assertion, with its source, in words.
    pub(super) secret: &'a str,
}

/// A condition on a refusal, and the hint for it.
type Remedy = (fn(&Refusal<'_>) -> bool, fn(&Refusal<'_>) -> String);

/// The remedies in order. The first one whose condition holds applies.
///
/// Servers give the codes different meanings. From Keycloak 20 on, `unauthorized_client` means the secret and
/// `invalid_client` the id. Before that version, and in RFC 6749, each code may mean either. So a known
/// description decides first, and the code decides otherwise. `tests/cases/refusals.json` has a row for each.
const REMEDIES: [Remedy; 23] = [
    (
        |r| r.says("HTTPS required"),
        |_| "the server sees plain http: have the proxy before it pass on X-Forwarded-Proto".into(),
    ),
    (|r| r.says("Realm not enabled"), |_| "the realm is disabled; ask the administrator of the control plane".into()),
    (
        |r| r.says("Realm does not exist"),
        |_| "check realm: Settings, General, Researcher Authentication shows it (runai when self-hosted)".into(),
    ),
    (
        |r| r.says("Public client"),
        |r| {
            format!(
                "client {} is public and has no secret; make it confidential, or use a Run:ai application",
                r.client_id
            )
        },
    ),
    (
        |r| r.says("service account"),
        |r| format!("enable service accounts for client {} on the server, or use a Run:ai application", r.client_id),
    ),
    (
        |r| r.says("disabled") || r.says("Client is not enabled"),
        |r| format!("enable client {} and its service account on the server", r.client_id),
    ),
    (
        |r| r.says("secret not provided"),
        |r| format!("check client_auth: the server found no secret in the request for client {}", r.client_id),
    ),
    (
        |r| r.says("permission"),
        |r| {
            let id = r.client_id;
            format!("ask the administrator of the control plane to give application {id} the access that it lacks")
        },
    ),
    (
        |r| r.error == "unauthorized_client" && r.says("grant type"),
        |r| format!("allow client {} the grant client_credentials on the server", r.client_id),
    ),
    (
        |r| r.says("grant_type") || r.says("grant type"),
        |_| "check api: the endpoint does not take this kind of request".into(),
    ),
    (
        |r| r.says("Missing client_id"),
        |_| "check api and client_auth: the endpoint found no client id in the request".into(),
    ),
    (
        |r| r.error == "invalid_scope",
        |_| "correct scope: the server does not know it or does not allow it to this client".into(),
    ),
    (
        |r| r.error == "invalid_dpop_proof",
        |_| "the server wants DPoP for this client, which is not supported; switch it off there".into(),
    ),
    (
        |r| r.error == "invalid_client" && r.says("Could not find client"),
        |r| format!("check client_id: there is no client {} in this realm (it is the application's name)", r.client_id),
    ),
    (
        |r| r.error == "invalid_client",
        |r| {
            let (id, secret) = (r.client_id, r.secret);
            format!("check client_id ({id}) first, then {secret}; regenerating a secret revokes the old one")
        },
    ),
    (
        |r| r.error == "unauthorized_client" && r.description == "Invalid client credentials",
        |r| format!("check client_id ({}) and {}; regenerating a secret revokes the old one", r.client_id, r.secret),
    ),
    (
        |r| r.error == "unauthorized_client",
        |r| format!("check {}; regenerating a secret revokes the old one", r.secret),
    ),
    (
        |r| r.error == "invalid_target",
        |_| "correct audience and resource: the server does not know what they name".into(),
    ),
    (
        |r| r.error == "invalid_request" && r.says("ertificat"),
        |r| {
            let id = r.client_id;
            format!("the server wants a client certificate from {id}, which is not supported; switch that off there")
        },
    ),
    (
        |r| r.error == "invalid_request" && r.status == 400,
        |_| "check api: the endpoint wants other parameters than this kind of request has".into(),
    ),
    (
        |r| r.error.is_empty() && r.status == 403 && r.description.is_empty(),
        |r| {
            let (id, secret) = (r.client_id, r.secret);
            format!("find out whether a firewall or a proxy said that; if not, check client_id ({id}) and {secret}")
        },
    ),
    (|r| r.status == 400, |r| format!("check api, client_id ({}) and {}", r.client_id, r.secret)),
    (|_| true, |r| format!("check client_id ({}) and {}, and that the application is enabled", r.client_id, r.secret)),
];

impl Refusal<'_> {
    /// Returns the hint, an imperative sentence without a full stop.
    pub(super) fn remedy(&self) -> String {
        let found = REMEDIES.iter().find(|(fits, _)| fits(self));
        found.map(|(_, remedy)| remedy(self)).unwrap_or_default()
    }

    /// Whether the code or the description contains `part`. Case matters.
    fn says(&self, part: &str) -> bool {
        self.description.contains(part) || self.error.contains(part)
    }
}
