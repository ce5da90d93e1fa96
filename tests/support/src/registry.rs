//! A real registry (the program `docker-registry`) on loopback, which requires a token in one of two ways.
//!
//! Either the token is the registry's password, or the password of a token server that returns another token for it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::issuer::wire::{Listener, spawn};
use crate::{Answer, Control, Home, Pki, Request, ServerCert, Site, require};

/// The process. It ends when dropped.
pub struct Registry {
    child: Child,
    port: u16,
    _files: TempDir,
}

impl Registry {
    /// Starts a registry without TLS and without authentication.
    #[track_caller]
    pub fn open() -> Option<Registry> {
        Registry::start(|_| json!({"http": {"relativeurls": true}}))
    }

    /// Starts a registry with TLS that requires a token of the server at `realm`. The tests' authority signs these
    /// tokens.
    #[track_caller]
    pub fn with_token_server(realm: &str) -> Option<Registry> {
        let cert = Pki::shared().server(&["127.0.0.1", "localhost"]);
        Registry::start(|dir| {
            let bundle = dir.path().join("bundle.pem");
            fs::write(&bundle, Pki::shared().ca_pem()).expect("write the bundle");
            let auth = json!({"token": {
                "realm": realm, "service": "registry", "issuer": "tests", "rootcertbundle": bundle,
            }});
            let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
            fs::write(&certificate, &cert.chain_pem).expect("write the certificate");
            fs::write(&key, &cert.key_pem).expect("write the key");
            fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("close the key");
            json!({"http": {"tls": {"certificate": certificate, "key": key}}, "auth": auth})
        })
    }

    #[track_caller]
    fn start(config: impl FnOnce(&TempDir) -> Value) -> Option<Registry> {
        let program = require("docker-registry")?;
        let files = TempDir::new().expect("make a temporary directory");
        let mut config = config(&files);
        config["version"] = json!(0.1);
        config["http"]["addr"] = json!("127.0.0.1:0");
        config["log"] = json!({"level": "info"});
        config["storage"] = json!({"filesystem": {"rootdirectory": files.path().join("data")}});
        // A YAML file may contain JSON.
        let file = files.path().join("config.yml");
        fs::write(&file, config.to_string()).expect("write the registry's configuration");
        let mut command = Command::new(program);
        command.arg("serve").arg(&file).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start docker-registry");
        let log = child.stderr.take().expect("stderr is a pipe");
        let mut registry = Registry { child, port: 0, _files: files };
        let (send, receive) = mpsc::channel();
        spawn("registry", move || {
            let mut said = Vec::new();
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    let _ = send.send(Ok(port));
                }
                said.push(line);
            }
            let _ = send.send(Err(said));
        });
        match receive.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(port)) => registry.port = port.parse().expect("a port"),
            said => panic!("docker-registry did not start: {said:?}"),
        }
        Some(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the answer to this request. Only for [`Registry::open`].
    fn forward(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let mut head = format!("{} {}?{} HTTP/1.1\r\n", request.method, request.path, request.query);
        const OURS: [&str; 5] = ["connection", "authorization", "content-length", "transfer-encoding", "expect"];
        for (name, value) in &request.headers {
            if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += &format!("Connection: close\r\nContent-Length: {}\r\n\r\n", request.body.len());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&request.body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a registry whose password is a token of the issuer. The site does TLS and the check, `docker-registry` the
/// rest.
#[track_caller]
pub fn guarded_registry(issuer: &Control) -> Option<Site> {
    let (registry, issuer) = (Registry::open()?, issuer.clone());
    Some(Site::start(move |request| {
        if !has_token(request, &issuer) {
            let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
            return Answer::json(401, body)
                .header("WWW-Authenticate", "Basic realm=\"registry\"")
                .header("Docker-Distribution-Api-Version", "registry/2.0");
        }
        let answer = registry.forward(request);
        Answer::raw(answer.unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path)))
    }))
}

/// Starts a token server for [`Registry::with_token_server`]. With a token of the issuer as password, a client gets
/// every access that it asks for.
pub fn token_server(issuer: &Control) -> Site {
    let (issuer, signer) = (issuer.clone(), Pki::shared().server(&["token-server"]));
    Site::start(move |request| {
        if !has_token(request, &issuer) {
            return Answer::json(401, json!({"details": "incorrect username or password"}));
        }
        // A client may first send the password as a refresh token (POST). This server supports only Basic.
        if request.method != "GET" {
            return Answer::json(404, json!({}));
        }
        let query: Vec<(String, String)> = form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
        let scopes = query.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
        let access: Vec<Value> = scopes
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
            })
            .collect();
        let token = sign(&signer, &access);
        Answer::json(200, json!({"token": token, "access_token": token, "expires_in": 300}))
    })
}

/// Returns whether the request has the profile's default user name and a token of the issuer.
fn has_token(request: &Request, issuer: &Control) -> bool {
    let Some(basic) = request.header("authorization").and_then(|value| value.strip_prefix("Basic ")) else {
        return false;
    };
    let pair = STANDARD.decode(basic).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.unwrap_or_else(|| panic!("not Basic: {basic}"));
    pair.strip_prefix("oauth2:").is_some_and(|token| issuer.issued().iter().any(|issued| issued == token))
}

/// Returns a token of the registry's own kind (distribution, "Token Authentication Specification").
fn sign(signer: &ServerCert, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&signer.chain_der[0])]});
    let claims = json!({
        "iss": "tests", "sub": "oauth2", "aud": "registry", "jti": "1",
        "iat": now - 5, "nbf": now - 5, "exp": now + 300, "access": access,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let random = SystemRandom::new();
    let key = signer.key_der();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der(), &random).expect("a P-256 key");
    let signature = key.sign(&random, signed.as_bytes()).expect("sign a token");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Writes an image of one empty layer as an OCI layout, for `skopeo copy oci:…`.
pub fn write_image(home: &Home, relative: &str) -> String {
    let blob = |bytes: &[u8]| {
        let hash: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        home.write(format!("{relative}/blobs/sha256/{hash}"), bytes, 0o644);
        (format!("sha256:{hash}"), bytes.len())
    };
    let descriptor = |kind: &str, (digest, size): &(String, usize)| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    // Only the end of a tar archive, without entries.
    let layer = blob(&[0; 1024]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer.0]},
    });
    let config = blob(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config), "layers": [descriptor("layer.v1.tar", &layer)],
    });
    let manifest = blob(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", &manifest)]});
    home.write(format!("{relative}/index.json"), index.to_string(), 0o644);
    home.write(format!("{relative}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    format!("oci:{}", home.path().join(relative).display())
}

/// The part of docker's daemon that `docker login` uses: it checks a password.
pub struct Daemon {
    listener: Listener,
}

impl Daemon {
    /// Starts a daemon that accepts tokens of the issuer.
    pub fn start(issuer: &Control) -> Daemon {
        let issuer = issuer.clone();
        let answer = move |request: &Request| {
            if request.path == "/_ping" {
                return Answer::text(200, "text/plain", "OK").header("Api-Version", "1.47");
            }
            assert!(request.path.ends_with("/auth"), "docker asks for {}", request.path);
            match issuer.issued().iter().any(|issued| request.json()["password"] == issued.as_str()) {
                true => Answer::json(200, json!({"Status": "Login Succeeded", "IdentityToken": ""})),
                false => Answer::json(401, json!({"message": "unauthorized"})),
            }
        };
        let listener = Listener::start("daemon", move |mut tcp, floor| {
            if let Ok(Some(request)) = Request::read(&mut tcp) {
                let _ = answer(&request).write(&mut tcp, floor, || unreachable!("a daemon grants no tokens"));
                let _ = tcp.shutdown(Shutdown::Write);
            }
        });
        Daemon { listener }
    }

    /// Returns the value of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.listener.port())
    }
}
