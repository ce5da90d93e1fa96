//! Tests of misbehaving servers and networks: the program reports a clear error in time.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use support::*;

/// The time that a busy machine may need to start and end a process, in addition to the tested time.
const SLACK: Duration = Duration::from_secs(4);

/// An answer, and the error and hint that the program prints for it.
struct Fault {
    name: &'static str,
    answer: Answer,
    what: &'static str,
    hint: &'static str,
}

fn fault(name: &'static str, answer: Answer, what: &'static str, hint: &'static str) -> Fault {
    Fault { name, answer, what, hint }
}

/// An answer without a grant is an error that describes it. The program does not send the request again.
#[test]
fn answer_without_grant_is_not_retried() {
    let good = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;
    let json = |body: &str| Answer::text(200, "application/json", body);
    let check_url = "check url and api: something that is no token endpoint answered there";
    let no_endpoint = "check url: something that is no token endpoint answers there";
    let token_endpoint = "check url and api, and which kind of token the server is set to give this client";
    for Fault { name, answer, what, hint } in [
        fault("a login page", Answer::text(200, "text/html", "<html>Log in</html>"), "of type text/html", check_url),
        fault("a grant that says it is text", Answer::text(200, "text/plain", good), "of type text/plain", check_url),
        fault(
            "no type",
            Answer::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{good}", good.len())),
            "without a content type",
            check_url,
        ),
        fault("HTML that says it is JSON", json("<html>"), "an answer that is not JSON", check_url),
        fault("half a grant", json(r#"{"access_token":"#), "an answer that is not JSON, or cut short", check_url),
        fault("a list", json(r#"["t"]"#), "an answer that is not JSON", check_url),
        fault("nothing", json(""), "an answer that is not JSON, or cut short", check_url),
        fault("no token", json(r#"{"expires_in":60}"#), "has no access_token", token_endpoint),
        fault(
            "a DPoP token",
            json(r#"{"access_token":"t","token_type":"DPoP"}"#),
            "of type DPoP, not a bearer token",
            token_endpoint,
        ),
        fault(
            "a token with a line end",
            json(r#"{"access_token":"t\nHost: evil"}"#),
            "has a character that no bearer token has",
            token_endpoint,
        ),
        fault(
            "a token with a quote",
            json(r#"{"access_token":"t\""}"#),
            "has a character that no bearer token has",
            token_endpoint,
        ),
        fault(
            "a token of 33 KiB",
            json(&format!(r#"{{"access_token":"{}"}}"#, "t".repeat(33 * 1024))),
            "is longer than 32 KiB",
            token_endpoint,
        ),
        fault(
            "300 KiB",
            json(&format!(r#"{{"x":"{}","access_token":"t"}}"#, "x".repeat(300 * 1024))),
            "is larger than 256 KiB",
            no_endpoint,
        ),
        fault("a body without end", Answer::endless_body("application/json"), "is larger than 256 KiB", no_endpoint),
        fault("headers without end", Answer::endless_headers(), "is larger than 32 KiB", no_endpoint),
        fault(
            "no HTTP",
            Answer::raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            "the exchange with https://localhost:",
            "check that url leads to the control plane",
        ),
        fault(
            "no content",
            Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"),
            "there is no token endpoint at",
            "check url",
        ),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.always(answer);
        let outcome = Outcome { what: name.to_owned(), ..home.run(["token"]) };
        outcome.code(5).stdout_is("").stderr_has(what).stderr_has(&format!("\nhint: {hint}")).within(SLACK * 2);
        assert_eq!(outcome.stderr.lines().count(), 2, "{name}");
        assert_eq!(issuer.token_requests(), 1, "{name}");
    }
}

/// The program sends the request up to three times if the answer ends early.
#[test]
fn truncated_answer_is_requested_again() {
    for (name, answer) in [
        ("a cut body", Answer::cut(r#"{"access_token":"t""#)),
        ("a cut head", Answer::raw("HTTP/1.1 200 OK\r\nContent-Ty")),
        ("a hung-up server", Answer::close()),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.keycloak(&issuer);
        issuer.always(answer);
        let outcome = Outcome { what: name.to_owned(), ..home.run(["token"]) };
        outcome.code(5).stdout_is("").stderr_has("closed the connection without a whole answer").within(SLACK);
        assert_eq!(issuer.token_requests(), 3, "{name}");
        issuer.fail_first(1, Answer::cut("{"));
        home.run(["token"]).code(0).stdout_is(issuer.last_token() + "\n").silent();
    }
}

/// The program follows no redirect, not even to the same server, because it would send the secret there.
#[test]
fn no_redirect_is_followed() {
    let (issuer, other) = (Issuer::start(), Issuer::start());
    for status in [301, 302, 303, 307, 308] {
        for to in [other.url(), issuer.url()] {
            let home = Home::new();
            home.keycloak(&issuer);
            let to = format!("{to}/api/v2/token");
            issuer.always(Answer::redirect(status, &to));
            let before = issuer.requests().len();
            let outcome = home.run(["token"]);
            outcome.code(5).stdout_is("").stderr_has(&format!(
                "error: the server redirects to {to} (HTTP {status}), and a secret is not sent after a redirect ("
            ));
            outcome.stderr_has("\nhint: set url (or token_url) to the address that really answers\n");
            assert_eq!(issuer.requests().len() - before, 1);
        }
    }
    assert_eq!(other.connections(), 0);
}

/// Asserts that the program ends at its timeout of one second, and not much later.
#[track_caller]
fn assert_in_time(name: &str, outcome: Outcome, host: &str) {
    let outcome = Outcome { what: name.to_owned(), ..outcome };
    outcome.code(5).stdout_is("").within(Duration::from_secs(1) + SLACK);
    outcome.stderr_has(&format!("error: no answer from {host} in time\nhint: check the network"));
    assert!(outcome.elapsed >= Duration::from_millis(900), "gave up early\n{outcome}");
}

/// A server that is slow in any part of the exchange ends with an error at the profile's timeout.
#[test]
fn slow_server_ends_at_the_timeout() {
    let every = Duration::from_millis(20);
    let grant =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{\"access_token\":\"";
    let head = format!("HTTP/1.1 200 OK\r\nX-Filler: {}", "a".repeat(10_000));
    let one_by_one = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(2_000));
    let trickle = Answer::text(200, "application/json", &" ".repeat(100_000)).paced(every);
    std::thread::scope(|scope| {
        for (name, answer) in [
            ("no answer", Answer::hang()),
            ("a late answer", Answer::grant().after(Duration::from_secs(20))),
            ("a head byte by byte", Answer::drip(head, every)),
            ("headers byte by byte", Answer::drip(one_by_one, every)),
            ("all byte by byte", Answer::drip(grant, every)),
            ("a body byte by byte", trickle),
        ] {
            scope.spawn(move || {
                let (issuer, home) = (Issuer::start(), Home::new());
                home.keycloak_with(&issuer, json!({"timeout": "1s"}));
                issuer.always(answer);
                assert_in_time(name, home.run(["token"]), issuer.url());
            });
        }
        scope.spawn(|| {
            let (issuer, home, mute) = (Issuer::start(), Home::new(), Mute::start());
            home.keycloak_with(&issuer, json!({"timeout": "1s", "url": mute.url()}));
            assert_in_time("no TLS", home.run(["token"]), &mute.url());
        });
        scope.spawn(|| {
            let (issuer, home, hole) = (Issuer::start(), Home::new(), BlackHole::start());
            home.keycloak_with(&issuer, json!({"timeout": "1s", "url": hole.url()}));
            assert_in_time("a black hole", home.run(["token"]), &hole.url());
        });
    });
}

/// The error names the address if no server listens there, or a server without TLS.
#[test]
fn address_without_server_is_reported() {
    let issuer = Issuer::start();
    let plain = Mute::with_reply(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    for (url, what, hint) in [
        (refused_url(), "cannot reach {url}: ", "check url, the network, and whether a proxy is needed"),
        (plain.url(), "no TLS connection with {url}: ", "check that the port speaks https with TLS 1.2 or newer"),
    ] {
        let home = Home::new();
        home.keycloak_with(&issuer, json!({"url": url}));
        let outcome = home.run(["token"]);
        outcome.code(5).stdout_is("").within(SLACK);
        outcome.stderr_has(&format!("error: {}", what.replace("{url}", &url))).stderr_has(&format!("\nhint: {hint}"));
    }
}

/// Runs `token --refresh` in its own mount namespace, with `content` as the system file `path`.
///
/// `None`: there are no mount namespaces here, which skips a test on a developer's machine and fails it in CI.
#[track_caller]
fn in_namespace(home: &Home, path: &str, content: &str) -> Option<Outcome> {
    let file = home.write("bound", content, 0o644);
    let program = home.command(["token", "--refresh"]);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""]);
    command.arg(file).arg(path).arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outcome = Running::start(&mut command).finish();
    let refused = outcome.stderr.starts_with("unshare:") || outcome.stderr.starts_with("mount:");
    if refused {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no mount namespace here\n{outcome}");
        let _ = writeln!(std::io::stderr(), "skipped: no mount namespace here: {}", outcome.stderr.trim());
    }
    (!refused).then_some(outcome)
}

/// The error names a host whose address cannot be found.
#[test]
fn name_without_address_is_reported() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak_with(&issuer, json!({"url": "https://nowhere.example"}));
    // The test uses no name server of the network, so that the result does not depend on it. musl does not read
    // nsswitch.conf.
    let (file, text, said) = if cfg!(target_env = "musl") {
        ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", "Try again")
    } else {
        ("/etc/nsswitch.conf", "hosts: files\n", "Name or service not known")
    };
    let Some(outcome) = in_namespace(&home, file, text) else { return };
    outcome.code(5).stdout_is("").within(Duration::from_secs(9)).stderr_is(format!(
        "runai-credential: error: cannot find the address of https://nowhere.example: {said}\n\
         hint: check its spelling and the name server\n",
    ));
}

/// The program limits an endless answer by its size and does not keep it in memory.
#[test]
fn endless_answer_does_not_fill_memory() {
    // Address space in KiB: the program needs a small part of it, and an answer in memory would soon need more.
    let limited = |home: &Home, kib: u32| {
        let program = home.command(["token"]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -v {kib} && exec \"$@\""), "sh"]).arg(program.get_program());
        command.args(program.get_args()).env_clear().env("MALLOC_ARENA_MAX", "1");
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).finish()
    };
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak_with(&issuer, json!({"cache": "none"}));
    limited(&home, 64 * 1024).code(0).silent();
    // The limit has an effect: with so little memory the program cannot start.
    assert_ne!(limited(&home, 1024).code, Some(0));
    for answer in
        [Answer::endless_body("application/json"), Answer::endless_body("text/html"), Answer::endless_headers()]
    {
        issuer.always(answer);
        limited(&home, 64 * 1024).code(5).stderr_has("is larger than");
    }
}

/// If one of several addresses does not answer, the program tries the next after a second.
#[test]
fn dead_address_costs_only_a_second() {
    const NAME: &str = "control-plane.test";
    let certificate = Pki::shared().server(&[NAME]);
    let issuer = Issuer::start_with(Options { certificate, ..Options::default() });
    let home = Home::new();
    let url = format!("https://{NAME}:{}", issuer.port());
    home.keycloak_with(&issuer, json!({"url": url}));
    let hosted = |hosts: &str| in_namespace(&home, "/etc/hosts", hosts);
    let alone = hosted(&format!("127.0.0.1 {NAME}\n"));
    let Some(alone) = alone else { return };
    alone.code(0).stdout_is(issuer.last_token() + "\n").silent();

    let mut tried = 0;
    for dead in ["[::1]", "127.0.0.2"] {
        let Ok(hole) = BlackHole::at(format!("{dead}:{}", issuer.port()).parse().expect("an address")) else {
            continue;
        };
        let address = hole.address().ip();
        let outcome = hosted(&format!("{address} {NAME}\n127.0.0.1 {NAME}\n")).expect("it worked a moment ago");
        outcome.code(0).stdout_is(issuer.last_token() + "\n").silent();
        outcome.within(Duration::from_secs(1) + SLACK);
        tried += 1;
    }
    assert!(tried > 0, "no loopback address could be made a black hole");
}
