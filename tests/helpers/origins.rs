//! Tests of which hosts get the token, with every helper: spellings that must get nothing, and spellings that the
//! program must serve.
//!
//! The spellings are in `cases/origins.json`. Some come from advisories: git (CVE-2020-5260, CVE-2020-11008,
//! CVE-2024-52006), Git Credential Manager (CVE-2024-50338), GitHub CLI (CVE-2024-53858), Git LFS (CVE-2024-53263),
//! cargo (CVE-2026-5222), gitoxide (CVE-2026-82249) and docker (CVE-2021-41092). The others are attacks that this
//! project invented.

use serde_json::{Value, json};

use support::git::gits;
use support::*;

fn cases() -> Value {
    serde_json::from_str(include_str!("../cases/origins.json")).expect("cases")
}

/// Returns a home with a token in its cache, so that only the host decides.
fn home_with_token(issuer: &Issuer) -> (Home, String) {
    let home = Home::new();
    home.keycloak_with(issuer, json!({"hosts": cases()["hosts"]}));
    let reply = Machine::of(&home).call(&["token"]);
    let token = String::from_utf8(reply.stdout).expect("a token").trim_end().to_owned();
    assert!(token.len() > 100);
    (home, token)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn hostile(cases: &Value) -> Vec<&str> {
    let found: Vec<&str> = cases["hostile"].as_object().expect("groups").values().flat_map(texts).collect();
    assert!(found.len() > 150);
    found
}

/// Calls the program with this standard input.
fn fed(machine: &Machine, args: &[&str], input: impl Into<Vec<u8>>) -> runai_credential::Reply {
    Machine { stdin: input.into(), ..machine.clone() }.call(args)
}

/// Splits a URL at the scheme and the first slash, as a careless caller of git's helper would.
fn as_git_has_it(url: &str) -> String {
    let (protocol, rest) = url.split_once("://").unwrap_or(("https", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    format!("protocol={protocol}\nhost={host}\npath={path}\n")
}

/// No helper prints a token for a hostile spelling, and none sends a request.
#[test]
fn no_hostile_spelling_gets_a_token() {
    let (issuer, cases) = (Issuer::start(), cases());
    let (home, token) = home_with_token(&issuer);
    let machine = Machine::of(&home);
    for url in hostile(&cases) {
        let git = fed(&machine, &["git", "get"], as_git_has_it(url));
        assert_eq!(git, runai_credential::Reply::default(), "git, {url:?}");

        let get = fed(&machine, &["get"], json!({"uri": url}).to_string());
        assert_eq!((get.status, get.stdout.as_slice()), (6, &b""[..]), "get, {url:?}: {}", get.stderr);
        assert!(!get.stderr.contains(&token));

        let by_url = machine.call(&["token", "--url", url]);
        assert!(matches!(by_url.status, 2 | 6) && by_url.stdout.is_empty(), "token --url, {url:?}: {}", by_url.stderr);

        // docker itself asks without the scheme. The loopback address is left out: docker uses http for it, and the
        // profile lists it with http.
        let bare = url.strip_prefix("https://").filter(|bare| *bare != "127.0.0.1:5001/");
        for spelling in [Some(url), bare].into_iter().flatten() {
            // Terraform names a host. clap takes some of these for options or for no value at all.
            let terraform = machine.call(&["terraform", "get", spelling]);
            let answer = (terraform.status, terraform.stdout.as_slice());
            assert!(matches!(answer, (0, b"{}\n") | (2, b"")), "terraform, {spelling:?}: {}", terraform.stderr);
            let docker = fed(&machine, &["docker", "get"], spelling);
            let said = String::from_utf8_lossy(&docker.stdout).into_owned();
            let not_mine = (said.as_str(), docker.status, docker.stderr.as_str());
            if spelling.trim().trim_start_matches('/').is_empty() {
                assert_eq!(docker.status, 1);
            } else {
                assert_eq!(not_mine, ("credentials not found in native keychain\n", 1, ""), "docker, {spelling:?}");
            }
        }
    }
    assert_eq!(issuer.token_requests(), 1, "no hostile spelling causes a request");
}

/// git parses the same spellings itself. It gets a token only if the host that it then contacts is listed.
#[test]
fn git_gets_token_only_for_listed_hosts() {
    let (issuer, cases) = (Issuer::start(), cases());
    let (home, token) = home_with_token(&issuer);
    home.install("git-credential-runai");
    home.write(".gitconfig", "[credential]\n\thelper = runai\n", 0o600);
    let hosts = texts(&cases["hosts"]);
    for (program, _) in gits() {
        for url in hostile(&cases) {
            let mut command = home.tool(&program, ["credential", "fill"]);
            command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
            command.stdin(std::process::Stdio::piped());
            let mut running = Running::start(&mut command);
            running.feed(format!("url={url}\n\n").into_bytes());
            let outcome = running.finish();
            if outcome.stdout.contains(&token) {
                let of = |key: &str| {
                    let lines = outcome.stdout.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
                    assert_eq!(lines.len(), 1, "{url:?}\n{outcome}");
                    lines[0].to_owned()
                };
                let origin = format!("{}://{}", of("protocol="), of("host="));
                assert!(hosts.contains(&origin.as_str()), "{url:?} as {origin}\n{outcome}");
            }
        }
    }
}

/// Every helper serves each harmless spelling of a listed host from the cache.
#[test]
fn every_good_spelling_is_served() {
    let (issuer, cases) = (Issuer::start(), cases());
    let (home, token) = home_with_token(&issuer);
    let machine = Machine::of(&home);
    let has_token = |reply: &runai_credential::Reply| String::from_utf8_lossy(&reply.stdout).contains(&token);
    for (url, origin) in cases["served"]["url"].as_object().expect("spellings") {
        assert!(texts(&cases["hosts"]).contains(&origin.as_str().expect("an origin")));
        assert!(has_token(&fed(&machine, &["get"], json!({"uri": url}).to_string())), "get, {url}");
        assert!(has_token(&machine.call(&["token", "--url", url])), "token --url, {url}");
        assert!(has_token(&fed(&machine, &["git", "get"], as_git_has_it(&url.to_ascii_lowercase()))), "git, {url}");
    }
    for spelling in texts(&cases["served"]["docker"]) {
        assert!(has_token(&fed(&machine, &["docker", "get"], spelling)), "docker, {spelling}");
    }
    assert_eq!(issuer.token_requests(), 1);
}
