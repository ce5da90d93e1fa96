//! The third-party servers and clients of the tests: their paths, and the two servers that run in node.
//!
//! `tests/real/README.md` describes them and their installation.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::issuer::wire::spawn;
use crate::issuer::{CLIENT_ID, CLIENT_SECRET, REALM};
use crate::pki::Pki;

/// Returns the folder into which `tests/real/setup` installs.
pub fn clients_dir() -> PathBuf {
    let manifest = crate::root();
    match env::var_os("RUNAI_TEST_CLIENTS") {
        // A relative path is relative to the folder in which cargo runs the tests.
        Some(dir) if !dir.is_empty() => manifest.join(dir),
        _ => manifest.join("target/clients"),
    }
}

/// Returns a client or package that `setup` installed, or else a program on the `PATH`.
pub fn client(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join(name)).filter(|file| file.is_file());
    std::iter::once(clients_dir().join(name)).chain(on_path).find(|candidate| candidate.exists())
}

/// Like [`client`]. If it is missing, this skips the test on a developer's machine and fails it in CI.
#[track_caller]
pub fn require(name: &str) -> Option<PathBuf> {
    let found = client(name);
    if found.is_none() {
        lack(&format!("{name}, which tests/real/setup installs"));
    }
    found
}

/// Returns a `PYTHONPATH` with this project's package and the packages that `setup` installed.
#[track_caller]
pub fn python_path() -> Option<String> {
    require("python3")?;
    let packages = clients_dir().join("python");
    if !packages.is_dir() {
        lack("the Python packages, which tests/real/setup installs");
        return None;
    }
    Some(format!("{}/integrations/python/src:{}", crate::root().display(), packages.display()))
}

/// Fails the test in CI. Elsewhere it prints that the test, or a part of it, is skipped.
#[track_caller]
pub fn lack(what: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "missing: {what}");
    // The test harness hides the output of `eprintln!` if the test passes.
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "skipped: {test}: missing: {what}");
}

/// One of the servers in `tests/real/`, with a certificate of [`Pki::shared`]. It ends when dropped.
pub struct NodeServer {
    child: Child,
    /// The line that it printed at its start.
    pub facts: Value,
    /// Certificate and key: node needs files.
    _files: TempDir,
}

impl NodeServer {
    /// Starts `tests/real/SCRIPT` and adds `cert`, `key` and `ca` to the options if they are missing.
    ///
    /// `None`: node or its packages are missing, and [`require`] has reported it.
    #[track_caller]
    pub fn start(script: &str, mut options: Value) -> Option<NodeServer> {
        const START: Duration = Duration::from_secs(90);
        let node = require("node")?;
        require("node_modules")?;

        let pki = Pki::shared();
        let cert = pki.server(&["localhost", "127.0.0.1"]);
        let files = TempDir::new().expect("make a temporary directory");
        for (option, text) in [("cert", cert.chain_pem.as_str()), ("key", &cert.key_pem), ("ca", pki.ca_pem())] {
            let file = files.path().join(option);
            std::fs::write(&file, text).expect("write a server's file");
            if options.get(option).is_none() {
                options[option] = json!(file);
            }
        }

        let mut child = Command::new(node)
            .arg(crate::root().join("tests/real").join(script))
            .arg(options.to_string())
            .env("RUNAI_TEST_CLIENTS", clients_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start node {script}: {error}"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut server = NodeServer { child, facts: Value::Null, _files: files };

        let (send, receive) = mpsc::channel();
        spawn("node", move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = send.send(read.map(|_| line));
        });
        let line = match receive.recv_timeout(START) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => panic!("node {script}: {error}"),
            Err(_) => panic!("node {script} said nothing in {START:?}"),
        };
        server.facts = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("node {script} did not start ({error}), its stderr is above: {line:?}"));
        Some(server)
    }

    /// Starts `oidc-provider` with the tests' application. [`NodeServer::url`] is the control plane's URL, [`REALM`]
    /// the realm.
    #[track_caller]
    pub fn oidc_provider() -> Option<NodeServer> {
        let clients = json!([{"id": CLIENT_ID, "secret": CLIENT_SECRET}]);
        NodeServer::start("issuer.mjs", json!({"realm": REALM, "clients": clients}))
    }

    /// Starts the API server. It accepts tokens of the issuer at this URL for the audience `runai`.
    #[track_caller]
    pub fn api_server(issuer_url: &str) -> Option<NodeServer> {
        let issuer = format!("{issuer_url}/auth/realms/{REALM}");
        let jwks = format!("{issuer}/protocol/openid-connect/certs");
        NodeServer::start("apiserver.mjs", json!({"issuer": issuer, "jwks": jwks, "audience": "runai"}))
    }

    #[track_caller]
    pub fn port(&self) -> u16 {
        let port = self.facts["port"].as_u64().and_then(|port| port.try_into().ok());
        port.unwrap_or_else(|| panic!("no port in {}", self.facts))
    }

    #[track_caller]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port())
    }

    /// Sends a GET for this path, and asserts a 200 with JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        json_of(https_get(&format!("{}{path}", self.url()), Pki::shared().ca_pem()))
    }

    /// Sends a POST with JSON to this path, and asserts a 200 with JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        json_of(https_post(&format!("{}{path}", self.url()), Pki::shared().ca_pem(), body))
    }
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        const END: Duration = Duration::from_secs(5);
        // The server ends at the end of its standard input.
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns status and body of a GET. No status is an error.
#[track_caller]
pub fn https_get(url: &str, ca_pem: &str) -> (u16, String) {
    answer(url, agent(ca_pem).get(url).call())
}

/// Returns status and body of a POST with JSON. No status is an error.
#[track_caller]
pub fn https_post(url: &str, ca_pem: &str, body: &Value) -> (u16, String) {
    let request = agent(ca_pem).post(url).content_type("application/json");
    answer(url, request.send(body.to_string()))
}

fn agent(ca_pem: &str) -> ureq::Agent {
    let ca = Certificate::from_pem(ca_pem.as_bytes()).expect("a PEM certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into()
}

#[track_caller]
fn answer(url: &str, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let mut response = response.unwrap_or_else(|error| panic!("{url}: {error}"));
    let body = response.body_mut().read_to_string();
    let body = body.unwrap_or_else(|error| panic!("body of {url}: {error}"));
    (response.status().as_u16(), body)
}

#[track_caller]
fn json_of((status, body): (u16, String)) -> Value {
    assert!(status == 200, "status {status}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}
