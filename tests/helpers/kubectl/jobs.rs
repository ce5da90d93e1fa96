//! Runs the Jobs of `integrations/kubernetes` as a pod runs them; the real kubectl reads the files.
//!
//! The container has user 1000 without capabilities, a read-only root file system, and volumes that are linked as
//! kubelet links them. The program is its first process.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::*;

/// Makes the container's file system at `$ROOT` and becomes its first process.
///
/// `$VOLUMES` has a line `PATH MODE FILE SOURCE` for each file of a volume. `$TMPFS` has the paths of volumes in
/// memory. The arguments are the variables and the command.
const CONTAINER: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$ROOT"
cd "$ROOT"
mkdir -p usr proc dev etc/ssl/certs opt/bin
mount --rbind /usr usr
mount -o remount,bind,ro usr
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
mount --rbind /dev dev
mount -t proc none proc
cp /etc/hosts /etc/nsswitch.conf etc/ 2>/dev/null || true
cp "$CA" etc/ssl/certs/ca-certificates.crt
cp "$PROGRAM" opt/bin/runai-credential
chmod 0755 opt/bin/runai-credential
printf '%s' "$VOLUMES" | while read -r path mode file source; do
    mkdir -p ".$path"
    mount -t tmpfs -o mode=0755 none ".$path"
    mkdir ".$path/..2026_11_24"
    cp "$source" ".$path/..2026_11_24/$file"
    chgrp 1000 ".$path/..2026_11_24/$file"
    chmod "$mode" ".$path/..2026_11_24/$file"
    ln -s ..2026_11_24 ".$path/..data"
    ln -s "..data/$file" ".$path/$file"
    mount -o remount,ro ".$path"
done
for path in $TMPFS; do
    mkdir -p ".$path"
    mount -t tmpfs -o mode=2777,gid=1000,size=1m none ".$path"
done
mount -o remount,ro "$ROOT"
exec chroot "$ROOT" /usr/bin/setpriv --reuid 1000 --regid 1000 --groups 1000 --no-new-privs --bounding-set=-all \
    --inh-caps=-all /usr/bin/env -i PATH=/opt/bin:/usr/bin:/bin "$@"
"#;

/// Returns the objects of a file as kubectl reads them, with the URLs of the test's servers.
fn objects(name: &str, issuer: &Issuer, api: &Site) -> Option<Vec<Value>> {
    let kubectl = require("kubectl-newest")?;
    let home = Home::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/kubernetes").join(name);
    let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let text = text.replace("https://app.run.ai", issuer.url()).replace("https://api.acme.example", &api.url());
    let file = home.write("job.yaml", text, 0o600);
    let file = file.to_str().expect("text");
    let mut command = home.tool(kubectl, ["label", "--local", "-o", "json", "-f", file, "read-by=kubectl"]);
    let outcome = Running::start(&mut command).finish();
    let found = serde_json::Deserializer::from_str(&outcome.code(0).silent().stdout).into_iter();
    Some(found.map(|object| object.expect("an object")).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Runs the container of a pod. `files` has the contents of its volumes by name.
fn run(pod: &Value, files: &[(&str, &str)], issuer: &Issuer) -> Option<Outcome> {
    let (unshare, _, _) = (require("unshare")?, require("setpriv")?, require("curl")?);
    let [container] = pod["containers"].as_array().expect("containers").as_slice() else { panic!("one container") };

    // `CONTAINER` implements these settings.
    let (wide, own) = (&pod["securityContext"], &container["securityContext"]);
    assert_eq!((&wide["runAsUser"], &wide["runAsGroup"], &wide["fsGroup"]), (&1000.into(), &1000.into(), &1000.into()));
    assert_eq!((&wide["runAsNonRoot"], &own["readOnlyRootFilesystem"]), (&true.into(), &true.into()));
    assert_eq!((&own["allowPrivilegeEscalation"], &own["capabilities"]["drop"][0]), (&false.into(), &"ALL".into()));

    let home = Home::new();
    let (mut volumes, mut in_memory) = (String::new(), Vec::new());
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        let all = pod["volumes"].as_array().expect("volumes");
        let volume = all.iter().find(|volume| volume["name"] == mount["name"]).expect("the volume of a mount");
        let path = text(&mount["mountPath"]);
        if volume["emptyDir"]["medium"] == "Memory" {
            in_memory.push(path);
            continue;
        }
        assert_eq!(mount["readOnly"], true, "{mount}");
        let source = ["secret", "configMap", "projected"].map(|kind| &volume[kind]);
        let source = source.into_iter().find(|source| source.is_object()).expect("a kind of volume that we know");
        let name = ["secretName", "name"].iter().find_map(|key| source[key].as_str());
        let name = name.unwrap_or_else(|| text(&source["sources"][0]["serviceAccountToken"]["path"]));
        let (_, content) =
            files.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no content for {name}"));
        let file = match name {
            "runai-application" => "client-secret",
            "runai-config" => "config.json",
            other => other,
        };
        let content = home.write(format!("volume-{name}"), content, 0o600);
        let mode = source["defaultMode"].as_u64().expect("a mode");
        volumes.push_str(&format!("{path} {mode:o} {file} {}\n", content.display()));
    }

    let root = home.path().join("root");
    fs::create_dir(&root).expect("a folder");
    let variables = container["env"].as_array().expect("variables");
    let variables =
        variables.iter().map(|variable| format!("{}={}", text(&variable["name"]), text(&variable["value"])));
    let words = ["command", "args"].into_iter().flat_map(|key| container[key].as_array().expect("words"));
    let mut command =
        home.tool(unshare, ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "container"]);
    command
        .args(variables)
        .args(words.map(text))
        .env("ROOT", &root)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CA", home.write("ca.pem", issuer.ca_pem(), 0o644))
        .env("PROGRAM", env!("CARGO_BIN_EXE_runai-credential"))
        .env("VOLUMES", volumes)
        .env("TMPFS", in_memory.join(" "));
    Some(Running::start(&mut command).finish())
}

/// Returns whether this process may make namespaces with a user other than root, which only root may.
fn may_contain() -> bool {
    let made =
        Command::new("unshare").args(["--mount", "--pid", "--fork", "setpriv", "--reuid", "1000", "true"]).output();
    let may = made.is_ok_and(|output| output.status.success());
    if !may {
        lack("the right to make namespaces and change the user (root)");
    }
    may
}

/// Returns an issuer, and an API that records the token.
fn servers() -> (Issuer, Site) {
    let api = Site::start(|_| Answer::text(200, "text/plain", "the report"));
    (Issuer::start(), api)
}

/// Asserts that the container's program got its token and sent it to the API once.
#[track_caller]
fn succeeded(outcome: &Outcome, issuer: &Issuer, api: &Site) {
    outcome.code(0).silent().stdout_is("the report");
    assert_eq!(api.authorizations(), [format!("Bearer {}", issuer.last_token())]);
    assert_eq!(issuer.token_requests(), 1);
}

/// The Job and the CronJob get a token with the secret of a volume. A wrong secret gives the pod the exit status 4.
#[test]
fn job_with_secret_gets_a_token() {
    if !may_contain() {
        return;
    }
    for (file, template) in
        [("job.yaml", "/spec/template/spec"), ("cronjob.yaml", "/spec/jobTemplate/spec/template/spec")]
    {
        let (issuer, api) = servers();
        let Some(objects) = objects(file, &issuer, &api) else { return };
        let job = objects.last().expect("a job");
        if let Some(secret) = objects.iter().find(|object| object["kind"] == "Secret") {
            assert!(
                secret["stringData"]["client-secret"].is_string() && secret["metadata"]["name"] == "runai-application"
            );
        }
        let pod = job.pointer(template).expect("a pod");
        let Some(outcome) = run(pod, &[("runai-application", CLIENT_SECRET)], &issuer) else { return };
        succeeded(&outcome, &issuer, &api);

        // The pod has the program's exit status, which shows that the issuer refused the secret.
        let Some(outcome) = run(pod, &[("runai-application", "another")], &issuer) else { return };
        outcome.code(4).stdout_is("").stderr_has("/etc/runai/client-secret");
    }
}

/// The federated Job gets a token with its service-account token and without a client secret.
#[test]
fn federated_job_needs_no_secret() {
    if !may_contain() {
        return;
    }
    let (issuer, api) = servers();
    let Some(objects) = objects("federated.yaml", &issuer, &api) else { return };
    let [account, config, job] = objects.as_slice() else { panic!("three objects") };
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(account["metadata"]["name"], pod["serviceAccountName"]);
    let config = text(&config["data"]["config.json"]);
    let files = [("runai-config", config), ("token", CLIENT_ASSERTION)];
    let Some(outcome) = run(pod, &files, &issuer) else { return };
    succeeded(&outcome, &issuer, &api);
    let request = issuer.requests().pop().expect("a request");
    assert!(!String::from_utf8_lossy(&request.body).contains("client_secret"), "there is none");
}
