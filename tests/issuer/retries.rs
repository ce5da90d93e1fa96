//! What is tried again, how often, and what is remembered.

use std::time::Duration;

use serde_json::json;

use support::*;

#[test]
fn what_can_pass_is_tried_three_times_and_gives_one_answer() {
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

#[test]
fn what_does_not_pass_is_given_up_after_three_requests() {
    for lasting in [Answer::runai_error(500, "Internal server error"), Answer::close()] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.always(lasting);
        issuer.expect_token_requests(3);
        home.run(["token"]).code(5).stdout_is("");
    }
}

#[test]
fn a_refusal_is_not_tried_again_not_even_by_the_next_process_until_the_secret_changes() {
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

#[test]
fn a_secret_that_changes_between_our_reading_and_the_refusal_is_tried_at_once() {
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

#[test]
fn a_retry_after_that_fits_is_waited_for() {
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

#[test]
fn a_retry_after_that_does_not_fit_fails_at_once_and_every_process_keeps_to_it() {
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

#[test]
fn retries_end_with_the_timeout() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak_with(&issuer, json!({"timeout": "1s"}));
    issuer.always(Answer::text(503, "text/html", "").after(Duration::from_millis(600)));
    let outcome = home.run(["token"]);
    outcome.code(5).stdout_is("").within(Duration::from_secs(4));
    assert!(issuer.token_requests() <= 2);
}
