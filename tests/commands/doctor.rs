//! Tests of `doctor`: it names each fault with a remedy, and reports a correct setup as healthy.

use std::os::unix::fs::symlink;

use runai_credential::os::clock;
use serde_json::{Value, json};

use support::issuer::Options;
use support::{Answer, CLIENT_SECRET, Home, Issuer, Outcome, PROFILE, Pki, Session, refused_url, require};

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: runai}}]
clusters: [{name: c, cluster: {server: \"https://localhost:1\"}}]
users:
- name: runai
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: runai-credential
      args: [kubectl]
      interactiveMode: Never
";

/// Returns a correct setup: git, docker and kubectl call the program. `None`: kubectl is not installed.
fn healthy(issuer: &Issuer) -> Option<Home> {
    let home = Home::new();
    home.keycloak_with(issuer, json!({"hosts": ["https://git.example", "https://reg.example:5000"]}));
    for name in ["runai-credential", "git-credential-runai", "docker-credential-runai"] {
        home.install(name);
    }
    symlink(require("kubectl-newest")?, home.path().join("bin/kubectl")).expect("a link");
    home.write(".kube/config", KUBECONFIG, 0o600);
    home.write(".gitconfig", "[credential \"https://git.example\"]\n\thelper =\n\thelper = runai\n", 0o600);
    home.write(".docker/config.json", r#"{"credHelpers": {"reg.example:5000": "runai"}}"#, 0o600);
    Some(home)
}

fn change(home: &Home, key: &str, value: Value) {
    let text = std::fs::read(home.config_file()).expect("a configuration");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    config["profiles"][PROFILE][key] = value;
    home.config(&config);
}

/// Returns the steps with this outcome, each with its description and remedy.
fn steps(outcome: &Outcome, wanted: &str) -> Vec<(String, String)> {
    let report = outcome.json();
    let steps = report["steps"].as_array().expect("steps").iter().filter(|step| step["outcome"] == wanted);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps.map(|step| (text(&step["step"]), format!("{} / {}", text(&step["what"]), text(&step["remedy"])))).collect()
}

/// Asserts that `doctor` names these faults, as `(step, part of the text)`, and no others.
#[track_caller]
fn names(outcome: &Outcome, wanted: &str, faults: &[(&str, &str)]) {
    let found = steps(outcome, wanted);
    assert_eq!(found.len(), faults.len(), "{found:?}\n{outcome}");
    for ((step, text), (wanted, part)) in found.iter().zip(faults) {
        assert!(step == wanted && text.contains(part), "{wanted}: {part:?} in {step}: {text}\n{outcome}");
    }
}

/// Returns the `Date` header of a server whose clock is this many seconds behind.
fn date(behind: i64) -> String {
    let now = clock::now().unix_ms / 1000;
    let there = chrono::DateTime::from_timestamp(now - behind, 0).expect("a time");
    there.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn doctor(home: &Home) -> Outcome {
    home.run(["doctor", "--format", "json"])
}

/// With a correct setup, `doctor` reports each step as ok and prints no secret and no token.
#[test]
fn healthy_setup_reports_no_faults() {
    let issuer = Issuer::start();
    let Some(home) = healthy(&issuer) else { return };
    issuer.script(|_, _| Answer::grant().header("date", &date(0)));
    let outcome = doctor(&home);
    outcome.code(0).silent();
    assert_eq!(outcome.json()["healthy"], true);
    for wanted in ["failed", "warning"] {
        names(&outcome, wanted, &[]);
    }
    let done: Vec<String> = steps(&outcome, "ok").into_iter().map(|(step, _)| step).collect();
    for step in [
        "configuration",
        "secret",
        "proxy",
        "name",
        "server",
        "clock",
        "token",
        "cache",
        "access_token",
        "kubectl",
        "git",
        "docker",
    ] {
        assert!(done.iter().any(|name| name == step), "{step}: {outcome}");
    }
    let text = home.run(["doctor"]);
    text.code(0).stdout_has("Everything is well.");
    for (shown, what) in [(&outcome.stdout, "json"), (&text.stdout, "text")] {
        assert!(!shown.contains(CLIENT_SECRET), "{what}");
        assert!(issuer.issued().iter().all(|token| !shown.contains(token)), "{what}");
        assert!(shown.contains("aud runai, ci-pipeline") && shown.contains("exp 20"), "{shown}");
    }
}

/// `doctor` names a wrong secret, realm, address, certificate, proxy, configuration or audience, each with a remedy.
#[test]
fn doctor_names_each_call_fault() {
    let issuer = Issuer::start();
    let Some(home) = healthy(&issuer) else { return };
    let good: Value = serde_json::from_slice(&std::fs::read(home.config_file()).expect("it")).expect("JSON");

    issuer.set_secret("another");
    let outcome = doctor(&home);
    names(outcome.code(4), "failed", &[("token", "check the client secret in the file")]);
    issuer.set_secret(CLIENT_SECRET);

    issuer.only_realm("other");
    names(doctor(&home).code(4), "failed", &[("token", "check realm")]);
    issuer.only_realm("acme");

    change(&home, "url", json!("https://no-such-host.invalid"));
    names(doctor(&home).code(5), "failed", &[("name", "the address of no-such-host.invalid cannot be found")]);
    change(&home, "url", json!(refused_url()));
    names(doctor(&home).code(5), "failed", &[("server", "check")]);
    home.config(&good);

    change(&home, "ca_file", json!(home.write("other.pem", Pki::new().ca_pem(), 0o644)));
    names(doctor(&home).code(5), "failed", &[("server", "set ca_file to the PEM file of the authority")]);
    home.config(&good);

    let certificate = Pki::shared().expired(&["localhost"]);
    let expired = Issuer::start_with(Options { certificate, ..Options::default() });
    change(&home, "url", json!(expired.url()));
    names(doctor(&home).code(5), "failed", &[("server", "expired")]);
    home.config(&good);

    change(&home, "client_secret", json!({"env": "NOT_SET"}));
    names(doctor(&home).code(3), "failed", &[("secret", "set NOT_SET")]);
    // Two faults at once, in different steps.
    change(&home, "url", json!("https://no-such-host.invalid"));
    names(doctor(&home).code(3), "failed", &[("secret", "set NOT_SET"), ("name", "no-such-host.invalid")]);
    home.config(&good);

    change(&home, "proxy", json!("http://no-such-proxy.invalid:3128"));
    names(doctor(&home).code(5), "failed", &[("name", "the address of no-such-proxy.invalid cannot be found")]);
    home.config(&good);

    home.write(home.config_file(), "{", 0o600);
    names(doctor(&home).code(3), "failed", &[("configuration", "not JSON")]);
    home.config(&good);

    issuer.set_audience("account");
    names(doctor(&home).code(3), "failed", &[("access_token", "have an audience mapper for runai added")]);
    issuer.set_audience("kube");
    names(home.run(["doctor", "--format", "json", "--audience", "kube"]).code(0), "failed", &[]);
}

/// `doctor` warns about a fault that does not make a call fail, and exits with 0.
#[test]
fn survivable_fault_is_only_a_warning() {
    let issuer = Issuer::start();
    let Some(home) = healthy(&issuer) else { return };
    issuer.script(|_, _| Answer::grant().header("date", &date(600)));
    names(doctor(&home).code(0), "warning", &[("clock", "10 min ahead of the server's / set it by NTP")]);
    issuer.behave();

    // Even root cannot write below a regular file.
    let cache = home.write("a-file", "", 0o600).join("cache");
    let outcome = home.run_with(["doctor", "--format", "json"], |command| {
        command.env("RUNAI_CREDENTIAL_CACHE_DIR", &cache);
    });
    names(outcome.code(0), "warning", &[("cache", "make the folder yours and writable")]);

    let outcome = home.run_with(["doctor", "--format", "json"], |command| {
        command.env("SSL_CERT_FILE", "/etc/ssl/cert.pem");
    });
    names(outcome.code(0), "warning", &[("variables", "SSL_CERT_FILE is set and not used")]);

    home.write(
        ".gitconfig",
        "[credential]\n\thelper = store\n[credential \"https://git.example\"]\n\thelper = runai\n",
        0o600,
    );
    names(doctor(&home).code(0), "warning", &[("git", "for https://git.example git asks store before runai")]);
    home.run(["doctor"]).code(0).stdout_has("A call would succeed. Warnings: 1");
}

/// `doctor` names faults in the setup of git, kubectl and docker, each with a remedy.
#[test]
fn doctor_names_each_tool_fault() {
    let issuer = Issuer::start();
    let Some(home) = healthy(&issuer) else { return };
    std::fs::remove_file(home.path().join("bin/git-credential-runai")).expect("remove it");
    std::fs::remove_file(home.path().join("bin/docker-credential-runai")).expect("remove it");
    let faults = [
        ("git", "ln -s runai-credential git-credential-runai"),
        ("docker", "ln -s runai-credential docker-credential-runai"),
    ];
    names(doctor(&home).code(3), "failed", &faults);
    home.install("git-credential-runai");
    home.install("docker-credential-runai");

    home.write(
        ".kube/config",
        KUBECONFIG.replace("command: runai-credential", "command: /nowhere/runai-credential"),
        0o600,
    );
    names(doctor(&home).code(3), "failed", &[("kubectl", "calls /nowhere/runai-credential, which is not there")]);
    home.write(".kube/config", KUBECONFIG.replace("[kubectl]", "[token]"), 0o600);
    names(doctor(&home).code(3), "failed", &[("kubectl", "without the argument kubectl")]);
    home.write(".kube/config", "users: [", 0o600);
    names(doctor(&home).code(3), "failed", &[("kubectl", "the kubeconfig cannot be read")]);
    home.write(".kube/config", KUBECONFIG, 0o600);

    let kuberc = "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n";
    home.write(".kube/kuberc", format!("{kuberc}credentialPluginPolicy: DenyAll\n"), 0o600);
    names(doctor(&home).code(3), "failed", &[("kuberc", "its policy is DenyAll")]);
    let list = |name: &str| {
        format!("{kuberc}credentialPluginPolicy: Allowlist\ncredentialPluginAllowlist:\n- command: {name}\n")
    };
    home.write(".kube/kuberc", list("other"), 0o600);
    names(doctor(&home).code(3), "failed", &[("kuberc", "--allowlist-entry command=runai-credential")]);
    home.write(".kube/kuberc", list("runai-credential"), 0o600);
    names(doctor(&home).code(0), "failed", &[]);

    home.write(".docker/config.json", r#"{"credHelpers": {"foreign.example": "runai"}}"#, 0o600);
    names(doctor(&home).code(6), "failed", &[("docker", "add \"https://foreign.example\" to hosts")]);
    // docker writes a host of this machine without a scheme, and also tries it without TLS.
    let mut config: Value = serde_json::from_slice(&std::fs::read(home.config_file()).expect("read")).expect("JSON");
    config["profiles"][PROFILE]["hosts"] = json!(["http://127.0.0.1:5000"]);
    home.config(&config);
    home.write(".docker/config.json", r#"{"credHelpers": {"127.0.0.1:5000": "runai"}}"#, 0o600);
    names(doctor(&home).code(0).stdout_has("asks runai for 127.0.0.1:5000"), "failed", &[]);
    home.write(".docker/config.json", "{", 0o600);
    names(doctor(&home).code(3), "failed", &[("docker", "cannot be read")]);
}

/// `doctor` names a locked keyring and a missing one as faults of the secret.
#[test]
fn doctor_names_locked_or_missing_keyring() {
    let issuer = Issuer::start();
    let Some(home) = healthy(&issuer) else { return };
    let mut session = Session::start(&home);
    let login = ["login", "--secret-stdin"];
    home.run_fed(login, CLIENT_SECRET).code(0);
    names(doctor(&home).code(0), "failed", &[]);
    session.lock();
    names(doctor(&home).code(3), "failed", &[("secret", "it is locked, and the user did not unlock it / unlock it")]);
    session.end_keyring();
    names(doctor(&home).code(3), "failed", &[("secret", "no keyring answers on the session bus")]);
}
