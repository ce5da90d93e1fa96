//! Compares the program's requests with the calls that Run:ai's documentation shows.

use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use support::*;

/// Returns the claims of a JWT without those that differ between two tokens, and with its lifetime.
fn claims(token: &Value) -> Value {
    let payload = token.as_str().and_then(|token| token.split('.').nth(1)).expect("a JWT");
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64");
    let mut claims: Value = serde_json::from_slice(&json).expect("JSON");
    let lifetime = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat);
    claims["lifetime"] = lifetime.into();
    claims.as_object_mut().expect("an object").retain(|name, _| !["exp", "iat", "jti"].contains(&name.as_str()));
    claims
}

/// Asserts that both requests have the same method, path and parameters.
fn assert_alike(requests: &[Request]) {
    let [theirs, ours] = requests else { panic!("not two requests: {requests:?}") };
    let seen = |request: &Request| {
        let mut form = request.form();
        form.sort();
        let kind = request.header("content-type").map(str::to_owned);
        (request.method.clone(), request.path.clone(), request.query.clone(), kind, form)
    };
    assert_eq!(seen(theirs), seen(ours));
}

/// The program sends the same request as the documented curl call, and gets the same tokens.
#[test]
fn request_equals_the_documented_curl_call() {
    let Some(curl) = require("curl") else { return };
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    let theirs = Running::start(
        Command::new(curl)
            .env_clear()
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(home.path().join("ca.pem"))
            .args(["--location", "--request", "POST"])
            .arg(format!("{}/auth/realms/{REALM}/protocol/openid-connect/token", issuer.url()))
            .args(["--header", "Content-Type: application/x-www-form-urlencoded"])
            .args(["--data-urlencode", "grant_type=client_credentials"])
            .args(["--data-urlencode", "scope=openid"])
            .args(["--data-urlencode", "response_type=id_token"])
            .args(["--data-urlencode", &format!("client_id={CLIENT_ID}")])
            .args(["--data-urlencode", &format!("client_secret={CLIENT_SECRET}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .finish();
    let theirs = theirs.code(0).json();

    let ours = home.run(["token", "--format", "json"]);
    let ours = ours.code(0).silent().json();
    let id_token = home.run(["token", "--bearer", "id_token", "-n"]);
    id_token.code(0).silent();

    assert_alike(&issuer.requests());
    assert_eq!(claims(&theirs["access_token"]), claims(&ours["access_token"]));
    assert_eq!(claims(&theirs["id_token"]), claims(&json!(id_token.stdout)));
    assert_eq!(theirs["token_type"], ours["token_type"]);
}

/// The program sends the same request as the documented Python call, which has no scope.
#[test]
fn request_equals_the_documented_python_call() {
    const CALL: &str = r#"
import http.client, json, ssl, sys
host, port, ca, path, client_id, client_secret = sys.argv[1:]
conn = http.client.HTTPSConnection(host, int(port), context=ssl.create_default_context(cafile=ca), timeout=30)
payload = "grant_type=client_credentials&client_id=%s&client_secret=%s" % (client_id, client_secret)
conn.request("POST", path, payload, {"content-type": "application/x-www-form-urlencoded"})
answer = conn.getresponse()
assert answer.status == 200, answer.status
print(answer.read().decode())
"#;
    let Some(python) = require("python3") else { return };
    let (issuer, home) = (Issuer::start(), Home::new());
    // For a realm's endpoint the program adds `response_type`. This test therefore uses the plain OAuth2 request to
    // that endpoint.
    let path = format!("/auth/realms/{REALM}/protocol/openid-connect/token");
    let token_url = format!("{}{path}", issuer.url());
    home.keycloak_with(&issuer, json!({"url": null, "realm": null, "token_url": token_url}));
    let theirs = Running::start(
        Command::new(python)
            .args(["-c", CALL, "localhost", &issuer.port().to_string()])
            .arg(home.path().join("ca.pem"))
            .args([&path, CLIENT_ID, CLIENT_SECRET])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .finish();
    let theirs = theirs.code(0).json();

    let ours = home.run(["token", "--format", "json"]);
    let ours = ours.code(0).silent().json();
    assert_alike(&issuer.requests());
    assert_eq!(claims(&theirs["access_token"]), claims(&ours["access_token"]));
    // Neither request has the scope `openid`.
    assert!(theirs["id_token"].is_null());

    // The same with the realm's own profile: an empty scope is omitted.
    home.keycloak_with(&issuer, json!({"scope": ""}));
    home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    let request = issuer.requests().pop().expect("a request");
    assert_eq!((request.path.as_str(), request.field("scope")), (path.as_str(), None));
    home.run(["token", "--refresh", "--bearer", "id_token"]).code(5).stderr_has("add openid to the scope");
}
