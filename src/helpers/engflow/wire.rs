//! The protocol of EngFlow's credential helper specification.
//!
//! The request is `{"uri": …}`, and the answer is `{"headers": …, "expires": …}`. The HTTP clients of Bazel,
//! Buck2 and other build tools speak it.
//!
//! Source: EngFlow/credential-helper-spec, `spec.md` and its JSON schemas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::token::{LiveToken, rfc3339};

/// Maximum size of a request in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// Time between the `expires` of the answer and the true expiry of the token.
///
/// Tools start requests with the token until `expires`, and some requests take long (tuist/tuist#11341).
pub const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// The request of a tool. Other members of the JSON object are ignored.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Request {
    /// The URL that the tool is about to call with the headers.
    pub uri: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Headers<'a> {
    authorization: [&'a str; 1],
}

impl Request {
    /// Parses a request.
    ///
    /// # Errors
    /// Why the input is not a request. The text repeats nothing of the input.
    pub fn read(input: &[u8]) -> Result<Request, &'static str> {
        if input.len() > MAX_REQUEST {
            return Err("it is longer than 64 KiB");
        }
        // The protocol sends an object. serde's derived parser would accept an array of the values, too.
        if !input.trim_ascii_start().starts_with(b"{") {
            return Err("it is no JSON object");
        }
        serde_json::from_slice(input).map_err(|_| "it is no JSON object with a text \"uri\"")
    }

    /// Returns the answer with the token: one JSON object and a newline.
    ///
    /// For a token of unknown lifetime the answer has no `expires`.
    pub fn answer(&self, held: &LiveToken) -> Vec<u8> {
        let bearer = format!("Bearer {}", held.token.expose());
        let answer = Answer {
            headers: Headers { authorization: [&bearer] },
            expires: held.told_expiry_early(EXPIRY_MARGIN).map(rfc3339),
        };
        // Serialising strings and optional strings cannot fail.
        let mut bytes = serde_json::to_vec(&answer).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Moment;
    use crate::token::{Token, Validity};
    use proptest::prelude::*;

    fn held(lifetime: Option<u64>) -> LiveToken {
        let life = lifetime.map(|seconds| Validity { lifetime: Duration::from_secs(seconds), age: Duration::ZERO });
        let now = Moment { unix_ms: 1_795_291_200_000, boot_ms: 0 };
        LiveToken { token: Token::new("t0k.en").unwrap(), validity: life, now, is_new: false }
    }

    #[test]
    fn request_read_accepts_objects_with_uri() {
        let uri = |input: &str| Request::read(input.as_bytes()).map(|request| request.uri);
        assert_eq!(uri("{\"uri\":\"https://a.example/b\"}").as_deref(), Ok("https://a.example/b"));
        assert_eq!(uri(" {\"new\":[1],\"uri\":\"https:\\/\\/a.example\"}\n").as_deref(), Ok("https://a.example"));
        for input in [
            "",
            "{",
            "[]",
            "[\"https://a.example\"]",
            "null",
            "{}",
            "{\"uri\":7}",
            "{\"uri\":null}",
            "{\"uri\":\"a\",\"uri\":\"b\"}",
            "{\"uri\":\"a\"}{}",
            "{\"uri\":\"\u{0}\"}",
        ] {
            assert!(uri(input).is_err(), "{input:?}");
        }
        let long = format!("{{\"uri\":\"https://a.example/{}\"}}", "b".repeat(MAX_REQUEST));
        assert_eq!(uri(&long), Err("it is longer than 64 KiB"));
    }

    #[test]
    fn answer_any_lifetime_matches_published_schema() {
        // The response schema of the specification: an object of arrays of strings, and an RFC 3339 time.
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "headers": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
                "expires": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}
            },
            "required": ["headers"]
        });
        let request = Request { uri: "https://a.example".to_owned() };
        for (lifetime, wanted) in [
            (
                Some(3600),
                "{\"headers\":{\"Authorization\":[\"Bearer t0k.en\"]},\"expires\":\"2026-11-21T20:59:00Z\"}\n",
            ),
            (Some(60), "{\"headers\":{\"Authorization\":[\"Bearer t0k.en\"]},\"expires\":\"2026-11-21T20:00:30Z\"}\n"),
            (None, "{\"headers\":{\"Authorization\":[\"Bearer t0k.en\"]}}\n"),
        ] {
            let answer = String::from_utf8(request.answer(&held(lifetime))).unwrap();
            assert_eq!(answer, wanted);
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert!(jsonschema::is_valid(&schema, &answer), "{answer}");
        }
    }

    proptest! {
        #[test]
        fn request_damaged_never_panics(input in crate::mutation::mutated(&["{\"uri\":\"https://a.example/b?c#d\",\"x\":{}}"])) {
            let _ = Request::read(&input);
        }
    }
}
