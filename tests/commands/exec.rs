//! Tests of `exec`: it runs a program and keeps a token file fresh for it.

#![allow(clippy::disallowed_methods, reason = "the rule of clippy.toml is for src/: tests have a clock and variables")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use support::*;

/// Returns the folders of token files in a home's run-time folder.
fn folders(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.run_dir()).expect("the run-time folder").map(|entry| entry.expect("an entry"));
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("runai-credential-exec-"))
        .map(|entry| entry.path())
        .collect()
}

/// Returns the arguments `exec -- sh -c SCRIPT`.
fn shell(script: &str) -> [&str; 5] {
    ["exec", "--", "sh", "-c", script]
}

/// Waits until a condition holds. The limit of 30 s makes a failing test end.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns an issuer and a home whose profile uses it.
fn start() -> (Issuer, Home) {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    (issuer, home)
}

/// Starts `exec -- sh -c SCRIPT` and waits until the script has made the file `started`.
fn started(home: &Home, script: &str, change: impl FnOnce(&mut Command)) -> Running {
    let mut command = home.command(shell(script));
    change(&mut command);
    let running = Running::start(&mut command);
    until("the program has started", || home.work_dir().join("started").exists());
    running
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("run kill");
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Only the user can read the token file. It contains only the token, and `exec` removes it. The environment of the
/// program does not contain the token.
#[test]
fn token_file_is_private_and_removed() {
    let (issuer, home) = start();
    let script = r#"
        stat -c '%a %F' "$BEARER_TOKEN_FILE" "${BEARER_TOKEN_FILE%/*}"
        ls -A "${BEARER_TOKEN_FILE%/*}"
        case $BEARER_TOKEN_FILE in "$XDG_RUNTIME_DIR"/*) echo run ;; esac
        cat "$BEARER_TOKEN_FILE"; echo .
        env | grep -c "$(cat "$BEARER_TOKEN_FILE")"
    "#;
    let outcome = home.run(shell(script));
    let token = issuer.last_token();
    // `grep -c` finds nothing and exits with 1.
    outcome.silent().stdout_is(format!("600 regular file\n700 directory\ntoken\nrun\n{token}.\n0\n")).code(1);
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
    issuer.expect_token_requests(1);
}

/// The program uses the temporary folder if the run-time folder is not private, and fails if it has neither.
#[test]
fn temporary_folder_replaces_unsafe_runtime_folder() {
    let (_issuer, home) = start();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("a temporary folder");
    fs::set_permissions(home.run_dir(), fs::Permissions::from_mode(0o755)).expect("a folder that is not private");
    let outcome = home.run_with(shell("echo $BEARER_TOKEN_FILE"), |command| {
        command.env("TMPDIR", &temporary);
    });
    outcome.code(0).silent().stdout_has(&format!("{}/runai-credential-exec-", temporary.display()));
    let left: Vec<_> = fs::read_dir(&temporary).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("exec")), "{left:?}");

    let nowhere = home.path().join("nowhere");
    let outcome = home.run_with(shell("echo never"), |command| {
        command.env("TMPDIR", &nowhere).env_remove("XDG_RUNTIME_DIR");
    });
    outcome.code(125).stdout_is("").stderr_has("there is no place for the token's file").stderr_has("hint: ");
}

/// `exec` ends with the exit status or the signal of the program.
#[test]
fn exit_status_equals_program_status() {
    let (_issuer, home) = start();
    for status in [0, 1, 3, 125, 255] {
        home.run(shell(&format!("exit {status}"))).code(status).silent().stdout_is("");
    }
    for name in ["KILL", "TERM", "SEGV"] {
        let outcome = home.run(shell(&format!("kill -{name} $$")));
        assert_eq!(outcome.code, None, "{outcome}");
        outcome.silent();
        let number = Command::new("kill").args(["-l", name]).output().expect("run kill");
        assert_eq!(
            outcome.signal.map(|n| n.to_string()),
            Some(String::from_utf8_lossy(&number.stdout).trim().to_owned())
        );
    }
    // The status that a shell sees.
    let mut command = home.tool("sh", ["-c", r#""$0" exec -- sh -c 'kill -KILL $$'; echo $?"#]);
    command.arg(env!("CARGO_BIN_EXE_runai-credential"));
    Running::start(&mut command).finish().stdout_is("137\n");
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// `exec` and `env` exit with the same status for a program that cannot run: 127 or 126.
#[test]
fn unrunnable_program_fails_like_env() {
    let (_issuer, home) = start();
    let plain = home.write("plain", "no program", 0o644);
    let script = home.write("script", "#!/nowhere/at/all\n", 0o755);
    for (program, code) in [
        ("/nowhere/at/all", 127),
        ("no-such-program", 127),
        (script.to_str().expect("text"), 127),
        (plain.to_str().expect("text"), 126),
        ("/", 126),
    ] {
        let outcome = home.run(["exec", "--", program]);
        outcome.code(code).stdout_is("").stderr_has(&format!("error: cannot run {program}: ")).stderr_has("\nhint: ");
        let env = Command::new("env").arg(program).output().expect("run env");
        assert_eq!(env.status.code(), Some(code), "what env does with {program}");
    }
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// A wrong command line prints the usage and sends no request.
#[test]
fn wrong_command_line_prints_usage() {
    let (issuer, home) = start();
    for args in [
        &["exec"][..],
        &["exec", "--"],
        &["exec", "--", ""],
        &["exec", "ls"],
        &["exec", "ls", "--", "ls"],
        &["exec", "--env", "1A", "--", "true"],
        &["exec", "--env", "A=B", "--", "true"],
        &["exec", "--env", "BEARER_TOKEN_FILE", "--", "true"],
    ] {
        home.run(args).code(2).stdout_is("").stderr_has("runai-credential exec -- PROGRAM ARGUMENTS");
    }
    issuer.expect_token_requests(0);
    home.run(["exec", "--help"]).code(0).stdout_has("not renewed").stdout_has("BEARER_TOKEN_FILE");
}

/// `exec` passes arguments to the program unchanged, bytes that are not UTF-8 included.
#[test]
fn arguments_reach_program_unchanged() {
    let (_issuer, home) = start();
    home.install("runai-credential");
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n'\" -v");
    let mut command =
        home.command(["exec", "--", "sh", "-c", r#"printf '%s|' "$0" "$@""#, "zero", "--env", "--", "-v", ""]);
    command.arg(odd).stdout(std::process::Stdio::piped());
    let output = command.output().expect("run it");
    assert_eq!(output.stdout, b"zero|--env|--|-v||\xff\n'\" -v|");
    // The program gets the name that the user typed and is found by `PATH`.
    home.run(["exec", "--", "sh", "-c", "echo $0"]).code(0).stdout_is("sh\n");
    home.run(["exec", "--", "runai-credential", "--version"]).code(0).stdout_has("runai-credential ");
}

/// `exec` does not start the program without a token.
#[test]
fn missing_token_prevents_program_start() {
    let (issuer, home) = start();
    issuer.set_secret("another");
    home.run(shell("echo never")).code(4).stdout_is("").stderr_has("hint: ");
    home.keycloak_with(&issuer, json!({"client_secret": {"env": "NOT_SET"}}));
    home.run(shell("echo never")).code(3).stdout_is("").stderr_has("NOT_SET");
}

/// `exec` removes client secrets and stale tokens from the program's environment. `--env` sets only the named variable.
#[test]
fn program_environment_has_no_secrets() {
    let (issuer, home) = start();
    home.keycloak_with(&issuer, json!({"client_secret": {"env": "OUR_SECRET"}}));
    let run = |args: &[&str]| {
        home.run_with(args, |command| {
            let all = [("OUR_SECRET", CLIENT_SECRET), ("RUNAI_CLIENT_SECRET", CLIENT_SECRET), ("OTHER", "kept")];
            command.envs(all).env("BEARER_TOKEN", "stale");
        })
    };
    let outcome = run(&["exec", "--", "sh", "-c", "env; cat /proc/$PPID/cmdline /proc/$$/cmdline | tr '\\0' ' '"]);
    outcome.code(0).silent().stdout_has("OTHER=kept\n").stdout_has("BEARER_TOKEN_FILE=");
    let token = issuer.last_token();
    for hidden in [CLIENT_SECRET, "OUR_SECRET=", "RUNAI_CLIENT_SECRET=", "stale", &token] {
        assert!(!outcome.stdout.contains(hidden), "{hidden} in\n{outcome}");
    }
    run(&["exec", "--env", "MY_TOKEN", "--", "sh", "-c", "echo $MY_TOKEN"]).code(0).stdout_is(format!("{token}\n"));
    run(&["exec", "--env=BEARER_TOKEN", "--", "sh", "-c", "echo $BEARER_TOKEN"]).stdout_is(format!("{token}\n"));
}

/// Returns the text without bits for the signals 32 and 33, which `posix_spawn` of glibc changes in every program.
fn unlike_internal(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("SigIgn:") {
        Some(mask) => format!("ignored {:x}", u64::from_str_radix(mask.trim(), 16).expect("a mask") & 0x7fff_ffff),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The program has the same signals, limits, descriptors, folder and umask as without `exec`.
#[test]
fn program_inherits_signals_limits_and_descriptors() {
    let (_issuer, home) = start();
    let look =
        "ulimit -S -c; ulimit -H -c; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; echo; pwd; umask";
    let ours = env!("CARGO_BIN_EXE_runai-credential");
    for (before, soft, hard) in
        [("", "0", "unlimited"), ("trap '' HUP USR1; ", "17", "4242"), ("umask 027; ", "0", "0")]
    {
        let limits = format!("{before}ulimit -H -c {hard}; ulimit -S -c {soft}; ");
        let direct = format!("{limits}exec sh -c '{}'", look.replace('\'', r"'\''"));
        let through = format!("{limits}exec {ours} exec -- sh -c '{}'", look.replace('\'', r"'\''"));
        let run = |script: &str| Running::start(&mut home.tool("sh", ["-c", script])).finish();
        let (wanted, found) = (run(&direct), run(&through));
        wanted.code(0);
        assert_eq!(unlike_internal(&found.code(0).silent().stdout), unlike_internal(&wanted.stdout));
    }
}

/// Standard input, output and error of the program pass through `exec`.
#[test]
fn streams_pass_through_to_program() {
    let (_issuer, home) = start();
    let mut command = home.command(shell("cat; echo err >&2"));
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed(b"in and out".to_vec());
    running.finish().code(0).stdout_is("in and out").stderr_is("err\n");
}

/// `exec` passes seven signals to the program. It removes the token file when the program ends.
#[test]
fn signals_reach_program_and_nothing_remains() {
    let (_issuer, home) = start();
    for name in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"] {
        let _ = fs::remove_file(home.work_dir().join("started"));
        let script = format!("trap 'echo {name}; exit 9' {name}; touch started; while :; do sleep 0.05; done");
        let running = started(&home, &script, |_| {});
        assert_eq!(folders(&home).len(), 1);
        signal(running.pid(), name);
        running.finish().code(9).silent().stdout_is(format!("{name}\n"));
        assert_eq!(folders(&home), Vec::<PathBuf>::new(), "{name}");
    }
    // A signal that the program does not handle ends `exec` in the same way.
    let _ = fs::remove_file(home.work_dir().join("started"));
    let running = started(&home, "touch started; exec sleep 60", |_| {});
    signal(running.pid(), "TERM");
    let outcome = running.finish();
    assert_eq!(outcome.signal, Some(15), "{outcome}");
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// The signal test passes under `nohup` and in the background of a script, where signals are ignored from the start.
#[test]
fn signal_test_passes_with_ignored_signals() {
    let tests = std::env::current_exe().expect("the path of this process");
    let script = "trap '' HUP INT QUIT; exec \"$0\" --exact commands::exec::signals_reach_program_and_nothing_remains";
    let output = Command::new("sh").args(["-c", script]).arg(tests).output().expect("run the tests");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" 1 passed"), "{said}");
}

/// A later call removes the folder of a killed call and leaves the folder of a running call.
#[test]
fn next_call_removes_killed_calls_folder() {
    let (_issuer, home) = start();
    let mut running = started(&home, "echo $$ > pid; touch started; exec sleep 60", |_| {});
    let child = fs::read_to_string(home.work_dir().join("pid")).expect("the pid").trim().parse().expect("a number");
    let left = folders(&home);
    assert_eq!(left.len(), 1);
    // A folder in use stays.
    home.run(shell("true")).code(0);
    assert_eq!(folders(&home), left);
    running.kill();
    signal(child, "KILL");
    running.finish();
    assert_eq!(folders(&home), left);
    home.run(shell("true")).code(0).silent();
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// Issues opaque tokens that are valid for exactly their stated lifetime. A program reads the file repeatedly and calls
/// a site that checks these times.
struct Fleeting {
    lifetime: Duration,
    born: Mutex<Vec<(String, Instant)>>,
}

impl Fleeting {
    fn answer(&self) -> Answer {
        let mut born = self.born.lock().expect("the tokens");
        let token = format!("fleeting-{}", born.len());
        born.push((token.clone(), Instant::now()));
        Answer::json(200, json!({"access_token": token, "expires_in": self.lifetime.as_secs(), "token_type": "Bearer"}))
    }

    fn is_good(&self, token: &str) -> bool {
        let born = self.born.lock().expect("the tokens");
        born.iter().any(|(known, at)| known == token && at.elapsed() < self.lifetime)
    }
}

const POLL: &str = r#"
import os, ssl, sys, time, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
while True:
    token = open(os.environ['BEARER_TOKEN_FILE']).read()
    request = urllib.request.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + token})
    if urllib.request.urlopen(request, context=context).read() == b'enough':
        break
    time.sleep(0.02)
"#;

fn stays_fresh(lifetime: u64, lifetimes: u32, keys: serde_json::Value, outage: bool) {
    let Some(python) = require("python3") else { return };
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak_with(&issuer, keys);
    let lifetime = Duration::from_secs(lifetime);
    let tokens = Arc::new(Fleeting { lifetime, born: Mutex::default() });
    let begun = Instant::now();
    let failed = Arc::new(AtomicUsize::new(0));
    let (grant, failures) = (Arc::clone(&tokens), Arc::clone(&failed));
    issuer.script(move |_, _| {
        // Now and then the server is down for a quarter of a lifetime, from the moment when a token is first due.
        let last = grant.born.lock().expect("the tokens").last().map(|(_, born)| born.elapsed());
        let count = grant.born.lock().expect("the tokens").len();
        if outage && count % 3 == 2 && last.is_some_and(|age| age < lifetime * 3 / 4) {
            failures.fetch_add(1, Ordering::Relaxed);
            return Answer::text(503, "text/plain", "");
        }
        grant.answer()
    });
    let judge = Arc::clone(&tokens);
    let site = Site::start(move |request| {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        match judge.is_good(token) {
            false => Answer::text(401, "text/plain", ""),
            true if begun.elapsed() > lifetime * lifetimes => Answer::text(200, "text/plain", "enough"),
            true => Answer::text(200, "text/plain", "good"),
        }
    });
    let ca = home.path().join("ca.pem");
    let args = ["exec", "--", python.to_str().expect("text"), "-c", POLL, &site.url(), ca.to_str().expect("text")];
    home.run(args).code(0).silent();
    let born = tokens.born.lock().expect("the tokens").len();
    let lifetimes = lifetimes as usize;
    assert!((lifetimes..=lifetimes * 4).contains(&born), "{born} tokens in {lifetimes} lifetimes");
    assert_eq!(failed.load(Ordering::Relaxed) > 0, outage);
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// Over ten lifetimes, each token that the program reads from the file is valid.
#[test]
fn file_stays_fresh_over_ten_lifetimes() {
    stays_fresh(2, 10, json!({}), false);
}

/// Without a cache, each token that the program reads from the file is valid over ten lifetimes.
#[test]
fn file_stays_fresh_without_cache() {
    stays_fresh(2, 10, json!({"cache": "none"}), false);
}

/// The file stays fresh if an outage is shorter than the remaining lifetime.
///
/// After a failed refresh, the broker retries only within the last tenth of a token's lifetime. That tenth must suffice
/// for the renewal and for a request under way, on a machine that runs other tests. Tokens therefore live 12 s.
#[test]
fn file_stays_fresh_through_short_outage() {
    stays_fresh(12, 3, json!({}), true);
}

/// An outage longer than the token's lifetime does not end the program. The file is renewed when the server is back.
#[test]
fn file_is_renewed_after_long_outage() {
    let (issuer, home) = start();
    issuer.set_lifetime(Duration::from_secs(2));
    let script = r#"first=$(cat "$BEARER_TOKEN_FILE"); touch started
        while [ "$(cat "$BEARER_TOKEN_FILE")" = "$first" ]; do sleep 0.05; done; echo renewed"#;
    let running = started(&home, script, |_| {});
    issuer.always(Answer::text(503, "text/plain", ""));
    let asked = issuer.token_requests();
    until("attempts that fail", || issuer.token_requests() > asked + 4);
    issuer.behave();
    running.finish().code(0).silent().stdout_is("renewed\n");
}

/// As the first process of a container, `exec` reaps orphans, passes signals and renews the token.
#[test]
fn first_process_of_container_reaps_orphans() {
    let Some(unshare) = require("unshare") else { return };
    let (issuer, home) = start();
    issuer.set_lifetime(Duration::from_secs(2));
    let contained = |script: &str| {
        let mut command =
            home.tool(&unshare, ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.arg(env!("CARGO_BIN_EXE_runai-credential")).args(shell(script));
        command
    };
    if !Running::start(&mut contained("true")).finish().stderr.is_empty() {
        return lack("the right to make a pid namespace (unshare)");
    }
    // `exec` reaps orphans, returns the program's own status, and renews the token meanwhile.
    let script = r#"[ "$PPID" = 1 ] || exit 1
        for i in 1 2 3; do (sleep 0.2 & ) ; done
        first=$(cat "$BEARER_TOKEN_FILE")
        while [ "$(cat "$BEARER_TOKEN_FILE")" = "$first" ]; do sleep 0.05; done
        while grep -qs '^PPid:.1$' /proc/[2-9]*/status && [ "$(grep -ls '^PPid:.1$' /proc/[0-9]*/status | wc -l)" -gt 1 ]; do sleep 0.05; done
        grep -s '^State:.Z' /proc/[0-9]*/status; exit 7"#;
    Running::start(&mut contained(script)).finish().code(7).silent().stdout_is("");
    // A secret command is a child of the other thread and is not reaped as an orphan.
    let secret = home.path().join("secret");
    home.keycloak_with(&issuer, json!({"client_secret": {"command": ["/bin/cat", secret]}, "cache": "none"}));
    let asked = issuer.token_requests();
    let script = r#"for i in 1 2 3; do
            first=$(cat "$BEARER_TOKEN_FILE")
            while [ "$(cat "$BEARER_TOKEN_FILE")" = "$first" ]; do (sleep 0.01 &); sleep 0.02; done
        done"#;
    Running::start(&mut contained(script)).finish().code(0).silent();
    assert!(issuer.token_requests() >= asked + 4);
    // For a program that a signal ended, the status is the one of a shell: the first process cannot die by that signal.
    Running::start(&mut contained("kill -KILL $$")).finish().code(137).silent();
    // A signal to the first process reaches the program.
    let script = "trap 'echo term; exit 9' TERM; kill -TERM 1; while :; do sleep 0.05; done";
    Running::start(&mut contained(script)).finish().code(9).silent().stdout_is("term\n");
    assert_eq!(folders(&home), Vec::<PathBuf>::new());
}

/// ^C at a terminal goes to the whole process group. The program receives it once.
#[test]
fn terminal_interrupt_reaches_program_once() {
    let Some(python) = require("python3") else { return };
    let (_issuer, home) = start();
    let script = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b''
sent = False
while True:
    try:
        chunk = os.read(terminal, 1024)
    except OSError:
        break
    if not chunk:
        break
    seen += chunk
    if b'ready' in seen and not sent:
        sent = True
        os.write(terminal, b'\x03')
print(seen.count(b'interrupted'), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let program = r#"
import os, signal, sys, time
def heard(*_):
    # Not print: the signal may arrive while print runs.
    os.write(1, b'interrupted\n')
signal.signal(signal.SIGINT, heard)
os.write(1, b'ready\n')
end = time.monotonic() + 1
while time.monotonic() < end:
    time.sleep(0.05)
sys.exit(4)
"#;
    let python = python.to_str().expect("text");
    let ours = env!("CARGO_BIN_EXE_runai-credential");
    let mut command = home.tool(python, ["-c", script, ours, "exec", "--", python, "-c", program]);
    Running::start(&mut command).finish().code(0).silent().stdout_is("1 4\n");
}
