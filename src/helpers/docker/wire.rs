//! The protocol of `docker-credential-NAME`.
//!
//! docker, BuildKit, skopeo and all clients that are built on go-containerregistry or oras speak it.
//!
//! The only argument is the verb. The request comes on standard input, and the answer goes to standard
//! output. An error goes to standard output as well, with exit status 1. The clients compare three error
//! texts exactly; see [`Refusal`].
//!
//! Source: docker/docker-credential-helpers, `credentials/*.go` and `client/*.go`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::origin::Origin;
use crate::token::{LiveToken, Token};

/// Maximum size of a request in bytes: the longest line that docker's own helpers accept.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The user name that marks the secret as an identity token.
///
/// docker trades an identity token for a bearer token at a token server. Our token is no identity token.
pub const IDENTITY_TOKEN: &str = "<token>";

/// The request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Returns the credentials for a server.
    Get,
    /// Stores credentials.
    Store,
    /// Removes the credentials for a server.
    Erase,
    /// Lists the servers for which there are credentials.
    List,
    /// Prints the name and version of the program.
    Version,
}

names!(Verb { Get: "get", Store: "store", Erase: "erase", List: "list", Version: "version" });

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No profile has the server. The client continues without credentials and shows nothing.
    NotFound,
    /// The request names no server.
    NoServer,
    /// The credentials of [`Verb::Store`] have no user name.
    NoUsername,
    /// Any other error. Its text must differ from the three texts that the clients compare.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl Refusal {
    /// Returns the line for standard output.
    ///
    /// The clients compare the first three texts exactly (`credentials/error.go`).
    pub fn answer(&self) -> String {
        let text = match self {
            Refusal::NotFound => "credentials not found in native keychain",
            Refusal::NoServer => "no credentials server URL",
            Refusal::NoUsername => "no credentials username",
            Refusal::Failed(error) => &error.what,
        };
        format!("{text}\n")
    }

    /// Returns the text for standard error. It is for the user, because docker does not show the answer.
    pub fn lines(&self) -> String {
        match self {
            Refusal::Failed(error) => error.lines(),
            _ => String::new(),
        }
    }
}

/// The server in a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// The server as the client wrote it, without surrounding white space.
    url: String,
    /// The origins that may receive its credentials. Empty if clients could read the server differently.
    pub origins: Vec<Origin>,
    /// The https and the http origin of the host.
    ///
    /// `docker logout` erases every spelling under which it may have stored credentials.
    pub either_scheme: Vec<Origin>,
}

impl Server {
    /// Parses a request that consists of a server only.
    ///
    /// # Errors
    /// [`Refusal::NoServer`] if it is empty.
    pub fn read(input: &[u8]) -> Result<Server, Refusal> {
        Server::named(&String::from_utf8_lossy(input))
    }

    fn named(text: &str) -> Result<Server, Refusal> {
        let url = text.trim_ascii();
        if url.is_empty() {
            return Err(Refusal::NoServer);
        }
        let (origins, either_scheme) = origins(url).unwrap_or_default();
        Ok(Server { url: url.to_owned(), origins, either_scheme })
    }

    /// Returns the answer to [`Verb::Get`].
    pub fn answer(&self, username: &str, held: &LiveToken) -> Vec<u8> {
        let secret = Some(Cow::Borrowed(held.token.expose()));
        let (server_url, username) = (Some(Cow::Borrowed(self.url.as_str())), Some(Cow::Borrowed(username)));
        line(&Credentials { server_url, username, secret })
    }
}

/// For messages. A text that is not a server may hold a password, so it is not shown.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.origins.is_empty() { "a server of that name" } else { &self.url })
    }
}

/// Returns [`Server::origins`] and [`Server::either_scheme`] of a server.
///
/// docker names a registry by `host[:port]` and means https. For a loopback host it also tries http. Other
/// clients write a URL, and go-containerregistry appends the path of a repository to the host. The path has
/// no effect here. No client sends a query or a fragment, so a server with one is refused.
///
/// # Errors
/// Why the text is not a server.
fn origins(url: &str) -> Result<(Vec<Origin>, Vec<Origin>), &'static str> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\%@?#".contains(&byte)) {
        return Err("has a character that no server needs");
    }
    let after_scheme = url.split_once("://").map(|(_, rest)| rest);
    let authority = after_scheme.unwrap_or(url).split('/').next().unwrap_or_default();
    let either_scheme = [true, false].map(|https| Origin::of_authority(https, authority));
    let [https, http] = either_scheme;
    let (https, http) = (https?, http?);
    let origins = match after_scheme {
        Some(_) => vec![Origin::of_url(url)?.0],
        None if https.is_loopback() => vec![https.clone(), http.clone()],
        None => vec![https.clone()],
    };
    Ok((origins, vec![https, http]))
}

/// Credentials in the JSON of the protocol.
#[derive(Serialize, Deserialize)]
struct Credentials<'a> {
    #[serde(rename = "ServerURL", borrow)]
    server_url: Option<Cow<'a, str>>,
    #[serde(rename = "Username", borrow)]
    username: Option<Cow<'a, str>>,
    #[serde(rename = "Secret", borrow)]
    secret: Option<Cow<'a, str>>,
}

/// The request of [`Verb::Store`]. It has no `Debug`, because the secret may be a user's password.
pub struct StoreRequest {
    /// The server that the credentials are for.
    pub server: Server,
    secret: String,
}

impl StoreRequest {
    /// Parses the request.
    ///
    /// # Errors
    /// A [`Refusal`], which repeats nothing of the request.
    pub fn read(input: &[u8]) -> Result<StoreRequest, Refusal> {
        // The protocol sends an object. serde's derived parser would accept an array of the values, too. Its
        // error is dropped, because it quotes values.
        let parsed = if input.trim_ascii_start().starts_with(b"{") { serde_json::from_slice(input).ok() } else { None };
        let credentials: Credentials<'_> = parsed.ok_or_else(|| {
            Error::new(
                Kind::Usage,
                "store got something else than a JSON object with ServerURL, Username and Secret",
                "let docker login start this command; it writes that object",
            )
        })?;
        let server = Server::named(&credentials.server_url.unwrap_or_default())?;
        if credentials.username.unwrap_or_default().is_empty() {
            return Err(Refusal::NoUsername);
        }
        Ok(StoreRequest { server, secret: credentials.secret.unwrap_or_default().into_owned() })
    }

    /// Whether the secret to store is `token`.
    pub fn has_token(&self, token: &Token) -> bool {
        self.secret == token.expose()
    }
}

/// Returns the name of a server in the answer to [`Verb::List`]: `host[:port]`.
///
/// `docker login` stores servers in this form, and docker looks for this form first. A legacy build sends the
/// names to the daemon unchanged, and containers/image accepts no name with a scheme.
///
/// [`Server::read`] maps the name back to this origin. For a loopback host it also yields the origin of the
/// other scheme.
pub fn name(origin: &Origin) -> String {
    let url = origin.to_string();
    url.split_once("://").map_or(url.as_str(), |(_, authority)| authority).to_owned()
}

/// Returns the answer to [`Verb::List`]: the servers, each with its user name.
pub fn listing(users: &BTreeMap<String, String>) -> Vec<u8> {
    line(users)
}

/// Returns the answer to [`Verb::Version`].
pub fn version() -> Vec<u8> {
    format!("docker-credential-runai ({}) {}\n", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).into_bytes()
}

fn line(answer: &impl Serialize) -> Vec<u8> {
    // Serialising strings cannot fail.
    let mut bytes = serde_json::to_vec(answer).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Moment;
    use proptest::prelude::*;

    fn held() -> LiveToken {
        LiveToken {
            token: Token::new("t0k.en").unwrap(),
            validity: None,
            now: Moment { unix_ms: 0, boot_ms: 0 },
            is_new: false,
        }
    }

    fn shown(origins: &[Origin]) -> Vec<String> {
        origins.iter().map(Origin::to_string).collect()
    }

    #[test]
    fn server_spelling_yields_its_origins() {
        for (url, wanted) in [
            ("registry.acme.example", &["https://registry.acme.example"][..]),
            ("registry.acme.example:443", &["https://registry.acme.example"]),
            ("Registry.Acme.Example:5000\n", &["https://registry.acme.example:5000"]),
            ("\t registry.acme.example:5000/ \r\n", &["https://registry.acme.example:5000"]),
            ("registry.acme.example/team/image", &["https://registry.acme.example"]),
            ("registry.acme.example:5000/v1/", &["https://registry.acme.example:5000"]),
            ("https://registry.acme.example", &["https://registry.acme.example"]),
            ("https://registry.acme.example:443/v2/", &["https://registry.acme.example"]),
            ("https://hub.example/v1/", &["https://hub.example"]),
            ("http://registry.acme.example", &["http://registry.acme.example"]),
            ("127.0.0.1:5000", &["https://127.0.0.1:5000", "http://127.0.0.1:5000"]),
            ("127.9.9.9", &["https://127.9.9.9", "http://127.9.9.9"]),
            ("localhost:5000/a/b", &["https://localhost:5000", "http://localhost:5000"]),
            ("[::1]:5000", &["https://[::1]:5000", "http://[::1]:5000"]),
            ("https://127.0.0.1:5000", &["https://127.0.0.1:5000"]),
            ("http://127.0.0.1:5000/", &["http://127.0.0.1:5000"]),
        ] {
            assert_eq!(shown(&Server::read(url.as_bytes()).unwrap().origins), wanted, "{url:?}");
        }
    }

    #[test]
    fn server_with_ambiguous_spelling_has_no_origin() {
        for url in [
            "registry.acme.example\nevil.example",
            "registry.acme.example evil.example",
            "registry.acme.example\0",
            "registry.acme.example\x1b[0m",
            "user@registry.acme.example",
            "https://user:secret@registry.acme.example/",
            "evil.example/@registry.acme.example",
            "registry.acme.example\\@evil.example",
            "registry.acme.example%2eevil.example",
            "https://registry.acme.example/%2e%2e",
            "registry.acme.example.",
            "registry.acme.example:5000:5000",
            "registry.acme.example:",
            "registry.acme.example:05000",
            "registry.acme.example?x",
            "https://registry.acme.example/#x",
            "registry.acme.exämple",
            "ｒegistry.acme.example",
            "https:registry.acme.example",
            "https:/registry.acme.example",
            "https:///registry.acme.example",
            "//registry.acme.example",
            "ftp://registry.acme.example",
            "oci://registry.acme.example",
            "evil/https://registry.acme.example",
            "127.1",
            "0x7f000001:5000",
            "2130706433",
            "::1",
            "[0:0:0:0:0:0:0:1]:5000",
            "/",
            ":5000",
        ] {
            let server = Server::read(url.as_bytes()).unwrap();
            assert_eq!((server.origins, server.either_scheme), (vec![], vec![]), "{url:?}");
        }
        assert_eq!(Server::read(b"registry.acme.example\xff").unwrap().origins, []);
    }

    #[test]
    fn server_has_origins_of_both_schemes() {
        for (url, wanted) in [
            ("r.example", ["https://r.example", "http://r.example"]),
            ("http://r.example", ["https://r.example", "http://r.example"]),
            ("http://r.example:5000/", ["https://r.example:5000", "http://r.example:5000"]),
            ("https://r.example:5000/v1/", ["https://r.example:5000", "http://r.example:5000"]),
        ] {
            assert_eq!(shown(&Server::read(url.as_bytes()).unwrap().either_scheme), wanted, "{url}");
        }
    }

    #[test]
    fn answer_is_one_line_of_json() {
        let server = Server::read(b"https://r.example/v1/\"x\"\n").unwrap();
        assert_eq!(
            String::from_utf8(server.answer("oauth2", &held())).unwrap(),
            "{\"ServerURL\":\"https://r.example/v1/\\\"x\\\"\",\"Username\":\"oauth2\",\"Secret\":\"t0k.en\"}\n"
        );
        assert_eq!(listing(&BTreeMap::new()), b"{}\n");
        let users = BTreeMap::from([("r.example".to_owned(), "a\"b".to_owned())]);
        assert_eq!(listing(&users), b"{\"r.example\":\"a\\\"b\"}\n");
    }

    /// The clients compare these three texts of `credentials/error.go`.
    #[test]
    fn refusal_texts_match_docker_error_texts() {
        for (refusal, wanted) in [
            (Refusal::NotFound, "credentials not found in native keychain\n"),
            (Refusal::NoServer, "no credentials server URL\n"),
            (Refusal::NoUsername, "no credentials username\n"),
        ] {
            assert_eq!((refusal.answer().as_str(), refusal.lines().as_str()), (wanted, ""));
        }
        let failed = Refusal::from(Error::config("one\ntwo", "three"));
        assert_eq!(failed.answer(), "one two\n");
        assert_eq!(failed.lines(), "runai-credential: error: one two\nhint: three\n");
    }

    #[test]
    fn store_request_yields_server_and_secret() {
        let read = |text: &str| StoreRequest::read(text.as_bytes()).map(|offered| (offered.server, offered.secret));
        let server = Server::read(b"r.example").unwrap();
        assert_eq!(
            read(r#"{"ServerURL":"r.example","Username":"u","Secret":"s\u0022","More":1}"#),
            Ok((server, "s\"".to_owned()))
        );
        for (text, refusal) in [
            (r#"{"Username":"u","Secret":"s"}"#, Refusal::NoServer),
            (r#"{"ServerURL":" ","Username":"u","Secret":"s"}"#, Refusal::NoServer),
            (r#"{"ServerURL":null,"Username":"u","Secret":"s"}"#, Refusal::NoServer),
            (r#"{"ServerURL":"r.example","Secret":"s"}"#, Refusal::NoUsername),
            (r#"{"ServerURL":"r.example","Username":"","Secret":"s"}"#, Refusal::NoUsername),
        ] {
            assert_eq!(read(text), Err(refusal), "{text}");
        }
        for text in [
            "",
            "r.example",
            "[\"r.example\",\"u\",\"canary\"]",
            "\"canary\"",
            r#"{"ServerURL":"r.example","Username":["canary"],"Secret":"s"}"#,
            r#"{"ServerURL":"r.example","Username":"u","Secret":"canary"#,
            r#"{"ServerURL":"r.example","Username":"u","Secret":"s","Secret":"canary"}"#,
        ] {
            let Err(Refusal::Failed(error)) = read(text) else { panic!("{text}") };
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert!(
            StoreRequest::read(br#"{"ServerURL":"r","Username":"u","Secret":"t0k.en"}"#)
                .unwrap()
                .has_token(&held().token)
        );
        assert!(!StoreRequest::read(br#"{"ServerURL":"r","Username":"u"}"#).unwrap().has_token(&held().token));
    }

    /// A client calls `get` with a listed name. The name must map to the origin that it was made from.
    #[test]
    fn listed_name_maps_to_its_origin() {
        for url in ["https://r.example", "https://r.example:5000", "http://127.0.0.1", "http://[::1]:5000"] {
            let origin = Origin::parse(url).unwrap();
            let server = Server::read(name(&origin).as_bytes()).unwrap();
            assert!(server.origins.contains(&origin), "{url}: {server:?}");
            assert!(!name(&origin).contains("://"));
        }
    }

    const SERVERS: &[&str] = &[
        "registry.acme.example",
        "registry.acme.example:5000/team/image\n",
        "https://registry.acme.example:443/v1/",
        "http://[::1]:5000",
        "127.0.0.1:5000",
    ];
    const STORES: &[&str] = &[
        r#"{"ServerURL":"registry.acme.example","Username":"oauth2","Secret":"canary"}"#,
        r#"{"ServerURL":"https:\/\/registry.acme.example\/v1\/","Username":"\u003ctoken>","Secret":"canary"}"#,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// For any input, every origin has the host at the start of the text. The answer repeats the text in
        /// one line.
        #[test]
        fn server_damaged_yields_only_its_host(input in crate::mutation::mutated(SERVERS)) {
            let Ok(server) = Server::read(&input) else { return Ok(()) };
            for origin in server.origins.iter().chain(&server.either_scheme) {
                let lower = server.url.to_ascii_lowercase();
                let rest = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
                prop_assert!(rest.starts_with(origin.host()), "{server:?}");
                let after = rest[origin.host().len()..].chars().next();
                prop_assert!(matches!(after, None | Some(':' | '/')), "{server:?}");
                prop_assert!(server.url.chars().all(|c| c.is_ascii_graphic()));
            }
            if let Some(origin) = server.origins.first() {
                prop_assert!(server.either_scheme.contains(origin));
                let answer = server.answer("oauth2", &held());
                let value: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                prop_assert_eq!(value["ServerURL"].as_str(), Some(server.url.as_str()));
                prop_assert_eq!(answer.iter().filter(|byte| byte.is_ascii_control()).count(), 1);
            }
        }

        #[test]
        fn store_request_damaged_reveals_no_secret(input in crate::mutation::mutated(STORES)) {
            if let Err(Refusal::Failed(error)) = StoreRequest::read(&input) {
                prop_assert!(!error.what.contains("canary") && !error.hint.contains("canary"));
                prop_assert!(!error.lines().trim_end().chars().any(|c| c.is_control() && c != '\n'));
            }
        }
    }
}
