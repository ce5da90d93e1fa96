//! git's credential helper protocol: `key=value` lines in, `key=value` lines out.
//!
//! A request that another parser could read differently is refused: a CR inside a line, or a key that occurs
//! twice.
//!
//! Source: git's gitcredentials(7), git-credential(1), and `credential.c`.

use crate::origin::Origin;
use crate::token::{LiveToken, Token};

/// Maximum size of a request in bytes.
///
/// git passes on the `WWW-Authenticate` headers of a server, and curl accepts 300 KiB of headers.
pub const MAX_REQUEST: usize = 1024 * 1024;

/// The answer to the operation `capability` (git 2.46).
pub const CAPABILITIES: &str = "version 0\ncapability authtype\ncapability state\n";

/// Prefix of the states of this helper. It distinguishes them from the states of other helpers.
const STATE: &str = "runai:";

/// A request that this program may answer.
///
/// git may send a second `get` if the server rejects the token of the first one (`continue`, git 2.46). The
/// calls for one request of git form a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The server that would receive the token.
    pub origin: Origin,
    /// The user name in the URL, if the URL has one.
    username: Option<String>,
    /// Whether git can send other headers than `Basic` (capability `authtype`, git 2.46).
    knows_authtype: bool,
    /// Whether git calls again with our state if the server rejects the token (capability `state`).
    knows_state: bool,
    /// Whether the server offers `Basic` but not `Bearer`.
    wants_basic: bool,
    /// The state in our earlier answer of the same chain. It identifies the rejected token.
    rejected: Option<String>,
    /// The password or credential of an `erase`.
    secret: Option<String>,
}

/// Why this program does not answer a request, for `--verbose`.
type NotOurs = &'static str;

impl Request {
    /// Parses the input of `get`, `store` and `erase`.
    ///
    /// # Errors
    /// Why this program does not answer the request.
    pub fn read(input: &[u8]) -> Result<Request, NotOurs> {
        let mut protocol = None;
        let mut host = None;
        let mut username = None;
        let mut password = None;
        let mut credential = None;
        let (mut path, mut authtype) = (None, None);
        let (mut knows_authtype, mut knows_state) = (false, false);
        let mut challenges = Vec::new();
        let mut rejected = None;
        let input = String::from_utf8_lossy(input);
        for line in lines(&input)? {
            let (key, value) = line.split_once('=').ok_or("a line is no key=value")?;
            let field = match key {
                "capability[]" => {
                    knows_authtype |= value == "authtype";
                    knows_state |= value == "state";
                    continue;
                }
                // An empty value clears the list (git-credential(1)).
                "wwwauth[]" if value.is_empty() => {
                    challenges.clear();
                    continue;
                }
                "wwwauth[]" => {
                    challenges.push(value.to_owned());
                    continue;
                }
                "state[]" if value.is_empty() => {
                    rejected = None;
                    continue;
                }
                "state[]" => {
                    rejected = value.strip_prefix(STATE).map(str::to_owned).or(rejected);
                    continue;
                }
                "protocol" => &mut protocol,
                "host" => &mut host,
                "username" => &mut username,
                "password" => &mut password,
                "credential" => &mut credential,
                "path" => &mut path,
                "authtype" => &mut authtype,
                _ => continue,
            };
            if field.replace(value.to_owned()).is_some() {
                return Err("a key stands twice");
            }
        }
        let https = match protocol.as_deref() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the protocol is neither https nor http"),
        };
        let origin = Origin::of_authority(https, &host.ok_or("there is no host")?)?;
        let schemes: Vec<String> = challenges.iter().flat_map(|challenge| schemes(challenge)).collect();
        let has_scheme = |wanted: &str| schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(wanted));
        Ok(Request {
            origin,
            username,
            knows_authtype,
            knows_state,
            wants_basic: has_scheme("Basic") && !has_scheme("Bearer"),
            rejected,
            secret: credential.or(password),
        })
    }

    /// Whether the request names no user, or `username`.
    pub fn is_for(&self, username: &str) -> bool {
        self.username.as_deref().is_none_or(|asked| asked == username)
    }

    /// Whether this is the second `get` of a chain: the server rejected the token of our first answer.
    pub fn is_second(&self) -> bool {
        self.knows_state && self.rejected.is_some()
    }

    /// Whether this is the second `get` of a chain, and our first answer held `token`.
    ///
    /// git does not limit the length of a chain, so [`Request::answer`] ends it with the second `get`.
    pub fn rejects(&self, token: &Token) -> bool {
        self.knows_state && self.rejected.as_deref() == Some(&state_of(token))
    }

    /// Returns the token of an `erase`, or `None` if the text there cannot be a token.
    pub fn erased(&self) -> Option<Token> {
        Token::new(self.secret.as_deref()?).ok()
    }

    /// Returns the answer with the token.
    ///
    /// A cached token may have been revoked. So an answer with a cached token asks git to call again, once,
    /// if the server rejects it (`continue=1`). Without that, git would give up.
    pub fn answer(&self, held: &LiveToken, username: &str) -> String {
        let token = held.token.expose();
        let mut answer = String::with_capacity(token.len() + 200);
        let mut line = |key: &str, value: &str| {
            answer.push_str(key);
            answer.push('=');
            answer.push_str(value);
            answer.push('\n');
        };
        if self.knows_authtype {
            line("capability[]", "authtype");
        }
        if self.knows_state {
            line("capability[]", "state");
        }
        if self.knows_authtype && !self.wants_basic {
            line("authtype", "Bearer");
            line("credential", token);
        } else {
            line("username", username);
            line("password", token);
        }
        if let Some(expiry) = held.advertised_expiry() {
            line("password_expiry_utc", &expiry.to_string());
        }
        if self.knows_authtype {
            line("ephemeral", "1");
        }
        if self.knows_state && self.rejected.is_none() && !held.is_new {
            line("state[]", &format!("{STATE}{}", state_of(&held.token)));
            line("continue", "1");
        }
        answer
    }
}

/// Returns the lines of a request, up to the blank line that may end it.
///
/// git ends lines with LF, on Windows perhaps with CRLF. A CR elsewhere is part of a value for git, but a
/// line end for other parsers (CVE-2024-52006). Such a request is refused.
fn lines(input: &str) -> Result<Vec<&str>, NotOurs> {
    if input.contains('\0') {
        return Err("there is a NUL in it");
    }
    let mut lines: Vec<&str> = input.split('\n').collect();
    // The last element is empty, or a last line without LF.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    if lines.iter().all(|line| line.ends_with('\r')) {
        lines.iter_mut().for_each(|line| *line = &line[..line.len() - 1]);
    }
    if lines.iter().any(|line| line.contains('\r')) {
        return Err("there is a carriage return inside a line");
    }
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    if lines[end..].iter().any(|line| !line.is_empty()) {
        return Err("it goes on after its end");
    }
    lines.truncate(end);
    Ok(lines)
}

/// Returns the schemes of a `WWW-Authenticate` header. There may be several (RFC 9110 §11.6.1).
fn schemes(header: &str) -> Vec<String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    elements(header)
        .into_iter()
        .filter_map(|element| {
            let end = element.find(|c| !is_token(c)).unwrap_or(element.len());
            let (word, rest) = element.split_at(end);
            // A name with a value is a parameter of the scheme before it.
            let is_scheme = rest.is_empty() || (rest.starts_with([' ', '\t']) && !rest.trim_start().starts_with('='));
            (is_scheme && !word.is_empty()).then(|| word.to_owned())
        })
        .collect()
}

/// Splits a list at its commas. A comma inside quotes does not count.
fn elements(list: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = |c: char| {
        let ends = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        ends
    };
    list.split(is_end).map(str::trim).collect()
}

/// Returns 64 bits of the SHA-256 of a token. They identify the token without revealing it.
fn state_of(token: &Token) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.expose().as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Moment;
    use crate::token::Validity;
    use proptest::prelude::*;
    use std::time::Duration;

    fn held(is_new: bool) -> LiveToken {
        let life = Some(Validity { lifetime: Duration::from_secs(3600), age: Duration::ZERO });
        let now = Moment { unix_ms: 1_795_291_200_000, boot_ms: 0 };
        LiveToken { token: Token::new("t0k.en").unwrap(), validity: life, now, is_new }
    }

    const HOST: &str = "protocol=https\nhost=git.example\n";

    fn answer(input: &str, held: &LiveToken) -> Result<String, NotOurs> {
        Request::read(input.as_bytes()).map(|request| request.answer(held, "oauth2").replace('\n', " "))
    }

    #[test]
    fn answer_format_follows_git_capabilities() {
        const BASIC: &str = "username=oauth2 password=t0k.en password_expiry_utc=1795294790 ";
        const BEARER: &str = "authtype=Bearer credential=t0k.en password_expiry_utc=1795294790 ephemeral=1 ";
        const STATE: &str = "state[]=runai:f0e1d2 continue=1 ";
        let state = format!("state[]=runai:{} continue=1 ", state_of(&held(false).token));
        let cases = [
            ("", BASIC.to_owned()),
            ("capability[]=authtype\n", format!("capability[]=authtype {BEARER}")),
            ("capability[]=state\n", format!("capability[]=state {BASIC}{STATE}")),
            (
                "capability[]=authtype\ncapability[]=state\n",
                format!("capability[]=authtype capability[]=state {BEARER}{STATE}"),
            ),
            (
                "capability[]=authtype\nwwwauth[]=Basic realm=\"GitLab\"\n",
                format!("capability[]=authtype {BASIC}ephemeral=1 "),
            ),
            (
                "capability[]=authtype\nwwwauth[]=Basic realm=\"x\", Bearer realm=\"y\"\n",
                format!("capability[]=authtype {BEARER}"),
            ),
            (
                "capability[]=state\ncapability[]=unheard-of\nstate[]=other:1\n",
                format!("capability[]=state {BASIC}{STATE}"),
            ),
            // Our own state: this is the second `get` of the chain, so the answer does not ask for a third.
            ("capability[]=state\nstate[]=runai:1\n", format!("capability[]=state {BASIC}")),
            ("capability[]=state\nstate[]=runai:1\nstate[]=\n", format!("capability[]=state {BASIC}{STATE}")),
        ];
        for (capabilities, wanted) in cases {
            let input = format!("{capabilities}{HOST}");
            assert_eq!(answer(&input, &held(false)), Ok(wanted.replace(STATE, &state)), "{capabilities}");
        }
        // A new token has not been revoked. A server that rejects it rejects every token.
        let fresh = answer(&format!("capability[]=state\n{HOST}"), &held(true));
        assert_eq!(fresh, Ok(format!("capability[]=state {BASIC}")));
        let unknown = LiveToken { validity: None, ..held(true) };
        assert_eq!(answer(HOST, &unknown).as_deref(), Ok("username=oauth2 password=t0k.en "));
    }

    #[test]
    fn rejected_token_is_recognised_by_state() {
        let state = state_of(&held(false).token);
        let read = |input: String| Request::read(input.as_bytes()).unwrap();
        assert!(read(format!("capability[]=state\nstate[]=runai:{state}\n{HOST}")).rejects(&held(false).token));
        assert!(!read(format!("capability[]=state\nstate[]=other:{state}\n{HOST}")).rejects(&held(false).token));
        assert!(!read(format!("capability[]=state\nstate[]=runai:{state}\n{HOST}")).rejects(&Token::new("t").unwrap()));
        let second = read(format!("capability[]=state\nstate[]=runai:0\n{HOST}"));
        assert!(second.is_second() && !second.rejects(&held(false).token));
        assert!(!read(HOST.to_owned()).is_second());
    }

    #[test]
    fn erase_yields_password_or_credential() {
        let erased = |input: &str| {
            let request = Request::read(format!("{HOST}{input}").as_bytes()).unwrap();
            request.erased().map(|token| token.expose().to_owned())
        };
        assert_eq!(erased("username=oauth2\npassword=old\n").as_deref(), Some("old"));
        assert_eq!(erased("authtype=Bearer\ncredential=old\n").as_deref(), Some("old"));
        assert_eq!(erased(""), None);
        assert_eq!(erased("password=with blank\n"), None);
    }

    #[test]
    fn request_with_git_line_ends_is_read() {
        let origin = |input: &str| Request::read(input.as_bytes()).map(|request| request.origin.to_string());
        for input in [
            "protocol=https\nhost=git.example\n",
            "protocol=https\nhost=git.example",
            "protocol=https\nhost=git.example\n\n",
            "protocol=https\nhost=git.example\n\n\n",
            "protocol=https\r\nhost=git.example\r\n",
            "protocol=https\r\nhost=git.example\r\n\r\n",
            "host=GIT.example:443\nunknown=x=y\npath=a/b.git\nprotocol=https\n",
            "unknown[]=1\nunknown[]=2\nprotocol=https\nhost=git.example\npassword_expiry_utc=x\n",
        ] {
            assert_eq!(origin(input).as_deref(), Ok("https://git.example"), "{input:?}");
        }
        let mut long = format!("wwwauth[]=Bearer x=\"{}\"\n", "y".repeat(200_000));
        long += HOST;
        assert!(origin(&long).is_ok());
        assert!(Request::read(b"protocol=https\nhost=git.example\nwwwauth[]=Basic realm=\"M\xfcller\"\n").is_ok());
    }

    #[test]
    fn request_with_ambiguous_lines_is_refused() {
        for input in [
            "",
            "\n",
            "protocol=https\n",
            "host=git.example\n",
            "protocol=https\nhost=\n",
            "protocol=\nhost=git.example\n",
            "protocol=ssh\nhost=git.example\n",
            "protocol=HTTPS \nhost=git.example\n",
            "protocol=https\nhost=git.example\nhost=evil.example\n",
            "protocol=https\nhost=git.example\nhost=git.example\n",
            "protocol=https\nprotocol=http\nhost=git.example\n",
            "protocol=https\nhost=git.example\nusername=a\nusername=b\n",
            "protocol=https\nhost=git.example\r\n",
            "protocol=https\r\nhost=git.example\n",
            "protocol=https\nhost=git.example\rhost=evil.example\n",
            "protocol=https\r\nhost=git.example\r\r\n",
            "protocol=https\nhost=git.example\0\n",
            "protocol=https\nhost=git.example\npath=a\0b\n",
            "protocol=https\nhost=git.example\npath=a\rb\n",
            "protocol=https\nhost=git.example\nnonsense\n",
            "protocol=https\nhost=git.example\n\nhost=evil.example\n",
            "protocol=https\nhost=user@git.example\n",
            "protocol=https\nhost=git.example/\n",
            "protocol=https\nhost=https://git.example\n",
            "protocol=https\nhost= git.example\n",
            "protocol=https\nhost=git.example:\n",
            "url=https://git.example/\n",
        ] {
            assert!(Request::read(input.as_bytes()).is_err(), "{input:?} was taken");
        }
    }

    #[test]
    fn challenge_header_yields_its_schemes() {
        for (header, wanted) in [
            ("Basic realm=\"GitLab\"", &["Basic"][..]),
            ("Basic", &["Basic"]),
            ("Bearer realm=\"a, Basic b\",service=\"c\"", &["Bearer"]),
            ("Basic realm=\"a\", Bearer realm=\"b\"", &["Basic", "Bearer"]),
            ("Basic realm=\"a\\\", Digest b\", charset=\"UTF-8\", bearer", &["Basic", "bearer"]),
            ("Negotiate YII=, NTLM", &["Negotiate", "NTLM"]),
            ("Basic realm = \"x\" , nonce = y, Bearer", &["Basic", "Bearer"]),
            (", ,Basic realm=x,,", &["Basic"]),
            ("\"Bearer\"", &[]),
            ("", &[]),
        ] {
            assert_eq!(schemes(header), wanted, "{header}");
        }
    }

    const SEEDS: &[&str] = &[
        "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=git.example\nwwwauth[]=Basic realm=\"a\\\"b\"\n",
        "protocol=https\r\nhost=git.example:443\r\nusername=oauth2\r\nstate[]=runai:0\r\n\r\n",
        "protocol=https\nhost=git.example\nauthtype=Bearer\ncredential=t\npassword=t\n\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// For any input, the answer consists of known `key=value` lines and does not repeat the host.
        #[test]
        fn request_damaged_yields_only_known_lines(input in crate::mutation::mutated(SEEDS)) {
            if let Ok(request) = Request::read(&input) {
                let answer = request.answer(&held(false), "oauth2");
                prop_assert!(answer.ends_with('\n') && !answer.contains(['\r', '\0']));
                let known = ["capability[]", "authtype", "credential", "username", "password", "password_expiry_utc", "ephemeral",
                    "state[]", "continue"];
                for line in answer.lines() {
                    prop_assert!(known.contains(&line.split_once('=').expect("key=value").0), "{line}");
                }
                // Without this capability git finds no credential in an answer with `authtype`.
                prop_assert!(request.knows_authtype || !answer.contains("authtype"));
                let _ = (request.rejects(&held(true).token), request.erased());
            }
        }
    }
}
