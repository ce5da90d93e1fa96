//! The credential helper protocol of EngFlow's specification, which Bazel, Buck2's and other build tools' HTTP clients speak:
//! `{"uri": …}` in, `{"headers": …, "expires": …}` out.
//!
//! Source: EngFlow/credential-helper-spec, `spec.md` and its JSON schemas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::token::{LiveToken, rfc3339};

/// The most that is read of a request, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// How much earlier than its end a token is told to end: tools start requests with it up to that moment, and some of them
/// take long (tuist/tuist#11341).
pub const EARLY: Duration = Duration::from_secs(60);

/// What a tool asks. What else the object may hold is for others.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Request {
    /// Where the headers are to go.
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
    /// Reads a request.
    ///
    /// # Errors
    /// Why it is none, in words that repeat nothing of it.
    pub fn read(input: &[u8]) -> Result<Request, &'static str> {
        if input.len() > MAX_REQUEST {
            return Err("it is longer than 64 KiB");
        }
        // An object only: the derived parser would take a list of values in order as well.
        if !input.trim_ascii_start().starts_with(b"{") {
            return Err("it is no JSON object");
        }
        serde_json::from_slice(input).map_err(|_| "it is no JSON object with a text \"uri\"")
    }

    /// The answer with a token, one JSON object and a newline. A token of unknown lifetime goes without a time.
    pub fn answer(&self, held: &LiveToken) -> Vec<u8> {
        let bearer = format!("Bearer {}", held.token.expose());
        let answer = Answer {
            headers: Headers { authorization: [&bearer] },
            expires: held.told_expiry_early(EARLY).map(rfc3339),
        };
        // Texts and options of texts: this cannot fail.
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
    fn requests() {
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
    fn the_answer_is_that_of_the_published_schema() {
        // What the specification's response schema says: an object of arrays of texts, and a time of RFC 3339.
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
        fn a_damaged_request_is_read_or_refused(input in crate::mutation::mutated(&["{\"uri\":\"https://a.example/b?c#d\",\"x\":{}}"])) {
            let _ = Request::read(&input);
        }
    }
}
