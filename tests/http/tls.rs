//! Tests of which servers the program trusts, and of its errors for the others.

use serde_json::json;

use support::*;

fn with(certificate: ServerCert) -> Issuer {
    Issuer::start_with(Options { certificate, ..Options::default() })
}

/// The error names the fault of an untrusted certificate, and the server gets no request.
#[test]
fn untrusted_certificate_gets_no_request() {
    let (pki, other) = (Pki::shared(), Pki::new());
    for (issuer, what, hint) in [
        (
            with(other.server(&["localhost"])),
            "is signed by an authority that is not trusted here",
            "hint: set ca_file to the PEM file of the authority that signed it (trusted are ",
        ),
        (
            with(pki.expired(&["localhost"])),
            "has expired",
            "hint: renew the server's certificate, or correct the clock",
        ),
        (with(pki.not_yet_valid(&["localhost"])), "is not valid yet", "hint: correct the clock of this machine"),
        (
            with(pki.server(&["app.run.ai", "127.0.0.1"])),
            "is for another name",
            "hint: use a name in url that the certificate has",
        ),
    ] {
        let home = Home::new();
        home.keycloak(&issuer);
        let outcome = home.run(["token"]);
        outcome.code(5).stdout_is("").stderr_has(hint);
        outcome.stderr_has(&format!("error: the certificate of https://localhost:{} {what}\n", issuer.port()));
        assert_eq!((issuer.requests().len(), issuer.connections()), (0, 1), "{what}");
    }
}

/// The program accepts a self-signed certificate in `ca_file`, unless it is an authority.
///
/// `openssl req -x509` makes an authority, which a server certificate cannot be.
#[test]
fn self_signed_authority_is_refused_as_server() {
    for (is_authority, code, stderr) in [
        (false, 0, ""),
        (
            true,
            5,
            "hint: give the server a certificate that an authority signed, or a self-signed one made with \
             basicConstraints=CA:FALSE, and name it in ca_file\n",
        ),
    ] {
        let certificate = Pki::self_signed(&["localhost"], is_authority);
        let ca_pem = certificate.chain_pem.clone();
        let issuer = Issuer::start_with(Options { certificate, ca_pem, ..Options::default() });
        let home = Home::new();
        home.keycloak(&issuer);
        home.run(["token"]).code(code).stderr_has(stderr);
    }
}

/// The program connects to a server that supports only TLS 1.2, and to one that supports only TLS 1.3.
#[test]
fn each_tls_version_alone_is_enough() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let issuer = Issuer::start_with(Options { tls_versions: vec![version], ..Options::default() });
        let home = Home::new();
        home.keycloak(&issuer);
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    }
}

/// The program uses `SSL_CERT_FILE` and `SSL_CERT_DIR` only for the profile of the environment.
#[test]
fn ssl_cert_variables_affect_only_env_profile() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let ca = home.write("roots/ca.pem", issuer.ca_pem(), 0o644);
    home.write("roots/README", "not a certificate", 0o644);
    let dir = home.path().join("roots");
    let variables = [("SSL_CERT_FILE", &ca), ("SSL_CERT_DIR", &dir)];
    let environment = [
        ("RUNAI_URL", issuer.url()),
        ("RUNAI_REALM", REALM),
        ("RUNAI_CLIENT_ID", CLIENT_ID),
        ("RUNAI_CLIENT_SECRET", CLIENT_SECRET),
    ];
    for (name, value) in variables {
        let outcome = home.run_with(["token", "--refresh"], |command| {
            command.envs(environment).env(name, value);
        });
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
    }
    let before = issuer.requests().len();
    home.run_with(["token", "--refresh"], |command| {
        command.envs(environment);
    })
    .code(5)
    .stderr_has("is signed by an authority that is not trusted here");

    home.keycloak_with(&issuer, json!({"ca_file": null}));
    for (name, value) in variables {
        let outcome = home.run_with(["token", "--refresh"], |command| {
            command.env(name, value);
        });
        outcome.code(5).stdout_is("").stderr_has("is signed by an authority that is not trusted here");
    }
    // A variable cannot remove trust from a profile of the file either.
    home.keycloak(&issuer);
    let outcome = home.run_with(["token", "--refresh"], |command| {
        command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    });
    outcome.code(0).silent();
    assert_eq!(issuer.requests().len(), before + 1);
}

/// A `ca_file` without a valid certificate is an error before the program connects.
#[test]
fn broken_ca_file_fails_before_connecting() {
    let issuer = Issuer::start();
    for (content, what) in [
        ("", "it holds no certificate"),
        ("hello\n", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", "it is not PEM"),
    ] {
        let home = Home::new();
        home.keycloak(&issuer);
        home.write("ca.pem", content, 0o644);
        home.run(["token"]).code(3).stdout_is("").stderr_has(what).stderr_has("hint: it must be a readable PEM file");
    }
    assert_eq!(issuer.connections(), 0);
}
