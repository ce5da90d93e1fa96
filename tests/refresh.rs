//! Renewal in time, and what happens when it cannot be: on a machine whose clock the tests move.

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

/// A machine that has just fetched a token of an hour.
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

#[test]
fn a_token_is_renewed_when_its_window_begins_and_not_before() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    let first = issuer.last_token();
    // The window begins 390 s before the end, less up to 15 % by the host's name.
    assert_eq!(token(&machine.after(HOUR - seconds(400))), first);
    assert_eq!(issuer.token_requests(), 1);
    let renewed = token(&machine.after(HOUR - seconds(325)));
    assert_ne!(renewed, first);
    assert_eq!(issuer.token_requests(), 2);
    // The new one is good for an hour from then.
    assert_eq!(token(&machine.after(HOUR)), renewed);
    assert_eq!(issuer.token_requests(), 2);
}

#[test]
fn hosts_renew_at_different_times() {
    let at = |host: &'static str| {
        let (issuer, home) = (Issuer::start(), Home::new());
        let machine = Machine { host, ..machine_with_token(&issuer, &home) };
        // Going back in time from the end of the window, when does this host no longer renew?
        (331..=391).rev().find(|left| {
            token(&machine.after(HOUR - seconds(*left)));
            issuer.token_requests() > 1
        })
    };
    let starts: std::collections::BTreeSet<_> = ["node-1", "node-2", "node-3", "gpu-a", "gpu-b"].map(at).into();
    assert!(starts.len() > 1 && starts.iter().all(|start| start.is_some_and(|left| left <= 390)), "{starts:?}");
}

#[test]
fn with_the_server_down_slow_or_refusing_the_cached_token_is_served_silently() {
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
        // Nobody tries again for half a minute …
        for later in [seconds(1), seconds(25)] {
            let started = Instant::now();
            assert_eq!(token(&late.after(later)), first, "{name}");
            assert!(started.elapsed() < seconds(1), "{name}");
        }
        assert_eq!(issuer.connections(), tried, "{name}: within the pause");
        // … and then one does, until the token really ends.
        assert_eq!(token(&late.after(seconds(33))), first, "{name}");
        assert!(issuer.connections() > tried, "{name}: after the pause");
    }
}

#[test]
fn a_token_that_has_ended_is_never_served() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    issuer.always(Answer::runai_error(503, "down"));
    // Less than the margin of ten seconds is ended too.
    for late in [HOUR - seconds(9), HOUR + seconds(1), HOUR * 100] {
        let reply = machine.after(late).call(&["token"]);
        assert_eq!((reply.status, reply.stdout.as_slice()), (5, &b""[..]), "{late:?}");
    }
    // Whatever the server does, the failure comes within the time that the profile gives.
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

/// Who had only the short time of a refresh is no witness for somebody who has all of it.
#[test]
fn a_refresh_that_was_too_short_is_not_the_failure_of_a_call_that_needs_a_token() {
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

#[test]
fn one_of_fifty_renews_and_the_others_do_not_wait() {
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

#[test]
fn clocks_that_jump_neither_keep_an_old_token_nor_lose_a_good_one() {
    let day = 24 * 3600 * 1000;
    for (name, later, set_by, boot_id, kept) in [
        // It may as well have been paused for a day.
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

#[test]
fn a_token_for_a_script_has_a_minute_left_if_it_can() {
    let (issuer, home) = (Issuer::start(), Home::new());
    issuer.set_lifetime(seconds(200));
    let machine = machine_with_token(&issuer, &home);
    let first = issuer.last_token();
    // The window of a token of 200 s begins 40 s before its end; a script gets one with 70 s.
    let later = machine.after(seconds(140));
    assert!(answered(later.call(&["kubectl"])).contains(&first));
    assert_ne!(token(&later), first);
    // Half the life is enough where a whole one is short: no request for each call.
    issuer.set_lifetime(seconds(60));
    assert_eq!(answered(machine.call(&["token", "--refresh"])), issuer.last_token());
    let before = issuer.token_requests();
    assert_eq!(token(&machine.after(seconds(20))), issuer.last_token());
    assert_eq!(issuer.token_requests(), before);
}

/// A client that asks again before the expiry that it was told had its token refused.
#[test]
fn a_kubernetes_client_whose_token_is_refused_gets_another_once_in_five_minutes() {
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
    // Too young to have been refused for anything but a reason that another token shares.
    assert_eq!(client("7 100", &machine.after(seconds(5))), first);
    // Other clients, and another process with the same number, are no sign of anything.
    let later = machine.after(seconds(60));
    assert_eq!(client("8 100", &later), first);
    assert_eq!(client("7 200", &later), first);
    assert_eq!(issuer.token_requests(), 2);
    // The same client again.
    let second = client("7 100", &later);
    assert_ne!(second, first);
    assert_eq!(issuer.token_requests(), 3);
    // A server that refuses everything makes no loop of it.
    for again in [1, 20, 100, 290] {
        assert_eq!(client("7 100", &later.after(seconds(again))), second);
    }
    assert_eq!(issuer.token_requests(), 3);
    // Another client that had the first token is served the second one without a request.
    assert_eq!(client("8 100", &later.after(seconds(30))), second);
    assert_eq!(issuer.token_requests(), 3);
    assert_ne!(client("7 100", &later.after(seconds(310))), second);
    assert_eq!(issuer.token_requests(), 4);
    // If there is no other, the one there is stays in use, and nobody waits long or often to find out.
    issuer.always(Answer::hang());
    let started = Instant::now();
    let last = client("7 100", &later.after(seconds(700)));
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    let tried = issuer.token_requests();
    assert_eq!(client("9 900", &later.after(seconds(705))), last);
    assert_eq!(client("9 900", &later.after(seconds(720))), last);
    assert_eq!(issuer.token_requests(), tried);
}

#[test]
fn a_refusal_is_forgotten_after_half_a_minute() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    home.write("secret", "wrong", 0o600);
    let machine = Machine::of(&home);
    for (later, requests) in [(0, 1), (10, 1), (29, 1), (31, 2)] {
        assert_eq!(machine.after(seconds(later)).call(&["token"]).status, 4);
        assert_eq!(issuer.token_requests(), requests, "after {later} s");
    }
}

#[test]
fn a_server_that_names_a_time_is_left_alone_until_then() {
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

/// Files of identities that nobody uses any more go away with a later fetch; everything else stays.
#[test]
fn old_files_are_swept_by_a_fetch_once_a_day() {
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
    std::fs::write(tokens.join("notes.json"), "somebody's").expect("a foreign file");
    // Another identity, which is used when the first has long ended.
    let mut config = home.keycloak(&issuer);
    config["profiles"][PROFILE]["audience"] = json!("another");
    home.config(&config);
    token(&machine.after(minutes(30)));
    assert_eq!(names().len(), 4, "{:?}", names());
    token(&machine.after(HOUR * 24));
    assert_eq!(names().len(), 3, "the orphan is gone, the ended token has its day: {:?}", names());
    token(&machine.after(HOUR * 49));
    let left = names();
    assert!(left.len() == 2 && left.contains(&"notes.json".to_owned()) && !left.contains(&old[0]), "{left:?}");
}

/// A failure that was met before the clock was set back does not come back for as long as that.
#[test]
fn a_failure_from_the_future_is_not_shared() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.always(Answer::runai_error(503, "down"));
    let ahead = Machine { wall_set_by: 3_600_000, ..Machine::of(&home) };
    assert_eq!(ahead.call(&["token"]).status, 5);
    issuer.behave();
    assert_eq!(token(&Machine::of(&home).after(seconds(1))), issuer.last_token());
}

/// A token that a server refused is dropped even if no other can be had, whatever the server asked for before.
#[test]
fn a_refused_token_is_dropped_while_the_server_wants_peace() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let machine = machine_with_token(&issuer, &home);
    issuer.always(Answer::runai_error(503, "down").header("retry-after", "600"));
    assert_eq!(machine.call(&["token", "--refresh"]).status, 5);
    assert_eq!(token(&machine), issuer.last_token(), "asking for another does not drop this one");
    let refused = Machine { stdin: issuer.last_token().into_bytes(), ..machine.clone() };
    assert_eq!(refused.call(&["token", "--rejected-stdin"]).status, 5);
    assert_eq!(machine.call(&["token"]).status, 5);

    // Nor does it come back where the new one could not be kept.
    issuer.behave();
    let kept = token(&machine.after(minutes(11)));
    issuer.always(Answer::json(200, json!({"access_token": "opaque"})));
    let refused = Machine { stdin: kept.clone().into_bytes(), ..machine.after(minutes(11)) };
    assert_eq!(answered(refused.call(&["token", "--rejected-stdin"])), "opaque");
    assert_eq!(token(&machine.after(minutes(11))), "opaque");
}
