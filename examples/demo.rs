//! Demonstrates the main job on one machine with nothing but Rust. Run it with `cargo demo`.
//!
//! It starts a control plane on loopback (real HTTPS, a private CA) and calls the program as kubectl does.

#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a demonstration prints")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{CLIENT_ID, CLIENT_SECRET, Issuer, REALM};

fn main() -> Result<(), Box<dyn Error>> {
    let program = build()?;
    let home = tempfile::tempdir()?;
    let issuer = Issuer::start();
    println!("The demonstration's own control plane answers at {}\n", issuer.url());

    // A user's files: the application's secret, and a configuration with one profile.
    let (secret, ca) = (home.path().join("client-secret"), home.path().join("ca.pem"));
    write_private(&secret, CLIENT_SECRET)?;
    write_private(&ca, issuer.ca_pem())?;
    let config = home.path().join(".config/runai-credential/config.json");
    let profile = serde_json::json!({ "profiles": { "demo": {
        "url": issuer.url(), "realm": REALM, "client_id": CLIENT_ID,
        "client_secret": { "file": secret }, "ca_file": ca,
    } } });
    std::fs::create_dir_all(config.parent().unwrap_or(home.path()))?;
    write_private(&config, &serde_json::to_string_pretty(&profile)?)?;

    let request =
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#;
    for turn in ["first", "second"] {
        println!("$ runai-credential kubectl        # as kubectl calls it, for the {turn} time");
        let answer = ask(&program, home.path(), &["kubectl"], &[("KUBERNETES_EXEC_INFO", request)])?;
        println!("{answer}\n  → requests at the control plane so far: {}\n", issuer.token_requests());
    }
    println!("$ runai-credential token --format json");
    println!("{}\n", ask(&program, home.path(), &["token", "--format", "json"], &[])?);
    kubectl(&program, home.path(), &issuer)
}

/// Runs kubectl if it is installed. kubectl calls the program itself and sends the token.
fn kubectl(program: &Path, home: &Path, issuer: &Issuer) -> Result<(), Box<dyn Error>> {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("kubectl is not installed on this machine, so the demonstration ends here.");
        return Ok(());
    }
    let kubeconfig = home.join("kubeconfig");
    let entry = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "demo",
        "clusters": [{ "name": "demo", "cluster": { "server": issuer.url(), "certificate-authority": home.join("ca.pem") } }],
        "contexts": [{ "name": "demo", "context": { "cluster": "demo", "user": "runai" } }],
        "users": [{ "name": "runai", "user": { "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": program, "args": ["kubectl"], "interactiveMode": "Never",
        } } }],
    });
    write_private(&kubeconfig, &entry.to_string())?;
    println!("$ kubectl get --raw /whoami       # with a kubeconfig whose user is runai-credential");
    let before = issuer.requests().len();
    // The control plane has no such path. The demonstration looks only at the header that kubectl sent.
    let kubeconfig = kubeconfig.to_string_lossy().into_owned();
    let _ = call(Path::new("kubectl"), home, &["get", "--raw", "/whoami", "--kubeconfig", &kubeconfig], &[])?;
    let requests = issuer.requests();
    let sent = requests.iter().skip(before).find_map(|request| request.header("authorization"));
    let bearer = format!("Bearer {}", issuer.last_token());
    match sent {
        Some(header) if header == bearer => {
            println!("kubectl sent the cached token: Authorization: Bearer {}…", &bearer[7..31])
        }
        other => return Err(format!("kubectl did not send the token: {other:?}").into()),
    }
    println!("  → requests for a token so far: {}", issuer.token_requests());
    Ok(())
}

/// Builds the program, because cargo builds no binary of a dependency, and returns its path.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // With this package in the same build, cargo selects the same features of all dependencies and builds none twice.
    build.args(["build", "--quiet", "--locked", "--package", "runai-credential", "--package", "demo"]);
    // These variables would make build scripts of dependencies run again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    if !build.status()?.success() {
        return Err("the program could not be built".into());
    }
    Ok(support::program())
}

/// Runs a program with a clean environment and this home.
fn call(program: &Path, home: &Path, args: &[&str], vars: &[(&str, &str)]) -> Result<Output, Box<dyn Error>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", home).env("TMPDIR", home).env("PATH", path).envs(vars.iter().copied());
    Ok(command.output()?)
}

/// Returns the program's answer with its long tokens shortened.
fn ask(program: &Path, home: &Path, args: &[&str], vars: &[(&str, &str)]) -> Result<String, Box<dyn Error>> {
    let output = call(program, home, args, vars)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let cut = text.trim_end().split('"').map(|part| match part.get(..24) {
        Some(start) if part.len() > 100 => format!("{start}…"),
        _ => part.to_owned(),
    });
    Ok(cut.collect::<Vec<_>>().join("\""))
}

/// Writes a file that only this user may read or write.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}
