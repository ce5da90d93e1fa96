//! Tests of the sources of the client's secret. The program reports each fault without showing the secret and before it
//! sends a request.

use std::fs::{self, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use support::*;

/// An issuer, and a home with a profile for it. Each test chooses the secret's source.
struct Scene {
    issuer: Issuer,
    home: Home,
}

impl Scene {
    fn new() -> Scene {
        let (issuer, home) = (Issuer::start(), Home::new());
        home.write("ca.pem", issuer.ca_pem(), 0o644);
        Scene { issuer, home }
    }

    /// Configures the profile with these members in addition.
    fn profile(&self, members: Value) {
        let mut profile = json!({
            "url": self.issuer.url(), "realm": REALM, "client_id": CLIENT_ID, "ca_file": self.home.path().join("ca.pem"),
        });
        let (profile_map, members) = (profile.as_object_mut(), members.as_object());
        profile_map.into_iter().for_each(|map| map.extend(members.cloned().into_iter().flatten()));
        self.home.config(&json!({"profiles": {PROFILE: profile}}));
    }

    fn secret_file(&self, file: impl AsRef<Path>) {
        self.profile(json!({"client_secret": {"file": file.as_ref()}}));
    }

    /// Makes a script the secret's command.
    fn secret_script(&self, script: &str, timeout: &str) -> String {
        let path = self.home.write("print-secret", format!("#!/bin/sh\n{script}\n"), 0o700).display().to_string();
        self.profile(json!({"client_secret": {"command": [path]}, "timeout": timeout}));
        path
    }

    /// Asserts that the secret works: one request, one token.
    #[track_caller]
    fn works(&self) {
        let before = self.issuer.token_requests();
        let outcome = self.home.run(["token", "--refresh"]);
        outcome.code(0).stdout_is(format!("{}\n", self.issuer.last_token())).silent();
        assert_eq!(self.issuer.token_requests(), before + 1);
    }

    /// Asserts that the program refuses the secret with exactly these texts, does not send it and does not show it.
    #[track_caller]
    fn refused(&self, what: &str, hint: &str) -> Outcome {
        self.refused_with(what, hint, |_| {})
    }

    #[track_caller]
    fn refused_with(&self, what: &str, hint: &str, change: impl Fn(&mut Command)) -> Outcome {
        let connections = self.issuer.connections();
        let outcome = self.home.run_with(["token", "--refresh"], &change);
        outcome.code(3).stdout_is("").stderr_is(format!("runai-credential: error: {what}\nhint: {hint}\n"));
        let verbose = self.home.run_with(["token", "--refresh", "-v"], &change);
        verbose.code(3).stdout_is("");
        for told in [&outcome.stderr, &verbose.stderr] {
            assert!(!told.contains("canary"), "the secret was shown\n{outcome}\n{verbose}");
        }
        assert_eq!(self.issuer.connections(), connections, "the issuer was called\n{outcome}");
        outcome
    }
}

const FILE_HINT: &str = "put the secret alone on the first line of the file, at most 8 KiB of printable ASCII";
const FILE_SAFE: &str = "name an existing regular file that you may read, that not everybody may write, and that holds one line of at \
                         most 8 KiB";
const COMMAND_HINT: &str = "make the command print the secret on one line of standard output and nothing else, at most 8 KiB of \
                            printable ASCII";

/// A secret file has one line of printable ASCII, with or without a line ending.
#[test]
fn secret_file_has_one_ascii_line() {
    let scene = Scene::new();
    let path = scene.home.path().join("secret");
    scene.secret_file(&path);
    for ending in ["", "\n", "\r\n"] {
        scene.home.write("secret", format!("{CLIENT_SECRET}{ending}"), 0o600);
        scene.works();
    }
    for (bytes, fault) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"canary-secret\nsecond", "has more than one line"),
        (b"canary-secret\n\n", "has more than one line"),
        (b"canary-secret\r", "has more than one line"),
        (b"\ncanary-secret", "has more than one line"),
        (b"canary-secret\0", "has a character that is not printable ASCII"),
        (b"canary-secret\x1b[2J", "has a character that is not printable ASCII"),
        (b"canary-\xff\xfe", "has a character that is not printable ASCII"),
        ("canary-sécret".as_bytes(), "has a character that is not printable ASCII"),
        ("\u{feff}canary-secret".as_bytes(), "has a character that is not printable ASCII"),
    ] {
        scene.home.write("secret", bytes, 0o600);
        let what = format!("the client secret from the file {} {fault}; it was not sent", path.display());
        scene.refused(&what, FILE_HINT);
    }
}

/// The program accepts a secret of 8 KiB and refuses a longer one, without reading a huge file.
#[test]
fn oversized_secret_file_is_refused() {
    let scene = Scene::new();
    let path = scene.home.path().join("secret");
    scene.secret_file(&path);
    let long = format!("canary{}", "x".repeat(8 * 1024 - 6));
    scene.issuer.set_secret(&long);
    scene.home.write("secret", format!("{long}\r\n"), 0o600);
    scene.works();
    let too_long = format!("the client secret from the file {} is too long; it was not sent", path.display());
    scene.home.write("secret", format!("{long}x"), 0o600);
    scene.refused(&too_long, FILE_HINT);
    scene.home.write("secret", format!("{long}x\n"), 0o600);
    scene.refused(&too_long, FILE_HINT);

    let too_large = format!("cannot use the client secret file {}: it is too large", path.display());
    scene.home.write("secret", format!("{long}x\r\n"), 0o600);
    scene.refused(&too_large, FILE_SAFE);
    fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(64 << 30)).expect("a file with a hole");
    scene.refused(&too_large, FILE_SAFE).within(Duration::from_secs(2));
}

/// The program refuses a secret file that all users may write, and accepts one that the group may write.
#[test]
fn secret_file_writable_by_all_is_refused() {
    let scene = Scene::new();
    let path = scene.home.write("secret", CLIENT_SECRET, 0o600);
    scene.secret_file(&path);
    let what = format!(
        "cannot use the client secret file {}: everybody may write it (chmod o-w takes that away)",
        path.display()
    );
    for mode in [0o602, 0o606, 0o666, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
        scene.refused(&what, FILE_SAFE);
    }
    // Kubernetes mounts secrets with rights for the group.
    for mode in [0o400, 0o440, 0o644, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
        scene.works();
    }
}

/// The program follows links and reads the secret at each fetch. The links are as in a mounted Kubernetes secret:
/// `secret` → `..data/secret`, `..data` → a folder that is swapped.
#[test]
fn linked_secret_is_read_every_time() {
    let scene = Scene::new();
    let mount = scene.home.path().join("mount");
    scene.home.write("mount/..1/secret", "canary-old-secret", 0o440);
    scene.home.write("mount/..2/secret", CLIENT_SECRET, 0o440);
    symlink("..1", mount.join("..data")).expect("make a link");
    symlink("..data/secret", mount.join("secret")).expect("make a link");
    scene.secret_file(mount.join("secret"));
    scene.home.run(["token"]).code(4).stdout_is("");
    symlink("..2", mount.join("..next")).expect("make a link");
    fs::rename(mount.join("..next"), mount.join("..data")).expect("swap the folder");
    scene.works();
    fs::set_permissions(mount.join("..2/secret"), Permissions::from_mode(0o606)).expect("change the mode");
    let what = format!(
        "cannot use the client secret file {}: everybody may write it (chmod o-w takes that away)",
        mount.join("secret").display()
    );
    scene.refused(&what, FILE_SAFE);
}

/// The program refuses a missing file, a loop, a FIFO or a device within two seconds, and an unreadable file.
#[test]
fn unreadable_secret_file_is_refused_at_once() {
    let scene = Scene::new();
    let home = scene.home.path();
    symlink("nowhere", home.join("dangling")).expect("make a link");
    symlink("circle", home.join("circle")).expect("make a link");
    for (path, why) in [
        (home.join("missing"), "No such file or directory (os error 2)"),
        (home.join("dangling"), "No such file or directory (os error 2)"),
        (home.join("ca.pem/secret"), "Not a directory (os error 20)"),
        (home.join("work"), "it is not a regular file"),
        (scene.home.fifo("fifo"), "it is not a regular file"),
        ("/dev/zero".into(), "it is not a regular file"),
    ] {
        scene.secret_file(&path);
        let what = format!("cannot use the client secret file {}: {why}", path.display());
        scene.refused(&what, FILE_SAFE).within(Duration::from_secs(2));
    }
    scene.secret_file(home.join("circle"));
    let outcome = scene.home.run(["token"]);
    outcome.code(3).stderr_has(&format!("circle: {LINK_LOOP}"));
    // Root may read every file.
    if !rustix::process::geteuid().is_root() {
        let path = scene.home.write("secret", CLIENT_SECRET, 0o000);
        scene.secret_file(&path);
        let what = format!("cannot use the client secret file {}: Permission denied (os error 13)", path.display());
        scene.refused(&what, FILE_SAFE);
    }
    assert_eq!(scene.issuer.connections(), 0);
}

/// The program takes the secret from the variable that the profile names, and from no other.
#[test]
fn secret_comes_from_the_named_variable() {
    let scene = Scene::new();
    scene.profile(json!({"client_secret": {"env": "ACME_SECRET"}}));
    let outcome = scene.home.run_with(["token"], |command| {
        command.env("ACME_SECRET", CLIENT_SECRET);
    });
    outcome.code(0).stdout_is(format!("{}\n", scene.issuer.last_token())).silent();

    let what = "the variable ACME_SECRET, which should hold the client secret, is not set";
    let hint = "set ACME_SECRET, or name another client_secret in the profile";
    // The program does not fall back to the variable of the profile `env`.
    scene.refused_with(what, hint, |command| {
        command.env("RUNAI_CLIENT_SECRET", CLIENT_SECRET);
    });
    scene.refused_with(what, hint, |command| {
        command.env("ACME_SECRET", "");
    });
    for (value, fault) in [
        (&b"canary\nsecond"[..], "has more than one line"),
        (b"canary-\xff", "has a character that is not printable ASCII"),
        ("canary-é".as_bytes(), "has a character that is not printable ASCII"),
        (b"canary\tx", "has a character that is not printable ASCII"),
    ] {
        use std::os::unix::ffi::OsStrExt;
        let what = format!("the client secret from the variable ACME_SECRET {fault}; it was not sent");
        scene.refused_with(&what, "set the variable to the secret and nothing else", |command| {
            command.env("ACME_SECRET", std::ffi::OsStr::from_bytes(value));
        });
    }
}

/// The secret command gets its arguments unchanged, no shell, an empty standard input and `/` as its folder.
#[test]
fn secret_command_gets_arguments_without_input() {
    let scene = Scene::new();
    let script = "[ \"$#\" = 2 ] && [ \"$1\" = 'two  words' ] && [ \"$2\" = '$(id); *' ] || exit 9\n\
                  [ \"$(cat | wc -c)\" = 0 ] && [ \"$(pwd)\" = / ] || exit 8";
    let script = format!("#!/bin/sh\n{script}\necho {CLIENT_SECRET}\n");
    let path = scene.home.write("print-secret", script, 0o700);
    scene.profile(json!({"client_secret": {"command": [path, "two  words", "$(id); *"]}}));
    let outcome = scene.home.run_fed(["token"], "input that is not the command's\n");
    outcome.code(0).stdout_is(format!("{}\n", scene.issuer.last_token())).silent();
}

/// The secret command does not get secrets, the search path or the loader's library from the caller's environment.
#[test]
fn secret_command_gets_a_clean_environment() {
    let scene = Scene::new();
    let dump = scene.home.path().join("environment");
    scene.secret_script(&format!("/usr/bin/env > '{}'\necho {CLIENT_SECRET}", dump.display()), "10s");
    let outcome = scene.home.run_with(["kubectl", "--profile", PROFILE], |command| {
        command
            .env("RUNAI_CLIENT_ID", "canary-id")
            .env("RUNAI_CLIENT_SECRET", "canary-variable")
            .env("KUBERNETES_EXEC_INFO", r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}"#)
            .env("ACME_TOKEN", "canary-token")
            .env("LD_LIBRARY_PATH", "/canary")
            .env("BASH_ENV", "/canary")
            .env("ENV", "/canary")
            .env("HTTPS_PROXY", "")
            .env("PATH", "/canary:/usr/bin:/bin");
    });
    outcome.code(0).silent();
    let seen = fs::read_to_string(&dump).expect("the script wrote it");
    assert!(!seen.contains("canary"), "{seen}");
    let mut names: Vec<&str> = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // The shell adds these variables itself.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"], "{seen}");
    assert!(seen.contains("\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{seen}");
}

/// The error names the secret command and its fault, and does not show its output.
#[test]
fn failed_secret_command_output_stays_hidden() {
    let scene = Scene::new();
    for (script, fault) in [
        ("echo canary-out; echo canary-err >&2; exit 3", "failed (exit status: 3)"),
        ("echo canary-out; exit 1", "failed (exit status: 1)"),
        ("echo canary-out; kill -9 $$", "failed (signal: 9 (SIGKILL))"),
        ("yes canary", "printed more than 8 KiB, the longest secret"),
        ("head -c 8195 /dev/zero | tr '\\0' c", "printed more than 8 KiB, the longest secret"),
    ] {
        let path = scene.secret_script(script, "10s");
        let outcome =
            scene.refused(&format!("the secret command {path} {fault}"), &format!("run it by hand to see why: {path}"));
        outcome.within(Duration::from_secs(5));
        assert!(!outcome.left_behind, "{outcome}");
    }
    for (script, fault) in [
        ("true", "is empty"),
        ("echo", "is empty"),
        ("echo canary; echo second", "has more than one line"),
        ("printf 'canary\\tx'", "has a character that is not printable ASCII"),
        ("head -c 8193 /dev/zero | tr '\\0' c", "is too long"),
    ] {
        let path = scene.secret_script(script, "10s");
        let what = format!("the client secret from the command {path} {fault}; it was not sent");
        scene.refused(&what, COMMAND_HINT);
    }
    for (path, why) in [
        (scene.home.path().join("missing"), "No such file or directory (os error 2)"),
        (scene.home.write("not-executable", "#!/bin/sh\necho canary\n", 0o600), "Permission denied (os error 13)"),
        (scene.home.work_dir(), "Permission denied (os error 13)"),
    ] {
        scene.profile(json!({"client_secret": {"command": [path, "canary-argument"]}}));
        let path = path.display();
        let what = format!("the secret command {path} cannot be started: {why}");
        scene.refused(&what, &format!("run it by hand to see why: {path}"));
    }
}

/// After the timeout, the program kills the command with all its children. One case is a grandchild that keeps the pipe
/// open after the command has ended.
#[test]
fn slow_secret_command_is_killed_completely() {
    let scripts = [
        "trap '' TERM HUP INT; echo $$ > PIDS; echo canary; sleep 60",
        "echo $$ > PIDS; sleep 60 & echo $! >> PIDS; wait",
        "sleep 60 & echo $! > PIDS; echo canary; exit 0",
        "echo $$ > PIDS; exec >&-; sleep 60",
        "echo $$ > PIDS; while :; do :; done",
    ];
    let calls = scripts.map(|script| {
        let scene = Scene::new();
        let pids = scene.home.path().join("pids");
        let path = scene.secret_script(&script.replace("PIDS", &format!("'{}'", pids.display())), "800ms");
        let running = Running::start(&mut scene.home.command(["token"]));
        (script, scene, pids, path, running)
    });
    for (script, scene, pids, path, running) in calls {
        let outcome = running.finish();
        outcome.within(Duration::from_secs(4)).code(3).stdout_is("").stderr_is(format!(
            "runai-credential: error: the secret command {path} did not end in time\nhint: see that it asks for nothing, \
             such as a passphrase; a slow one can be given more time with timeout\n"
        ));
        assert_eq!(scene.issuer.connections(), 0);
        let pids = fs::read_to_string(&pids).expect("the script wrote it");
        assert!(!pids.trim().is_empty(), "no process ids after {script}");
        for pid in pids.split_whitespace() {
            assert!(process_ends(pid), "process {pid} is still there after: {script}");
        }
    }
}

/// A command in another process group cannot be killed, and neither can one that runs as another user. The answer comes
/// in time.
#[test]
#[cfg(target_os = "linux")]
fn unkillable_secret_command_delays_no_answer() {
    let scene = Scene::new();
    scene.secret_script("exec setsid --fork --wait sh -c 'exec >&-; sleep 3'", "500ms");
    let outcome = scene.home.run(["token"]);
    outcome.within(Duration::from_secs(2)).code(3).stderr_has("did not end in time");
}

/// A grandchild in its own session cannot be killed, and does not delay the answer.
#[test]
#[cfg(target_os = "linux")]
fn detached_grandchild_delays_no_answer() {
    let scene = Scene::new();
    let fifo = scene.home.fifo("end");
    // It ends when the test has opened the other end of the FIFO, or after 20 s.
    scene.secret_script(&format!("setsid timeout 20 cat '{}' & echo canary", fifo.display()), "800ms");
    let outcome = scene.home.run(["token"]);
    outcome.within(Duration::from_secs(4)).code(3).stderr_has("did not end in time");
    assert_eq!(scene.issuer.connections(), 0);
    // This open fails if no process has the FIFO open for reading.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = fs::OpenOptions::new().write(true).custom_flags(nonblock).open(&fifo);
    drop(opened.expect("the grandchild was there all the time"));
}

/// The secret command uses part of the timeout, and the request has the rest.
#[test]
fn secret_command_leaves_time_for_request() {
    let scene = Scene::new();
    scene.secret_script(&format!("sleep 0.3; echo {CLIENT_SECRET}"), "1500ms");
    scene.issuer.always(Answer::hang());
    let outcome = scene.home.run(["token"]);
    outcome.code(5).within(Duration::from_secs(4));
}

/// The program reads the client assertion at each fetch. The file must contain one JWT.
#[test]
fn client_assertion_is_read_every_time() {
    let scene = Scene::new();
    let path = scene.home.write("jwt", CLIENT_ASSERTION, 0o640);
    scene.profile(json!({"client_assertion": {"file": path}}));
    scene.works();
    let renewed = "canary-renewed.eyJzdWIiOiJjaS1waXBlbGluZSJ9.b64c0ffee";
    scene.issuer.set_assertion(renewed);
    scene.home.write("jwt", format!("{renewed}\n"), 0o640);
    scene.works();
    let request = scene.issuer.requests().pop().expect("a request");
    assert_eq!(request.field("client_assertion").as_deref(), Some(renewed));
    assert_eq!(request.field("client_secret"), None);

    let shown = path.display();
    let holds_one = "point client_assertion at a file that holds one JWT";
    for bytes in ["canary-secret", "canary.b", "canary.b.c.d", "canary .b.c", "canary.b+.c", "{\"canary\": 1}"] {
        scene.home.write("jwt", bytes, 0o640);
        scene.refused(
            &format!("the client assertion in {shown} is not a JWT; it was not sent"),
            &format!("{holds_one}, such as a projected service-account token"),
        );
    }
    for (bytes, fault) in [
        ("", "is empty"),
        ("canary.b.c\ncanary.b.c", "has more than one line"),
        ("canary.é.c", "has a character that is not printable ASCII"),
    ] {
        scene.home.write("jwt", bytes, 0o640);
        scene.refused(&format!("the client assertion in {shown} {fault}; it was not sent"), holds_one);
    }
    let safe = "name an existing regular file that you may read, that not everybody may write, and that holds one line of at \
                most 16 KiB";
    scene.home.write("jwt", format!("canary.{}.c", "b".repeat(16 * 1024)), 0o640);
    scene.refused(&format!("cannot use the client assertion file {shown}: it is too large"), safe);
    scene.home.write("jwt", CLIENT_ASSERTION, 0o646);
    let writable = "everybody may write it (chmod o-w takes that away)";
    scene.refused(&format!("cannot use the client assertion file {shown}: {writable}"), safe);
    fs::remove_file(&path).expect("remove it");
    let missing = "No such file or directory (os error 2)";
    scene.refused(&format!("cannot use the client assertion file {shown}: {missing}"), safe);
}
