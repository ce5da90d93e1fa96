//! Tests of which profile a call uses, and of the profile `env` that environment variables define.

use serde_json::json;

use super::{meant, refused, with, without_secret};
use support::*;

/// Variables that define the profile `env` without a server. The error about its missing secret file identifies it.
const ENV: [(&str, &str); 3] = [
    ("RUNAI_URL", "https://a.example"),
    ("RUNAI_CLIENT_ID", "c"),
    ("RUNAI_CLIENT_SECRET_FILE", "/nonexistent/env-secret"),
];

#[track_caller]
fn meant_env(outcome: &Outcome) {
    outcome.code(3).stdout_is("").stderr_has("the client secret file /nonexistent/env-secret: No such file");
}

/// Writes two profiles, `one` and `two`, which the errors about the variables `ONE` and `TWO` identify.
fn two_profiles(home: &Home, default: Option<&str>) {
    let mut config = json!({"profiles": {"one": without_secret("ONE"), "two": without_secret("TWO")}});
    if let Some(default) = default {
        config["default_profile"] = default.into();
    }
    home.config(&config);
}

/// The program prefers `--profile`, then `RUNAI_PROFILE`, then the profile of the environment, then `default_profile`.
#[test]
fn option_beats_variables_and_default_profile() {
    let home = Home::new();
    two_profiles(&home, Some("two"));
    let name_one = [("RUNAI_PROFILE", "one")];
    let everything = [ENV[0], ENV[1], ENV[2], ("RUNAI_PROFILE", "one")];
    meant(&home.run(["token"]), "TWO");
    meant_env(&home.run_with(["token"], with(&ENV)));
    meant(&home.run_with(["token"], with(&name_one)), "ONE");
    meant(&home.run_with(["token"], with(&everything)), "ONE");
    meant(&home.run_with(["token", "--profile", "two"], with(&everything)), "TWO");
    meant_env(&home.run_with(["token", "--profile", "env"], with(&everything)));
    meant_env(&home.run_with(["token"], with(&[ENV[0], ENV[1], ENV[2], ("RUNAI_PROFILE", "env")])));
    // An empty variable counts as unset.
    meant(&home.run_with(["token"], with(&[("RUNAI_PROFILE", ""), ("RUNAI_CLIENT_ID", "")])), "TWO");
}

/// The program uses the only profile without a name. With several and no default, it asks for a name and lists them.
#[test]
fn only_profile_needs_no_name() {
    let home = Home::new();
    home.config(&json!({"profiles": {"p": without_secret("ONLY")}}));
    meant(&home.run(["token"]), "ONLY");

    two_profiles(&home, None);
    let file = home.config_file().display().to_string();
    refused(
        &home.run(["token"]),
        &format!("{file}: it has several profiles and none of them is the default"),
        "name one with --profile or default_profile; the profiles are one, two",
    );
    meant(&home.run(["token", "--profile", "two"]), "TWO");
    let unknown = format!("{file}: there is no profile \"three\"");
    refused(&home.run(["token", "--profile", "three"]), &unknown, "the profiles are one, two");
    refused(&home.run_with(["token"], with(&[("RUNAI_PROFILE", "three")])), &unknown, "the profiles are one, two");
}

/// The program does not invent a profile `env` when `RUNAI_CLIENT_ID` is not set.
#[test]
fn env_profile_without_client_id_fails() {
    let home = Home::new();
    let hint = "set RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET, or name another profile";
    let what = "there is no profile \"env\": RUNAI_CLIENT_ID is not set";
    // With a configuration file and without.
    refused(&home.run(["token", "--profile", "env"]), what, hint);
    two_profiles(&home, Some("one"));
    refused(&home.run(["token", "--profile", "env"]), what, hint);
    // The other variables alone do not define a profile.
    meant(&home.run_with(["token"], with(&[ENV[0], ENV[2]])), "ONE");
}

/// The profile of the environment works without a configuration file, and the program does not read an invalid one.
#[test]
fn env_profile_reads_no_configuration_file() {
    let home = Home::new();
    meant_env(&home.run_with(["token"], with(&ENV)));
    home.write(home.config_file(), "not JSON", 0o666);
    meant_env(&home.run_with(["token"], with(&ENV)));
}

/// `--profile` makes the program ignore the variables of the environment's profile, such as variables left over in a CI
/// job.
#[test]
fn named_profile_ignores_env_profile_variables() {
    let home = Home::new();
    two_profiles(&home, None);
    let broken = [("RUNAI_CLIENT_ID", "c"), ("RUNAI_URL", "http://a.example"), ("RUNAI_HOSTS", "*")];
    meant(&home.run_with(["token", "--profile", "one"], with(&broken)), "ONE");
    home.run_with(["token"], with(&broken)).code(3).stderr_has("RUNAI_URL");
}

/// Each error about the environment's profile names the variable that is wrong or missing, without its secret parts.
#[test]
fn variable_error_names_the_variable() {
    let home = Home::new();
    let no_secret = [("RUNAI_URL", "https://a.example"), ("RUNAI_CLIENT_ID", "c")];
    refused(
        &home.run_with(["token"], with(&no_secret)),
        "RUNAI_CLIENT_ID is set, but neither RUNAI_CLIENT_SECRET nor RUNAI_CLIENT_SECRET_FILE",
        "set one of them, or unset RUNAI_CLIENT_ID to use the configuration file",
    );
    refused(
        &home.run_with(["token"], with(&ENV[1..])),
        "RUNAI_URL is missing; it is the URL of the control plane, such as https://app.run.ai",
        "set RUNAI_URL, or unset RUNAI_CLIENT_ID to use the configuration file",
    );
    for (name, value, what) in [
        (
            "RUNAI_URL",
            "http://a.example",
            "(\"http://a.example\") is not an https URL; a secret is never sent in clear",
        ),
        ("RUNAI_URL", "https://user:canary@a.example", "holds user info; leave out everything up to the @"),
        ("RUNAI_REALM", "a/b", "(\"a/b\") is no realm name; give the name alone, without a path"),
        ("RUNAI_CLIENT_ID", "a\u{7f}b", "(\"a\\u{7f}b\") has a control character"),
        ("RUNAI_API", "v3", "(\"v3\") is none of keycloak, v2, v1, app-token, oauth2"),
        ("RUNAI_TOKEN_URL", "a.example", "(\"a.example\") has no scheme; it should start with https://"),
        (
            "RUNAI_TOKEN_URL",
            "https://a.example/t?x",
            "(\"https://a.example/t?x\") has a query or a fragment; give the URL without it",
        ),
        ("RUNAI_SCOPE", "é", "(\"é\") has a character that no scope has"),
        ("RUNAI_CA_FILE", "ca.pem", "(\"ca.pem\") is a relative path; write it in full, from /"),
        (
            "RUNAI_HOSTS",
            "https://a.example, http://b.example",
            "(\"http://b.example\") is plain http, which only a loopback address may be",
        ),
        ("RUNAI_CLIENT_SECRET_FILE", "canary", "is a relative path; write it in full, from /"),
    ] {
        let mut variables = ENV.to_vec();
        variables.push((name, value));
        let outcome = home.run_with(["token"], with(&variables));
        let hint = format!("correct {name}, or unset RUNAI_CLIENT_ID to use the configuration file");
        refused(&outcome, &format!("{name} {what}"), &hint);
        assert!(!outcome.stderr.contains("canary"), "{outcome}");
    }
    let mut by_base = ENV[1..].to_vec();
    by_base.push(("RUNAI_BASE_URL", "a.example"));
    refused(
        &home.run_with(["token"], with(&by_base)),
        "RUNAI_BASE_URL (\"a.example\") has no scheme; it should start with https://",
        "correct RUNAI_BASE_URL, or unset RUNAI_CLIENT_ID to use the configuration file",
    );
    // Values that are right alone and contradict each other.
    let mut variables = ENV.to_vec();
    variables.push(("RUNAI_API", "keycloak"));
    refused(
        &home.run_with(["token"], with(&variables)),
        "RUNAI_REALM is missing; api keycloak needs it",
        "set RUNAI_REALM, or unset RUNAI_CLIENT_ID to use the configuration file",
    );
    let mut variables = ENV.to_vec();
    variables.extend([("RUNAI_REALM", "acme"), ("RUNAI_TOKEN_URL", "https://a.example/t")]);
    refused(
        &home.run_with(["token"], with(&variables)),
        "RUNAI_TOKEN_URL is for api oauth2, and this profile is for keycloak",
        "correct RUNAI_TOKEN_URL, or unset RUNAI_CLIENT_ID to use the configuration file",
    );
}

/// Each api, each variable for the URL and each variable for the secret reaches the issuer.
#[test]
fn env_profile_gets_a_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let secret = home.write("secret", format!("{CLIENT_SECRET}\n"), 0o600).display().to_string();
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644).display().to_string();
    let token_url = format!("{}/api/v2/token", issuer.url());
    let keycloak = format!("/auth/realms/{REALM}/protocol/openid-connect/token");
    let by_file = ("RUNAI_CLIENT_SECRET_FILE", secret.as_str());
    let by_value = ("RUNAI_CLIENT_SECRET", CLIENT_SECRET);
    let url = ("RUNAI_URL", issuer.url());
    for (variables, path) in [
        (vec![url, by_value], "/api/v2/token"),
        (vec![("RUNAI_BASE_URL", issuer.url()), by_file], "/api/v2/token"),
        (vec![url, ("RUNAI_BASE_URL", "https://b.example"), by_file, ("RUNAI_REALM", REALM)], keycloak.as_str()),
        (vec![url, by_value, ("RUNAI_API", "v1")], "/api/v1/token"),
        // The value goes before the file. The program accepts a list of hosts.
        (
            vec![
                ("RUNAI_TOKEN_URL", token_url.as_str()),
                by_value,
                ("RUNAI_CLIENT_SECRET_FILE", "/nonexistent"),
                ("RUNAI_SCOPE", "openid acme"),
                ("RUNAI_HOSTS", " https://a.example,http://127.0.0.1:5000 ,, "),
            ],
            "/api/v2/token",
        ),
    ] {
        let mut variables = variables;
        variables.extend([("RUNAI_CLIENT_ID", CLIENT_ID), ("RUNAI_CA_FILE", &ca)]);
        let outcome = home.run_with(["token", "--refresh"], with(&variables));
        outcome.code(0).stdout_is(format!("{}\n", issuer.last_token())).silent();
        let request = issuer.requests().pop().expect("a request");
        assert_eq!(request.path, path, "{variables:?}");
        let scope = variables.iter().find(|(name, _)| *name == "RUNAI_SCOPE").map(|(_, scope)| (*scope).to_owned());
        if scope.is_some() {
            assert_eq!(request.field("scope"), scope);
        }
    }
    assert_eq!(issuer.token_requests(), 5);
}
