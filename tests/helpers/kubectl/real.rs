//! Runs kubectl and helm with the files of `integrations/kubectl/`, against an API server that verifies signature,
//! `iss`, `aud` and `exp`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use support::*;

const README: &str = include_str!("../../../integrations/kubectl/README.md");
const V1: &str = include_str!("../../../integrations/kubectl/kubeconfig-v1.yaml");
const V1BETA1: &str = include_str!("../../../integrations/kubectl/kubeconfig-v1beta1.yaml");
const PINNED: &str = include_str!("../../../integrations/kubectl/kubeconfig-pinned.yaml");
const KUBERC: &str = include_str!("../../../integrations/kubectl/kuberc.yaml");

/// The parts of a kubeconfig that users replace.
const SERVER: &str = "https://kube-api.example:6443 # replace";
const CA: &str = "/path/to/cluster-ca.pem # replace";

/// The address of an API server that no test reaches.
const NOWHERE: &str = "https://localhost:1";

/// Returns the oldest and the newest kubectl, and the machine's own one if it has one.
fn kubectls() -> Vec<PathBuf> {
    let ours = ["kubectl-oldest", "kubectl-newest"].into_iter().filter_map(require);
    ours.chain(client("kubectl")).collect()
}

/// Returns `text` with `by` in the place of `what`, which must occur exactly once.
#[track_caller]
fn with(text: &str, what: &str, by: &str) -> String {
    assert_eq!(text.matches(what).count(), 1, "{what:?} once in:\n{text}");
    text.replace(what, by)
}

/// Returns a home with the program on the `PATH` and this kubeconfig, unchanged except for the server and its CA.
fn home_with(kubeconfig: &str, server: &str) -> Home {
    let home = Home::new();
    home.install("runai-credential");
    use_kubeconfig(&home, kubeconfig, server);
    home
}

fn use_kubeconfig(home: &Home, kubeconfig: &str, server: &str) {
    let ca = home.write("cluster-ca.pem", Pki::shared().ca_pem(), 0o644);
    let filled = with(&with(kubeconfig, SERVER, server), CA, &ca.to_string_lossy());
    home.write(".kube/config", filled, 0o600);
}

/// Runs a tool to its end with these arguments, separated by spaces.
#[track_caller]
fn run(home: &Home, tool: &Path, line: &str) -> Outcome {
    Running::start(&mut command(home, tool, line)).finish()
}

fn command(home: &Home, tool: &Path, line: &str) -> Command {
    home.tool(tool, line.split(' '))
}

fn feed(mut command: Command, input: String) -> Outcome {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    running.feed(input.into_bytes());
    running.finish()
}

/// Asserts that a user's first three commands work and print nothing on standard error.
#[track_caller]
fn three_commands_work(home: &Home, kubectl: &Path) {
    run(home, kubectl, "get --raw /version").code(0).silent().stdout_has("v1.31.0");
    run(home, kubectl, "get namespaces").code(0).silent().stdout_has("kube-system");
    run(home, kubectl, "get pods").code(0).silent().stdout_has("trainer-0");
}

/// Returns the tokens that the API server has accepted, from its log, in order and without repetition.
#[track_caller]
fn let_in(api: &NodeServer) -> Vec<String> {
    let log = api.get("/_test/log");
    let entries = log.as_array().expect("a list").iter();
    let good = entries.filter(|entry| entry["status"] == 200);
    let mut tokens: Vec<String> =
        good.map(|entry| entry["token_sha256_prefix"].as_str().expect("a token").to_owned()).collect();
    tokens.dedup();
    tokens
}

fn logged(token: &str) -> String {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asserts that kubectl fails with the two lines of the program and one of its own.
///
/// Some kubectls first request the server's version, such as the dispatcher of some distributions. They call the
/// program again and repeat the two lines.
#[track_caller]
fn fails_with(home: &Home, kubectl: &Path, code: i32, what: &str, hint: &str) {
    let ours = format!("runai-credential: error: {what}\nhint: {hint}\n");
    let theirs = format!(
        "Unable to connect to the server: getting credentials: exec: \
         executable runai-credential failed with exit code {code}\n"
    );
    let mut outcome = run(home, kubectl, "get --raw /version");
    outcome.code(1).stdout_is("").stderr_has(&ours);
    while outcome.stderr.matches(&ours).count() > 1 {
        outcome.stderr = outcome.stderr.replacen(&ours, "", 1);
    }
    outcome.stderr_is(ours + &theirs);
}

/// Each kubectl works with each version of the kubeconfig, and needs one token request.
#[test]
fn each_kubectl_works_with_each_version() {
    let Some(issuer) = NodeServer::oidc_provider() else { return };
    let Some(api) = NodeServer::api_server(&issuer.url()) else { return };
    let requests = || issuer.get("/_test/requests")["token"].as_u64().expect("a number");
    for kubectl in kubectls() {
        for kubeconfig in [V1, V1BETA1] {
            let before = requests();
            let home = home_with(kubeconfig, &api.url());
            home.keycloak_at(&issuer.url(), Pki::shared().ca_pem());
            three_commands_work(&home, &kubectl);
            assert_eq!(requests() - before, 1, "{}", kubectl.display());
        }
    }
    assert_eq!(let_in(&api).len() as u64, requests());
    let log = api.get("/_test/log");
    let refused: Vec<&Value> =
        log.as_array().expect("a list").iter().filter(|entry| entry["sub"] != CLIENT_ID).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Standard input belongs to the user of kubectl. `interactiveMode: Never` keeps it from the program.
#[test]
fn standard_input_reaches_kubectl() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_with(V1, &api.url());
        home.keycloak(&issuer);
        let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trainer-1", "namespace": "default"}}"#;
        let outcome = feed(command(&home, &kubectl, "get -f - -o name"), pod.to_owned());
        outcome.code(0).silent().stdout_is("pod/trainer-1\n");
    }
}

/// 20 kubectl processes at once cause one token request.
#[test]
fn parallel_kubectls_cause_one_token_request() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(V1, &api.url());
    home.keycloak(&issuer);
    let commands = (0..20).map(|_| command(&home, &kubectl, "get --raw /version")).collect();
    for outcome in Running::at_once(commands) {
        outcome.code(0).silent().stdout_has("v1.31.0");
    }
    assert_eq!(issuer.token_requests(), 1);
}

/// The API server refuses a token after its expiry, and kubectl's next command gets another one.
#[test]
fn expired_token_is_replaced() {
    let (Some(kubectl), Some(curl)) = (require("kubectl-newest"), require("curl")) else { return };
    let issuer = Issuer::start();
    issuer.set_lifetime(Duration::from_secs(4));
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(V1, &api.url());
    home.keycloak(&issuer);

    let get = || run(&home, &kubectl, "get --raw /version");
    get().code(0).silent();
    let first = issuer.last_token();
    thread::sleep(Duration::from_secs(5));
    let ask = home.tool(&curl, ["-s", "--cacert", "../ca.pem", "-H", "@-", &format!("{}/version", api.url())]);
    let refused = feed(ask, format!("Authorization: Bearer {first}"));
    refused.code(0).stdout_has("\"code\":401");
    get().code(0).silent();

    let tokens = let_in(&api);
    assert!(tokens.len() >= 2, "{tokens:?}");
    assert!(tokens.contains(&logged(&first)), "it was good once: {tokens:?}");
}

/// kubectl sends the ID token if the kubeconfig's arguments or the profile say so.
#[test]
fn kubectl_sends_id_token_if_configured() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_with(&with(V1, "args: [kubectl]", "args: [kubectl, --bearer, id_token]"), &api.url());
        let mut config = home.keycloak(&issuer);
        run(&home, &kubectl, "get pods").code(0).silent();
        assert_eq!(let_in(&api).last(), Some(&logged(&issuer.last_id_token())));

        // One answer had both tokens, and the cache has both.
        use_kubeconfig(&home, V1, &api.url());
        run(&home, &kubectl, "get pods").code(0).silent();
        assert_eq!(let_in(&api).last(), Some(&logged(&issuer.last_token())));

        config["profiles"][PROFILE]["bearer"] = json!("id_token");
        home.config(&config);
        run(&home, &kubectl, "get pods").code(0).silent();
        assert_eq!(let_in(&api).last(), Some(&logged(&issuer.last_id_token())));
    }
    issuer.expect_token_requests(kubectls().len());
}

/// The test's API server verifies the audience: the tests above would not pass with any other token.
#[test]
fn api_server_refuses_another_audience() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    issuer.set_audience("another-api");
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(V1, &api.url());
    home.keycloak(&issuer);
    let outcome = run(&home, &kubectl, "get --raw /version");
    outcome.code(1).stdout_is("").stderr_has("Unauthorized");
    assert_eq!(let_in(&api), [""; 0]);
}

/// The error about an entry for `v1alpha1` names the versions that the user can write.
#[test]
fn v1alpha1_error_names_supported_versions() {
    // Later kubectls refuse this version themselves.
    let Some(kubectl) = require("kubectl-oldest") else { return };
    let home =
        home_with(&with(V1, "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1alpha1"), NOWHERE);
    fails_with(
        &home,
        &kubectl,
        3,
        "the kubeconfig asks for apiVersion \"client.authentication.k8s.io/v1alpha1\", which this command does not speak",
        "set apiVersion of the exec entry to client.authentication.k8s.io/v1 (or client.authentication.k8s.io/v1beta1)",
    );
}

/// Returns a home whose profile is bound to this cluster.
fn home_bound_to(cluster: &str, issuer: &Issuer, kubeconfig: &str, server: &str) -> Home {
    let home = home_with(kubeconfig, server);
    let mut config = home.keycloak(issuer);
    config["profiles"][PROFILE]["clusters"] = json!([cluster]);
    home.config(&config);
    home
}

/// A profile with `clusters` returns a token for its cluster.
#[test]
fn pinned_profile_serves_its_cluster() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_bound_to(&api.url(), &issuer, PINNED, &api.url());
        three_commands_work(&home, &kubectl);
        // The path of the server's URL, as with Rancher and other proxies, is not part of the origin.
        use_kubeconfig(&home, PINNED, &format!("{}/", api.url()));
        run(&home, &kubectl, "get --raw /version").code(0).silent();
    }
    issuer.expect_token_requests(kubectls().len());
}

/// A profile with `clusters` returns no token for another cluster, or for an entry that may lead to another server.
#[test]
fn pinned_profile_refuses_other_clusters() {
    const PIN: &str = "https://kube-api.example:6443";
    let issuer = Issuer::start();
    issuer.expect_token_requests(0);
    let authority = format!("certificate-authority: {CA}");
    // Each of these settings can lead the connection to another server than the named one.
    let detours = [
        ("insecure-skip-tls-verify", with(PINNED, &authority, "insecure-skip-tls-verify: true")),
        ("tls-server-name", with(PINNED, &authority, &format!("{authority}\n      tls-server-name: evil.example"))),
        ("proxy-url", with(PINNED, &authority, &format!("{authority}\n      proxy-url: http://127.0.0.1:1"))),
    ];
    for kubectl in kubectls() {
        let refused = |home: &Home, what: &str, hint: &str| {
            fails_with(home, &kubectl, 6, &format!("profile prod {what}"), hint);
        };
        refused(
            &home_bound_to(PIN, &issuer, PINNED, NOWHERE),
            "has no token for the cluster https://localhost:1",
            "add it to clusters of profile prod if it should have the token",
        );
        refused(
            &home_bound_to(PIN, &issuer, V1, PIN),
            "is bound to clusters, and kubectl did not say which cluster it is for",
            "set provideClusterInfo: true in the exec entry of the kubeconfig",
        );
        let home = home_bound_to(PIN, &issuer, V1, PIN);
        for (detour, kubeconfig) in &detours {
            let ca = home.path().join("ca.pem").display().to_string();
            home.write(".kube/config", with(kubeconfig, SERVER, PIN).replace(CA, &ca), 0o600);
            refused(
                &home,
                &format!("has no token for a kubeconfig with {detour}: it could lead to another server"),
                &format!("take {detour} out of the cluster's entry in the kubeconfig, or clusters out of profile prod"),
            );
        }
    }
}

/// helm gets a token through the same kubeconfig entry, and shows the program's error.
#[test]
fn helm_uses_the_same_entry() {
    let Some(helm) = require("helm") else { return };
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubeconfig in [V1, V1BETA1] {
        let home = home_with(kubeconfig, &api.url());
        home.keycloak(&issuer);
        for _ in 0..2 {
            run(&home, &helm, "list").code(0).silent().stdout_has("NAMESPACE");
        }
        let outcome = home.run(["token"]);
        assert_eq!(let_in(&api).last(), Some(&logged(outcome.stdout.trim_end())));
    }
    assert_eq!(issuer.token_requests(), 2);

    let home = home_with(V1, &api.url());
    home.run(["kubectl"]).code(3);
    run(&home, &helm, "list").code(1).stderr_has("runai-credential: error: ").stderr_has("\nhint: ");
}

/// With the kuberc of the page, kubectl calls this program and no other.
#[test]
fn kuberc_allowlist_permits_only_this_program() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(V1, &api.url());
    home.keycloak(&issuer);
    let get = |kuberc: &str| {
        home.write(".kube/kuberc", kuberc, 0o600);
        run(&home, &kubectl, "get --raw /version")
    };
    get(KUBERC).code(0).silent();

    let (head, _list) = KUBERC.split_once("credentialPluginAllowlist").expect("a list");
    get(&with(head, "Allowlist", "AllowAll")).code(0).silent();
    get(&with(head, "Allowlist", "DenyAll")).code(1).stderr_has("not allowed: policy set to \"DenyAll\"");
    let other = KUBERC.replace(": runai-credential #", ": another-helper #");
    get(&other).code(1).stderr_has("is not permitted by the credential plugin allowlist");
}

/// Under kubectl the program runs only the subcommand `kubectl`, and changes nothing that the kubeconfig names.
///
/// A stranger may have written the kubeconfig and so the arguments. kubectl's allowlist compares only the name of the
/// program.
#[test]
fn kubeconfig_with_other_subcommand_runs_nothing() {
    let issuer = Issuer::start();
    for kubectl in kubectls() {
        let home = home_with(V1, NOWHERE);
        let config = home.keycloak(&issuer);
        home.write(".kube/kuberc", KUBERC, 0o600);
        let mark = home.path().join("mark");
        let mark = mark.display();
        for args in [
            format!("[exec, --, /bin/sh, -c, 'touch {mark}']"),
            format!("[-v, exec, --env, A, --, touch, '{mark}']"),
            "[login, --host, https://evil.example, --store, file, --secret-stdin]".to_owned(),
            "[token]".to_owned(),
        ] {
            use_kubeconfig(&home, &with(V1, "args: [kubectl]", &format!("args: {args}")), NOWHERE);
            let outcome = run(&home, &kubectl, "get pods");
            assert_ne!(outcome.code, Some(0), "{args}\n{outcome}");
            outcome.stderr_has("under KUBERNETES_EXEC_INFO only the subcommand kubectl runs");
        }
        assert!(!home.path().join("mark").exists(), "{}: a command of the kubeconfig ran", kubectl.display());
        let text = std::fs::read_to_string(home.config_file()).expect("the configuration");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), config, "the configuration is as it was");
    }
    issuer.expect_token_requests(0);
}

/// The error about the subcommand (exit 2) comes before the one about the broken configuration (exit 3).
#[test]
fn subcommands_under_exec_info_are_usage_errors() {
    let home = Home::new();
    home.write(home.config_file(), "{", 0o600);
    let under = |args: &[&str], info: &str| {
        home.run_with(args, |command| {
            command.env("KUBERNETES_EXEC_INFO", info);
        })
    };
    let lines = "git get|docker get|docker|get|token|login|logout|status|doctor|setup kubectl|completions bash|man|exec -- true";
    let info = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}"#;
    for line in lines.split('|') {
        let args: Vec<&str> = line.split(' ').collect();
        for info in [info, "", "{"] {
            let outcome = under(&args, info);
            outcome.code(2).stdout_is("").stderr_has("hint: ");
            outcome.stderr_has("error: under KUBERNETES_EXEC_INFO only the subcommand kubectl runs");
        }
    }
    under(&["kubectl"], info).code(3);
    under(&["kubectl", "--help"], info).code(0);
}

/// kubectl shows the program's error for a missing configuration, a wrong secret and an unreachable issuer.
#[test]
fn kubectl_shows_the_programs_error() {
    let issuer = Issuer::start();
    for kubectl in kubectls() {
        let home = home_with(V1, NOWHERE);
        fails_with(
            &home,
            &kubectl,
            3,
            &format!("there is no configuration file {}", home.config_file().display()),
            "write one (see the README), or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET",
        );

        let mut config = home.keycloak(&issuer);
        home.write("secret", "wrong\n", 0o600);
        fails_with(
            &home,
            &kubectl,
            4,
            "the server refused client ci-pipeline: unauthorized_client: Invalid client or Invalid client credentials (HTTP 401)",
            &format!(
                "check the client secret in the file {}; regenerating a secret revokes the old one",
                home.path().join("secret").display()
            ),
        );

        let down = refused_url();
        config["profiles"][PROFILE]["url"] = json!(down);
        home.config(&config);
        fails_with(
            &home,
            &kubectl,
            5,
            &format!("cannot reach {down}: Connection refused (os error 111)"),
            "check url, the network, and whether a proxy is needed (HTTPS_PROXY or proxy in the profile)",
        );
    }
}

/// With an empty discovery cache kubectl calls the program five times. With a wrong secret these calls send one request
/// and print one message.
#[test]
fn five_refused_tries_send_one_request() {
    for kubectl in kubectls() {
        let issuer = Issuer::start();
        let home = home_with(V1, NOWHERE);
        home.keycloak(&issuer);
        home.write("secret", "wrong\n", 0o600);
        let outcome = run(&home, &kubectl, "get pods");
        outcome.code(1);
        let mut ours: Vec<&str> =
            outcome.stderr.lines().filter(|line| line.contains("runai-credential: error")).collect();
        assert!(ours.len() >= 5, "{outcome}");
        ours.dedup();
        assert_eq!(ours.len(), 1, "{outcome}");
        assert_eq!(issuer.token_requests(), 1);
    }
}

/// kubectl shows the kubeconfig's install hint if the program is missing.
#[test]
fn missing_program_shows_install_hint() {
    let hint = V1.lines().find_map(|line| line.trim().strip_prefix("installHint: ")).expect("a hint");
    for kubectl in kubectls() {
        let home = Home::new();
        use_kubeconfig(&home, V1, NOWHERE);
        let outcome = run(&home, &kubectl, "get --raw /version");
        outcome.code(1).stderr_has("runai-credential not found").stderr_has(hint);
    }
}

/// Installed as `kubectl-runai_credential`, the program is a kubectl plugin with all of its subcommands.
#[test]
fn program_works_as_kubectl_plugin() {
    let issuer = Issuer::start();
    for kubectl in kubectls() {
        let home = Home::new();
        home.keycloak(&issuer);
        home.install("kubectl-runai_credential");
        let outcome = run(&home, &kubectl, "runai-credential token");
        outcome.code(0).silent().stdout_is(format!("{}\n", issuer.last_token()));
        run(&home, &kubectl, "runai-credential token --format header").code(0).stdout_has("Authorization: Bearer ");
        run(&home, &kubectl, "runai-credential tokn").code(2).stderr_has("hint: did you mean token?");
    }
    assert_eq!(issuer.token_requests(), kubectls().len());
}

/// The page shows the same text as the tested files.
#[test]
fn page_shows_the_tested_files() {
    let (_, user) = V1.split_once("users:\n").expect("users");
    assert!(README.contains(&format!("```yaml\nusers:\n{user}```\n")), "the entry of kubeconfig-v1.yaml");
    assert!(README.contains(&format!("```yaml\n{KUBERC}```\n")), "kuberc.yaml");
    for (file, text) in
        [("kubeconfig-v1.yaml", V1), ("kubeconfig-v1beta1.yaml", V1BETA1), ("kubeconfig-pinned.yaml", PINNED)]
    {
        assert!(README.contains(&format!("]({file})")), "a link to {file}");
        assert!(text.contains(SERVER) && text.contains(CA), "{file}");
    }
}

/// Returns a home with a token in its cache that was fetched a minute ago.
fn home_with_older_token(issuer: &Issuer, api: &NodeServer) -> Home {
    let home = home_with(V1, &api.url());
    home.keycloak(issuer);
    let a_minute_ago = Machine { behind: Duration::from_secs(60), ..Machine::of(&home) };
    assert_eq!(a_minute_ago.call(&["token"]).status, 0);
    home
}

/// client-go does not report that the API server refused a token. The program concludes it from kubectl's second call.
#[test]
fn refused_token_is_replaced_after_one_command() {
    for kubectl in kubectls() {
        let issuer = Issuer::start();
        let Some(api) = NodeServer::api_server(issuer.url()) else { return };
        let home = home_with_older_token(&issuer, &api);
        let before = issuer.token_requests();
        three_commands_work(&home, &kubectl);
        assert_eq!(issuer.token_requests(), before, "the cached token is used");
        let hash = digest(&SHA256, home.run(["token"]).stdout.trim_end().as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        api.post("/_test/refuse", &json!({"mode": "tokens", "sha256": [hash]}));
        // client-go returns the 401 to the user, although it has the new token by then …
        run(&home, &kubectl, "get namespaces").code(1).stderr_has("Unauthorized");
        // … so the next command works, and the user does nothing.
        three_commands_work(&home, &kubectl);
        assert_eq!(issuer.token_requests(), before + 1, "{}", kubectl.display());
    }
}

/// If the API server refuses every token, five commands cause at most one token request.
#[test]
fn refusal_of_every_token_fetches_once() {
    for kubectl in kubectls() {
        let issuer = Issuer::start();
        let Some(api) = NodeServer::api_server(issuer.url()) else { return };
        let home = home_with_older_token(&issuer, &api);
        api.post("/_test/refuse", &json!({"mode": "all"}));
        let before = issuer.token_requests();
        for _ in 0..5 {
            run(&home, &kubectl, "get namespaces").code(1);
        }
        let requests = issuer.token_requests() - before;
        assert!(requests <= 1, "{}: {requests} requests", kubectl.display());
    }
}

/// kubectl works as soon as the user corrects a wrong secret.
#[test]
fn corrected_secret_works_at_once() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_with(V1, &api.url());
        home.keycloak(&issuer);
        home.write("secret", "wrong", 0o600);
        let before = issuer.token_requests();
        // With an empty discovery cache kubectl calls the program several times.
        let outcome = run(&home, &kubectl, "get namespaces");
        outcome.code(1);
        let ours: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("runai-credential: ")).collect();
        assert!(ours.len() > 1 && ours.iter().all(|line| *line == ours[0]), "{}", outcome.stderr);
        assert_eq!(issuer.token_requests(), before + 1);
        home.write("secret", CLIENT_SECRET, 0o600);
        run(&home, &kubectl, "get namespaces").code(0).silent();
        assert_eq!(issuer.token_requests(), before + 2);
    }
}
