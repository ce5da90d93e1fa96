//! `get` and `token --url`: a token for a URL, or an error and no token.

use serde_json::json;

use support::*;

const URL: &str = "https://api.acme.example/v1/things?q=1";

fn request(url: &str) -> Vec<u8> {
    json!({"uri": url}).to_string().into_bytes()
}

#[test]
fn the_headers_for_a_url() {
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

/// A tool that is told an expiry which is as good as now runs the helper for each request.
#[test]
fn the_told_expiry_is_never_now() {
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
    // Less than two minutes left are as good as none to such a tool.
    assert_eq!(issuer.token_requests(), 2);
}

#[test]
fn a_foreign_url_is_an_error_and_never_a_token() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak_with(&issuer, json!({"hosts": ["https://api.acme.example"]}));
    let hint = "hint: add its origin, such as https://api.acme.example, to hosts of the profile that should serve it\n";
    let what = "runai-credential: error: there is no token for https://other.example/x: no profile has its origin in its hosts\n";
    home.run_fed(["get"], request("https://other.example/x")).code(6).stdout_is("").stderr_is(format!("{what}{hint}"));
    home.run(["token", "--url", "https://other.example/x"]).code(6).stdout_is("").stderr_is(format!("{what}{hint}"));
    let named = home.run_fed(["get", "--profile", PROFILE], request("https://other.example/x"));
    named.code(6).stdout_is("");
    // A password in a URL is not repeated.
    let shown = home.run_fed(["get"], request("https://me:canary-password@api.acme.example/"));
    shown.code(6).stdout_is("").stderr_has("holds user info");
    assert!(!shown.stderr.contains("canary"), "{shown}");
    assert_eq!(issuer.token_requests(), 0);
}

#[test]
fn two_claims_and_broken_requests() {
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
