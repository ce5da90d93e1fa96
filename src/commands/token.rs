//! `token`: the token for scripts, in the form that the script can use.

use serde::Serialize;

use crate::token::{Held, rfc3339};

/// How the token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The token alone.
    Plain,
    /// A JSON object with the token and its times.
    Json,
    /// A header line, for `curl -H @-`.
    Header,
}

impl Format {
    /// The names on the command line.
    pub const NAMES: [&'static str; 3] = ["plain", "json", "header"];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "plain" => Some(Format::Plain),
            "json" => Some(Format::Json),
            "header" => Some(Format::Header),
            _ => None,
        }
    }
}

/// The member names of RFC 6749 §5.1, and the expiry as a time, both ways that scripts compare times.
#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_on: Option<i64>,
}

/// Writes the token; all times are the true ones. Without `newline` the last line is left open, for tools that choke on
/// its end.
pub fn answer(held: &Held, format: Format, newline: bool) -> Vec<u8> {
    let token = held.token.expose();
    let mut text = match format {
        Format::Plain => token.to_owned(),
        Format::Header => format!("Authorization: Bearer {token}"),
        Format::Json => {
            let answer = Answer {
                access_token: token,
                token_type: "Bearer",
                expires_in: held.life.map(|life| life.left().as_secs()),
                expires_at: held.expires_at().map(rfc3339),
                expires_on: held.expires_at(),
            };
            serde_json::to_string(&answer).unwrap_or_default()
        }
    };
    if newline {
        text.push('\n');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Moment;
    use crate::token::{Life, Token};
    use std::time::Duration;

    #[test]
    fn each_format() {
        let mut held = Held {
            token: Token::new("t0k.en").unwrap(),
            life: Some(Life { lifetime: Duration::from_secs(3600), age: Duration::from_secs(600) }),
            now: Moment { unix_ms: 1_795_291_200_000, boot_ms: 0 },
        };
        let text = |held: &Held, format, newline| String::from_utf8(answer(held, format, newline)).unwrap();
        assert_eq!(text(&held, Format::Plain, true), "t0k.en\n");
        assert_eq!(text(&held, Format::Plain, false), "t0k.en");
        assert_eq!(text(&held, Format::Header, true), "Authorization: Bearer t0k.en\n");
        assert_eq!(
            text(&held, Format::Json, true),
            "{\"access_token\":\"t0k.en\",\"token_type\":\"Bearer\",\"expires_in\":3000,\
             \"expires_at\":\"2026-11-21T20:50:00Z\",\"expires_on\":1795294200}\n"
        );
        held.life = None;
        assert_eq!(text(&held, Format::Json, true), "{\"access_token\":\"t0k.en\",\"token_type\":\"Bearer\"}\n");
    }

    #[test]
    fn names_are_those_of_the_formats() {
        assert!(Format::NAMES.iter().all(|name| Format::named(name).is_some()));
    }
}
