//! Tests of `get` and `token --url`: they print a token for a listed URL, or an error and no token.

use serde_json::json;

use support::*;

const URL: &str = "https://api.acme.example/v1/things?q=1";

fn request(url: &str) -> Vec<u8> {
    json!({"uri": url}).to_string().into_bytes()
}

/// `get` returns the `Authorization` header and its expiry for a URL of a listed host.
#[test]
fn get_returns_headers_for_listed_url() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak_with(&issuer, json!({"hosts": ["https://api.acme.example"]}));
    let answer = home.run_fed(["get"], request(URL)).code(0).silent().json();
    let token = issuer.last_token();
    assert_eq!(answer["headers"], json!({"Authorization": [format!("Bearer {token}")]}));
    assert!(answer["expires"].as_str().is_some_and(|expires| expires.ends_with('Z')), "{answer}");
    home.run(["token", "--url", URL]).code(0).silent().stdout_is(format!("{token}\n"));
    assert_eq!(issuer.token_requests(), 1);
}

/// The stated expiry is always in the future. A tool that gets an expired answer runs the helper for each request.
#[test]
fn stated_expiry_is_never_now() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak_with(&issuer, json!({"hosts": ["https://api.acme.example"], "realm": REALM}));
    issuer.set_lifetime(std::time::Duration::from_secs(300));
    home.run(["token"]).code(0);
    let machine = Machine::of(&home);
    for seconds in [0, 100, 200, 235, 239] {
        let later = Machine { stdin: request(URL), ..machine.after(std::time::Duration::from_secs(seconds)) };
        let reply = later.call(&["get"]);
        assert_eq!(reply.status, 0, "{}", reply.stderr);
    }
    // Such a tool needs a token with at least two minutes left, so one refresh happened.
    assert_eq!(issuer.token_requests(), 2);
}

/// A URL of no listed host gets an error without a token. The error does not repeat a password in the URL.
#[test]
fn foreign_url_gets_error_without_token() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak_with(&issuer, json!({"hosts": ["https://api.acme.example"]}));
    let hint = "hint: add its origin, such as https://api.acme.example, to hosts of the profile that should serve it\n";
    let what = "runai-credential: error: there is no token for https://other.example/x: no profile has its origin in its hosts\n";
    home.run_fed(["get"], request("https://other.example/x")).code(6).stdout_is("").stderr_is(format!("{what}{hint}"));
    home.run(["token", "--url", "https://other.example/x"]).code(6).stdout_is("").stderr_is(format!("{what}{hint}"));
    let named = home.run_fed(["get", "--profile", PROFILE], request("https://other.example/x"));
    named.code(6).stdout_is("");
    // The error does not repeat the password in a URL.
    let shown = home.run_fed(["get"], request("https://me:canary-password@api.acme.example/"));
    shown.code(6).stdout_is("").stderr_has("holds user info");
    assert!(!shown.stderr.contains("canary"), "{shown}");
    assert_eq!(issuer.token_requests(), 0);
}

/// A malformed request is an error, and so is a host that two profiles list without `--profile`.
#[test]
fn ambiguous_host_or_malformed_request_fails() {
    let issuer = Issuer::start();
    let home = Home::new();
    let mut config = home.keycloak_with(&issuer, json!({"hosts": ["https://api.acme.example"]}));
    for input in ["", "{", "[]", "{\"uri\":1}"] {
        home.run_fed(["get"], input.as_bytes().to_vec())
            .code(2)
            .stdout_is("")
            .stderr_has("hint: let the tool call this");
    }
    config["profiles"]["second"] = config["profiles"][PROFILE].clone();
    home.config(&config);
    home.run_fed(["get"], request(URL)).code(3).stdout_is("").stderr_has("both claim https://api.acme.example");
    home.run_fed(["get", "--profile", "second"], request(URL)).code(0);
}
