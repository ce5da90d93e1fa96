//! Tokens and their times. Pure arithmetic: no clock, no file, no network.
//!
//! Every lifetime counts from the moment before the request, on the clocks of this machine. The `exp` of a
//! JWT is compared with the local clock only if the server states neither a lifetime nor its time. So a wrong
//! local clock does not prevent a user from getting a token.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::host::Moment;

/// Longest token in bytes.
///
/// Keycloak tokens with many roles reach a few KiB. Most servers read headers of at most 8 to 32 KiB.
pub const MAX_TOKEN: usize = 32 * 1024;

/// A bearer token, always a b64token of RFC 6750 §2.1.
///
/// So it fits unchanged into a header, a line and a quoted string. Like a [`Secret`](crate::secret::Secret),
/// it is exposed by one method only, [`Token::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Checks a token that comes from a server, a cache or a caller.
    ///
    /// # Errors
    /// The reason why it is not a token, without its text.
    pub fn new(text: &str) -> Result<Token, &'static str> {
        if text.len() > MAX_TOKEN {
            return Err("is longer than 32 KiB");
        }
        let body = text.trim_end_matches('=');
        if body.is_empty() {
            return Err("is empty");
        }
        if !body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)) {
            return Err("has a character that no bearer token has (RFC 6750 section 2.1)");
        }
        Ok(Token(text.to_owned()))
    }

    /// Returns the text of the token. Only the answer to the caller may contain it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the claims of a JWT without checking its signature; `None` for any other token.
    pub fn payload(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.json()?).ok()
    }

    /// Returns the times that a JWT states; none for any other token.
    fn times(&self) -> Times {
        self.json().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Returns the decoded middle part of a JWT (RFC 7519 §3).
    fn json(&self) -> Option<Vec<u8>> {
        let mut parts = self.0.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        BASE64_URL_SAFE_NO_PAD.decode(payload).ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// NumericDate claims, which may have a fraction (RFC 7519 §4.1).
#[derive(Default, Deserialize)]
struct Times {
    exp: Option<f64>,
    iat: Option<f64>,
}

/// The kind of token that a helper hands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bearer {
    /// The access token (RFC 6749 §1.4).
    #[default]
    AccessToken,
    /// The ID token of OpenID Connect.
    IdToken,
}

names!(Bearer { AccessToken: "access_token", IdToken: "id_token" });

impl Bearer {
    /// All kinds.
    pub const ALL: [Bearer; 2] = [Bearer::AccessToken, Bearer::IdToken];
}

/// One token of a [`Grant`].
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// The lifetime, counted from [`Grant::obtained`].
    ///
    /// It is `None` if neither the server nor the token states one, or if the token has already expired. Such
    /// a token is handed out once and not stored.
    pub lifetime: Option<Duration>,
}

/// The tokens of one answer of a token endpoint.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The moment before the request.
    pub obtained: Moment,
    /// The access token.
    pub access: Issued,
    /// The ID token, if the answer has one.
    pub id: Option<Issued>,
}

impl Grant {
    /// Returns the token of this kind.
    pub fn issued(&self, bearer: Bearer) -> Option<&Issued> {
        match bearer {
            Bearer::AccessToken => Some(&self.access),
            Bearer::IdToken => self.id.as_ref(),
        }
    }
}

/// Longest lifetime. A longer one from the server is cut to it.
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

impl Issued {
    /// Returns the token with its lifetime.
    ///
    /// `expires_in` is the announced lifetime. `now` is the moment before the request. `server_time` is the
    /// time of the server at the answer, in seconds since 1970, if the server sent it.
    ///
    /// The lifetime is the announced one, but at most what the JWT allows. The JWT has two limits: `exp −
    /// iat`, and `exp` minus the time of the server, because the server may hand out a token that it issued
    /// earlier. If the server states neither a lifetime nor its time, `exp` is compared with the local clock.
    /// If that clock is wrong, the token is kept for too short a time or not at all. It is never kept for
    /// longer than `exp − iat`.
    pub fn new(token: Token, expires_in: Option<Duration>, server_time: Option<i64>, now: Moment) -> Issued {
        let Times { exp, iat } = token.times();
        let local_time = expires_in.is_none().then_some(now.unix_ms as f64 / 1000.0);
        let clock = server_time.map(|seconds| seconds as f64).or(local_time);
        let since = |start: Option<f64>| Some(exp? - start?);
        let claimed = [since(iat), since(clock)].into_iter().flatten().reduce(f64::min);
        // A negative or absurd number becomes zero: the token counts as expired.
        let claimed = claimed.map(|seconds| Duration::try_from_secs_f64(seconds.min(1e10)).unwrap_or_default());
        let lifetime = match (expires_in, claimed) {
            (Some(announced), Some(claimed)) => Some(announced.min(claimed)),
            (announced, claimed) => announced.or(claimed),
        };
        Issued { token, lifetime: lifetime.filter(|life| !life.is_zero()).map(|life| life.min(MAX_LIFETIME)) }
    }
}

/// The lifetime and the age of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The time from the request to the expiry.
    pub lifetime: Duration,
    /// The time since the request.
    pub age: Duration,
}

impl Validity {
    /// Returns the time to the true expiry.
    pub fn left(self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }

    /// Returns the last part of the lifetime, in which the token is not handed out.
    ///
    /// It is 10 s, or a tenth of the lifetime if that is less. The client needs this time to reach the
    /// server, and the clocks of the two may differ.
    pub fn margin(self) -> Duration {
        Duration::from_secs(10).min(self.lifetime / 10)
    }

    /// Whether the token may still be handed out.
    pub fn usable(self) -> bool {
        !self.left().is_zero() && self.left() >= self.margin()
    }

    /// Whether it is time to fetch the next token, although this one is still good.
    ///
    /// The window is the last fifth of the lifetime, at most 6.5 minutes. `jitter`, which may be any number,
    /// reduces it by at most 15 %. The jitter differs from host to host, so that a thousand nodes that
    /// started together do not all fetch at the same time.
    ///
    /// The limit is 6.5 minutes, because the Python client of Kubernetes drops a token 5 minutes before its
    /// expiry. The shortest window, 331 s, is still longer than that.
    pub fn refresh_due(self, jitter: u64) -> bool {
        let window = Duration::from_secs(390).min(self.lifetime / 5);
        let reduction = window * (jitter % 16) as u32 / 100;
        self.left() < window - reduction
    }

    /// Whether the remaining time is at least `wanted`, or half the lifetime if that is less.
    ///
    /// A caller may ask for ten minutes of a token that lives for five. It can only get a young token.
    pub fn covers(self, wanted: Duration) -> bool {
        self.left() >= wanted.min(self.lifetime / 2)
    }
}

/// A token with its validity.
#[derive(Clone, Debug)]
pub struct LiveToken {
    /// The token.
    pub token: Token,
    /// Its lifetime and age, if known.
    pub validity: Option<Validity>,
    /// The moment at which `validity` holds.
    pub now: Moment,
    /// Whether this call has fetched the token. If so, no server can have refused it yet.
    pub is_new: bool,
}

impl LiveToken {
    /// Returns the true expiry, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        self.validity.map(|life| self.now.unix_seconds_after(life.left()))
    }

    /// Returns the expiry that an answer states, in seconds since 1970.
    ///
    /// It is earlier than the true expiry by [`Validity::margin`]. It is never in the past: a client that
    /// receives a past expiry runs the helper again at once.
    pub fn advertised_expiry(&self) -> Option<i64> {
        self.told_expiry_early(Duration::ZERO)
    }

    /// Returns the advertised expiry, moved earlier by `early` instead of the margin.
    ///
    /// The shift is `early`, but at most half the lifetime and at least [`Validity::margin`].
    pub fn told_expiry_early(&self, early: Duration) -> Option<i64> {
        self.validity.map(|life| {
            let early = early.min(life.lifetime / 2).max(life.margin());
            let expiry = self.now.unix_seconds_after(life.left().saturating_sub(early));
            expiry.max(self.now.unix_seconds_after(Duration::from_millis(999)))
        })
    }
}

/// Returns a time in seconds since 1970 in the format of RFC 3339, in UTC: `2026-11-21T20:00:00Z`.
pub fn rfc3339(unix_seconds: i64) -> String {
    chrono::DateTime::from_timestamp(unix_seconds, 0)
        .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
        .format("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn jwt(claims: &str) -> Token {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        Token::new(&format!("{}.{}.c2ln", part(r#"{"alg":"none"}"#), part(claims))).unwrap()
    }

    const NOW: Moment = Moment { unix_ms: 1_000_000_000, boot_ms: 5_000 };

    #[test]
    fn token_outside_b64token_is_refused() {
        for good in ["abc", "a.b-c_d~e+f/g", "YWJj==", "0"] {
            assert!(Token::new(good).is_ok(), "{good}");
        }
        for bad in ["", "==", "a b", "a\nb", "a=b", "a\"b", "ä", "a,b", "a\0", " a", "a\r\n"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
        assert!(Token::new(&"x".repeat(MAX_TOKEN)).is_ok());
        assert!(Token::new(&"x".repeat(MAX_TOKEN + 1)).is_err());
        assert_eq!(format!("{:?}", Token::new("canary").unwrap()), "Token(…)");
    }

    #[test]
    fn lifetime_is_the_shortest_stated_one() {
        let opaque = Token::new("opaque").unwrap();
        // The columns: name, token, announced lifetime, time of the server, expected lifetime. The local
        // clock shows 1 000 000.
        let cases = [
            ("announced, opaque", opaque.clone(), Some(3600), None, Some(3600)),
            ("announced, JWT longer", jwt(r#"{"iat":100,"exp":10000}"#), Some(3600), None, Some(3600)),
            ("announced, JWT shorter", jwt(r#"{"iat":100,"exp":700}"#), Some(3600), None, Some(600)),
            ("announced, JWT issued earlier", jwt(r#"{"iat":100,"exp":700}"#), Some(600), Some(400), Some(300)),
            ("JWT alone", jwt(r#"{"iat":1000000,"exp":1000600}"#), None, None, Some(600)),
            ("JWT alone, fractional", jwt(r#"{"iat":1000000.25,"exp":1000600.75}"#), None, None, Some(600)),
            ("JWT alone, issued earlier", jwt(r#"{"iat":999900,"exp":1000500}"#), None, None, Some(500)),
            ("JWT alone, expired", jwt(r#"{"iat":100,"exp":700}"#), None, None, None),
            (
                "JWT alone, the local clock is wrong and the server's known",
                jwt(r#"{"iat":100,"exp":700}"#),
                None,
                Some(100),
                Some(600),
            ),
            ("JWT alone, the local clock is slow", jwt(r#"{"iat":1003600,"exp":1007200}"#), None, None, Some(3600)),
            ("exp alone, against the clock", jwt(r#"{"exp":1000300}"#), None, None, Some(300)),
            ("exp alone, against the server's clock", jwt(r#"{"exp":1000300}"#), None, Some(1_000_100), Some(200)),
            ("exp alone with an announcement is ignored", jwt(r#"{"exp":1}"#), Some(60), None, Some(60)),
            ("no announcement and no JWT", opaque.clone(), None, None, None),
            ("JWT without times", jwt("{}"), None, None, None),
            ("payload is no object", jwt("[1]"), Some(60), None, Some(60)),
            ("announced as zero", opaque, Some(0), None, None),
            ("exp before iat", jwt(r#"{"iat":700,"exp":100}"#), Some(60), None, None),
            ("exp in the past", jwt(r#"{"exp":5}"#), None, None, None),
            ("absurd", jwt(r#"{"iat":0,"exp":1e300}"#), None, None, Some(MAX_LIFETIME.as_secs())),
        ];
        for (name, token, announced, server_time, wanted) in cases {
            let issued = Issued::new(token, announced.map(seconds), server_time, NOW);
            assert_eq!(issued.lifetime.map(|life| life.as_secs()), wanted, "{name}");
        }
    }

    #[test]
    fn validity_by_age_follows_table() {
        // The columns: lifetime, age, usable, refresh due without jitter.
        for (lifetime, age, usable, due) in [
            (3600, 0, true, false),
            (3600, 3209, true, false),
            (3600, 3211, true, true),
            (3600, 3590, true, true),
            (3600, 3591, false, true),
            (3600, 9999, false, true),
            (300, 239, true, false),
            (300, 241, true, true),
            (300, 291, false, true),
            (20, 15, true, false),
            (20, 17, true, true),
            (20, 18, true, true),
            (20, 19, false, true),
        ] {
            let life = Validity { lifetime: seconds(lifetime), age: seconds(age) };
            assert_eq!((life.usable(), life.refresh_due(0)), (usable, due), "{lifetime} s old {age} s");
        }
    }

    #[test]
    fn advertised_expiry_is_early_never_past() {
        let held = |lifetime, age| LiveToken {
            token: Token::new("t").unwrap(),
            validity: Some(Validity { lifetime: seconds(lifetime), age: seconds(age) }),
            now: NOW,
            is_new: false,
        };
        assert_eq!(held(3600, 0).expires_at(), Some(1_000_000 + 3600));
        assert_eq!(held(3600, 0).advertised_expiry(), Some(1_000_000 + 3590));
        assert_eq!(held(3600, 3600).advertised_expiry(), Some(1_000_000));
        let minute = seconds(60);
        assert_eq!(held(3600, 0).told_expiry_early(minute), Some(1_000_000 + 3540));
        assert_eq!(held(80, 0).told_expiry_early(minute), Some(1_000_000 + 40));
        assert_eq!(held(3600, 3590).told_expiry_early(minute), Some(1_000_000));
        assert_eq!(rfc3339(1_000_000), "1970-01-12T13:46:40Z");
    }

    proptest! {
        #[test]
        fn validity_limits_keep_their_order(lifetime in 1u64..10_000_000, age in 0u64..20_000_000, jitter: u64) {
            let life = Validity { lifetime: Duration::from_millis(lifetime), age: Duration::from_millis(age) };
            // A token that is not usable is also due. No jitter moves the refresh into the margin.
            prop_assert!(life.usable() || life.refresh_due(jitter));
            let young = Validity { age: Duration::ZERO, ..life };
            prop_assert!(young.usable() && !young.refresh_due(jitter));
            prop_assert!(young.covers(Duration::MAX));
        }

        #[test]
        fn token_with_random_claims_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = format!("a.{}.b", BASE64_URL_SAFE_NO_PAD.encode(payload));
            if let Ok(token) = Token::new(&text) {
                let _ = Issued::new(token, None, None, NOW);
            }
        }
    }
}
