//! Tests of the module `broker` with whole processes: they share one fetch or one failure, and a process that dies
//! loses nothing.

mod refresh;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use support::*;

/// Returns a home with the usual profile for `issuer`, changed by `change`.
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

/// The first call fetches and stores both tokens. Later calls find them in the cache and send no request.
#[test]
fn second_call_sends_no_request() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let first = home.run(["token"]);
    first.code(0).silent().stdout_is(format!("{}\n", issuer.last_token()));
    home.run(["token"]).code(0).silent().stdout_is(&first.stdout);
    home.run(["kubectl"]).code(0).silent().stdout_has(&issuer.last_token());
    // The cache has both tokens of the answer.
    home.run(["token", "--bearer", "id_token"]).code(0).stdout_is(format!("{}\n", issuer.last_id_token()));
    assert_eq!((issuer.token_requests(), issuer.connections()), (1, 1));
}

/// 200 processes that start with an empty cache send one request and print the same token.
#[test]
fn two_hundred_cold_processes_send_one_request() {
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

/// 50 calls that fail at the same time share the failure. Together they take at most as long as two of them in
/// sequence.
#[test]
fn waiting_processes_share_one_failure() {
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
        // A stored refusal would answer all calls without a request.
        std::fs::remove_dir_all(home.cache_dir()).expect("an empty cache");
        let outcomes = home.spawn_many(50, ["token"]);
        let slowest = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or_default();
        for outcome in &outcomes {
            outcome.code(code).stderr_is(&alone.stderr);
        }
        assert!(slowest < alone.elapsed * 2 + millis(300), "{name}: {slowest:?}, alone {:?}", alone.elapsed);
        // Calls that wait during a fetch share its failure. A second fetch serves the calls that came later.
        assert!(issuer.token_requests() - before <= requests, "{name}: {} requests", issuer.token_requests() - before);
    }
}

/// A waiting process takes over when the fetching process is killed. No temporary file is left.
#[test]
fn killed_fetch_is_taken_over_cleanly() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    issuer.set_delay(millis(600));
    let mut first = Running::start(&mut home.command(["token"]));
    // The process has the lock once its request is under way.
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

/// Returns the extensions of the files in the cache and in the folder of locks.
fn kinds_of_files(home: &Home) -> Vec<String> {
    let files: BTreeMap<PathBuf, u32> = home.files();
    let kept = files.keys().filter(|path| path.starts_with("cache") || path.starts_with("run"));
    let mut kinds: Vec<String> =
        kept.map(|path| path.extension().unwrap_or_default().to_string_lossy().into()).collect();
    kinds.sort();
    kinds
}

/// A stopped process holds the lock. Another call waits for half of its timeout and still gets a token.
#[test]
fn stopped_lock_holder_only_delays_others() {
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

/// The server needs more time than a process waits for the lock. All processes get a token, with at most three
/// requests.
#[test]
fn server_slower_than_lock_serves_all() {
    let issuer = Issuer::start();
    // A process waits half of the timeout for the first lock, and until seven eighths of it for the second. The
    // server's delay lies between, with a margin for a slow machine.
    let home = home_with(&issuer, |profile| profile["timeout"] = json!("4s"));
    issuer.set_delay(millis(2800));
    for outcome in home.spawn_many(8, ["token"]) {
        outcome.code(0).silent();
    }
    assert!(issuer.token_requests() <= 3, "{} requests", issuer.token_requests());
}

/// If an answer cannot be stored for others, the waiting processes fetch at once and not one after the other.
#[test]
fn unshareable_answers_are_fetched_in_parallel() {
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

/// A profile from the environment shares no token with a profile of the file, even if both have the same values. It
/// cannot read the file's token without the secret.
#[test]
fn env_profile_shares_no_token_with_file() {
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
    // Other trusted roots are another identity: another server may have a certificate under them.
    let outcome = home.run_with(["token"], |command| {
        command.env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CLIENT_ID", CLIENT_ID);
        command.env("RUNAI_CLIENT_SECRET", "not the secret").env("SSL_CERT_FILE", &ca);
    });
    outcome.code(4).stdout_is("");
    // Another configuration file is another identity: its profile may allow the token for any host.
    let elsewhere = home.write("elsewhere.json", std::fs::read(home.config_file()).expect("the file"), 0o600);
    let elsewhere = elsewhere.display().to_string();
    assert_ne!(home.run(["--config", &elsewhere, "token"]).code(0).stdout, own);
}

/// The program puts the lock and the marks into the first usable folder and does not touch the next one.
#[test]
fn locks_use_only_the_first_folder() {
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

/// An issuer may return the same token for as long as it lives. All 20 callers accept it, with at most two requests.
#[test]
fn repeated_token_serves_all_callers() {
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

/// The program creates files with mode 0600 and folders with 0700, even with a umask of 0.
#[test]
fn files_are_private_with_open_umask() {
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

/// Profiles that differ in scope, audience, resource, authentication or api have separate cache records.
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

/// `--refresh` replaces a cached token. `--min-validity` accepts a cached token that lives long enough, and fails if no
/// token can.
#[test]
fn refresh_and_min_validity_replace_token() {
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

/// 100 processes report the same refused token. The program sends one request, and all of them get the new token.
#[test]
fn reported_token_is_replaced_only_once() {
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
    // A late report of the old token sends no request, and neither does a malformed one.
    report(&home).code(0).stdout_is(&fresh);
    home.run_fed(["token", "--rejected-stdin"], "not a token\n").code(2).stdout_is("");
    assert_eq!(issuer.token_requests(), 2);
}

/// A reported token is removed from the cache even if the server gives no new one.
#[test]
fn reported_token_is_removed_without_replacement() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |_| {});
    let refused = home.run(["token"]).code(0).stdout.clone();
    issuer.always(Answer::runai_error(503, "down"));
    home.run_fed(["token", "--rejected-stdin"], refused).code(5).stdout_is("");
    home.run(["token"]).code(5).stdout_is("");
}

/// With `cache` set to `none`, each call sends a request and writes no file.
#[test]
fn call_without_cache_sends_request() {
    let issuer = Issuer::start();
    let home = home_with(&issuer, |profile| profile["cache"] = json!("none"));
    home.run(["token"]).code(0).silent();
    home.run(["token"]).code(0).silent();
    assert_eq!(issuer.token_requests(), 2);
    assert!(kinds_of_files(&home).is_empty());
}

/// A client that calls again after a refusal sends one request. A corrected secret is used at once.
#[test]
fn refusal_is_remembered_until_secret_changes() {
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
