//! A git server that requires a token: `git http-backend` behind a [`Site`].

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::issuer::wire::lock;
use crate::{Answer, Control, Request, Site};

/// Returns the gits to test with, and whether each has `authtype` and `state` (2.46 or newer).
///
/// They are the git on the `PATH`, the system's git, and the one that `tests/real/setup` builds if both are older.
pub fn gits() -> Vec<(PathBuf, bool)> {
    let candidates = [crate::client("git"), Some(PathBuf::from("/usr/bin/git")), crate::client("git-newest")];
    let mut gits: Vec<(PathBuf, bool)> = Vec::new();
    for path in candidates.into_iter().flatten().filter_map(|path| path.canonicalize().ok()) {
        if gits.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let Ok(version) = Command::new(&path).arg("--version").output() else { continue };
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let numbers = version.split_whitespace().nth(2).unwrap_or_default();
        let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        gits.push((path, version >= (2, 46)));
    }
    if !gits.iter().any(|(_, is_new)| *is_new) {
        crate::servers::lack("a git of 2.46 or newer, which tests/real/setup builds");
    }
    gits
}

/// The server. It has one repository, `acme.git`, with one commit.
pub struct GitServer {
    site: Site,
    rules: Arc<Mutex<Rules>>,
    _root: TempDir,
}

struct Rules {
    /// The values of `WWW-Authenticate`.
    challenges: Vec<&'static str>,
    refused: HashSet<String>,
    refuses_all: bool,
    refuses_posts: bool,
    /// Refuses a token after this many requests with it.
    refuses_after: Option<usize>,
    let_in: usize,
}

impl GitServer {
    /// Starts a server that accepts the tokens of this issuer and sends these challenges.
    pub fn start(issuer: &Control, challenges: &[&'static str]) -> GitServer {
        let root = tempfile::tempdir().expect("make a folder for repositories");
        make_repository(root.path());
        let rules = Arc::new(Mutex::new(Rules {
            challenges: challenges.to_vec(),
            refused: HashSet::new(),
            refuses_all: false,
            refuses_posts: false,
            refuses_after: None,
            let_in: 0,
        }));
        let site = {
            let (rules, issuer, root) = (Arc::clone(&rules), issuer.clone(), root.path().to_owned());
            Site::start(move |request| {
                let mut rules = lock(&rules);
                if !rules.let_in(request, &issuer) {
                    let refusal = Answer::text(401, "text/plain", "who are you?\n");
                    return rules
                        .challenges
                        .iter()
                        .fold(refusal, |answer, challenge| answer.header("WWW-Authenticate", challenge));
                }
                drop(rules);
                backend(&root, request)
            })
        };
        GitServer { site, rules, _root: root }
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns the URL of the repository.
    pub fn repository(&self) -> String {
        format!("{}/acme.git", self.site.url())
    }

    /// Refuses this token from now on.
    pub fn revoke(&self, token: &str) {
        lock(&self.rules).refused.insert(token.to_owned());
    }

    pub fn refuse_all(&self) {
        lock(&self.rules).refuses_all = true;
    }

    /// Refuses every POST from now on. A client can read the repository and not change it.
    pub fn refuse_all_posts(&self) {
        lock(&self.rules).refuses_posts = true;
    }

    /// Accepts this many requests from now on, and then refuses their token.
    pub fn revoke_after(&self, requests: usize) {
        let mut rules = lock(&self.rules);
        rules.refuses_after = Some(rules.let_in + requests);
    }

    /// Returns the scheme and the token of each request that had a token.
    pub fn presented(&self) -> Vec<(String, String)> {
        self.site.requests().iter().filter_map(presented).collect()
    }
}

impl Rules {
    fn let_in(&mut self, request: &Request, issuer: &Control) -> bool {
        let Some((scheme, token)) = presented(request) else { return false };
        let offered = self.challenges.iter().any(|challenge| challenge.starts_with(&scheme));
        let good = offered && issuer.issued().contains(&token) && !self.refused.contains(&token);
        let good = good && !self.refuses_all && !(self.refuses_posts && request.method == "POST");
        if good && self.refuses_after.is_some_and(|most| self.let_in >= most) {
            self.refuses_after = None;
            self.refused.insert(token);
            return false;
        }
        self.let_in += usize::from(good);
        good
    }
}

/// Returns the scheme and the token of a request. In a Basic header, the token is the password of the user `oauth2`.
fn presented(request: &Request) -> Option<(String, String)> {
    let (scheme, credentials) = request.header("authorization")?.split_once(' ')?;
    match scheme {
        "Basic" => {
            let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
            Some((scheme.to_owned(), decoded.strip_prefix("oauth2:")?.to_owned()))
        }
        _ => Some((scheme.to_owned(), credentials.to_owned())),
    }
}

/// Makes a bare repository with one commit. Each authenticated user may push to it.
fn make_repository(root: &Path) {
    let script = "git init -q --bare -b main acme.git && git -C acme.git config http.receivepack true &&
        tree=$(git -C acme.git mktree </dev/null) && commit=$(git -C acme.git commit-tree -m first \"$tree\") &&
        git -C acme.git update-ref refs/heads/main \"$commit\"";
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(root).stdin(Stdio::null());
    let done = identity(&mut command).env("HOME", root).status().expect("run git");
    assert!(done.success(), "a repository");
}

/// Sets the author and the committer of commits.
pub fn identity(command: &mut Command) -> &mut Command {
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Test").env(format!("GIT_{who}_EMAIL"), "test@acme.example");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1")
}

/// Runs `git http-backend` as a CGI (RFC 3875) for one request.
fn backend(root: &Path, request: &Request) -> Answer {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", root)
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_USER", "oauth2")
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().expect("start git http-backend");
    let mut stdin = child.stdin.take().expect("its input");
    let body = request.body.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().expect("its end").stdout;
    let _ = feeder.join();

    let at = output.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head");
    let head = String::from_utf8_lossy(&output[..at]).into_owned();
    let headers: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let of = |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let status = of("Status").and_then(|status| status.get(..3)?.parse().ok()).unwrap_or(200);
    Answer::bytes(status, of("Content-Type").unwrap_or("text/plain"), &output[at + 4..])
}
