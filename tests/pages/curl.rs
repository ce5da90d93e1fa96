//! Runs lines of bash and curl that use the output of `token`.

use support::*;

/// Lines that users write send the token to an API server that verifies it.
#[test]
fn bash_curl_lines_send_the_token() {
    let (Some(bash), Some(_)) = (require("bash"), require("curl")) else { return };
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = Home::new();
    home.keycloak(&issuer);
    home.install("runai-credential");

    for line in [
        r#"runai-credential token --format header | curl -H @- "$URL/version""#,
        r#"curl -H @<(runai-credential token --format header) "$URL/version""#,
        r#"curl -H "$(runai-credential token --format header)" "$URL/version""#,
        r#"curl -H "Authorization: Bearer $(runai-credential token)" "$URL/version""#,
        r#"token=$(runai-credential token -n) && curl --oauth2-bearer "$token" "$URL/version""#,
    ] {
        // The test's curl needs the private CA and these options; a user's curl does not.
        home.write(".curlrc", "silent\nshow-error\nfail\ncacert = ca.pem\n", 0o600);
        let mut command = home.tool(&bash, ["-euo", "pipefail", "-c", line]);
        command.env("URL", api.url()).current_dir(home.path());
        let outcome = Running::start(&mut command).finish();
        outcome.code(0).silent().stdout_has("v1.31.0");
    }
    assert_eq!(issuer.token_requests(), 1);
}
