//! The protocol of `docker-credential-NAME`: docker, BuildKit, skopeo and everything built on go-containerregistry or oras.
//!
//! The verb is the one argument, the request comes on standard input and the answer goes to standard output, also that of
//! a failure, whose exit status is 1. The clients compare three texts exactly; see [`Refusal`].
//! Source: docker/docker-credential-helpers, `credentials/*.go` and `client/*.go`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::origin::Origin;
use crate::token::{LiveToken, Token};

/// Most bytes of a request: what the helpers of docker themselves take as a line.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The user name by which docker means that the secret is an identity token, to be traded at a token server, which ours is
/// not.
pub const IDENTITY_TOKEN: &str = "<token>";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The credentials for a server.
    Get,
    /// Keep credentials.
    Store,
    /// Forget the credentials for a server.
    Erase,
    /// The servers for which there are credentials.
    List,
    /// Which program this is.
    Version,
}

impl Verb {
    /// The names on the command line.
    pub const NAMES: [&'static str; 5] = ["get", "store", "erase", "list", "version"];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Verb> {
        match name {
            "get" => Some(Verb::Get),
            "store" => Some(Verb::Store),
            "erase" => Some(Verb::Erase),
            "list" => Some(Verb::List),
            "version" => Some(Verb::Version),
            _ => None,
        }
    }
}

/// Why a request is not granted.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server is nobody's; the client goes on without credentials and says nothing.
    NotFound,
    /// The request names no server.
    NoServer,
    /// Credentials to be kept have no user.
    NoUsername,
    /// Anything else: the client must not take it for one of the above.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl Refusal {
    /// The text for standard output, a line: the first three are those that the clients compare with.
    pub fn answer(&self) -> String {
        let text = match self {
            Refusal::NotFound => "credentials not found in native keychain",
            Refusal::NoServer => "no credentials server URL",
            Refusal::NoUsername => "no credentials username",
            Refusal::Failed(error) => &error.what,
        };
        format!("{text}\n")
    }

    /// What the user has to know besides, for standard error: docker shows nothing of the answer.
    pub fn lines(&self) -> String {
        match self {
            Refusal::Failed(error) => error.lines(),
            _ => String::new(),
        }
    }
}

/// The server that a request is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// As the client wrote it, without the white space around.
    url: String,
    /// The origins that its credentials would go to; none if clients could differ on which.
    pub origins: Vec<Origin>,
    /// The origins of either scheme: `docker logout` erases under every spelling that credentials were ever kept under.
    pub spelled: Vec<Origin>,
}

impl Server {
    /// Reads a request that is a server and nothing else.
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
        let (origins, spelled) = origins(url).unwrap_or_default();
        Ok(Server { url: url.to_owned(), origins, spelled })
    }

    /// The answer to [`Verb::Get`].
    pub fn answer(&self, username: &str, held: &LiveToken) -> Vec<u8> {
        let secret = Some(Cow::Borrowed(held.token.expose()));
        let (server_url, username) = (Some(Cow::Borrowed(self.url.as_str())), Some(Cow::Borrowed(username)));
        line(&Credentials { server_url, username, secret })
    }
}

/// For messages: what is no server may hold a password and is not shown.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.origins.is_empty() { "a server of that name" } else { &self.url })
    }
}

/// The origins of a server: those that its credentials would go to, and those of either scheme.
///
/// Docker names a registry by `host[:port]` and means https, unless the host is this machine itself, which it also tries
/// without TLS. Others write a URL; go-containerregistry puts the path of a repository behind the host. The path decides
/// nothing here. A query or a fragment is sent by nobody.
fn origins(url: &str) -> Result<(Vec<Origin>, Vec<Origin>), &'static str> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\%@?#".contains(&byte)) {
        return Err("has a character that no server needs");
    }
    let after_scheme = url.split_once("://").map(|(_, rest)| rest);
    let authority = after_scheme.unwrap_or(url).split('/').next().unwrap_or_default();
    let spelled = [true, false].map(|https| Origin::of_authority(https, authority));
    let [https, http] = spelled;
    let (https, http) = (https?, http?);
    let origins = match after_scheme {
        Some(_) => vec![Origin::of_url(url)?.0],
        None if https.is_loopback() => vec![https.clone(), http.clone()],
        None => vec![https.clone()],
    };
    Ok((origins, vec![https, http]))
}

/// Credentials on the wire.
#[derive(Serialize, Deserialize)]
struct Credentials<'a> {
    #[serde(rename = "ServerURL", borrow)]
    server_url: Option<Cow<'a, str>>,
    #[serde(rename = "Username", borrow)]
    username: Option<Cow<'a, str>>,
    #[serde(rename = "Secret", borrow)]
    secret: Option<Cow<'a, str>>,
}

/// What [`Verb::Store`] is to keep. Not to be shown: the secret may be somebody's password.
pub struct Offered {
    /// For which server.
    pub server: Server,
    secret: String,
}

impl Offered {
    /// Reads the request.
    ///
    /// # Errors
    /// [`Refusal`], without a word of what the request says.
    pub fn read(input: &[u8]) -> Result<Offered, Refusal> {
        // An object only: the derived parser would take a list of values in order as well. And no reason: it quotes values.
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
        Ok(Offered { server, secret: credentials.secret.unwrap_or_default().into_owned() })
    }

    /// Whether it is this token that is to be kept.
    pub fn is(&self, token: &Token) -> bool {
        self.secret == token.expose()
    }
}

/// The name of a server in the answer to [`Verb::List`]: `host[:port]`, as `docker login` keeps it and as docker looks for it
/// first. (A legacy build sends the names to the daemon as they are; containers/image takes none with a scheme.)
///
/// Read again, the name stands for this origin, and for a host of this machine perhaps for its sibling of the other scheme.
pub fn name(origin: &Origin) -> String {
    let url = origin.to_string();
    url.split_once("://").map_or(url.as_str(), |(_, authority)| authority).to_owned()
}

/// The answer to [`Verb::List`]: servers and the users there.
pub fn listing(users: &BTreeMap<String, String>) -> Vec<u8> {
    line(users)
}

/// The answer to [`Verb::Version`].
pub fn version() -> Vec<u8> {
    format!("docker-credential-runai ({}) {}\n", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).into_bytes()
}

fn line(answer: &impl Serialize) -> Vec<u8> {
    // Texts only: this cannot fail.
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
    fn every_spelling_of_a_server() {
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
    fn what_clients_could_read_differently_is_nobodys() {
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
            assert_eq!((server.origins, server.spelled), (vec![], vec![]), "{url:?}");
        }
        assert_eq!(Server::read(b"registry.acme.example\xff").unwrap().origins, []);
    }

    #[test]
    fn erase_knows_both_schemes() {
        for (url, wanted) in [
            ("r.example", ["https://r.example", "http://r.example"]),
            ("http://r.example", ["https://r.example", "http://r.example"]),
            ("http://r.example:5000/", ["https://r.example:5000", "http://r.example:5000"]),
            ("https://r.example:5000/v1/", ["https://r.example:5000", "http://r.example:5000"]),
        ] {
            assert_eq!(shown(&Server::read(url.as_bytes()).unwrap().spelled), wanted, "{url}");
        }
    }

    #[test]
    fn the_answers() {
        let server = Server::read(b"https://r.example/v1/\"x\"\n").unwrap();
        assert_eq!(
            String::from_utf8(server.answer("oauth2", &held())).unwrap(),
            "{\"ServerURL\":\"https://r.example/v1/\\\"x\\\"\",\"Username\":\"oauth2\",\"Secret\":\"t0k.en\"}\n"
        );
        assert_eq!(listing(&BTreeMap::new()), b"{}\n");
        let users = BTreeMap::from([("r.example".to_owned(), "a\"b".to_owned())]);
        assert_eq!(listing(&users), b"{\"r.example\":\"a\\\"b\"}\n");
    }

    /// The three texts of `credentials/error.go`; clients compare with them.
    #[test]
    fn the_texts_that_clients_compare_with() {
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
    fn what_store_is_offered() {
        let read = |text: &str| Offered::read(text.as_bytes()).map(|offered| (offered.server, offered.secret));
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
        assert!(Offered::read(br#"{"ServerURL":"r","Username":"u","Secret":"t0k.en"}"#).unwrap().is(&held().token));
        assert!(!Offered::read(br#"{"ServerURL":"r","Username":"u"}"#).unwrap().is(&held().token));
    }

    /// A name that is listed stands for its origin when it is asked for.
    #[test]
    fn a_listed_name_is_answered() {
        for url in ["https://r.example", "https://r.example:5000", "http://127.0.0.1", "http://[::1]:5000"] {
            let origin = Origin::parse(url).unwrap();
            let server = Server::read(name(&origin).as_bytes()).unwrap();
            assert!(server.origins.contains(&origin), "{url}: {server:?}");
            assert!(!name(&origin).contains("://"));
        }
    }

    #[test]
    fn names_are_those_of_the_verbs() {
        assert!(Verb::NAMES.iter().all(|name| Verb::named(name).is_some()));
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

        /// Whatever is asked, it stands for the host that is written there plainly or for none, and is echoed in one line.
        #[test]
        fn a_damaged_server_is_the_host_that_it_names_or_nobodys(input in crate::mutation::mutated(SERVERS)) {
            let Ok(server) = Server::read(&input) else { return Ok(()) };
            for origin in server.origins.iter().chain(&server.spelled) {
                let lower = server.url.to_ascii_lowercase();
                let rest = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
                prop_assert!(rest.starts_with(origin.host()), "{server:?}");
                let after = rest[origin.host().len()..].chars().next();
                prop_assert!(matches!(after, None | Some(':' | '/')), "{server:?}");
                prop_assert!(server.url.chars().all(|c| c.is_ascii_graphic()));
            }
            if let Some(origin) = server.origins.first() {
                prop_assert!(server.spelled.contains(origin));
                let answer = server.answer("oauth2", &held());
                let value: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                prop_assert_eq!(value["ServerURL"].as_str(), Some(server.url.as_str()));
                prop_assert_eq!(answer.iter().filter(|byte| byte.is_ascii_control()).count(), 1);
            }
        }

        #[test]
        fn a_damaged_store_is_read_or_refused_in_words_of_ours(input in crate::mutation::mutated(STORES)) {
            if let Err(Refusal::Failed(error)) = Offered::read(&input) {
                prop_assert!(!error.what.contains("canary") && !error.hint.contains("canary"));
                prop_assert!(!error.lines().trim_end().chars().any(|c| c.is_control() && c != '\n'));
            }
        }
    }
}
