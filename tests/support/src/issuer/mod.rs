//! A Run:ai control plane with Keycloak's token endpoints: a real HTTPS server.
//!
//! It checks requests, signs real JWTs, counts and records everything, and fails on request. Its texts are those of a
//! current Keycloak (≥ 20) and of the Run:ai API reference. Dropping an `Issuer` ends all its threads. A test controls
//! it through [`Control`], to which it dereferences.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::pki::{Pki, ServerCert};
use answer::Ended;
use wire::{Floor, Listener, lock};

mod answer;
pub mod wire;

pub use answer::Answer;
pub use wire::Request;

/// The application that the issuer knows.
pub const CLIENT_ID: &str = "ci-pipeline";
/// The secret of the application: a unique text, so that the tests can search for leaks.
pub const CLIENT_SECRET: &str = "canary-secret-7f3a91c2e5d84b06-do-not-print";
/// The accepted `client_assertion`, in the place of a service-account token.
pub const CLIENT_ASSERTION: &str = "canary-assertion.eyJzdWIiOiJjaS1waXBlbGluZSJ9.b64c0ffee";
/// The realm that the tests use. The issuer answers for every other realm as well.
pub const REALM: &str = "acme";

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The server. Dropping it ends it, and fails the test if an expectation was not met.
pub struct Issuer {
    control: Control,
    listener: Listener,
    ca_pem: String,
    expected_token_requests: OnceLock<usize>,
}

/// The options of an issuer, if the default is not right for a test.
pub struct Options {
    pub certificate: ServerCert,
    /// The authority that a client has to trust. Only `ca_pem()` returns it.
    pub ca_pem: String,
    pub tls_versions: Vec<&'static SupportedProtocolVersion>,
}

impl Default for Options {
    fn default() -> Options {
        // One certificate for all tests of a process, because making keys takes time.
        static CERTIFICATE: OnceLock<ServerCert> = OnceLock::new();
        let pki = Pki::shared();
        let certificate = CERTIFICATE.get_or_init(|| pki.server(&["localhost", "127.0.0.1", "::1"]));
        Options {
            certificate: certificate.clone(),
            ca_pem: pki.ca_pem().to_owned(),
            tls_versions: rustls::DEFAULT_VERSIONS.to_vec(),
        }
    }
}

impl Issuer {
    /// Starts an issuer at a free port of `localhost`, with a certificate of [`Pki::shared`].
    pub fn start() -> Issuer {
        Issuer::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Issuer {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&options.tls_versions)
            .expect("TLS versions that ring supports")
            .with_no_client_auth()
            .with_single_cert(options.certificate.chain_der.clone(), options.certificate.key_der())
            .expect("certificate and key fit");
        let config = Arc::new(config);

        let control = Control(Arc::new(Inner {
            url: OnceLock::new(),
            key: SigningKey::new(),
            state: Mutex::new(State::default()),
        }));
        let listener = {
            let control = control.clone();
            Listener::start("issuer", move |stream, floor| {
                if let Err(error) = control.serve(&config, stream, floor) {
                    lock(&control.0.state).errors.push(error.to_string());
                }
            })
        };
        let url = format!("https://localhost:{}", listener.port());
        control.0.url.set(url).expect("set once, here");
        Issuer { control, listener, ca_pem: options.ca_pem, expected_token_requests: OnceLock::new() }
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Returns the content of a `ca_file` for this issuer.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns how many TCP connections were accepted, including those that failed later.
    pub fn connections(&self) -> usize {
        self.listener.accepted()
    }

    /// Makes the drop fail the test unless exactly this many token requests came.
    pub fn expect_token_requests(&self, count: usize) {
        self.expected_token_requests.set(count).expect("expected once for an issuer");
    }
}

impl Deref for Issuer {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let panics = self.listener.stop();
        // The script may hold a clone of the control, and both would then keep each other in memory.
        lock(&self.control.0.state).script = None;
        // A second panic would end the process and hide the first one.
        if std::thread::panicking() {
            return;
        }
        assert!(panics.is_empty(), "the issuer's script panicked: {}", panics.join("; "));
        if let Some(&expected) = self.expected_token_requests.get() {
            let requests = self.requests();
            let lines: Vec<String> =
                requests.iter().map(|request| format!("  {} {}", request.method, request.path)).collect();
            let count = self.token_requests();
            assert!(
                count == expected,
                "the issuer had {count} token requests, expected {expected}; all requests:\n{}",
                lines.join("\n")
            );
        }
    }
}

/// Controls and inspects a running issuer. A script gets it as well.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    url: OnceLock<String>,
    key: SigningKey,
    state: Mutex<State>,
}

type Script = Arc<dyn Fn(&Request, &Control) -> Answer + Send + Sync>;

struct State {
    secret: String,
    assertion: String,
    lifetime: Duration,
    audience: Value,
    only_realm: Option<String>,
    delay: Duration,
    script: Option<Script>,
    requests: Vec<Request>,
    issued: Vec<(Kind, String)>,
    errors: Vec<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            secret: CLIENT_SECRET.to_owned(),
            assertion: CLIENT_ASSERTION.to_owned(),
            lifetime: Duration::from_secs(3600),
            // The audience that Run:ai's documentation configures at the API server, and the client's own id.
            audience: json!(["runai", CLIENT_ID]),
            only_realm: None,
            delay: Duration::ZERO,
            script: None,
            requests: Vec::new(),
            issued: Vec::new(),
            errors: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Access,
    Id,
    Refresh,
}

/// Control.
impl Control {
    /// Sets the secret that is right from now on.
    pub fn set_secret(&self, secret: &str) {
        lock(&self.0.state).secret = secret.to_owned();
    }

    /// Sets the client assertion that is right from now on.
    pub fn set_assertion(&self, assertion: &str) {
        lock(&self.0.state).assertion = assertion.to_owned();
    }

    /// Sets the lifetime of later tokens. A JWT has whole seconds only.
    pub fn set_lifetime(&self, lifetime: Duration) {
        lock(&self.0.state).lifetime = lifetime;
    }

    /// Sets the `aud` of later tokens, a string or an array.
    pub fn set_audience(&self, audience: impl Into<Value>) {
        lock(&self.0.state).audience = audience.into();
    }

    /// Makes every other realm unknown.
    pub fn only_realm(&self, realm: &str) {
        lock(&self.0.state).only_realm = Some(realm.to_owned());
    }

    /// Sets the time that a token endpoint waits before it answers.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.0.state).delay = delay;
    }

    /// Replaces the behaviour of all token endpoints for POSTs.
    pub fn script(&self, script: impl Fn(&Request, &Control) -> Answer + Send + Sync + 'static) {
        lock(&self.0.state).script = Some(Arc::new(script));
    }

    /// Gives every token request this answer.
    pub fn always(&self, answer: Answer) {
        self.script(move |_, _| answer.clone());
    }

    /// Gives the next `count` token requests this answer. Later ones get the usual answer.
    pub fn fail_first(&self, count: usize, answer: Answer) {
        let asked = AtomicUsize::new(0);
        self.script(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) < count {
            true => answer.clone(),
            false => Answer::grant(),
        });
    }

    /// Restores the usual behaviour.
    pub fn behave(&self) {
        let mut state = lock(&self.0.state);
        state.script = None;
        state.delay = Duration::ZERO;
    }
}

/// Inspection.
impl Control {
    /// Returns the control plane's URL, `https://localhost:PORT`.
    pub fn url(&self) -> &str {
        self.0.url.get().map_or("", String::as_str)
    }

    /// Returns every request so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.0.state).requests.clone()
    }

    /// Returns how many requests were POSTs to a token endpoint.
    pub fn token_requests(&self) -> usize {
        lock(&self.0.state).requests.iter().filter(|request| is_token_request(request)).count()
    }

    /// Returns every issued token of every kind, oldest first, for a search for leaks.
    pub fn issued(&self) -> Vec<String> {
        lock(&self.0.state).issued.iter().map(|(_, token)| token.clone()).collect()
    }

    /// Returns the newest access token.
    #[track_caller]
    pub fn last_token(&self) -> String {
        self.last(Kind::Access).expect("the issuer has issued no access token")
    }

    /// Returns the newest ID token.
    #[track_caller]
    pub fn last_id_token(&self) -> String {
        self.last(Kind::Id).expect("the issuer has issued no ID token")
    }

    /// Returns the errors of failed connections: refused handshakes, closed connections, invalid requests.
    pub fn errors(&self) -> Vec<String> {
        lock(&self.0.state).errors.clone()
    }

    fn last(&self, kind: Kind) -> Option<String> {
        let state = lock(&self.0.state);
        state.issued.iter().rev().find(|(of, _)| *of == kind).map(|(_, token)| token.clone())
    }
}

/// Tokens.
impl Control {
    /// Returns a signed access token, counted as issued. `claims` are added to the usual ones or replace them; `null`
    /// removes a claim.
    pub fn mint(&self, claims: Value) -> String {
        self.issue(Kind::Access, REALM, "", claims)
    }

    fn issue(&self, kind: Kind, realm: &str, scope: &str, extra: Value) -> String {
        let state = lock(&self.0.state);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let mut claims = json!({
            "iss": format!("{}/auth/realms/{realm}", self.url()),
            "aud": state.audience,
            "sub": format!("service-account-{CLIENT_ID}"),
            "azp": CLIENT_ID,
            "typ": if kind == Kind::Id { "ID" } else { "Bearer" },
            "jti": random_hex(),
            "iat": now.as_secs(),
            "exp": now.as_secs() + state.lifetime.as_secs(),
        });
        drop(state);
        if !scope.is_empty() {
            claims["scope"] = scope.into();
        }
        if let (Some(claims), Value::Object(extra)) = (claims.as_object_mut(), extra) {
            claims.extend(extra);
            claims.retain(|_, value| !value.is_null());
        }
        let token = match kind {
            // Only the issuer reads a refresh token.
            Kind::Refresh => format!("canary-refresh-{}", random_hex()),
            Kind::Access | Kind::Id => self.0.key.sign(&claims),
        };
        lock(&self.0.state).issued.push((kind, token.clone()));
        token
    }
}

/// The key that signs the tokens. Every issuer has its own.
struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl SigningKey {
    fn new() -> SigningKey {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("make a signing key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("read the key just made");
        SigningKey { pair, id: random_hex() }
    }

    /// Returns a JWT (RFC 7519) signed with ES256.
    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("sign a token");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns the public key as a key set (RFC 7517).
    fn jwks(&self) -> Value {
        // An uncompressed point: 04, then 32 bytes each of x and y.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token endpoint, by its path.
enum Endpoint<'a> {
    Keycloak { realm: &'a str },
    V1,
    V2,
    OAuth2,
}

fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    match path {
        "/api/v1/token" => Some(Endpoint::V1),
        "/api/v2/token" => Some(Endpoint::V2),
        "/oauth2/token" => Some(Endpoint::OAuth2),
        _ => realm(path, "/protocol/openid-connect/token").map(|realm| Endpoint::Keycloak { realm }),
    }
}

fn realm<'a>(path: &'a str, rest: &str) -> Option<&'a str> {
    let realm = path.strip_prefix("/auth/realms/")?.strip_suffix(rest)?;
    (!realm.is_empty() && !realm.contains('/')).then_some(realm)
}

fn is_token_request(request: &Request) -> bool {
    request.method == "POST" && endpoint(&request.path).is_some()
}

/// The endpoints.
impl Control {
    fn answer(&self, request: &Request) -> Answer {
        let Some(endpoint) = endpoint(&request.path) else {
            return self.metadata(request);
        };
        if request.method != "POST" {
            return Answer::json(405, json!({"error": "HTTP 405 Method Not Allowed"}));
        }
        match endpoint {
            Endpoint::V1 => self.v1(request),
            Endpoint::V2 | Endpoint::OAuth2 => self.form_grant(request, REALM),
            Endpoint::Keycloak { realm } => {
                let only = lock(&self.0.state).only_realm.clone();
                if only.is_some_and(|only| only != realm) {
                    return Answer::oauth_error(
                        404,
                        "Realm does not exist",
                        "For more on this error consult the server log.",
                    );
                }
                self.form_grant(request, realm)
            }
        }
    }

    /// Answers with the public keys, or with the addresses of the endpoints.
    fn metadata(&self, request: &Request) -> Answer {
        if realm(&request.path, "/protocol/openid-connect/certs").is_some() {
            return Answer::json(200, self.0.key.jwks());
        }
        if let Some(realm) = realm(&request.path, "/.well-known/openid-configuration") {
            let issuer = format!("{}/auth/realms/{realm}", self.url());
            return Answer::json(
                200,
                json!({
                    "issuer": issuer,
                    "token_endpoint": format!("{issuer}/protocol/openid-connect/token"),
                    "jwks_uri": format!("{issuer}/protocol/openid-connect/certs"),
                    "id_token_signing_alg_values_supported": ["ES256"],
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                }),
            );
        }
        Answer::json(404, json!({"error": "HTTP 404 Not Found"}))
    }

    /// Grants client credentials for a form (RFC 6749 §4.4), with the checks of Keycloak.
    fn form_grant(&self, request: &Request, realm: &str) -> Answer {
        let is_form =
            request.header("content-type").is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let form = if is_form { request.form() } else { Vec::new() };
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());

        let mut seen = HashSet::new();
        if !form.iter().all(|(name, _)| seen.insert(name)) {
            return Answer::oauth_error(400, "invalid_request", "duplicated parameter");
        }
        match field("grant_type") {
            Some("client_credentials") => {}
            Some(_) => {
                let text = "Unsupported grant_type";
                return Answer::oauth_error(400, "unsupported_grant_type", text);
            }
            None => {
                let text = "Missing form parameter: grant_type";
                return Answer::oauth_error(400, "invalid_request", text);
            }
        }
        if let Err(refusal) = self.authenticate(request, field) {
            return refusal;
        }

        let scope = field("scope").unwrap_or("profile email");
        let lifetime = lock(&self.0.state).lifetime;
        let mut grant = json!({
            "access_token": self.issue(Kind::Access, realm, scope, json!({})),
            "expires_in": lifetime.as_secs(),
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": scope,
        });
        if scope.split(' ').any(|word| word == "openid") {
            grant["id_token"] = self.issue(Kind::Id, realm, "", json!({})).into();
        }
        Answer::json(200, grant)
    }

    /// Authenticates the client: by assertion (RFC 7523), by form, or by Basic.
    ///
    /// Basic is form-decoded, as RFC 6749 §2.3.1 says. The form takes precedence over Basic, as in Keycloak.
    fn authenticate<'a>(&self, request: &Request, field: impl Fn(&str) -> Option<&'a str>) -> Result<(), Answer> {
        const REFUSED: &str = "Invalid client or Invalid client credentials";
        let (secret, assertion) = {
            let state = lock(&self.0.state);
            (state.secret.clone(), state.assertion.clone())
        };

        if let Some(sent) = field("client_assertion") {
            let id_fits = field("client_id").is_none_or(|id| id == CLIENT_ID);
            let type_fits = field("client_assertion_type") == Some(ASSERTION_TYPE);
            return if id_fits && type_fits && sent == assertion {
                Ok(())
            } else {
                Err(Answer::oauth_error(401, "invalid_client", REFUSED))
            };
        }

        let header = request.header("authorization");
        let basic = header.and_then(basic_credentials);
        let (id, sent) = match (field("client_id"), basic) {
            (Some(id), basic) => {
                let sent = field("client_secret").map(str::to_owned);
                (id.to_owned(), sent.or(basic.map(|(_, password)| password)))
            }
            (None, Some((user, password))) => (user, Some(password)),
            // Keycloak's answer to this request has an empty body.
            (None, None) if header.is_some() => {
                let challenge = format!("Basic realm=\"{REALM}\"");
                let answer = Answer::text(401, "text/plain", "");
                return Err(answer.header("WWW-Authenticate", &challenge));
            }
            (None, None) => {
                let text = "Missing client_id parameter";
                return Err(Answer::oauth_error(400, "invalid_client", text));
            }
        };
        if id != CLIENT_ID {
            return Err(Answer::oauth_error(401, "invalid_client", REFUSED));
        }
        if sent.as_ref() != Some(&secret) {
            return Err(Answer::oauth_error(401, "unauthorized_client", REFUSED));
        }
        Ok(())
    }

    /// Answers for the JSON endpoint of older control planes. It accepts both spellings of a name: the how-to pages and
    /// the API reference differ in upper and lower case.
    fn v1(&self, request: &Request) -> Answer {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::runai_error(400, "Request body is not a JSON object");
        };
        let field = |name: &str| {
            let mut entries = body.iter();
            let (_, value) = entries.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            value.as_str()
        };
        let (id, secret) = match field("grantType") {
            Some("client_credentials") => (field("clientId"), field("clientSecret")),
            Some("app_token") => (field("AppId"), field("AppSecret")),
            Some(_) => return Answer::runai_error(400, "Unsupported grant type"),
            None => (None, None),
        };
        let (Some(id), Some(secret)) = (id, secret) else {
            return Answer::runai_error(400, "Required parameter is missing");
        };
        if id != CLIENT_ID || secret != lock(&self.0.state).secret {
            return Answer::runai_error(401, "Invalid client credentials");
        }
        let issue = |kind| self.issue(kind, REALM, "", json!({}));
        Answer::json(
            200,
            json!({
                "accessToken": issue(Kind::Access),
                "idToken": issue(Kind::Id),
                "refreshToken": issue(Kind::Refresh),
            }),
        )
    }
}

fn basic_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    // Parsed as a form of one name without a value, because `+` and `%` have the same meaning as in a form.
    let decode = |text: &str| {
        let mut pairs = form_urlencoded::parse(text.as_bytes());
        pairs.next().map_or_else(String::new, |(name, _)| name.into_owned())
    };
    Some((decode(user), decode(password)))
}

/// One connection: handshake, request, answer.
impl Control {
    fn serve(&self, config: &Arc<ServerConfig>, mut tcp: &TcpStream, floor: &Floor) -> io::Result<()> {
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let Some(request) = Request::read(&mut stream)? else {
            return Ok(());
        };
        let (script, delay) = {
            let mut state = lock(&self.0.state);
            state.requests.push(request.clone());
            match is_token_request(&request) {
                true => (state.script.clone(), state.delay),
                false => (None, Duration::ZERO),
            }
        };
        floor.sleep(delay);

        let answer = script.map_or_else(Answer::grant, |script| script(&request, self));
        let ended = answer.write(&mut stream, floor, || self.answer(&request))?;
        if let Ended::Abruptly = ended {
            return Ok(());
        }
        // The client has the answer. It may close the connection before `close_notify`.
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = tcp.shutdown(Shutdown::Write);
        Ok(())
    }
}
