//! The policy of `src/broker.rs` as processes see it: one fetch for all, one failure for all, and nothing lost when a
//! process dies in the middle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use support::*;

/// A home with the usual profile for `issuer`, changed by `change`.
fn home_with(issuer: &Issuer, change: impl FnOnce(&mut Value)) -> Home {
    let home = Home::new();
    let mut config = home.keycloak(issuer);
    change(&mut config["profiles"][PROFILE]);
    home.config(&config);
    home
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_second_call_makes_no_request() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let first = home.run(["token"]);
    first.code(0).silent().stdout_is(format!("{}\n", issuer.last_token()));
    home.run(["token"]).code(0).silent().stdout_is(&first.stdout);
    home.run(["kubectl"]).code(0).silent().stdout_has(&issuer.last_token());
    // Both tokens of the answer were kept.
    home.run(["token", "--bearer", "id_token"]).code(0).stdout_is(format!("{}\n", issuer.last_id_token()));
    assert_eq!((issuer.token_requests(), issuer.connections()), (1, 1));
}

#[test]
fn two_hundred_cold_processes_make_one_request() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    issuer.set_delay(millis(100));
    let outcomes = home.spawn_many(200, ["token"]);
    let token = format!("{}\n", issuer.last_token());
    for outcome in &outcomes {
        outcome.code(0).stdout_is(&token).silent();
    }
    assert_eq!(issuer.token_requests(), 1);
}

/// Fifty calls that all have to fail take no longer together than two of them one after the other.
#[test]
fn a_failure_is_shared_by_those_who_wait() {
    for (name, answer, code, requests) in [
        ("slow and failing", Answer::runai_error(503, "Please try again in few minutes.").after(millis(400)), 5, 6),
        ("denied", Answer::oauth_error(401, "unauthorized_client", "Invalid client").after(millis(400)), 4, 1),
    ] {
        let issuer = Issuer::start();
        let home = home_with(&issuer, |_| {});
        issuer.always(answer);
        let alone = home.run(["token"]);
        alone.code(code);
        let before = issuer.token_requests();
        // The memory of a refusal would make the storm trivial.
        std::fs::remove_dir_all(home.cache_dir()).expect("an empty cache");
        let outcomes = home.spawn_many(50, ["token"]);
        let slowest = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or_default();
        for outcome in &outcomes {
            outcome.code(code).stderr_is(&alone.stderr);
        }
        assert!(slowest < alone.elapsed * 2 + millis(300), "{name}: {slowest:?}, alone {:?}", alone.elapsed);
        // Those who came while one was at it share its failure; a second round is for those who came after.
        assert!(issuer.token_requests() - before <= requests, "{name}: {} requests", issuer.token_requests() - before);
    }
}

#[test]
fn a_killed_fetch_is_taken_over_and_leaves_nothing_behind() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    issuer.set_delay(millis(600));
    let mut first = Running::start(&mut home.command(["token"]));
    // It has the lock once its request is under way.
    while issuer.token_requests() == 0 {
        std::thread::sleep(millis(5));
    }
    let others: Vec<_> = (0..20).map(|_| Running::start(&mut home.command(["token"]))).collect();
    std::thread::sleep(millis(100));
    first.kill();
    for other in others {
        other.finish().code(0).silent();
    }
    first.finish();
    assert!(issuer.token_requests() <= 2, "{} requests", issuer.token_requests());
    assert_eq!(
        kinds_of_files(&home),
        ["", "", "json", "lock"],
        "a record, a lock, marks of callers and of the last sweep"
    );
}

/// The extensions of the files in the cache and the place of locks.
fn kinds_of_files(home: &Home) -> Vec<String> {
    let files: BTreeMap<PathBuf, u32> = home.files();
    let kept = files.keys().filter(|path| path.starts_with("cache") || path.starts_with("run"));
    let mut kinds: Vec<String> =
        kept.map(|path| path.extension().unwrap_or_default().to_string_lossy().into()).collect();
    kinds.sort();
    kinds
}

#[test]
fn a_process_that_stops_with_the_lock_delays_the_others_and_no_more() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |profile| profile["timeout"] = json!("2s"));
    issuer.fail_first(1, Answer::hang());
    let mut stuck = Running::start(&mut home.command(["token"]));
    while issuer.token_requests() == 0 {
        std::thread::sleep(millis(5));
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(stuck.pid() as i32).expect("a pid"),
        rustix::process::Signal::STOP,
    )
    .expect("stop it");
    home.run(["token"]).code(0).silent().within(millis(2500));
    stuck.kill();
    stuck.finish();
}

/// A server that takes longer than anybody is ready to wait for the lock: two requests, and an answer for everybody.
#[test]
fn a_server_slower_than_the_patience_of_the_others_serves_them_all() {
    let issuer = Issuer::start();
    // The lock is waited for half of that, and by the second in line for seven eighths; in between there is room for a slow
    // machine.
    let home = home_with(&issuer, |profile| profile["timeout"] = json!("4s"));
    issuer.set_delay(millis(2800));
    for outcome in home.spawn_many(8, ["token"]) {
        outcome.code(0).silent();
    }
    assert!(issuer.token_requests() <= 3, "{} requests", issuer.token_requests());
}

/// Where a fetch leaves nothing that others could share, they do not queue for their own.
#[test]
fn what_cannot_be_shared_is_not_waited_for_one_after_the_other() {
    let unshared = json!({ "access_token": "opaque", "token_type": "Bearer" });
    for (name, args, place, answer, requests) in [
        ("a token of unknown lifetime", ["token", "-n"], None, Answer::json(200, unshared), 10),
        ("a cache that cannot be written", ["token", "-n"], Some("/proc/nowhere"), Answer::grant(), 10),
        (
            "no ID token",
            ["token", "--bearer=id_token"],
            None,
            Answer::json(200, json!({"access_token": "t", "expires_in": 60})),
            10,
        ),
        ("a token that is too short", ["token", "--min-validity=9h"], None, Answer::grant(), 2),
    ] {
        let issuer = Issuer::start();
        let home = home_with(&issuer, |_| {});
        issuer.always(answer.after(millis(500)));
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let mut command = home.command(args);
                if let Some(place) = place {
                    command.env("RUNAI_CREDENTIAL_CACHE_DIR", place);
                }
                Running::start(&mut command)
            })
            .collect();
        let slowest = calls.into_iter().map(|call| call.finish().elapsed).max().unwrap_or_default();
        assert!(slowest < millis(2500), "{name}: {slowest:?}");
        assert!(issuer.token_requests() <= requests, "{name}: {} requests", issuer.token_requests());
    }
}

/// A profile that somebody describes in the environment, in the words of a profile of the file and without its secret,
/// finds nothing of it, and leaves nothing to it.
#[test]
fn a_profile_of_the_environment_shares_nothing_with_one_of_the_file() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let own = home.run(["token"]).code(0).stdout.clone();
    let ca = home.path().join("ca.pem");
    let described = |secret: &str| {
        home.run_with(["token"], |command| {
            command.env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CLIENT_ID", CLIENT_ID);
            command.env("RUNAI_CLIENT_SECRET", secret).env("RUNAI_CA_FILE", &ca);
        })
    };
    described("not the secret").code(4).stdout_is("");
    let other = described(CLIENT_SECRET).code(0).stdout.clone();
    assert_ne!(other, own);
    home.run(["token"]).code(0).stdout_is(&own);
    // Other roots of trust are another identity too: who answers to them may be somebody else.
    let outcome = home.run_with(["token"], |command| {
        command.env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CLIENT_ID", CLIENT_ID);
        command.env("RUNAI_CLIENT_SECRET", "not the secret").env("SSL_CERT_FILE", &ca);
    });
    outcome.code(4).stdout_is("");
    // And so is another configuration file, which may not bind the token to anything.
    let elsewhere = home.write("elsewhere.json", std::fs::read(home.config_file()).expect("the file"), 0o600);
    let elsewhere = elsewhere.display().to_string();
    assert_ne!(home.run(["--config", &elsewhere, "token"]).code(0).stdout, own);
}

/// Lock and marks stand in one place, and another is not touched.
#[test]
fn the_first_place_for_locks_is_the_only_one() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).expect("a folder");
    let fetch = |run: Option<PathBuf>| {
        home.run_with(["token", "--refresh"], |command| {
            command.env("TMPDIR", &temporary);
            match run {
                Some(run) => command.env("XDG_RUNTIME_DIR", run),
                None => command.env_remove("XDG_RUNTIME_DIR"),
            };
        })
    };
    fetch(Some(home.run_dir())).code(0);
    assert_eq!(std::fs::read_dir(&temporary).expect("the folder").count(), 0);
    assert_eq!(
        std::fs::read_dir(home.run_dir().join("runai-credential")).expect("the place").count(),
        2,
        "lock, marks"
    );
    fetch(None).code(0);
    assert_eq!(std::fs::read_dir(&temporary).expect("the folder").count(), 1);
}

/// An issuer may give the same token again for as long as it lives: then that is the best there is, for all.
#[test]
fn an_issuer_that_repeats_its_token_is_asked_once() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let token = home.run(["token", "-n"]).code(0).stdout.clone();
    issuer.always(Answer::json(200, json!({"access_token": token, "expires_in": 3600})).after(millis(200)));
    let before = issuer.token_requests();
    let calls: Vec<_> = (0..20).map(|_| Running::start(&mut home.command(["token", "-n", "--refresh"]))).collect();
    for call in calls {
        call.finish().code(0).stdout_is(&token);
    }
    assert!(issuer.token_requests() - before <= 2, "{} requests", issuer.token_requests() - before);
}

#[test]
fn files_are_private_whatever_the_umask() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_runai-credential");
    command.args(["-c", &format!("umask 0; exec {program} token")]).stdout(std::process::Stdio::piped());
    for (name, value) in home.command(["token"]).get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    Running::start(&mut command).finish().code(0);
    for (path, mode) in home.tree().into_iter().filter(|(path, _)| path.starts_with("cache/runai-credential")) {
        let wanted = if mode & 0o170_000 == 0o040_000 { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o7777, wanted, "{}", path.display());
    }
}

#[test]
fn different_identities_never_share_a_token() {
    let issuer = Issuer::start();
    let home = Home::new();
    let config = home.keycloak(&issuer);
    let mut profiles = json!({});
    for (name, key, value) in [
        ("plain", "bearer", "access_token"),
        ("scope", "scope", "openid profile"),
        ("audience", "audience", "runai"),
        ("resource", "resource", "https://runai.example"),
        ("basic", "client_auth", "basic"),
        ("v2", "api", "v2"),
    ] {
        profiles[name] = config["profiles"][PROFILE].clone();
        profiles[name][key] = json!(value);
    }
    home.config(&json!({ "profiles": profiles }));
    let names: Vec<&str> = profiles.as_object().unwrap().keys().map(String::as_str).collect();
    let mut tokens: Vec<String> =
        names.iter().map(|name| home.run(["token", "--profile", name]).code(0).stdout.clone()).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), names.len());
    assert_eq!(issuer.token_requests(), names.len());
}

#[test]
fn refresh_gets_another_token_and_min_validity_a_long_one() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    issuer.set_lifetime(Duration::from_secs(600));
    let first = home.run(["token"]).code(0).stdout.clone();
    let second = home.run(["token", "--refresh"]).code(0).stdout.clone();
    assert_ne!(first, second);
    home.run(["token"]).code(0).stdout_is(&second);
    home.run(["token", "--min-validity", "9m"]).code(0).stdout_is(&second);
    assert_eq!(issuer.token_requests(), 2);
    home.run(["token", "--min-validity", "11m"]).code(7).stdout_is("").stderr_is(
        "runai-credential: error: the server's tokens live for 600 s, which is less than the 660 s asked for\n\
             hint: ask for less with --min-validity, or have the token lifetime raised on the server\n",
    );
}

#[test]
fn a_refused_token_is_replaced_once_for_all_who_report_it() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let refused = home.run(["token"]).code(0).stdout.clone();
    issuer.set_delay(millis(100));
    let report = |home: &Home| home.run_fed(["token", "--rejected-stdin"], refused.clone());
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..100).map(|_| scope.spawn(|| report(&home))).collect();
        running.into_iter().map(|outcome| outcome.join().expect("a call")).collect()
    });
    let fresh = format!("{}\n", issuer.last_token());
    for outcome in &outcomes {
        outcome.code(0).stdout_is(&fresh).silent();
    }
    assert_eq!(issuer.token_requests(), 2);
    // A late report of the old token costs nothing, and neither does rubbish.
    report(&home).code(0).stdout_is(&fresh);
    home.run_fed(["token", "--rejected-stdin"], "not a token\n").code(2).stdout_is("");
    assert_eq!(issuer.token_requests(), 2);
}

#[test]
fn a_refused_token_is_forgotten_even_if_there_is_no_other() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let refused = home.run(["token"]).code(0).stdout.clone();
    issuer.always(Answer::runai_error(503, "down"));
    home.run_fed(["token", "--rejected-stdin"], refused).code(5).stdout_is("");
    home.run(["token"]).code(5).stdout_is("");
}

#[test]
fn without_a_cache_each_call_asks() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |profile| profile["cache"] = json!("none"));
    home.run(["token"]).code(0).silent();
    home.run(["token"]).code(0).silent();
    assert_eq!(issuer.token_requests(), 2);
    assert!(kinds_of_files(&home).is_empty());
}

#[test]
fn a_client_that_retries_a_refusal_asks_once_and_a_corrected_secret_works_at_once() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    home.write("secret", "wrong\n", 0o600);
    let refusals: Vec<String> = (0..5).map(|_| home.run(["kubectl"]).code(4).stdout_is("").stderr.clone()).collect();
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(issuer.token_requests(), 1);
    home.write("secret", format!("{CLIENT_SECRET}\n"), 0o600);
    home.run(["kubectl"]).code(0).silent();
    assert_eq!(issuer.token_requests(), 2);
}
