//! Tests of proxies: which proxy the program uses, in comparison with curl, and what happens then.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use support::*;

/// Returns the HTTP status that curl gets for the same URL in the same environment.
fn curl(program: &Path, home: &Home, url: &str, vars: &[(String, String)]) -> String {
    let outcome = Running::start(
        Command::new(program)
            .env_clear()
            .envs(vars.iter().cloned())
            .args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
            .arg(home.path().join("ca.pem"))
            .args(["--data", "grant_type=none", url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .finish();
    outcome.code(0);
    outcome.stdout.clone()
}

/// The program uses the same proxy variables as curl, and sends the same CONNECT request.
///
/// In a value, `P` stands for the proxy, `PORT` for the issuer's port, and `_` for a space.
#[test]
fn proxy_variables_work_as_in_curl() {
    const LOCALHOST: &str = "localhost";
    const ADDRESS: &str = "127.0.0.1";
    let Some(program) = require("curl") else { return };
    let issuer = Issuer::start();
    let via = |host, vars: &'static str| (host, vars, true);
    let direct = |host, vars: &'static str| (host, vars, false);
    let rows = [
        direct(LOCALHOST, ""),
        via(LOCALHOST, "https_proxy=P"),
        via(LOCALHOST, "HTTPS_PROXY=P"),
        via(LOCALHOST, "all_proxy=P"),
        via(LOCALHOST, "ALL_PROXY=P"),
        direct(LOCALHOST, "http_proxy=P"),
        direct(LOCALHOST, "HTTP_PROXY=P"),
        direct(LOCALHOST, "HTTPS_PROXY="),
        via(LOCALHOST, "https_proxy=P HTTPS_PROXY=http://127.0.0.1:1"),
        via(LOCALHOST, "HTTPS_PROXY=P ALL_PROXY=http://127.0.0.1:1"),
        via(LOCALHOST, "https_proxy= HTTPS_PROXY=P"),
        via(LOCALHOST, "HTTPS_PROXY=localhost:PROXYPORT"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=localhost"),
        direct(LOCALHOST, "HTTPS_PROXY=P no_proxy=localhost"),
        direct(LOCALHOST, "ALL_PROXY=P NO_PROXY=localhost"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=localhost no_proxy=other.example"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=*"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=l*"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=ocalhost"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=host.localhost"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=.localhost"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=LOCALHOST"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=localhost."),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=localhost:PORT"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=other.example,localhost"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=other.example,_localhost,"),
        direct(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=other.example_localhost"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=127.0.0.1"),
        via(LOCALHOST, "HTTPS_PROXY=P NO_PROXY=,"),
        direct(ADDRESS, "HTTPS_PROXY=P NO_PROXY=127.0.0.1"),
        direct(ADDRESS, "HTTPS_PROXY=P NO_PROXY=127.0.0.0/8"),
        direct(ADDRESS, "HTTPS_PROXY=P NO_PROXY=10.0.0.0/8,127.0.0.1/32"),
        via(ADDRESS, "HTTPS_PROXY=P NO_PROXY=10.0.0.0/8"),
        via(ADDRESS, "HTTPS_PROXY=P NO_PROXY=localhost"),
        via(ADDRESS, "HTTPS_PROXY=P NO_PROXY=127.0.0"),
        via(ADDRESS, "HTTPS_PROXY=P NO_PROXY=.0.0.1"),
    ];
    for (host, vars, through) in rows {
        let (home, proxy) = (Home::new(), Proxy::start());
        let url = format!("https://{host}:{}", issuer.port());
        home.keycloak_with(&issuer, json!({"url": url}));
        let vars: Vec<(String, String)> = vars
            .split_whitespace()
            .filter_map(|var| var.split_once('='))
            .map(|(name, value)| {
                let value = match value {
                    "P" => proxy.url(),
                    value => value.replace("PROXYPORT", &proxy.port().to_string()),
                };
                (name.to_owned(), value.replace("PORT", &issuer.port().to_string()).replace('_', " "))
            })
            .collect();
        assert_eq!(curl(&program, &home, &format!("{url}/api/v2/token"), &vars), "400", "curl with {vars:?}");
        assert_eq!(proxy.connects().len(), usize::from(through), "curl with {vars:?} for {host}");

        let outcome = home.run_with(["token"], |command| {
            command.envs(vars.iter().cloned());
        });
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
        let connects = proxy.connects();
        assert_eq!(connects.len(), usize::from(through) * 2, "we with {vars:?} for {host}");
        if let [theirs, ours] = &connects[..] {
            assert_eq!(theirs, ours);
        }
    }
}

/// The profile's `proxy` overrides the variables. With `none`, the program uses no proxy.
#[test]
fn profile_proxy_overrides_the_environment() {
    let (issuer, proxy, unused) = (Issuer::start(), Proxy::start(), Proxy::start());
    for (key, through) in [(proxy.url(), 1), ("none".to_owned(), 0)] {
        let home = Home::new();
        home.keycloak_with(&issuer, json!({"proxy": key}));
        let before = proxy.connects().len();
        let outcome = home.run_with(["token"], |command| {
            command.env("HTTPS_PROXY", unused.url()).env("NO_PROXY", if through == 1 { "*" } else { "" });
        });
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
        assert_eq!(proxy.connects().len() - before, through, "{key}");
    }
    assert_eq!(unused.connections(), 0);
    let target = format!("localhost:{}", issuer.port());
    assert_eq!(proxy.connects(), [Connect { method: "CONNECT".into(), target, authorization: None }]);
}

/// The proxy resolves the name of the issuer and sees only a TLS connection.
#[test]
fn proxy_resolves_the_issuers_name() {
    let certificate = Pki::shared().server(&["app.run.ai"]);
    let issuer = Issuer::start_with(Options { certificate, ..Options::default() });
    let (home, proxy) = (Home::new(), Proxy::start());
    proxy.route("app.run.ai:443", ([127, 0, 0, 1], issuer.port()).into());
    home.keycloak_with(&issuer, json!({"url": "https://app.run.ai", "proxy": proxy.url()}));
    home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    assert_eq!(proxy.connects().len(), 1);
}

/// The program sends the proxy's login to the proxy, as curl does, and does not print it.
#[test]
fn proxy_login_is_sent_and_hidden() {
    const PASSWORD: &str = "p@ss:w0rd%";
    let Some(program) = require("curl") else { return };
    let (issuer, home, proxy) = (Issuer::start(), Home::new(), Proxy::start());
    proxy.require_login("us er", PASSWORD);
    let with = |login: &str| format!("http://{login}@localhost:{}", proxy.port());
    let right = with("us%20er:p%40ss%3Aw0rd%25");
    home.keycloak(&issuer);
    let vars = [("HTTPS_PROXY".to_owned(), right.clone())];
    assert_eq!(curl(&program, &home, &format!("{}/api/v2/token", issuer.url()), &vars), "400");
    let ours = home.run_with(["token", "-v"], |command| {
        command.envs(vars.clone());
    });
    ours.code(0).stdout_is(issuer.last_token() + "\n");
    ours.stderr_has(&format!("proxy: http://localhost:{} (from HTTPS_PROXY)", proxy.port()));
    let logins: Vec<_> = proxy.connects().into_iter().map(|connect| connect.authorization).collect();
    assert!(logins[0].is_some() && logins[0] == logins[1], "{logins:?}");

    home.keycloak_with(&issuer, json!({"proxy": right}));
    let inside = home.run(["token", "--refresh", "-v"]);
    inside.code(0);
    home.keycloak_with(&issuer, json!({"proxy": with("us%20er:canary-wr0ng")}));
    let wrong = home.run(["token", "--refresh", "-v"]);
    wrong.code(5).stdout_is("").stderr_has(&format!(
        "error: the proxy http://localhost:{} does not connect to {}: ",
        proxy.port(),
        issuer.url()
    ));
    wrong.stderr_has("407").stderr_has("\nhint: give user and password in the proxy's URL");
    for outcome in [ours, inside, wrong] {
        for part in ["w0rd", "wr0ng", "us er", "us%20er", "Basic", CLIENT_SECRET] {
            assert!(!outcome.stderr.contains(part), "{part} is shown\n{outcome}");
        }
    }
    // The issuer gets nothing through a refused connection. It got one request from curl and two from the program.
    assert_eq!(issuer.token_requests(), 3);
}

/// The error names a proxy that refuses the connection or cannot be reached.
#[test]
fn error_names_the_failed_proxy() {
    let issuer = Issuer::start();
    let (refusing, dead) = (Proxy::start(), refused_url().replace("https", "http"));
    for (status, url, what) in [
        (403, refusing.url(), "error: the proxy {proxy} does not connect to {url}: it answers HTTP {status}\n"),
        (407, refusing.url(), "error: the proxy {proxy} does not connect to {url}: it answers HTTP {status}\n"),
        (502, refusing.url(), "error: the proxy {proxy} does not connect to {url}: it answers HTTP {status}\n"),
        (0, dead, "error: cannot reach {url} through the proxy {proxy}: "),
    ] {
        let home = Home::new();
        home.keycloak_with(&issuer, json!({"proxy": url}));
        refusing.refuse(status);
        let outcome = home.run(["token"]);
        outcome.code(5).stdout_is("");
        outcome.stderr_has(
            &what.replace("{proxy}", &url).replace("{url}", issuer.url()).replace("{status}", &status.to_string()),
        );
        outcome.stderr_has("proxy");
    }
    assert_eq!(issuer.connections(), 0);
}

/// A proxy that does not answer ends with an error at the profile's timeout.
#[test]
fn slow_proxy_ends_at_the_timeout() {
    let (issuer, dripping, mute, hole) = (Issuer::start(), Proxy::start(), Mute::start(), BlackHole::start());
    dripping.drip(Duration::from_millis(50));
    std::thread::scope(|scope| {
        for proxy in [dripping.url(), mute.url().replace("https", "http"), hole.url().replace("https", "http")] {
            let issuer = &issuer;
            scope.spawn(move || {
                let home = Home::new();
                home.keycloak_with(issuer, json!({"proxy": proxy, "timeout": "1s"}));
                let outcome = home.run(["token"]);
                outcome.code(5).stdout_is("").within(Duration::from_secs(5));
                outcome
                    .stderr_has(&format!("error: no answer from {} through the proxy {proxy} in time\n", issuer.url()));
            });
        }
    });
    assert_eq!(issuer.connections(), 0);
}
