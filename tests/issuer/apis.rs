//! Tests of the token endpoints: the request to each, and the program's use of the answer.

use std::time::Duration;

use serde_json::{Value, json};

use support::*;

/// A secret that needs encoding in a form, in a JSON string and in a Basic header.
const AWKWARD_SECRET: &str = r#"a:b%c+d e&f=g"h\i%41~/?#é"#;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.sort();
    pairs
}

/// Returns the form of the newest request, sorted.
fn last_form(issuer: &Issuer) -> Vec<(String, String)> {
    let mut form = issuer.requests().pop().expect("a request").form();
    form.sort();
    form
}

/// Each api sends the request that its documentation describes, and prints the token of the answer.
#[test]
fn each_api_sends_its_documented_request() {
    let issuer = Issuer::start();
    let oauth2 = format!("{}/oauth2/token", issuer.url());
    let form = |extra: &[(&str, &str)]| {
        let usual = [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        Ok(pairs(&[&usual, extra].concat()))
    };
    for (name, keys, path, sent) in [
        (
            "keycloak",
            json!({}),
            "/auth/realms/acme/protocol/openid-connect/token",
            form(&[("scope", "openid"), ("response_type", "id_token")]),
        ),
        ("v2", json!({"realm": null}), "/api/v2/token", form(&[])),
        (
            "v1",
            json!({"realm": null, "api": "v1"}),
            "/api/v1/token",
            Err(json!({"grantType": "client_credentials", "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET})),
        ),
        (
            "app-token",
            json!({"realm": null, "api": "app-token"}),
            "/api/v1/token",
            Err(json!({"grantType": "app_token", "AppId": CLIENT_ID, "AppSecret": CLIENT_SECRET})),
        ),
        ("oauth2", json!({"realm": null, "url": null, "token_url": oauth2}), "/oauth2/token", form(&[])),
    ] {
        let home = Home::new();
        home.keycloak_with(&issuer, keys);
        let before = issuer.token_requests();

        let outcome = home.run(["token"]);
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
        let request = issuer.requests().pop().expect("a request");
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.query.as_str()),
            ("POST", path, ""),
            "{name}"
        );
        assert_eq!(request.header("accept"), Some("application/json"), "{name}");
        assert_eq!(request.header("authorization"), None, "{name}");
        match sent {
            Ok(form) => {
                assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"), "{name}");
                assert_eq!(last_form(&issuer), form, "{name}");
            }
            Err(body) => {
                assert_eq!(request.header("content-type"), Some("application/json"), "{name}");
                assert_eq!(request.json(), body, "{name}");
            }
        }

        // If the endpoint also returns an ID token, one answer is enough for both tokens.
        let outcome = home.run(["token", "--bearer", "id_token"]);
        if ["keycloak", "v1", "app-token"].contains(&name) {
            outcome.code(0).stdout_is(issuer.last_id_token() + "\n").silent();
            assert_eq!(issuer.token_requests() - before, 1, "{name}");
        } else {
            outcome.code(5).stdout_is("").stderr_has("the server's answer has no id_token");
            outcome.stderr_has("hint: add openid to the scope");
        }
    }
}

/// The server gets a secret with special characters unchanged, in each form of request.
#[test]
fn awkward_secret_arrives_unchanged() {
    let issuer = Issuer::start();
    // The secret must be ASCII. The last part of this test checks that the program does not send another one.
    let secret = AWKWARD_SECRET.trim_end_matches('é');
    issuer.set_secret(secret);
    let oauth2 = format!("{}/oauth2/token", issuer.url());
    for keys in [
        json!({}),
        json!({"client_auth": "basic"}),
        json!({"realm": null, "api": "v2", "client_auth": "post"}),
        json!({"realm": null, "api": "v2", "client_auth": "basic"}),
        json!({"realm": null, "api": "v1"}),
        json!({"realm": null, "api": "app-token"}),
        json!({"realm": null, "url": null, "token_url": oauth2, "client_auth": "basic"}),
    ] {
        let home = Home::new();
        home.keycloak_with(&issuer, keys.clone());
        home.write("secret", secret, 0o600);
        let outcome = home.run(["token"]);
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
        let request = issuer.requests().pop().expect("a request");
        if keys["client_auth"] == "basic" {
            assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")), "{keys}");
            assert_eq!((request.field("client_id"), request.field("client_secret")), (None, None), "{keys}");
        }
    }

    let (home, before) = (Home::new(), issuer.token_requests());
    home.keycloak(&issuer);
    home.write("secret", AWKWARD_SECRET, 0o600);
    home.run(["token"]).code(3).stderr_has("has a character that is not printable ASCII; it was not sent");
    assert_eq!(issuer.token_requests(), before);
}

/// The program reads the client assertion anew for each request.
#[test]
fn client_assertion_is_read_every_time() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let file = home.write("assertion", CLIENT_ASSERTION, 0o600);
    home.keycloak_with(&issuer, json!({"client_secret": null, "client_assertion": {"file": file}}));
    home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    let wanted = |assertion| {
        pairs(&[
            ("grant_type", "client_credentials"),
            ("scope", "openid"),
            ("response_type", "id_token"),
            ("client_id", CLIENT_ID),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ])
    };
    assert_eq!(last_form(&issuer), wanted(CLIENT_ASSERTION));

    // Kubernetes renews a projected token in place.
    let renewed = "canary-assertion.eyJzdWIiOiJyZW5ld2VkIn0.cafe";
    issuer.set_assertion(renewed);
    home.run(["token", "--refresh"])
        .code(4)
        .stderr_has("check client_id (ci-pipeline) first, then the client assertion");
    home.write("assertion", format!("{renewed}\n"), 0o600);
    home.run(["token", "--refresh"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    assert_eq!(last_form(&issuer), wanted(renewed));
}

/// The program sends scope, audience and resource unchanged. It omits an empty scope.
#[test]
fn scope_audience_and_resource_are_sent_unchanged() {
    let issuer = Issuer::start();
    for (keys, extra) in [
        (json!({"scope": ""}), &[("response_type", "id_token")][..]),
        (
            json!({"scope": "openid profile", "audience": "run ai&co", "resource": "https://api.example/?a=1&b"}),
            &[
                ("scope", "openid profile"),
                ("response_type", "id_token"),
                ("audience", "run ai&co"),
                ("resource", "https://api.example/?a=1&b"),
            ],
        ),
        (json!({"realm": null, "scope": "a b", "audience": "x"}), &[("scope", "a b"), ("audience", "x")]),
    ] {
        let home = Home::new();
        home.keycloak_with(&issuer, keys);
        home.run(["token"]).code(0).silent();
        let usual = [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        assert_eq!(last_form(&issuer), pairs(&[&usual, extra].concat()));
    }
}

/// The program uses the shorter of the answer's lifetime and the JWT's own, and does not store a token without a
/// lifetime.
#[test]
fn token_lifetime_is_the_shortest_stated() {
    let issuer = Issuer::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    // The server's clock may be a year ahead: the program uses only the difference of the two claims.
    let ahead = now + 365 * 24 * 3600;
    let plain = json!({"exp": null, "iat": null});
    for (name, claims, answer, lifetime) in [
        ("a number", plain.clone(), json!({"expires_in": 1800}), Some(1800)),
        ("a number in a text", plain.clone(), json!({"expires_in": "1800"}), Some(1800)),
        ("a number with a fraction", plain.clone(), json!({"expires_in": 1800.9}), Some(1800)),
        ("the name of v1", plain.clone(), json!({"expiresIn": 1800}), Some(1800)),
        ("both names", plain.clone(), json!({"expires_in": 1800, "expiresIn": 60}), Some(1800)),
        ("the JWT alone", json!({"iat": ahead, "exp": ahead + 1200}), json!({}), Some(1200)),
        ("the JWT without iat", json!({"iat": null, "exp": now + 1200}), json!({}), Some(1200)),
        ("longer than the JWT", json!({"iat": ahead, "exp": ahead + 1200}), json!({"expires_in": 1800}), Some(1200)),
        ("shorter than the JWT", json!({"iat": ahead, "exp": ahead + 1200}), json!({"expires_in": 900}), Some(900)),
        ("nothing", plain.clone(), json!({}), None),
        ("null", plain.clone(), json!({"expires_in": null}), None),
        ("zero", plain.clone(), json!({"expires_in": 0}), None),
        ("less than zero", plain.clone(), json!({"expires_in": -1}), None),
    ] {
        let home = Home::new();
        home.keycloak(&issuer);
        issuer.script(move |_, control| {
            let mut answer = answer.clone();
            answer["access_token"] = control.mint(claims.clone()).into();
            Answer::json(200, answer)
        });
        let before = issuer.token_requests();
        let said = home.run(["token", "--format", "json"]).code(0).silent().json();
        assert_eq!(said["access_token"], issuer.last_token(), "{name}");
        match (lifetime, said["expires_in"].as_u64()) {
            // The call took part of the lifetime, on a busy machine more than a second.
            (Some(lifetime), Some(left)) => assert!((lifetime - 30..=lifetime).contains(&left), "{name}: {left}"),
            (None, None) => {}
            other => panic!("{name}: {other:?} in {said}"),
        }
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
        // The program uses a token without a lifetime once and does not store it.
        let wanted = if lifetime.is_some() { 1 } else { 2 };
        assert_eq!(issuer.token_requests() - before, wanted, "{name}");
        assert_eq!(home.grep(issuer.last_token()).is_empty(), lifetime.is_none(), "{name}: {:?}", home.files());
    }
}

/// The program ignores unknown keys, deep values and the case of the type in a grant.
#[test]
fn unknown_keys_of_grant_are_ignored() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.script(|_, control| {
        let deep = (0..20).fold(Value::Null, |inner, _| json!([inner]));
        let grant = json!({"access_token": control.mint(json!({})), "token_type": "bEaReR", "refresh_token": "unused",
                           "not-before-policy": 0, "session_state": null, "deep": deep});
        Answer::text(200, "Application/JSON; charset=utf-8", &grant.to_string()).after(Duration::from_millis(10))
    });
    home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
}
