//! Tests of faults in the cache, the lock, the clock and the streams. The program prints a token if it can get one, and
//! changes no other file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use support::*;

/// Returns a home with a token in its cache, and the path and bytes of the record.
fn home_with_record(issuer: &Issuer) -> (Home, PathBuf, Vec<u8>) {
    let home = Home::new();
    home.keycloak(issuer);
    home.run(["token"]).code(0).silent();
    let tokens = home.cache_dir().join("tokens");
    let record = fs::read_dir(&tokens)
        .expect("the cache")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "json"))
        .expect("a record");
    let bytes = fs::read(&record).expect("read it");
    (home, record, bytes)
}

/// Returns the files outside the program's own folders: path, mode and contents.
fn others(home: &Home) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let own = |path: &Path| path.starts_with("cache/runai-credential") || path.starts_with("run/runai-credential");
    let files = home.files().into_iter().filter(|(path, _)| !own(path));
    files.map(|(path, mode)| (path.clone(), (mode, fs::read(home.path().join(path)).unwrap_or_default()))).collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the mode");
}

/// Damages the record at a path; the name describes the damage.
type Damage = (String, Box<dyn Fn(&Path)>);

/// Returns more than 500 ways to damage or replace a record.
fn damages(home: &Home, good: &[u8]) -> Vec<Damage> {
    let mut damages: Vec<Damage> = Vec::new();
    let mut add = |name: String, damage: Box<dyn Fn(&Path)>| damages.push((name, damage));
    let written =
        |bytes: Vec<u8>| -> Box<dyn Fn(&Path)> { Box::new(move |path| fs::write(path, &bytes).expect("write")) };
    for cut in (0..good.len()).step_by(good.len().div_ceil(160)) {
        add(format!("cut after {cut} bytes"), written(good[..cut].to_vec()));
    }
    for at in (0..good.len()).step_by(good.len().div_ceil(300)) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        add(format!("bit {} of byte {at} flipped", at % 8), written(bytes));
    }
    for at in (0..good.len()).step_by(good.len().div_ceil(60)) {
        let mut bytes = good.to_vec();
        bytes[at..].fill(0);
        add(format!("zeros from byte {at}"), written(bytes));
    }
    let text = String::from_utf8(good.to_vec()).expect("a record is text");
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("one newline", b"\n".to_vec()),
        ("a later version", text.replacen("runai-credential 1 ", "runai-credential 2 ", 1).into_bytes()),
        ("another program's", text.replacen("runai-credential 1 ", "other-credential 1 ", 1).into_bytes()),
        ("with something behind it", [good, b"x"].concat()),
        ("twice", [good, good].concat()),
        ("not UTF-8", vec![0xff; 500]),
        ("JSON alone", b"{\"access_token\":\"stolen\"}".to_vec()),
        ("an absurd length", text.replacen(" 1 ", " 1 9", 1).into_bytes()),
        ("a length of forty digits", format!("runai-credential 1 {} 0\n{{}}", "9".repeat(40)).into_bytes()),
    ] {
        add(name.to_owned(), written(bytes));
    }
    for mode in [0o604, 0o640, 0o644, 0o660, 0o666, 0o601] {
        add(format!("mode {mode:o}"), Box::new(move |path| set_mode(path, mode)));
    }
    let elsewhere = home.write("elsewhere", good, 0o600);
    let by = elsewhere.clone();
    add("a link to a good record".into(), Box::new(move |path| replace(path, |path| symlink(&by, path))));
    add("a link to nowhere".into(), Box::new(|path| replace(path, |path| symlink("nowhere", path))));
    add("a link to itself".into(), Box::new(|path| replace(path, |path| symlink(path, path))));
    add("with a second name".into(), Box::new(move |path| replace(path, |path| fs::hard_link(&elsewhere, path))));
    add(
        "a FIFO".into(),
        Box::new(|path| replace(path, |path| Ok(rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR)?))),
    );
    add(
        "a socket".into(),
        Box::new(|path| replace(path, |path| std::os::unix::net::UnixListener::bind(path).map(drop))),
    );
    add("a folder".into(), Box::new(|path| replace(path, |path| fs::create_dir(path))));
    add(
        "a gigabyte".into(),
        Box::new(|path| File::create(path).and_then(|file| file.set_len(1 << 30)).expect("a sparse file")),
    );
    if rustix::process::geteuid().is_root() {
        add(
            "a file of another user".into(),
            Box::new(|path| std::os::unix::fs::chown(path, Some(4711), Some(4711)).expect("chown")),
        );
    }
    damages
}

fn replace(path: &Path, with: impl FnOnce(&Path) -> std::io::Result<()>) {
    remove(path);
    with(path).expect("replace the record");
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).expect("remove the folder");
    } else {
        let _ = fs::remove_file(path);
    }
}

/// A damaged record counts as a miss: the call sends one request and changes no other file.
#[test]
fn damaged_record_costs_only_a_request() {
    let issuer = Issuer::start();
    let (home, record, good) = home_with_record(&issuer);
    let machine = Machine::of(&home);
    let damages = damages(&home, &good);
    assert!(damages.len() >= 500, "{}", damages.len());
    let before = others(&home);
    for (name, damage) in damages {
        remove(&record);
        fs::write(&record, &good).expect("a good record");
        set_mode(&record, 0o600);
        let requests = issuer.token_requests();
        damage(&record);
        let reply = machine.call(&["token"]);
        assert_eq!((reply.status, reply.stderr.as_str()), (0, ""), "{name}");
        assert_eq!(reply.stdout, format!("{}\n", issuer.last_token()).into_bytes(), "{name}");
        assert_eq!(issuer.token_requests(), requests + 1, "{name}: a damaged record is a miss");
    }
    remove(&record);
    assert_eq!(others(&home), before, "nothing else was touched");
}

/// If the cache folder cannot be written, each call sends a request, prints no error and changes no other file.
#[test]
fn unwritable_cache_costs_only_a_request() {
    let issuer = Issuer::start();
    for (name, place) in [
        ("a file in its place", "file"),
        ("below a file", "file/below"),
        ("a place where nothing can be made", "/proc/nowhere"),
        ("the null device", "/dev/null"),
        ("a relative path", "relative/cache"),
        ("nothing", ""),
    ] {
        let home = Home::new();
        home.keycloak(&issuer);
        home.write("file", "another program's", 0o600);
        let place =
            if place.starts_with("file") { home.path().join(place).display().to_string() } else { place.to_owned() };
        let requests = issuer.token_requests();
        for _ in 0..2 {
            let outcome = home.run_with(["token"], |command| {
                command.env("RUNAI_CREDENTIAL_CACHE_DIR", &place);
            });
            outcome.code(0).silent().stdout_is(issuer.last_token() + "\n");
        }
        // The program ignores a relative or empty path and uses the default folder.
        let kept = matches!(name, "a relative path" | "nothing");
        assert_eq!(issuer.token_requests() - requests, if kept { 1 } else { 2 }, "{name}");
        assert_eq!(fs::read(home.path().join("file")).expect("the file"), b"another program's", "{name}");
        assert!(!home.work_dir().join("relative").exists(), "{name}");
    }
}

/// The program does not use a cache folder that other users may open, and does not change its mode.
#[test]
fn folder_open_to_others_is_unused() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak(&issuer);
    for mode in [0o777, 0o755, 0o750] {
        let tokens = home.cache_dir().join("tokens");
        let _ = fs::remove_dir_all(&tokens);
        fs::create_dir_all(&tokens).expect("the folder");
        set_mode(&tokens, mode);
        home.run(["token"]).code(0).silent().stdout_is(issuer.last_token() + "\n");
        assert_eq!(fs::read_dir(&tokens).expect("the folder").count(), 0, "mode {mode:o}");
        assert_eq!(tokens.metadata().expect("the folder").permissions().mode() & 0o777, mode, "it was not “fixed”");
    }
    // The parent folder may be open, as a Kubernetes emptyDir is: the program's folder inside it is private.
    let open = home.path().join("emptyDir");
    fs::create_dir(&open).expect("the folder");
    set_mode(&open, 0o777);
    let requests = issuer.token_requests();
    for _ in 0..2 {
        let outcome = home.run_with(["token"], |command| {
            command.env("RUNAI_CREDENTIAL_CACHE_DIR", &open);
        });
        outcome.code(0).silent();
    }
    assert_eq!(issuer.token_requests(), requests + 1);
}

/// A limit of no file size, or of 12 descriptors, disables only the cache: the call prints a token.
#[test]
fn resource_limit_costs_only_the_cache() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak(&issuer);
    for limit in ["ulimit -f 0", "ulimit -n 12"] {
        let _ = fs::remove_dir_all(home.cache_dir());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{limit}; exec {} token", env!("CARGO_BIN_EXE_runai-credential"))]);
        for (name, value) in home.command(["token"]).get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start(&mut command).finish().code(0).silent().stdout_is(issuer.last_token() + "\n");
    }
}

/// Environment variables are enough for a call without a home directory.
#[test]
fn environment_is_enough_without_home() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak(&issuer);
    let outcome = home.run_with(["token"], |command| {
        command.env_clear().env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CLIENT_ID", CLIENT_ID);
        command.env("RUNAI_CLIENT_SECRET", CLIENT_SECRET).env("RUNAI_CA_FILE", home.path().join("ca.pem"));
    });
    outcome.code(0).silent().stdout_is(issuer.last_token() + "\n");
}

/// A process that never releases the lock delays a fetch and does not prevent it. A hit ignores the lock.
#[test]
fn unreleased_lock_only_delays_a_fetch() {
    let issuer = Issuer::start();
    let (home, record, _) = home_with_record(&issuer);
    let mut config = home.keycloak(&issuer);
    config["profiles"][PROFILE]["timeout"] = json!("1s");
    home.config(&config);
    let lock = home.run_dir().join("runai-credential");
    let lock = fs::read_dir(lock).expect("the place of locks").map(|entry| entry.expect("an entry").path()).next();
    let held = File::options().write(true).open(lock.expect("a lock")).expect("open the lock");
    held.lock().expect("take the lock");
    home.run(["token"]).code(0).silent();
    assert_eq!(issuer.token_requests(), 1, "a hit does not look at the lock");
    fs::remove_file(record).expect("an empty cache");
    home.run(["token"]).code(0).silent().within(Duration::from_secs(2));
    assert_eq!(issuer.token_requests(), 2);
}

/// A fetch that is killed at any moment leaves no file that makes a later call fail.
#[test]
fn killed_fetch_never_breaks_later_calls() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak(&issuer);
    for delay in 0..60 {
        let mut running = Running::start(&mut home.command(["token", "--refresh"]));
        std::thread::sleep(Duration::from_micros(delay * 500));
        running.kill();
        running.finish();
        home.run(["token"]).code(0).silent();
    }
}

/// The program fails with 74 if it cannot write all of its output. A closed stream counts as the null device.
#[test]
fn unwritable_standard_output_fails_the_call() {
    let issuer = Issuer::start();
    let (home, ..) = home_with_record(&issuer);
    let said = |why: &str| {
        format!(
            "runai-credential: error: standard output cannot be written: {why}\n\
             hint: check where the output goes, and discard what was written\n"
        )
    };
    let program = env!("CARGO_BIN_EXE_runai-credential");
    for (streams, code, why) in [
        (">/dev/full", 74, "No space left on device (os error 28)"),
        // A descriptor that is open and cannot be written.
        ("1</dev/null", 74, "Bad file descriptor (os error 9)"),
        // A closed stream is the null device, as in every Rust program.
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("</dev/null >/dev/null", 0, ""),
        ("<&-", 0, ""),
    ] {
        let script = format!("{program} token {streams}");
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script]);
        for (name, value) in home.command(["token"]).get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let outcome = Running::start(&mut command).finish();
        outcome.code(code).stderr_is(if code == 0 { String::new() } else { said(why) });
    }
    // The reader of the pipe has closed it: the program prints an error and no signal ends it.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let outcome = home.run_with(["token"], |command| {
        command.stdout(writer);
    });
    outcome.code(74).stderr_is(said("Broken pipe (os error 32)"));
    // With standard error closed as well, only the status shows the failure.
    let outcome = home.run_with(["token", "--profile", "missing"], |command| {
        command.stderr(Stdio::null());
    });
    outcome.code(3);
}
