//! `integrations/kubectl/`: kubectl and helm, through the files as they stand, against an API server that verifies
//! signature, `iss`, `aud` and `exp`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use support::*;

const README: &str = include_str!("../../integrations/kubectl/README.md");
const V1: &str = include_str!("../../integrations/kubectl/kubeconfig-v1.yaml");
const V1BETA1: &str = include_str!("../../integrations/kubectl/kubeconfig-v1beta1.yaml");
const PINNED: &str = include_str!("../../integrations/kubectl/kubeconfig-pinned.yaml");
const KUBERC: &str = include_str!("../../integrations/kubectl/kuberc.yaml");

/// What people replace in a kubeconfig.
const SERVER: &str = "https://kube-api.example:6443 # replace";
const CA: &str = "/path/to/cluster-ca.pem # replace";

/// An API server that no test reaches.
const NOWHERE: &str = "https://localhost:1";

/// The oldest and the newest kubectl, and the one that the machine has of itself, if it has one.
fn kubectls() -> Vec<PathBuf> {
    let ours = ["kubectl-oldest", "kubectl-newest"].into_iter().filter_map(require);
    ours.chain(client("kubectl")).collect()
}

/// `text` with this put for what stands there exactly once.
#[track_caller]
fn with(text: &str, what: &str, by: &str) -> String {
    assert_eq!(text.matches(what).count(), 1, "{what:?} once in:\n{text}");
    text.replace(what, by)
}

/// A home with the program on its `PATH`, and this kubeconfig where kubectl looks for it: as it stands, but for the server
/// and its CA.
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

/// Runs it to its end, with arguments as one would type them.
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

/// The three commands of the first minute, all of which must work in silence.
#[track_caller]
fn three_commands_work(home: &Home, kubectl: &Path) {
    run(home, kubectl, "get --raw /version").code(0).silent().stdout_has("v1.31.0");
    run(home, kubectl, "get namespaces").code(0).silent().stdout_has("kube-system");
    run(home, kubectl, "get pods").code(0).silent().stdout_has("trainer-0");
}

/// The tokens that an API server has let in, as it logs them, one after the other without repetition.
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

/// kubectl fails with our two lines and its own one. (Ours may come again: a kubectl that looks for the server's version
/// first, as the dispatcher of some distributions does, asks us once more.)
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

#[test]
fn each_kubectl_gets_in_with_each_version_and_one_token_request() {
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

/// It belongs to whoever types; `interactiveMode: Never` keeps us away from it.
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

#[test]
fn twenty_at_once_make_one_token_request() {
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

#[test]
fn an_expired_token_is_replaced() {
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

/// In the entry as an argument, and in the profile.
#[test]
fn the_id_token_if_the_api_server_wants_that_one() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_with(&with(V1, "args: [kubectl]", "args: [kubectl, --bearer, id_token]"), &api.url());
        let mut config = home.keycloak(&issuer);
        run(&home, &kubectl, "get pods").code(0).silent();
        assert_eq!(let_in(&api).last(), Some(&logged(&issuer.last_id_token())));

        // Both were in one answer, and both are in the cache.
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

/// The server of these tests does look: nothing above would work with just any token.
#[test]
fn a_token_for_somebody_else_is_refused_by_the_api_server() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    issuer.set_audience("somebody-else");
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(V1, &api.url());
    home.keycloak(&issuer);
    let outcome = run(&home, &kubectl, "get --raw /version");
    outcome.code(1).stdout_is("").stderr_has("Unauthorized");
    assert_eq!(let_in(&api), [""; 0]);
}

#[test]
fn v1alpha1_is_told_what_to_write() {
    // Later ones refuse it themselves.
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

/// A home whose profile is bound to clusters.
fn home_bound_to(cluster: &str, issuer: &Issuer, kubeconfig: &str, server: &str) -> Home {
    let home = home_with(kubeconfig, server);
    let mut config = home.keycloak(issuer);
    config["profiles"][PROFILE]["clusters"] = json!([cluster]);
    home.config(&config);
    home
}

#[test]
fn a_pinned_profile_answers_for_its_cluster() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_bound_to(&api.url(), &issuer, PINNED, &api.url());
        three_commands_work(&home, &kubectl);
        // A path belongs to no origin, as Rancher and other proxies have one.
        use_kubeconfig(&home, PINNED, &format!("{}/", api.url()));
        run(&home, &kubectl, "get --raw /version").code(0).silent();
    }
    issuer.expect_token_requests(kubectls().len());
}

#[test]
fn a_pinned_profile_answers_for_no_other_cluster() {
    const PIN: &str = "https://kube-api.example:6443";
    let issuer = Issuer::start();
    issuer.expect_token_requests(0);
    let authority = format!("certificate-authority: {CA}");
    // Each of these could lead the connection to another server than the one that is named.
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

#[test]
fn kuberc_lets_us_in_and_nobody_else() {
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

/// The arguments come from the kubeconfig, which a stranger may have written, and kubectl's allow-list looks at the name of the
/// program alone. So under kubectl the program must not run, or change, what the kubeconfig names.
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

/// Exit 2 comes before the configuration, which is broken here, would give exit 3.
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

#[test]
fn what_users_see_when_it_fails() {
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

/// With nothing in its discovery cache, kubectl tries five times in a row.
#[test]
fn five_tries_with_a_wrong_secret_are_one_request_and_one_message() {
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

#[test]
fn the_install_hint_is_shown_when_we_are_not_there() {
    let hint = V1.lines().find_map(|line| line.trim().strip_prefix("installHint: ")).expect("a hint");
    for kubectl in kubectls() {
        let home = Home::new();
        use_kubeconfig(&home, V1, NOWHERE);
        let outcome = run(&home, &kubectl, "get --raw /version");
        outcome.code(1).stderr_has("runai-credential not found").stderr_has(hint);
    }
}

/// The name only picks a dialect, and this one is the whole program.
#[test]
fn a_plugin_of_kubectl() {
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

/// A page that shows something else than what is tested would be worse than none.
#[test]
fn the_page_shows_these_files() {
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

/// A home whose token was fetched a minute ago.
fn home_with_older_token(issuer: &Issuer, api: &NodeServer) -> Home {
    let home = home_with(V1, &api.url());
    home.keycloak(issuer);
    let a_minute_ago = Machine { behind: Duration::from_secs(60), ..Machine::of(&home) };
    assert_eq!(a_minute_ago.call(&["token"]).status, 0);
    home
}

/// client-go tells nobody that the API server refused a token; its coming back does.
#[test]
fn a_token_that_the_api_server_comes_to_refuse_is_replaced_by_itself() {
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
        // client-go passes the 401 on, though it has the new token by then …
        run(&home, &kubectl, "get namespaces").code(1).stderr_has("Unauthorized");
        // … so the next command works, without anybody doing anything.
        three_commands_work(&home, &kubectl);
        assert_eq!(issuer.token_requests(), before + 1, "{}", kubectl.display());
    }
}

#[test]
fn an_api_server_that_refuses_every_token_is_no_reason_to_fetch_one_for_each_command() {
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

#[test]
fn a_secret_that_was_wrong_works_as_soon_as_it_is_right() {
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    for kubectl in kubectls() {
        let home = home_with(V1, &api.url());
        home.keycloak(&issuer);
        home.write("secret", "wrong", 0o600);
        let before = issuer.token_requests();
        // With nothing known of the server kubectl asks us several times.
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
