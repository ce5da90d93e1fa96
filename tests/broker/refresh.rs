//! Tests of renewal in time and of failed renewal, on a machine whose clock the tests move.

#![allow(
    clippy::disallowed_methods,
    reason = "the rule of clippy.toml is for src/: how long a call may take is part of the contract"
)]

use std::time::{Duration, Instant};

use runai_credential::Reply;
use serde_json::json;

use support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a machine that has just fetched a token with a lifetime of one hour.
fn machine_with_token(issuer: &Issuer, home: &Home) -> Machine {
    home.keycloak(issuer);
    let machine = Machine::of(home);
    assert_eq!(token(&machine), issuer.last_token());
    assert_eq!(issuer.token_requests(), 1);
    machine
}

#[track_caller]
fn answered(reply: Reply) -> String {
    assert_eq!((reply.status, reply.stderr.as_str()), (0, ""));
    String::from_utf8(reply.stdout).expect("text").trim_end().to_owned()
}

#[track_caller]
fn token(machine: &Machine) -> String {
    answered(machine.call(&["token"]))
}

/// The program renews a token within the last minutes of its lifetime, and not earlier.
#[test]
fn token_is_renewed_when_window_begins() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    let first = issuer.last_token();
    // The window begins 390 s before the end, less up to 15 % that depend on the host's name.
    assert_eq!(token(&machine.after(HOUR - seconds(400))), first);
    assert_eq!(issuer.token_requests(), 1);
    let renewed = token(&machine.after(HOUR - seconds(325)));
    assert_ne!(renewed, first);
    assert_eq!(issuer.token_requests(), 2);
    // The new token is valid for an hour from its own start.
    assert_eq!(token(&machine.after(HOUR)), renewed);
    assert_eq!(issuer.token_requests(), 2);
}

/// The start of the window depends on the host's name, so that many hosts do not renew at once.
#[test]
fn hosts_renew_at_different_times() {
    let at = |host: &'static str| {
        let (issuer, home) = (Issuer::start(), Home::new());
        let machine = Machine { host, ..machine_with_token(&issuer, &home) };
        // Moves forward through the possible starts of the window until this host renews.
        (331..=391).rev().find(|left| {
            token(&machine.after(HOUR - seconds(*left)));
            issuer.token_requests() > 1
        })
    };
    let starts: std::collections::BTreeSet<_> = ["node-1", "node-2", "node-3", "gpu-a", "gpu-b"].map(at).into();
    assert!(starts.len() > 1 && starts.iter().all(|start| start.is_some_and(|left| left <= 390)), "{starts:?}");
}

/// If the server fails during the window, the program prints the cached token and no error. It retries after half a
/// minute.
#[test]
fn failing_server_keeps_cached_token_served() {
    for (name, answer) in [
        ("down", Answer::close()),
        ("slow", Answer::hang()),
        ("failing", Answer::runai_error(503, "down")),
        ("refusing", Answer::oauth_error(401, "invalid_client", "no")),
        ("redirecting", Answer::redirect(302, "https://elsewhere.example")),
        ("talking nonsense", Answer::text(200, "text/html", "<html>")),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        let machine = machine_with_token(&issuer, &home);
        let first = issuer.last_token();
        issuer.always(answer);
        let late = machine.after(HOUR - minutes(4));
        let started = Instant::now();
        assert_eq!(token(&late), first, "{name}");
        assert!(started.elapsed() < Duration::from_millis(2500), "{name}: {:?}", started.elapsed());
        let tried = issuer.connections();
        assert!(tried > 1, "{name}: it was tried");
        // The program does not retry for half a minute …
        for later in [seconds(1), seconds(25)] {
            let started = Instant::now();
            assert_eq!(token(&late.after(later)), first, "{name}");
            assert!(started.elapsed() < seconds(1), "{name}");
        }
        assert_eq!(issuer.connections(), tried, "{name}: within the pause");
        // … and then it does, until the token ends.
        assert_eq!(token(&late.after(seconds(33))), first, "{name}");
        assert!(issuer.connections() > tried, "{name}: after the pause");
    }
}

/// The program never prints an expired token, and fails within the profile's timeout.
#[test]
fn expired_token_is_never_served() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    issuer.always(Answer::runai_error(503, "down"));
    // A token with less than the margin of ten seconds left counts as expired.
    for late in [HOUR - seconds(9), HOUR + seconds(1), HOUR * 100] {
        let reply = machine.after(late).call(&["token"]);
        assert_eq!((reply.status, reply.stdout.as_slice()), (5, &b""[..]), "{late:?}");
    }
    // The failure comes within the profile's timeout, whatever the server does.
    let mut config = home.keycloak(&issuer);
    config["profiles"][PROFILE]["timeout"] = json!("1s");
    home.config(&config);
    for answer in [Answer::hang(), Answer::close(), Answer::drip(b"HTTP/1.1 200 OK\r\n", Duration::from_millis(300))] {
        issuer.always(answer);
        let started = Instant::now();
        assert_eq!(machine.after(HOUR * 2).call(&["token"]).status, 5);
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    }
}

/// A refresh has less time than a call without a token. Its timeout is not a failure for a call with the full timeout.
#[test]
fn short_refresh_failure_is_not_shared() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    let late = machine.after(HOUR - minutes(4));
    issuer.always(Answer::grant().after(Duration::from_millis(2600)));
    let needed = std::thread::scope(|scope| {
        let refresh = scope.spawn(|| token(&late));
        std::thread::sleep(Duration::from_millis(300));
        let needed = scope.spawn(|| late.call(&["token", "--min-validity", "30m"]));
        refresh.join().expect("a call");
        needed.join().expect("a call")
    });
    assert_eq!((needed.status, needed.stderr.as_str()), (0, ""));
}

/// Of 50 calls within the window, one renews the token. At most one call waits for the server.
#[test]
fn one_call_renews_others_do_not_wait() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home).after(HOUR - minutes(4));
    let first = issuer.last_token();
    issuer.set_delay(Duration::from_millis(500));
    let started = Instant::now();
    let tokens: Vec<(String, Duration)> = std::thread::scope(|scope| {
        let call = || scope.spawn(|| (token(&machine), started.elapsed()));
        let calls: Vec<_> = (0..50).map(|_| call()).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    assert_eq!(issuer.token_requests(), 2);
    let waited = tokens.iter().filter(|(_, elapsed)| *elapsed > Duration::from_millis(450)).count();
    assert!(waited <= 1, "{waited} calls waited for the server");
    assert!(tokens.iter().all(|(token, _)| *token == first || *token == issuer.last_token()));
}

/// After a jump of the clock, the program keeps only a token that is still valid for certain.
#[test]
fn clock_jump_keeps_only_valid_tokens() {
    let day = 24 * 3600 * 1000;
    for (name, later, set_by, boot_id, kept) in [
        // The machine may as well have been suspended for a day.
        ("set ahead by a day", minutes(1), day, "one boot", false),
        ("set back by a day", minutes(1), -day, "one boot", true),
        ("set back by a day, and the token ended meanwhile", HOUR, -day, "one boot", false),
        ("rebooted within the minute", minutes(1), 0, "another boot", true),
        ("rebooted and set back", minutes(1), -day, "another boot", false),
        ("rebooted and set ahead", minutes(1), day, "another boot", false),
    ] {
        let (issuer, home) = (Issuer::start(), Home::new());
        let machine = machine_with_token(&issuer, &home);
        let first = issuer.last_token();
        let jumped = Machine { wall_set_by: set_by, boot_id, ..machine.after(later) };
        assert_eq!(token(&jumped) == first, kept, "{name}");
    }
}

/// `token` prints a token with at least a minute left, if the server's lifetime allows that.
#[test]
fn script_token_has_a_minute_left() {
    let (issuer, home) = (Issuer::start(), Home::new());
    issuer.set_lifetime(seconds(200));
    let machine = machine_with_token(&issuer, &home);
    let first = issuer.last_token();
    // The window of a token of 200 s begins 40 s before its end. `token` needs 70 s and therefore renews earlier.
    let later = machine.after(seconds(140));
    assert!(answered(later.call(&["kubectl"])).contains(&first));
    assert_ne!(token(&later), first);
    // For a lifetime of 60 s, half of it is enough. Otherwise each call would send a request.
    issuer.set_lifetime(seconds(60));
    assert_eq!(answered(machine.call(&["token", "--refresh"])), issuer.last_token());
    let before = issuer.token_requests();
    assert_eq!(token(&machine.after(seconds(20))), issuer.last_token());
    assert_eq!(issuer.token_requests(), before);
}

/// kubectl calls again before the stated expiry only after a 401. The program then fetches another token, at most once
/// in five minutes.
#[test]
fn refused_kubectl_token_is_replaced_once() {
    const INFO: &str =
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#;
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home).with("KUBERNETES_EXEC_INFO", INFO);
    let machine = machine.after(seconds(30));
    let client = |parent, machine: &Machine| {
        let machine = Machine { parent: Some(parent), ..machine.clone() };
        answered(machine.call(&["kubectl"]))
    };
    std::fs::remove_dir_all(home.cache_dir()).expect("an empty cache");
    let first = client("7 100", &machine);
    assert_eq!(issuer.token_requests(), 2);
    // The token is five seconds old. If a server refuses it, another token would fail for the same reason.
    assert_eq!(client("7 100", &machine.after(seconds(5))), first);
    // A call by another client, or by another process with the same id, is not evidence of a refusal.
    let later = machine.after(seconds(60));
    assert_eq!(client("8 100", &later), first);
    assert_eq!(client("7 200", &later), first);
    assert_eq!(issuer.token_requests(), 2);
    // The same client calls again.
    let second = client("7 100", &later);
    assert_ne!(second, first);
    assert_eq!(issuer.token_requests(), 3);
    // A server that refuses every token does not cause a loop of requests.
    for again in [1, 20, 100, 290] {
        assert_eq!(client("7 100", &later.after(seconds(again))), second);
    }
    assert_eq!(issuer.token_requests(), 3);
    // Another client that had the first token gets the second one without a request.
    assert_eq!(client("8 100", &later.after(seconds(30))), second);
    assert_eq!(issuer.token_requests(), 3);
    assert_ne!(client("7 100", &later.after(seconds(310))), second);
    assert_eq!(issuer.token_requests(), 4);
    // If there is no other token, the program returns the cached one. It tries only briefly, and not again soon.
    issuer.always(Answer::hang());
    let started = Instant::now();
    let last = client("7 100", &later.after(seconds(700)));
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    let tried = issuer.token_requests();
    assert_eq!(client("9 900", &later.after(seconds(705))), last);
    assert_eq!(client("9 900", &later.after(seconds(720))), last);
    assert_eq!(issuer.token_requests(), tried);
}

/// The program stores a refusal of the client for half a minute and then sends a request again.
#[test]
fn refusal_expires_after_thirty_seconds() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    home.write("secret", "wrong", 0o600);
    let machine = Machine::of(&home);
    for (later, requests) in [(0, 1), (10, 1), (29, 1), (31, 2)] {
        assert_eq!(machine.after(seconds(later)).call(&["token"]).status, 4);
        assert_eq!(issuer.token_requests(), requests, "after {later} s");
    }
}

/// After a 429 with `Retry-After: 120`, the program sends no request for 120 s.
#[test]
fn retry_after_delays_the_next_request() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.always(Answer::json(429, json!({"error": "slow_down"})).header("retry-after", "120"));
    let machine = Machine::of(&home);
    for (later, requests) in [(0, 1), (60, 1), (119, 1), (121, 2)] {
        let reply = machine.after(seconds(later)).call(&["token"]);
        assert_eq!(reply.status, 5, "{}", reply.stderr);
        assert_eq!(issuer.token_requests(), requests, "after {later} s");
    }
}

/// A fetch removes files of unused identities, at most once a day. It keeps all other files.
#[test]
fn fetch_sweeps_old_files_once_daily() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    let tokens = home.cache_dir().join("tokens");
    let names = || -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&tokens)
            .expect("the cache")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name != "swept")
            .collect();
        names.sort();
        names
    };
    let old = names();
    std::fs::write(tokens.join("0123456789abcdef.json.77.new"), "half").expect("an orphan");
    std::fs::write(tokens.join("notes.json"), "another program's").expect("a foreign file");
    // Another identity is used, long after the token of the first has expired.
    let mut config = home.keycloak(&issuer);
    config["profiles"][PROFILE]["audience"] = json!("another");
    home.config(&config);
    token(&machine.after(minutes(30)));
    assert_eq!(names().len(), 4, "{:?}", names());
    token(&machine.after(HOUR * 24));
    assert_eq!(names().len(), 3, "the temporary file is removed, the expired token stays for a day: {:?}", names());
    token(&machine.after(HOUR * 49));
    let left = names();
    assert!(left.len() == 2 && left.contains(&"notes.json".to_owned()) && !left.contains(&old[0]), "{left:?}");
}

/// After the clock was set back, the program ignores a stored failure whose time is in the future.
#[test]
fn failure_from_future_is_not_shared() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.always(Answer::runai_error(503, "down"));
    let ahead = Machine { wall_set_by: 3_600_000, ..Machine::of(&home) };
    assert_eq!(ahead.call(&["token"]).status, 5);
    issuer.behave();
    assert_eq!(token(&Machine::of(&home).after(seconds(1))), issuer.last_token());
}

/// The program drops a token that a server refused even if it gets no other, and even during `Retry-After`.
#[test]
fn refused_token_is_dropped_despite_retry_after() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    issuer.always(Answer::runai_error(503, "down").header("retry-after", "600"));
    assert_eq!(machine.call(&["token", "--refresh"]).status, 5);
    assert_eq!(token(&machine), issuer.last_token(), "asking for another does not drop this one");
    let refused = Machine { stdin: issuer.last_token().into_bytes(), ..machine.clone() };
    assert_eq!(refused.call(&["token", "--rejected-stdin"]).status, 5);
    assert_eq!(machine.call(&["token"]).status, 5);

    // The refused token does not return if the new one cannot be stored.
    issuer.behave();
    let kept = token(&machine.after(minutes(11)));
    issuer.always(Answer::json(200, json!({"access_token": "opaque"})));
    let refused = Machine { stdin: kept.clone().into_bytes(), ..machine.after(minutes(11)) };
    assert_eq!(answered(refused.call(&["token", "--rejected-stdin"])), "opaque");
    assert_eq!(token(&machine.after(minutes(11))), "opaque");
}
