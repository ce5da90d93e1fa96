//! Reads the answer of a token endpoint. Pure.
//!
//! A token comes only from a JSON answer with status 200. A refusal may have any content type, because proxies and
//! servers label those wrongly. Messages show only the OAuth error (RFC 6749 §5.2) or the `message` of Run:ai.
//! They shorten it and remove control characters.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::remedy::Refusal;
use super::request;
use crate::error::{Error, Kind, printable};
use crate::host::Moment;
use crate::http::{Failure, Response, Retry};
use crate::profile::{Api, Profile, Proof};
use crate::secret::Secret;
use crate::token::{Grant, Issued, Token};

/// Longest text of a server that a message shows, in characters.
const MAX_SHOWN: usize = 200;

/// The members that this program reads, from the answers of all endpoints. It ignores other members.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    access_token: Option<Value>,
    #[serde(rename = "accessToken")]
    access_token_v1: Option<Value>,
    id_token: Option<Value>,
    #[serde(rename = "idToken")]
    id_token_v1: Option<Value>,
    expires_in: Option<Value>,
    #[serde(rename = "expiresIn")]
    expires_in_v1: Option<Value>,
    token_type: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
    code: Option<Value>,
    message: Option<Value>,
}

/// Returns the grant in the answer, or the failure.
///
/// `obtained` is the time of the request and `proof` its secret, which no message may show.
pub(super) fn read(profile: &Profile, proof: &Secret, response: &Response, obtained: Moment) -> Result<Grant, Failure> {
    Reading { profile, proof, response }.grant_or_failure(obtained)
}

/// Hint for an answer that does not come from a token endpoint.
const CHECK_URL: &str =
    "check url and api: something that is no token endpoint answered there, perhaps a proxy or a login page";
/// Hint for a token that this program cannot use.
const CHECK_CLIENT: &str = "check url and api, and which kind of token the server is set to give this client";

/// An answer, with the profile and the proof of its request.
struct Reading<'a> {
    profile: &'a Profile,
    proof: &'a Secret,
    response: &'a Response,
}

impl Reading<'_> {
    fn grant_or_failure(&self, obtained: Moment) -> Result<Grant, Failure> {
        let response = self.response;
        // The derived parser also accepts a list with the values in order, so we check for an object.
        let is_object = response.body.trim_ascii_start().starts_with(b"{");
        let body: Option<Body> = serde_json::from_slice(&response.body).ok().filter(|_| is_object);
        match (response.status, body) {
            (200, Some(body)) if response.is_json() && self.text(&body.error).is_none() => {
                self.grant(body, obtained).map_err(|what| self.unusable(&what, CHECK_CLIENT))
            }
            (200, Some(body)) if self.text(&body.error).is_some() => Err(self.refusal(&body)),
            (200, _) => {
                let what = match (&response.content_type, response.is_json()) {
                    (_, true) => "an answer that is not JSON, or cut short".to_owned(),
                    (Some(kind), false) => format!("an answer of type {}", self.shown(kind, 60)),
                    (None, false) => "an answer without a content type".to_owned(),
                };
                Err(self.unusable(&format!("the server gave {what} instead of a token"), CHECK_URL))
            }
            (300..=399, _) => Err(self.redirect()),
            (_, body) => Err(self.refusal(&body.unwrap_or_default())),
        }
    }

    /// Returns a text of the server in a form that a message can show.
    ///
    /// It has at most `max` characters and no control characters. The server may have repeated the client's proof in any
    /// spelling of the request: plain, as a form, as JSON, or as Basic credentials. The proof is hidden before the text
    /// is cut, so that no part of it remains.
    fn shown(&self, text: &str, max: usize) -> String {
        let raw = self.proof.expose();
        let form: String = form_urlencoded::byte_serialize(raw.as_bytes()).collect();
        let json = serde_json::to_string(raw).unwrap_or_default();
        let authorization = request::write(self.profile, self.proof).authorization.unwrap_or_default();
        let json = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(raw);
        let spellings = [raw, &form, json, authorization.trim_start_matches("Basic ")];
        let hide = |text: String, spelling: &str| match spelling {
            "" => text,
            spelling => text.replace(spelling, "[hidden]"),
        };
        printable(&spellings.into_iter().fold(text.to_owned(), hide), max)
    }

    /// Returns the text of a member in a form that a message can show. `None` if it is empty or not a string.
    fn text(&self, value: &Option<Value>) -> Option<String> {
        let text = value.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(|text| self.shown(text, MAX_SHOWN))
    }

    /// Returns the tokens of a successful answer.
    ///
    /// # Errors
    /// The reason why the answer has no usable token, as the beginning of a message.
    fn grant(&self, body: Body, obtained: Moment) -> Result<Grant, String> {
        if let Some(kind) = body.token_type {
            // The type is case-insensitive (RFC 6749 section 5.1). A client must not use a token of a type that it
            // does not know (section 7.1).
            match kind.as_str() {
                Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
                Some(kind) => {
                    return Err(format!(
                        "the server gave a token of type {}, not a bearer token",
                        self.shown(kind, 40)
                    ));
                }
                None => return Err("the server gave a token_type that is not a text".to_owned()),
            }
        }
        let expires_in = lifetime(body.expires_in.or(body.expires_in_v1))?;
        let token = |name: &str, value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => match Token::new(&text) {
                Ok(token) => Ok(Some(Issued::new(token, expires_in, self.response.date, obtained))),
                Err(fault) => Err(format!("the {name} in the server's answer {fault}")),
            },
            Some(_) => Err(format!("the {name} in the server's answer is not a text")),
        };
        let access = token("access_token", body.access_token.or(body.access_token_v1))?;
        let access = access.ok_or("the server's answer has no access_token")?;
        let id = token("id_token", body.id_token.or(body.id_token_v1))?;
        Ok(Grant { obtained, access, id })
    }

    fn unusable(&self, what: &str, hint: &str) -> Failure {
        Failure::last(Error::unreachable(format!("{what} ({})", self.profile.endpoint), hint))
    }

    fn redirect(&self) -> Failure {
        let to = self
            .response
            .location
            .as_deref()
            .map(|to| self.shown(to, MAX_SHOWN))
            .unwrap_or_else(|| "nowhere".to_owned());
        let what = format!(
            "the server redirects to {to} (HTTP {}), and a secret is not sent after a redirect",
            self.response.status
        );
        self.unusable(&what, "set url (or token_url) to the address that really answers")
    }

    /// Returns the failure for an answer without a token.
    fn refusal(&self, body: &Body) -> Failure {
        let status = self.response.status;
        let error = self.text(&body.error);
        let description = self.text(&body.error_description).or_else(|| self.text(&body.message));
        let said = match (&error, &description) {
            (Some(error), Some(description)) => format!(": {error}: {description}"),
            (Some(said), None) | (None, Some(said)) => format!(": {said}"),
            (None, None) => String::new(),
        };
        if matches!(status, 408 | 429 | 500..=599) {
            let hint = match (self.response.retry_after, status) {
                (Some(wait), _) => format!("try again in {} s, as the server asks", wait.as_secs()),
                (None, 429) => "wait a moment; the server limits the rate of requests".to_owned(),
                (None, _) => {
                    "try again in a moment; if it lasts, ask the administrator of the control plane".to_owned()
                }
            };
            let what = format!("the server at {} cannot answer{said} (HTTP {status})", self.profile.endpoint);
            let passes = matches!(status, 408 | 429 | 500 | 502..=504);
            let retry = if passes { self.response.retry_after.map_or(Retry::Soon, Retry::After) } else { Retry::Never };
            return Failure { error: Error::unreachable(what, hint), retry };
        }
        // An OAuth error, or a code with a message, shows that a token endpoint answered. Any other answer may come
        // from any server. A server may also report a missing path in JSON. So with 404 and 405, only a missing
        // realm shows that a token endpoint answered. For 401 and 403 no text is required.
        let is_token_endpoint = match status {
            404 | 405 => said.contains("Realm"),
            401 | 403 => true,
            _ => error.is_some() || (body.code.is_some() && description.is_some()),
        };
        if !is_token_endpoint {
            let what = format!("there is no token endpoint at {}{said} (HTTP {status})", self.profile.endpoint);
            return Failure::last(Error::unreachable(what, wrong_path_hint(self.profile)));
        }
        let what = format!("the server refused client {}{said} (HTTP {status})", self.profile.client_id);
        let refusal = Refusal {
            status,
            error: error.as_deref().unwrap_or_default(),
            description: description.as_deref().unwrap_or_default(),
            client_id: &self.profile.client_id,
            secret: &self.proof_in_words(),
        };
        Failure::last(Error::new(Kind::Denied, what, refusal.remedy()))
    }

    /// Returns the proof and its source in words, with a note on a likely copy-and-paste mistake.
    fn proof_in_words(&self) -> String {
        match &self.profile.proof {
            Proof::Secret(source, _) => {
                let (raw, odd) = (self.proof.expose(), [' ', '"', '\'']);
                let is_odd = raw.starts_with(odd) || raw.ends_with(odd);
                let note = if is_odd { " (it begins or ends with a blank or a quotation mark)" } else { "" };
                format!("the client secret in {source}{note}")
            }
            Proof::Assertion(path) => format!("the client assertion in {}", path.display()),
        }
    }
}

/// Parses `expires_in` as servers write it: a number, a number in a string, or nothing.
///
/// A negative number counts as zero.
fn lifetime(value: Option<Value>) -> Result<Option<Duration>, String> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite()),
        Some(_) => None,
    };
    let seconds = seconds.ok_or("the expires_in in the server's answer is not a number")?;
    Ok(Some(Duration::try_from_secs_f64(seconds.clamp(0.0, 1e10)).unwrap_or_default()))
}

/// Returns the hint for a URL without a token endpoint.
fn wrong_path_hint(profile: &Profile) -> &'static str {
    match profile.api {
        Api::Keycloak if profile.endpoint.contains("/auth/auth/") => {
            "remove /auth from the end of url: the program adds it"
        }
        Api::Keycloak => {
            "check url: Keycloak must answer below /auth there; if it does not, set api to oauth2 and token_url to the full URL"
        }
        Api::Oauth2 => "check token_url",
        Api::V2 => "check url; a control plane older than v2 of the token API needs api v1, app-token or keycloak",
        Api::V1 | Api::AppToken => "check url; a control plane of another generation needs api v2 or keycloak",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Draft;
    use crate::secret::Source;
    use proptest::prelude::*;

    const NOW: Moment = Moment { unix_ms: 1_000_000_000, boot_ms: 5_000 };

    fn profile() -> Profile {
        let mut draft = Draft::default();
        draft.text("url", "https://a.example".into()).unwrap();
        draft.text("client_id", "ci".into()).unwrap();
        draft.secret(Source::Keyring).unwrap();
        draft.finish("p", "/c.json").unwrap()
    }

    fn read(response: &Response) -> Result<Grant, Failure> {
        super::read(&profile(), &Secret::new(b"s3cret+canary", 64).unwrap(), response, NOW)
    }

    fn response(status: u16, content_type: &str, body: &[u8]) -> Response {
        Response {
            status,
            content_type: Some(content_type.to_owned()),
            retry_after: None,
            location: None,
            date: None,
            body: body.to_vec(),
        }
    }

    #[test]
    fn successful_answer_in_any_spelling_gives_grant() {
        for (body, seconds, has_id) in [
            (r#"{"access_token":"t","expires_in":3600,"token_type":"bearer","id_token":"i"}"#, Some(3600), true),
            (r#"{"accessToken":"t","idToken":"i","refreshToken":"r","expiresIn":60}"#, Some(60), true),
            (r#"{"accessToken":"t"}"#, None, false),
            (r#"{"access_token":"t","expires_in":"300","token_type":"Bearer"}"#, Some(300), false),
            (r#"{"access_token":"t","expires_in":299.9,"id_token":null}"#, Some(299), false),
            (r#"{"access_token":"t","expires_in":0}"#, None, false),
            (r#"{"access_token":"t","expires_in":-5}"#, None, false),
            (r#"{"access_token":"t","expires_in":null,"unknown":{"deep":[1,2]}}"#, None, false),
        ] {
            let grant = read(&response(200, "application/json;charset=UTF-8", body.as_bytes())).unwrap();
            assert_eq!(grant.access.lifetime.map(|life| life.as_secs()), seconds, "{body}");
            assert_eq!(grant.id.is_some(), has_id, "{body}");
        }
    }

    #[test]
    fn answer_without_usable_token_is_unreachable() {
        for (content_type, body, wanted) in [
            ("text/html", r#"{"access_token":"t"}"#, "an answer of type text/html instead of a token"),
            ("application/json", "<html>", "not JSON, or cut short"),
            ("application/json", r#"{"access_token":"t""#, "not JSON, or cut short"),
            ("application/json", r#"["t"]"#, "not JSON, or cut short"),
            ("application/json", "{}", "has no access_token"),
            ("application/json", r#"{"access_token":7}"#, "is not a text"),
            ("application/json", r#"{"access_token":""}"#, "access_token in the server's answer is empty"),
            ("application/json", r#"{"access_token":"a\nb"}"#, "has a character that no bearer token has"),
            ("application/json", r#"{"access_token":"t","token_type":"DPoP"}"#, "of type DPoP, not a bearer token"),
            ("application/json", r#"{"access_token":"t","token_type":1}"#, "token_type that is not a text"),
            (
                "application/json",
                r#"{"access_token":"t","expires_in":"soon"}"#,
                "expires_in in the server's answer is not a number",
            ),
            ("application/json", r#"{"access_token":"t","access_token":"u"}"#, "not JSON, or cut short"),
        ] {
            let failure = read(&response(200, content_type, body.as_bytes())).unwrap_err();
            assert!(failure.error.what.contains(wanted), "{body}: {}", failure.error.what);
            assert_eq!((failure.error.kind, failure.retry), (Kind::Unreachable, Retry::Never), "{body}");
        }
    }

    #[test]
    fn proof_repeated_by_server_is_hidden() {
        let at_the_cut = format!("{}s3cret+canary", "x".repeat(MAX_SHOWN - 6));
        for said in ["bad secret s3cret+canary", "s3cret%2Bcanary", &at_the_cut] {
            let body = serde_json::json!({ "error": "invalid_client", "error_description": said }).to_string();
            let failure = read(&response(401, "application/json", body.as_bytes())).unwrap_err();
            assert!(!failure.error.what.contains("s3cr"), "{}", failure.error.what);
        }
    }

    const SEEDS: &[&str] = &[
        r#"{"access_token":"eyJh.eyJpYXQiOjEsImV4cCI6OTl9.c2ln","expires_in":3600,"token_type":"bearer","id_token":"a.b.c"}"#,
        r#"{"accessToken":"t","idToken":null,"expiresIn":"60","refreshToken":"r","scope":["a",{"b":1e400}]}"#,
        r#"{"error":"invalid_client","error_description":"no\u001b[31m","error_uri":"https://a.example"}"#,
        r#"{"code":401,"message":"Issuer is not familiar.","details":"x"}"#,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Any answer gives a token that fits into a header, or an error on one line without the proof.
        #[test]
        fn damaged_answer_gives_token_or_message(status in prop::sample::select(vec![200, 400, 401, 404, 500]), body in crate::mutation::mutated(SEEDS)) {
            match read(&response(status, "application/json", &body)) {
                Ok(grant) => prop_assert!(status == 200 && Token::new(grant.access.token.expose()).is_ok()),
                Err(Failure { error, .. }) => {
                    prop_assert!(!error.what.chars().chain(error.hint.chars()).any(char::is_control));
                    prop_assert!(!error.what.contains("s3cret"));
                }
            }
        }

        #[test]
        fn random_answer_shows_no_control_characters(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = read(&response(status, "application/json", &body)) {
                prop_assert!(!failure.error.lines().trim_end().replace('\n', "").chars().any(char::is_control));
            }
        }

        #[test]
        fn server_text_is_cut_and_stripped(error in ".{0,400}", description in ".{0,400}") {
            let body = serde_json::json!({ "error": error, "error_description": description }).to_string();
            if let Err(failure) = read(&response(401, "application/json", body.as_bytes())) {
                prop_assert!(failure.error.what.chars().count() < 500);
                prop_assert!(!failure.error.what.chars().any(char::is_control));
            }
        }
    }

    /// A server may repeat the `Authorization` header or the body of the request.
    #[test]
    fn proof_is_hidden_in_every_spelling_sent() {
        let proof = Secret::new(b"a\"b\\c+d", 64).unwrap();
        for (api, auth) in [("v2", "basic"), ("v1", "post")] {
            let mut draft = Draft::default();
            let keys = [("url", "https://a.example"), ("client_id", "ci"), ("api", api), ("client_auth", auth)];
            for (key, value) in keys.into_iter().filter(|(key, value)| (*key, *value) != ("client_auth", "post")) {
                draft.text(key, value.into()).unwrap();
            }
            draft.secret(Source::Keyring).unwrap();
            let profile = draft.finish("p", "/c.json").unwrap();
            let request = request::write(&profile, &proof);
            let sent = format!("{} {}", request.authorization.unwrap_or_default(), request.body);
            let response = response(400, "application/json", b"{}");
            let shown = Reading { profile: &profile, proof: &proof, response: &response }.shown(&sent, 1000);
            assert!(shown.contains("[hidden]"), "{shown}");
            for spelling in ["a\"b", "a\\\"b", "a%22b", "Y2k6"] {
                assert!(!shown.contains(spelling), "{spelling} in {shown}");
            }
        }
    }
}
