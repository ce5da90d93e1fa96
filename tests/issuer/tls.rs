//! Whom the program trusts, and what it says about whom it does not.

use serde_json::json;

use support::*;

fn with(certificate: ServerCert) -> Issuer {
    Issuer::start_with(Options { certificate, ..Options::default() })
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_named_and_sent_nothing() {
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

/// What `openssl req -x509` makes is an authority, which a server cannot be; one that is not can be trusted by itself.
#[test]
fn a_self_signed_certificate_works_unless_it_is_an_authority() {
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

#[test]
fn a_server_that_has_only_one_of_the_two_versions_of_tls_will_do() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let issuer = Issuer::start_with(Options { tls_versions: vec![version], ..Options::default() });
        let home = Home::new();
        home.keycloak(&issuer);
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    }
}

#[test]
fn an_authority_of_ssl_cert_file_or_dir_counts_for_the_profile_of_the_environment_alone() {
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
    // Nor can a variable take trust away from a profile of the file.
    home.keycloak(&issuer);
    let outcome = home.run_with(["token", "--refresh"], |command| {
        command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    });
    outcome.code(0).silent();
    assert_eq!(issuer.requests().len(), before + 1);
}

#[test]
fn a_ca_file_that_is_none_is_said_before_anything_is_sent() {
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
