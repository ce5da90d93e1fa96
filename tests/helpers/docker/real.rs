//! Runs the docker CLI, skopeo and helm with the file of `integrations/docker/`, against a real registry with TLS.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use support::*;

const README: &str = include_str!("../../../integrations/docker/README.md");
const CONFIG: &str = include_str!("../../../integrations/docker/config.json");

/// The part of the file that users replace.
const REGISTRY: &str = "registry.acme.example:5000";

/// Returns a home as the page describes it: the program with its second name, and docker's configuration for this
/// registry.
///
/// Its profile lists the registry.
fn home_for(issuer: &Issuer, authority: &str) -> Home {
    let home = Home::new();
    home.install("docker-credential-runai");
    assert_eq!(CONFIG.matches(REGISTRY).count(), 1);
    home.write(".docker/config.json", CONFIG.replace(REGISTRY, authority), 0o600);
    home.keycloak_with(issuer, json!({"hosts": [format!("https://{authority}")]}));
    home
}

/// Replaces the helper with a wrapper that logs its requests.
fn watch(home: &Home) {
    let helper = home.path().join("bin/docker-credential-runai");
    fs::remove_file(&helper).expect("the link");
    let (log, program) = (home.path().join("asked"), env!("CARGO_BIN_EXE_runai-credential"));
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\necho \"$* $input\" >>'{}'\nprintf %s \"$input\" | '{program}' docker \"$@\"\n",
        log.display()
    );
    home.write("bin/docker-credential-runai", script, 0o755);
}

/// Returns the requests that the wrapper logged, without repetition.
fn asked(home: &Home) -> Vec<String> {
    let log = fs::read_to_string(home.path().join("asked")).unwrap_or_default();
    let mut asked: Vec<String> = log.lines().map(str::to_owned).collect();
    asked.dedup();
    let _ = fs::remove_file(home.path().join("asked"));
    asked
}

fn command(home: &Home, tool: &Path, line: &str) -> Command {
    let mut command = home.tool(tool, line.split(' '));
    // The authority of the test's servers. The program takes it from the profile.
    command.env("SSL_CERT_FILE", home.path().join("ca.pem"));
    // An address without a daemon, for machines that have one.
    command.env("DOCKER_HOST", format!("unix://{}", home.path().join("no-daemon").display()));
    command
}

#[track_caller]
fn run(home: &Home, tool: &Path, line: &str) -> Outcome {
    Running::start(&mut command(home, tool, line)).finish()
}

/// Pushes an image to the registry.
#[track_caller]
fn push(home: &Home, skopeo: &Path, authority: &str) {
    let image = write_image(home, "image");
    // Older docker CLIs can inspect this format as well.
    run(home, skopeo, &format!("--insecure-policy copy --format v2s2 {image} docker://{authority}/team/app:1")).code(0);
}

/// skopeo and docker use the token as the registry's password, with one token request for all calls.
#[test]
fn clients_use_token_as_registry_password() {
    let (Some(docker), Some(skopeo)) = (require("docker"), require("skopeo")) else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    push(&home, &skopeo, &site.authority());
    let image = format!("{}/team/app:1", site.authority());
    let outcome = run(&home, &skopeo, &format!("inspect docker://{image}"));
    assert_eq!(outcome.code(0).silent().json()["Architecture"], "amd64");
    let copied = home.path().join("copied").display().to_string();
    run(&home, &skopeo, &format!("--insecure-policy copy docker://{image} dir:{copied}")).code(0).silent();
    let outcome = run(&home, &docker, &format!("manifest inspect {image}"));
    assert_eq!(outcome.code(0).silent().json()["schemaVersion"], 2);
    assert_eq!(issuer.token_requests(), 1);
}

/// Eight skopeo processes at once cause one token request.
#[test]
fn parallel_clients_cause_one_token_request() {
    let Some(skopeo) = require("skopeo") else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    push(&home, &skopeo, &site.authority());
    home.run_fed(["docker", "erase"], site.authority()).code(0).silent();
    let inspect = format!("inspect docker://{}/team/app:1", site.authority());
    for outcome in Running::at_once((0..8).map(|_| command(&home, &skopeo, &inspect)).collect()) {
        outcome.code(0).silent();
    }
    assert_eq!(issuer.token_requests(), 2);
}

/// skopeo and docker exchange the token for the registry's own token at a token server.
#[test]
fn clients_use_registry_with_token_server() {
    let (Some(docker), Some(skopeo)) = (require("docker"), require("skopeo")) else { return };
    let issuer = Issuer::start();
    let tokens = token_server(&issuer);
    let Some(registry) = Registry::with_token_server(&format!("{}/token", tokens.url())) else { return };
    let home = home_for(&issuer, &registry.authority());
    push(&home, &skopeo, &registry.authority());
    let image = format!("{}/team/app:1", registry.authority());
    run(&home, &skopeo, &format!("inspect docker://{image}")).code(0).silent();
    run(&home, &docker, &format!("manifest inspect {image}")).code(0).silent();
    assert_eq!(issuer.token_requests(), 1);
    assert!(!tokens.authorizations().is_empty());
}

/// `docker login` stores the served token, `docker logout` erases it, and docker shows that other passwords are
/// refused.
#[test]
fn docker_login_and_logout_call_helper() {
    let Some(docker) = require("docker") else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    watch(&home);
    let (daemon, host) = (Daemon::start(&issuer), site.authority());
    let run = |line: &str| {
        let mut command = command(&home, &docker, line);
        Running::start(command.env("DOCKER_HOST", daemon.host())).finish()
    };
    run(&format!("login {host}")).code(0).stdout_has("Login Succeeded");
    let said = asked(&home);
    assert_eq!(said[0], format!("get {host}"), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("store {") && line.contains(&issuer.last_token())), "{said:?}");

    // The program does not keep another password, and docker shows its error.
    let outcome = run(&format!("login -u oauth2 -p {} {host}", issuer.mint(json!({}))));
    outcome.code(1).stderr_has("this helper keeps no passwords");

    asked(&home);
    run(&format!("logout {host}")).code(0).stdout_has("Removing login credentials");
    assert_eq!(asked(&home), [format!("erase {host}")]);
    assert_eq!(home.run(["docker", "list"]).stdout, "{}\n");
    let requests = issuer.token_requests();
    run(&format!("login {host}")).code(0);
    assert_eq!(issuer.token_requests(), requests + 1);

    // As `credsStore`, which the page advises against, the program gets a request for each spelling.
    home.write(".docker/config.json", r#"{"credsStore": "runai"}"#, 0o600);
    asked(&home);
    run(&format!("logout {host}")).code(0);
    let said = asked(&home);
    assert!(
        said.contains(&format!("erase http://{host}")) && said.contains(&format!("erase https://{host}")),
        "{said:?}"
    );
}

/// For the same server under a name that the profile does not list, the helper gets a request and returns no token.
#[test]
fn another_host_never_sees_the_token() {
    let (Some(docker), Some(skopeo)) = (require("docker"), require("skopeo")) else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    watch(&home);
    push(&home, &skopeo, &site.authority());
    let other = format!("localhost:{}", site.port());
    home.write(".docker/config.json", CONFIG.replace(REGISTRY, &other), 0o600);
    asked(&home);
    let before = site.requests().len();
    let outcome = run(&home, &skopeo, &format!("inspect docker://{other}/team/app:1"));
    outcome.code(1).stderr_has("unauthorized");
    assert!(!outcome.stderr.contains("runai-credential"), "{outcome}");
    let outcome = run(&home, &docker, &format!("manifest inspect {other}/team/app:1"));
    outcome.code(1);
    assert!(!outcome.stderr.contains("runai-credential"), "{outcome}");
    assert_eq!(asked(&home), [format!("get {other}")]);
    let requests = site.requests().split_off(before);
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.header("host"), Some(other.as_str()));
        // "Og==" is a colon: skopeo sends it for no user and no password.
        assert!(matches!(request.header("authorization"), None | Some("Basic Og==")), "{request:?}");
    }
    // docker uses a URL in requests for Docker Hub.
    home.write(".docker/config.json", r#"{"credsStore": "runai"}"#, 0o600);
    run(&home, &docker, "logout");
    let asked = asked(&home);
    let hub = asked.iter().filter_map(|line| line.strip_prefix("erase ")).find(|url| url.ends_with("/v1/"));
    home.run_fed(["docker", "get"], hub.expect("a URL").to_owned()).code(1).silent();
}

/// docker shows the error from standard error and drops the answer. skopeo shows both.
#[test]
fn clients_show_the_programs_error() {
    let (Some(docker), Some(skopeo)) = (require("docker"), require("skopeo")) else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    let image = format!("{}/team/app:1", site.authority());
    let sees = |what: &str| {
        let outcome = run(&home, &docker, &format!("manifest inspect {image}"));
        outcome.code(1).stderr_has(&format!("runai-credential: error: {what}")).stderr_has("\nhint: ");
        let outcome = run(&home, &skopeo, &format!("inspect docker://{image}"));
        outcome.code(1).stderr_has(&format!("out: `{what}")).stderr_has("runai-credential: error: ");
    };
    home.write("secret", "wrong", 0o600);
    sees("the server refused client ci-pipeline: unauthorized_client");
    home.keycloak_with(&issuer, json!({"url": refused_url(), "hosts": [site.url()]}));
    sees("cannot reach https://");
    home.write(home.config_file(), "{", 0o600);
    sees(&format!("{}:1:2: not JSON", home.config_file().display()));
    assert_eq!(site.authorizations(), [""; 0]);
}

/// skopeo calls only the helper that the file names for the host, and ignores `credsStore`.
#[test]
fn skopeo_ignores_the_credentials_store() {
    let Some(skopeo) = require("skopeo") else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    watch(&home);
    home.write(".docker/config.json", r#"{"credsStore": "runai"}"#, 0o600);
    let outcome = run(&home, &skopeo, &format!("inspect docker://{}/team/app:1", site.authority()));
    outcome.code(1).stderr_has("unauthorized");
    assert_eq!(asked(&home), [""; 0]);
}

/// helm pushes charts to the same registry and reads them with the token.
#[test]
fn helm_pushes_charts_with_the_token() {
    let Some(helm) = require("helm") else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    let home = home_for(&issuer, &site.authority());
    home.write("chart/Chart.yaml", "apiVersion: v2\nname: trainer\nversion: 1.0.0\n", 0o644);
    run(&home, &helm, "package ../chart").code(0);
    run(&home, &helm, &format!("push trainer-1.0.0.tgz oci://{}/charts", site.authority())).code(0);
    let outcome = run(&home, &helm, &format!("show chart oci://{}/charts/trainer", site.authority()));
    outcome.code(0).stdout_has("name: trainer");
    assert_eq!(issuer.token_requests(), 1);
}

/// The page shows the same text as the tested file.
#[test]
fn page_shows_the_tested_configuration() {
    assert!(README.contains(&format!("```json\n{CONFIG}```\n")) && README.contains("](config.json)"));
    let config: Value = serde_json::from_str(CONFIG).expect("JSON");
    assert_eq!(config["credHelpers"][REGISTRY], "runai");
}

/// The page's command makes the second name in the folder of `cargo install`, and it works as a helper.
#[test]
fn link_of_page_makes_a_helper() {
    let home = Home::new();
    fs::create_dir_all(home.path().join(".cargo/bin")).expect("a folder");
    fs::copy(env!("CARGO_BIN_EXE_runai-credential"), home.path().join(".cargo/bin/runai-credential")).expect("a copy");
    let block = README.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of shell");
    let mut command = home.tool("sh", ["-euc", block]);
    command.env("PATH", format!("{}:/usr/bin:/bin", home.path().join(".cargo/bin").display()));
    Running::start(&mut command).finish().code(0).silent().stdout_has("docker-credential-runai (runai-credential) ");
}
