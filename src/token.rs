//! Tokens and their times. Pure arithmetic: no clock, no file, no network.
//!
//! All lifetimes count from the moment before the request was sent, on the clocks of this machine; the `exp` of a JWT
//! is never compared with the local clock where anything better is known, so a clock that is off does not lock
//! anybody out.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::host::Moment;

/// Longest token in bytes. Keycloak tokens with many roles reach a few KiB; most servers stop reading headers at 8 to 32.
pub const MAX_TOKEN: usize = 32 * 1024;

/// A bearer token: never anything but the b64token of RFC 6750 §2.1, so it fits a header, a line and a quoted string
/// as it stands. Like a [`Secret`](crate::secret::Secret) it has one way out, [`Token::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token from a server, a cache or a caller.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
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

    /// The token itself, for the answer to the caller and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The claims of a JWT, whoever signed it; nothing for any other token.
    pub fn payload(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.json()?).ok()
    }

    /// The times that a JWT states about itself; none for any other token.
    fn times(&self) -> Times {
        self.json().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// The middle part of a JWT (RFC 7519 §3).
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

/// The NumericDate claims of RFC 7519 §4.1, which may have a fraction.
#[derive(Default, Deserialize)]
struct Times {
    exp: Option<f64>,
    iat: Option<f64>,
}

/// Which token of an answer is handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bearer {
    /// The access token (RFC 6749 §1.4).
    #[default]
    AccessToken,
    /// The ID token of OpenID Connect.
    IdToken,
}

impl Bearer {
    /// The names in configuration, options and server answers.
    pub const NAMES: [&'static str; 2] = ["access_token", "id_token"];

    /// Both.
    pub const ALL: [Bearer; 2] = [Bearer::AccessToken, Bearer::IdToken];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Bearer> {
        match name {
            "access_token" => Some(Bearer::AccessToken),
            "id_token" => Some(Bearer::IdToken),
            _ => None,
        }
    }
}

/// One token of a [`Grant`].
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// How long it lives from [`Grant::obtained`]; `None` if nobody said, or if it is over at once. Then it is handed
    /// out once and not kept.
    pub lifetime: Option<Duration>,
}

/// What a token endpoint gave.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The moment before the request.
    pub obtained: Moment,
    /// The access token.
    pub access: Issued,
    /// The ID token, if there was one.
    pub id: Option<Issued>,
}

impl Grant {
    /// The token of the wanted kind.
    pub fn issued(&self, bearer: Bearer) -> Option<&Issued> {
        match bearer {
            Bearer::AccessToken => Some(&self.access),
            Bearer::IdToken => self.id.as_ref(),
        }
    }
}

/// No token is taken to live longer than this, whatever the server says.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl Issued {
    /// A token for which the server announced `expires_in`, obtained at `now`, when the server's clock showed `server_time`
    /// (seconds since 1970), if it said so.
    ///
    /// The lifetime is what was announced, and never more than what the JWT allows: `exp − iat`, and `exp` less the time
    /// of the server, who may have made the token earlier and hand it out again. Where the server says neither lifetime
    /// nor time, `exp` is compared with the local clock: if that is wrong, a token is kept too short or not at all, and
    /// never longer than `exp − iat`.
    pub fn new(token: Token, expires_in: Option<Duration>, server_time: Option<i64>, now: Moment) -> Issued {
        let Times { exp, iat } = token.times();
        let local_time = expires_in.is_none().then_some(now.unix_ms as f64 / 1000.0);
        let clock = server_time.map(|seconds| seconds as f64).or(local_time);
        let since = |start: Option<f64>| Some(exp? - start?);
        let claimed = [since(iat), since(clock)].into_iter().flatten().reduce(f64::min);
        // A negative or absurd number becomes zero: a token that is over at once.
        let claimed = claimed.map(|seconds| Duration::try_from_secs_f64(seconds.min(1e10)).unwrap_or_default());
        let lifetime = match (expires_in, claimed) {
            (Some(announced), Some(claimed)) => Some(announced.min(claimed)),
            (announced, claimed) => announced.or(claimed),
        };
        Issued { token, lifetime: lifetime.filter(|life| !life.is_zero()).map(|life| life.min(LONGEST)) }
    }
}

/// How far a token has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From the request to the expiry.
    pub lifetime: Duration,
    /// Since the request.
    pub age: Duration,
}

impl Validity {
    /// Time to the true expiry.
    pub fn left(self) -> Duration {
        self.lifetime.saturating_sub(self.age)
    }

    /// The part of the life that is not used: 10 s for the way from here to the server and for clocks that differ, or a
    /// tenth of the lifetime if that is less.
    pub fn margin(self) -> Duration {
        Duration::from_secs(10).min(self.lifetime / 10)
    }

    /// Whether it may still be handed out.
    pub fn usable(self) -> bool {
        !self.left().is_zero() && self.left() >= self.margin()
    }

    /// Whether it is time to fetch the next one, though this one is still good: less than a fifth of the lifetime left,
    /// at most 6.5 minutes, less a share of at most 15 % that differs from host to host (`jitter`, any number), so that
    /// a thousand nodes that started together do not all come together.
    ///
    /// 6.5 minutes, because the Python client of Kubernetes throws tokens away 5 minutes before they expire: the least
    /// of the window, 331 s, is still above that.
    pub fn refresh_due(self, jitter: u64) -> bool {
        let window = Duration::from_secs(390).min(self.lifetime / 5);
        let less = window * (jitter % 16) as u32 / 100;
        self.left() < window - less
    }

    /// Whether `wanted` is left, or half the lifetime if that is less: somebody who asks for ten minutes of a token
    /// that lives for five can only get a young one.
    pub fn covers(self, wanted: Duration) -> bool {
        self.left() >= wanted.min(self.lifetime / 2)
    }
}

/// A token in hand, with what is known of its time.
#[derive(Clone, Debug)]
pub struct LiveToken {
    /// The token.
    pub token: Token,
    /// Its life, where known.
    pub validity: Option<Validity>,
    /// The moment for which `life` holds.
    pub now: Moment,
    /// Whether this very call has fetched it: nobody can have come to refuse it since.
    pub is_new: bool,
}

impl LiveToken {
    /// The true expiry, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        self.validity.map(|life| self.now.unix_seconds_after(life.left()))
    }

    /// The expiry that a client is told, which is earlier by the margin, in seconds since 1970; never in the past,
    /// because a client that is told so runs the helper again at once.
    pub fn advertised_expiry(&self) -> Option<i64> {
        self.told_expiry_early(Duration::ZERO)
    }

    /// [`LiveToken::advertised_expiry`], earlier by `early`, or half the lifetime if that is less, where that is earlier still.
    pub fn told_expiry_early(&self, early: Duration) -> Option<i64> {
        self.validity.map(|life| {
            let early = early.min(life.lifetime / 2).max(life.margin());
            let told = self.now.unix_seconds_after(life.left().saturating_sub(early));
            told.max(self.now.unix_seconds_after(Duration::from_millis(999)))
        })
    }
}

/// A wall time in seconds since 1970 as RFC 3339 has it, in UTC: `2026-11-21T20:00:00Z`.
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
    fn a_token_is_a_b64token() {
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
    fn the_lifetime_is_the_shortest_that_anybody_vouches_for() {
        let opaque = Token::new("opaque").unwrap();
        // What was announced, and what the server's clock showed; the local clock shows 1 000 000.
        let cases = [
            ("announced, opaque", opaque.clone(), Some(3600), None, Some(3600)),
            ("announced, JWT longer", jwt(r#"{"iat":100,"exp":10000}"#), Some(3600), None, Some(3600)),
            ("announced, JWT shorter", jwt(r#"{"iat":100,"exp":700}"#), Some(3600), None, Some(600)),
            ("announced, JWT of some time ago", jwt(r#"{"iat":100,"exp":700}"#), Some(600), Some(400), Some(300)),
            ("JWT alone", jwt(r#"{"iat":1000000,"exp":1000600}"#), None, None, Some(600)),
            ("JWT alone, fractional", jwt(r#"{"iat":1000000.25,"exp":1000600.75}"#), None, None, Some(600)),
            ("JWT alone, of some time ago", jwt(r#"{"iat":999900,"exp":1000500}"#), None, None, Some(500)),
            ("JWT alone, ended", jwt(r#"{"iat":100,"exp":700}"#), None, None, None),
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
            ("exp alone is ignored beside an announcement", jwt(r#"{"exp":1}"#), Some(60), None, Some(60)),
            ("nobody says", opaque.clone(), None, None, None),
            ("JWT without times", jwt("{}"), None, None, None),
            ("payload is no object", jwt("[1]"), Some(60), None, Some(60)),
            ("over at once", opaque, Some(0), None, None),
            ("exp before iat", jwt(r#"{"iat":700,"exp":100}"#), Some(60), None, None),
            ("exp in the past", jwt(r#"{"exp":5}"#), None, None, None),
            ("absurd", jwt(r#"{"iat":0,"exp":1e300}"#), None, None, Some(LONGEST.as_secs())),
        ];
        for (name, token, announced, server_time, wanted) in cases {
            let issued = Issued::new(token, announced.map(seconds), server_time, NOW);
            assert_eq!(issued.lifetime.map(|life| life.as_secs()), wanted, "{name}");
        }
    }

    #[test]
    fn freshness_table() {
        // lifetime, age, usable, refresh due without jitter
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
    fn the_told_expiry_is_early_and_never_past() {
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
        fn life_is_ordered(lifetime in 1u64..10_000_000, age in 0u64..20_000_000, jitter: u64) {
            let life = Validity { lifetime: Duration::from_millis(lifetime), age: Duration::from_millis(age) };
            // What is no longer usable is also due, and no jitter brings the refresh below the margin.
            prop_assert!(life.usable() || life.refresh_due(jitter));
            let young = Validity { age: Duration::ZERO, ..life };
            prop_assert!(young.usable() && !young.refresh_due(jitter));
            prop_assert!(young.covers(Duration::MAX));
        }

        #[test]
        fn no_claims_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = format!("a.{}.b", BASE64_URL_SAFE_NO_PAD.encode(payload));
            if let Ok(token) = Token::new(&text) {
                let _ = Issued::new(token, None, None, NOW);
            }
        }
    }
}
