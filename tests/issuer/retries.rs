//! Tests of retries: which requests the program repeats, how often, and which failures it stores.

use std::time::Duration;

use serde_json::json;

use support::*;

/// The program repeats a request that failed temporarily, up to three times, and prints one token.
#[test]
fn temporary_failure_is_retried_until_success() {
    for passing in [
        Answer::text(503, "text/html", "<h1>starting</h1>"),
        Answer::runai_error(500, "Internal server error"),
        Answer::text(502, "text/html", "<h1>Bad Gateway</h1>"),
        Answer::text(504, "text/html", ""),
        Answer::text(408, "text/plain", ""),
        Answer::text(429, "text/plain", ""),
        Answer::close(),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.fail_first(2, passing);
        issuer.expect_token_requests(3);
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    }
}

/// The program ends with an error after three requests if the failure lasts.
#[test]
fn lasting_failure_ends_after_three_requests() {
    for lasting in [Answer::runai_error(500, "Internal server error"), Answer::close()] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.always(lasting);
        issuer.expect_token_requests(3);
        home.run(["token"]).code(5).stdout_is("");
    }
}

/// The program does not repeat a refused request, not even in the next process, until the secret changes.
#[test]
fn refusal_is_final_until_secret_changes() {
    for refusal in [
        Answer::oauth_error(400, "invalid_client", "Invalid client credentials"),
        Answer::oauth_error(401, "unauthorized_client", "Invalid client or Invalid client credentials"),
        Answer::oauth_error(403, "access_denied", "Realm not enabled"),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.always(refusal);
        let first = home.run(["token"]);
        first.code(4).stdout_is("");
        assert_eq!(issuer.token_requests(), 1);
        home.run(["token"]).code(4).stdout_is("").stderr_is(&first.stderr);
        assert_eq!(issuer.token_requests(), 1);

        issuer.behave();
        issuer.set_secret("another");
        home.write("secret", "another", 0o600);
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
        assert_eq!(issuer.token_requests(), 2);
    }
}

/// If the secret changes between its reading and the refusal, the program sends the new one at once.
#[test]
fn secret_changed_during_refusal_is_retried() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    let secret = home.path().join("secret");
    issuer.script(move |_, control| {
        std::fs::write(&secret, "rotated").expect("write the secret");
        control.set_secret("rotated");
        Answer::grant()
    });
    home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    let secrets: Vec<_> = issuer.requests().iter().map(|request| request.field("client_secret")).collect();
    assert_eq!(secrets, [Some(CLIENT_SECRET.to_owned()), Some("rotated".to_owned())]);
}

/// The program waits for a `Retry-After` that fits into its timeout.
#[test]
fn short_retry_after_is_waited_for() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.fail_first(1, Answer::text(429, "text/plain", "").header("Retry-After", "1"));
    let outcome = home.run(["token"]);
    outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
    let requests = issuer.requests();
    assert_eq!(requests.len(), 2);
    let waited = requests[1].arrived - requests[0].arrived;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

/// The program fails at once if `Retry-After` does not fit into its timeout. Other processes send no request until
/// then.
#[test]
fn long_retry_after_fails_at_once() {
    for (status, value) in [(429, "120"), (503, "120"), (503, "Sat, 21 Nov 2026 20:02:00 GMT")] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        let busy = Answer::text(status, "text/plain", "").header("Retry-After", value);
        issuer.always(busy.header("Date", "Sat, 21 Nov 2026 20:00:00 GMT"));
        issuer.expect_token_requests(1);
        let first = home.run(["token"]);
        first.code(5).stdout_is("").within(Duration::from_secs(5)).stderr_has("cannot answer");
        issuer.behave();
        home.run(["token"]).code(5).stdout_is("").stderr_is(&first.stderr);
        home.run(["token", "--refresh"]).code(5).stdout_is("").stderr_is(&first.stderr);
    }
}

/// The program starts no retry after the profile's timeout.
#[test]
fn retries_end_with_the_timeout() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak_with(&issuer, json!({"timeout": "1s"}));
    issuer.always(Answer::text(503, "text/html", "").after(Duration::from_millis(600)));
    let outcome = home.run(["token"]);
    outcome.code(5).stdout_is("").within(Duration::from_secs(4));
    assert!(issuer.token_requests() <= 2);
}
