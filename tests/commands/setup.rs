//! Tests of `setup`: it makes kubectl, git and docker work with the secret in the keyring. A second run changes
//! nothing, and `--undo` restores the files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;

/// Returns a home with the program on the `PATH`, and these tools under their own names.
fn home_with(tools: &[(&str, PathBuf)]) -> Home {
    let home = Home::new();
    home.install("runai-credential");
    for (name, tool) in tools {
        symlink(tool, home.path().join("bin").join(name)).expect("a link");
    }
    home
}

/// Returns a kubeconfig as the owner of a cluster hands it out.
fn kubeconfig(server: &str, ca: &Path) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: acme\n\
         clusters:\n- cluster:\n    certificate-authority: {}\n    server: {server}\n  name: acme\n\
         contexts:\n- context:\n    cluster: acme\n    namespace: default\n    user: previous-user\n  name: acme\n\
         - context:\n    cluster: acme\n    user: previous-user\n  name: other\n\
         preferences: {{}}\nusers:\n- name: previous-user\n  user:\n    token: old\n",
        ca.display()
    )
}

/// Logs in as a new user does. The secret goes to the keyring.
fn login(home: &Home, url: &str, more: &[&str]) {
    let ca = home.write("ca.pem", Pki::shared().ca_pem(), 0o644).display().to_string();
    let args = ["login", "--url", url, "--realm", REALM, "--client-id", CLIENT_ID, "--ca-file", &ca, "--secret-stdin"];
    home.run_fed(args.iter().chain(more), CLIENT_SECRET).code(0).silent();
}

/// Returns the tools' configuration files and the links that `setup` makes.
fn state(home: &Home) -> BTreeMap<PathBuf, String> {
    let names = [".gitconfig", ".kube/config", ".kube/kuberc", ".docker/config.json"];
    let links = ["bin/git-credential-runai", "bin/docker-credential-runai"];
    let read = |name: &str| fs::read_to_string(home.path().join(name)).ok().map(|text| (PathBuf::from(name), text));
    let linked = |name: &str| {
        let target = fs::read_link(home.path().join(name)).ok()?;
        Some((PathBuf::from(name), target.display().to_string()))
    };
    names.into_iter().filter_map(read).chain(links.into_iter().filter_map(linked)).collect()
}

/// Asserts that `--print` changes nothing, that a second run changes nothing more, and that `--undo` restores the first
/// state.
#[track_caller]
fn assert_setup_is_reversible(home: &Home, tool: &str, works: impl Fn(&Home)) {
    let before = state(home);
    let printed = home.run(["setup", tool, "--print"]);
    printed.code(0).silent();
    assert_eq!(state(home), before, "--print\n{printed}");
    let done = home.run(["setup", tool]);
    done.code(0).silent().stdout_is(&printed.stdout);
    let after = state(home);
    assert_ne!(after, before, "{done}");
    works(home);
    home.run(["setup", tool]).code(0).silent().stdout_has("Nothing to change");
    assert_eq!(state(home), after, "twice is once");
    home.run(["setup", tool, "--undo"]).code(0).silent();
    assert_eq!(state(home), before, "--undo");
    home.run(["setup", tool, "--undo"]).code(0).silent().stdout_has("Nothing to undo");
    // `setup` works again after `--undo`.
    home.run(["setup", tool]).code(0).silent();
    assert_eq!(state(home), after);
    works(home);
}

/// `login`, `setup kubectl` and `kubectl get pods` work, with the oldest and the newest kubectl.
#[test]
fn three_commands_make_kubectl_work() {
    let (Some(issuer), Some(oldest), Some(newest)) =
        (NodeServer::oidc_provider(), require("kubectl-oldest"), require("kubectl-newest"))
    else {
        return;
    };
    let Some(api) = NodeServer::api_server(&issuer.url()) else { return };
    for (kubectl, version) in [(oldest, "v1beta1"), (newest, "v1")] {
        let home = home_with(&[("kubectl", kubectl)]);
        let _session = Session::start(&home);
        let ca = home.write("cluster-ca.pem", Pki::shared().ca_pem(), 0o644);
        home.write(".kube/config", kubeconfig(&api.url(), &ca), 0o600);
        login(&home, &issuer.url(), &[]);
        // Each kubectl writes the whole file anew, in its own order.
        for user in ["--user=another", "--user=previous-user"] {
            let mut write = home.tool(home.path().join("bin/kubectl"), ["config", "set-context", "other", user]);
            Running::start(&mut write).finish().code(0);
        }
        assert_setup_is_reversible(&home, "kubectl", |home| {
            let mut get = home.tool(home.path().join("bin/kubectl"), ["get", "pods"]);
            Running::start(&mut get).finish().code(0).silent().stdout_has("trainer-0");
        });
        let text = fs::read_to_string(home.path().join(".kube/config")).expect("the kubeconfig");
        assert!(text.contains(&format!("client.authentication.k8s.io/{version}\n")), "{text}");
        assert!(home.grep(CLIENT_SECRET).is_empty(), "the secret is in the keyring and nowhere else");
    }
}

/// `setup kubectl` adds the program to the allowlist of a kuberc, and `--undo` removes it. It reports the policy
/// `DenyAll`.
#[test]
fn setup_extends_kubectl_plugin_allowlist() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    let Some(api) = NodeServer::api_server(issuer.url()) else { return };
    let home = home_with(&[("kubectl", kubectl.clone())]);
    let ca = home.write("cluster-ca.pem", Pki::shared().ca_pem(), 0o644);
    home.write(".kube/config", kubeconfig(&api.url(), &ca), 0o600);
    home.keycloak(&issuer);
    let list = "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n\
                credentialPluginPolicy: Allowlist\ncredentialPluginAllowlist:\n- command: other\n";
    home.write(".kube/kuberc", list, 0o600);
    home.run(["setup", "kubectl"]).code(0).silent().stdout_has("--allowlist-entry command=other --allowlist-entry");
    let pods = || Running::start(&mut home.tool(&kubectl, ["get", "pods"])).finish();
    pods().code(0).silent();
    home.run(["setup", "kubectl"]).code(0).stdout_has("Nothing to change");
    home.run(["setup", "kubectl", "--undo"]).code(0).silent();
    let text = fs::read_to_string(home.path().join(".kube/kuberc")).expect("the kuberc");
    assert!(text.contains("command: other") && !text.contains("runai"), "{text}");

    home.write(
        ".kube/kuberc",
        list.replace("Allowlist\ncredentialPluginAllowlist:\n- command: other", "DenyAll"),
        0o600,
    );
    home.run(["setup", "kubectl"]).code(0).stdout_has("note: your kuberc has credentialPluginPolicy: DenyAll");
}

/// `setup kubectl --undo` keeps a context that the user changed after `setup`, and restores no user there.
#[test]
fn undo_keeps_contexts_changed_since_setup() {
    let Some(kubectl) = require("kubectl-newest") else { return };
    let issuer = Issuer::start();
    let home = home_with(&[("kubectl", kubectl.clone())]);
    home.write(".kube/config", kubeconfig("https://localhost:1", Path::new("/ca.pem")), 0o600);
    home.keycloak(&issuer);
    home.run(["setup", "kubectl", "--context", "nowhere"]).code(3).stderr_has("there are: acme, other");
    home.run(["setup", "kubectl", "--context", "other", "--profile", PROFILE]).code(0).silent();
    let config = |line: &str| {
        let mut command = home.tool(&kubectl, ["config"].into_iter().chain(line.split(' ')));
        Running::start(&mut command).finish().code(0).stdout.clone()
    };
    let user =
        |context: &str| config(&format!("view -o jsonpath={{.contexts[?(@.name==\"{context}\")].context.user}}"));
    assert_eq!((user("acme"), user("other")), ("previous-user".to_owned(), format!("runai-credential-{PROFILE}")));
    assert!(config("view").contains(&format!("- --profile\n      - {PROFILE}\n      - kubectl\n")));
    config("set-context other --user=third");
    home.run(["setup", "kubectl", "--undo"]).code(0).silent();
    assert_eq!((user("acme"), user("other")), ("previous-user".to_owned(), "third".to_owned()));
    assert!(!config("view").contains("runai-credential"));
}

/// `login`, `setup git` and `git ls-remote` work with each git, beside another helper.
#[test]
fn three_commands_make_git_work() {
    let issuer = Issuer::start();
    for (program, _) in git::gits() {
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = home_with(&[("git", program.clone())]);
        let _session = Session::start(&home);
        let before = "# mine\n[user]\n\tname = me\n[credential]\n\thelper = store\n";
        home.write(".gitconfig", before, 0o600);
        login(&home, issuer.url(), &["--host", &server.site().url()]);
        assert_setup_is_reversible(&home, "git", |home| {
            let mut list = home.tool(&program, ["ls-remote", &server.repository()]);
            let ca = home.write("site-ca.pem", Pki::shared().ca_pem(), 0o644);
            list.env("GIT_SSL_CAINFO", ca).env("GIT_TERMINAL_PROMPT", "0");
            Running::start(&mut list).finish().code(0).silent().stdout_has("refs/heads/main");
        });
        assert!(!home.path().join(".git-credentials").exists(), "no other helper got the token");
        assert!(home.grep(CLIENT_SECRET).is_empty(), "the secret is in the keyring and nowhere else");
        // `--undo` restores two helpers for the same host.
        let key = format!("credential.{}.helper", server.site().url());
        home.run(["setup", "git", "--undo"]).code(0);
        let own = format!("{before}[credential \"{}\"]\n\thelper = cache\n\thelper = store\n", server.site().url());
        home.write(".gitconfig", &own, 0o600);
        home.run(["setup", "git"]).code(0).silent();
        home.run(["setup", "git", "--undo"]).code(0).silent();
        let mut all = home.tool(&program, ["config", "--global", "--get-all", &key]);
        Running::start(&mut all).finish().stdout_is("cache\nstore\n");
    }
}

fn docker_command(home: &Home, docker: &Path, image: &str) -> Command {
    let mut command = home.tool(docker, ["manifest", "inspect", image]);
    command.env("SSL_CERT_FILE", home.path().join("ca.pem"));
    command.env("DOCKER_HOST", format!("unix://{}", home.path().join("no-daemon").display()));
    command
}

/// `login`, `setup docker`, a push with skopeo and a query with docker work, with and without a docker configuration.
#[test]
fn three_commands_make_docker_work() {
    let (Some(docker), Some(skopeo)) = (require("docker"), require("skopeo")) else { return };
    let issuer = Issuer::start();
    let Some(site) = guarded_registry(&issuer) else { return };
    for before in [None, Some("{\n\t\"auths\": {},\n\t\"HttpHeaders\": {\"X\":\"1\"}\n}")] {
        let home = home_with(&[]);
        let _session = Session::start(&home);
        if let Some(before) = before {
            home.write(".docker/config.json", before, 0o640);
        }
        login(&home, issuer.url(), &["--host", &format!("https://{}", site.authority())]);
        assert_setup_is_reversible(&home, "docker", |home| {
            let image = write_image(home, "image");
            let to = format!("docker://{}/team/app:1", site.authority());
            let mut push = home.tool(&skopeo, ["--insecure-policy", "copy", "-q", "--format", "v2s2", &image, &to]);
            push.env("SSL_CERT_FILE", home.path().join("ca.pem"));
            Running::start(&mut push).finish().code(0);
            let mut inspect = docker_command(home, &docker, &format!("{}/team/app:1", site.authority()));
            Running::start(&mut inspect).finish().code(0).silent();
        });
        assert!(home.grep(CLIENT_SECRET).is_empty(), "the secret is in the keyring and nowhere else");
    }
}

/// An `--undo` that failed on a broken file succeeds after the file is repaired.
#[test]
fn failed_undo_can_be_repeated() {
    let issuer = Issuer::start();
    let home = home_with(&[]);
    home.keycloak_with(&issuer, serde_json::json!({"hosts": ["https://git.example"]}));
    home.run(["setup", "git"]).code(0).silent();
    let good = fs::read(home.path().join(".gitconfig")).expect("git's configuration");
    home.write(".gitconfig", "[credential", 0o600);
    home.run(["setup", "git", "--undo"]).code(3);
    home.write(".gitconfig", good, 0o600);
    home.run(["setup", "git", "--undo"]).code(0).silent();
    assert_eq!(fs::read_to_string(home.path().join(".gitconfig")).expect("git's configuration").trim(), "");
}

/// `setup` reports a broken or missing file, tool or host list, and changes nothing.
#[test]
fn setup_leaves_broken_files_unchanged() {
    let issuer = Issuer::start();
    let home = home_with(&[]);
    home.keycloak(&issuer);
    home.run(["setup", "git"]).code(3).stderr_has("profile prod has no hosts");
    home.run(["setup", "docker"]).code(3).stderr_has("profile prod has no hosts");
    home.keycloak_with(&issuer, serde_json::json!({"hosts": ["https://reg.example"]}));
    for text in ["{", "[]", "{\"credHelpers\": 7}"] {
        let path = home.write(".docker/config.json", text, 0o600);
        home.run(["setup", "docker"]).code(3).stderr_has("is not what it should be").stderr_has("nothing was changed");
        assert_eq!(fs::read_to_string(path).expect("it"), text);
    }
    home.write(".gitconfig", "[credential", 0o600);
    home.run(["setup", "git"]).code(3).stderr_has("git config cannot be read");
    let no_kubectl = home.run_with(["setup", "kubectl"], |command| {
        command.env("PATH", home.path().join("bin"));
    });
    no_kubectl.code(3).stderr_has("kubectl is not on the PATH");
    home.run(["setup", "helm"]).code(2).stderr_has("kubectl, git, docker");
    fs::remove_file(home.path().join("bin/runai-credential")).expect("remove it");
    home.write(".docker/config.json", "{}", 0o600);
    home.run(["setup", "docker"]).code(3).stderr_has("runai-credential is not on the PATH");
    let tree = home.tree();
    assert!(!tree.keys().any(|path| path.ends_with("setup.json")), "{tree:?}");
}
