//! Tests with `oidc-provider`, a certified third-party issuer.

use support::*;

/// The program reads the issuer's answer. `-v` shows the steps and no secret.
#[test]
fn certified_issuers_answer_has_a_token() {
    let Some(issuer) = NodeServer::oidc_provider() else { return };
    let home = Home::new();
    home.keycloak_at(&issuer.url(), Pki::shared().ca_pem());

    let outcome = home.run(["token", "--format", "json", "-v"]);
    let answer = outcome.code(0).json();
    let left = answer["expires_in"].as_u64().expect("a number of seconds");
    assert!((3500..=3600).contains(&left), "{outcome}");
    assert_eq!(answer["token_type"], "Bearer");
    let token = answer["access_token"].as_str().expect("a token");
    assert_eq!(token.split('.').count(), 3, "a JWT: {token}");

    outcome.stderr_has("runai-credential: note: profile: prod").stderr_has("/auth/realms/acme/");
    let secrets = [CLIENT_SECRET].into_iter().chain(token.split('.'));
    for secret in secrets {
        assert!(!outcome.stderr.contains(secret), "{secret} is on stderr:\n{outcome}");
    }

    home.run(["token"]).code(0).stdout_is(format!("{token}\n")).silent();
    assert_eq!(issuer.get("/_test/requests")["token"], 1);
}

/// The program reports the issuer's refusal with a hint and without the secret.
#[test]
fn certified_issuers_refusal_is_reported() {
    let Some(issuer) = NodeServer::oidc_provider() else { return };
    let home = Home::new();
    home.keycloak_at(&issuer.url(), Pki::shared().ca_pem());
    home.write("secret", "canary-but-wrong\n", 0o600);
    let outcome = home.run(["token"]);
    outcome.code(4).stdout_is("").stderr_has("invalid_client").stderr_has("hint: ");
    assert!(!outcome.stderr.contains("canary"), "{outcome}");
}
