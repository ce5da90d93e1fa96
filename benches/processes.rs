//! Measures whole processes as their callers start them: `cargo bench`, or one part of it: `cargo bench -- hit`.
//!
//! Times on a shared machine vary. The benchmark therefore runs the compared processes in turns, and prints the median
//! of the ratios within a turn. It also counts instructions and system calls, which do not vary. `-- check` asserts the
//! limits of a hit and is part of CI; the other parts only print. `docs/performance.md` keeps the results, with date
//! and machine.

#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a benchmark prints and looks at the clock")]

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{CLIENT_ID, CLIENT_SECRET, Home, Issuer, PROFILE, client, program};

/// The build target of the release.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// The most instructions that a hit of the static program may need, by command. Measured on 2026-11-25, plus 2 %.
const MOST_INSTRUCTIONS: [(&str, u64); 5] =
    [("kubectl", 287_500), ("token", 271_500), ("git get", 293_500), ("docker get", 283_000), ("get", 267_500)];

/// The most system calls of such a hit.
const MOST_SYSTEM_CALLS: usize = 75;

/// The most time that a hit of the glibc build may take, as a share of the time of `git credential-store get`.
///
/// It is the median of the ratios of interleaved runs. The glibc build is not the release, so this limit is wide: the
/// ratio was 1.12 on 2026-11-25. By instructions it is 2.2, because git spends most of its time in page faults and the
/// kernel.
const MOST_OF_GIT: f64 = 1.2;

const PARTS: [(&str, fn()); 6] =
    [("check", check), ("count", count), ("hit", hit), ("miss", miss), ("storm", storm), ("scale", scale)];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n## {name}\n");
            part();
        }
    }
}

/// A process to run repeatedly: its name in the table, and its command.
struct Process {
    name: &'static str,
    command: Box<dyn Fn() -> Command>,
    input: &'static str,
}

impl Process {
    fn new(name: &'static str, command: impl Fn() -> Command + 'static) -> Process {
        Process { name, command: Box::new(command), input: "" }
    }

    fn fed(name: &'static str, input: &'static str, command: impl Fn() -> Command + 'static) -> Process {
        Process { name, command: Box::new(command), input }
    }

    /// Runs the process once, asserts its success, and returns its wall time and its CPU time.
    fn run(&self) -> (Duration, Duration) {
        let mut command = (self.command)();
        command.stdout(Stdio::null()).stderr(Stdio::inherit());
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let (before, started) = (cpu(), Instant::now());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if let Some(mut stdin) = child.stdin.take() {
            // A process that does not read its standard input is no error.
            let _ = stdin.write_all(self.input.as_bytes());
        }
        let status = child.wait().expect("a child");
        let took = (started.elapsed(), cpu() - before);
        assert!(status.success(), "{}: {status}", self.name);
        took
    }
}

/// Returns the user and system time of all children so far.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("usage");
    let micros =
        |time: nix::sys::time::TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    micros(usage.user_time()) + micros(usage.system_time())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The times of processes that ran in turns, for each process: wall time and CPU time in milliseconds, one value a
/// turn.
struct Turns {
    walls: Vec<Vec<f64>>,
    cpus: Vec<Vec<f64>>,
}

impl Turns {
    /// Runs all processes once a turn. The order differs in each turn, because a program of the same kind leaves warm
    /// caches.
    fn run(rounds: usize, processes: &[Process]) -> Turns {
        let mut turns = Turns { walls: vec![Vec::new(); processes.len()], cpus: vec![Vec::new(); processes.len()] };
        for process in processes {
            process.run();
        }
        let mut order: Vec<usize> = (0..processes.len()).collect();
        let mut random = 1_u64;
        for _ in 0..rounds {
            for last in (1..order.len()).rev() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                order.swap(last, (random >> 33) as usize % (last + 1));
            }
            for at in order.iter().copied() {
                let (wall, cpu) = processes[at].run();
                turns.walls[at].push(wall.as_secs_f64() * 1e3);
                turns.cpus[at].push(cpu.as_secs_f64() * 1e3);
            }
        }
        turns
    }

    /// Returns the median of the ratios of one process to another within a turn: wall time and CPU time.
    fn ratios(&self, at: usize, to: usize) -> (f64, f64) {
        let ratio = |of: &[Vec<f64>]| median(of[at].iter().zip(&of[to]).map(|(own, other)| own / other).collect());
        (ratio(&self.walls), ratio(&self.cpus))
    }
}

/// Runs all processes in turns and prints the medians. Ratios are to the first process.
fn in_turns(rounds: usize, processes: &[Process]) {
    let turns = Turns::run(rounds, processes);
    println!("| process ({rounds} turns) | wall ms | × first | CPU ms | × first |\n|---|---|---|---|---|");
    for (at, process) in processes.iter().enumerate() {
        let (wall, cpu) = (median(turns.walls[at].clone()), median(turns.cpus[at].clone()));
        let (wall_ratio, cpu_ratio) = turns.ratios(at, 0);
        println!("| {} | {wall:.2} | {wall_ratio:.2} | {cpu:.2} | {cpu_ratio:.2} |", process.name);
    }
    println!();
    let is_ours = |at: &usize| processes[*at].name.starts_with("**ours");
    for at in (0..processes.len()).filter(is_ours) {
        for to in (0..processes.len()).filter(|to| !is_ours(to)) {
            let (wall, cpu) = turns.ratios(at, to);
            println!("- {}: {wall:.2} of the time of {}, {cpu:.2} of its CPU", processes[at].name, processes[to].name);
        }
    }
}

/// Returns a home with a token in its cache. It exists until the benchmark ends.
fn warm_home() -> (&'static Home, &'static Issuer) {
    let (home, issuer) = (Box::leak(Box::new(Home::new())), Box::leak(Box::new(Issuer::start())));
    home.keycloak_with(issuer, json!({"hosts": ["https://gitlab.acme.example"]}));
    home.run(["kubectl"]).code(0);
    (home, issuer)
}

const EXEC_INFO: &str =
    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#;

/// The request of a current git.
const GIT_REQUEST: &str = "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=gitlab.acme.example\n\
     wwwauth[]=Basic realm=\"GitLab\"\n";

/// Returns the path of the release program, and builds it if it is missing.
fn static_program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo =
            ["build", "--quiet", "--release", "--locked", "--package", "runai-credential", "--target", STATIC_TARGET];
        let status = Command::new(env!("CARGO")).args(cargo).status().expect("run cargo");
        assert!(
            status.success(),
            "the static program was not built; rustup target add {STATIC_TARGET} gets its target"
        );
        let plain = program();
        let target = plain.parent().and_then(Path::parent).expect("the target folder");
        target.join(STATIC_TARGET).join("release/runai-credential")
    })
}

/// Returns the command of the static program, which is the release.
fn ours(home: &'static Home, args: &'static [&'static str]) -> impl Fn() -> Command {
    hit_of(static_program().to_owned(), home, args)
}

/// Returns the command of the glibc build, as `cargo install` makes it.
fn ours_plain(home: &'static Home, args: &'static [&'static str]) -> impl Fn() -> Command {
    hit_of(program(), home, args)
}

fn hit_of(program: PathBuf, home: &'static Home, args: &'static [&'static str]) -> impl Fn() -> Command {
    // A run-time folder is in memory on systems that have one (`/run/user/UID`).
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    let run = memory.as_ref().map_or(home.run_dir(), |folder| folder.path().to_owned());
    // The first fetch makes the folder for locks and marks.
    let place = |command: &mut Command| {
        command.env("XDG_RUNTIME_DIR", &run);
    };
    home.run_with(["token", "--refresh"], place).code(0);
    move || {
        let _kept = &memory;
        let mut command = home.tool(&program, args);
        command.env("XDG_RUNTIME_DIR", &run);
        if args.contains(&"kubectl") {
            command.env("KUBERNETES_EXEC_INFO", EXEC_INFO);
        }
        command
    }
}

/// Compiles two empty programs beside this benchmark: static C, and Rust as `cargo build --release` makes it.
fn empty_programs() -> (PathBuf, PathBuf) {
    let folder = program().with_file_name("benchmarks");
    fs::create_dir_all(&folder).expect("a folder");
    let (c, rust) = (folder.join("empty-c"), folder.join("empty-rust"));
    fs::write(folder.join("empty.c"), "int main(void) { return 0; }\n").expect("write");
    fs::write(folder.join("empty.rs"), "fn main() {}\n").expect("write");
    let run = |command: &mut Command| assert!(command.status().expect("a compiler").success(), "{command:?}");
    run(Command::new("cc").args(["-O2", "-static", "-o"]).arg(&c).arg(folder.join("empty.c")));
    let profile = ["opt-level=3", "lto=fat", "codegen-units=1", "panic=abort", "strip=symbols"];
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2021", "-o"]).arg(&rust).arg(folder.join("empty.rs"));
    run(rustc.args(profile.iter().flat_map(|option| ["-C", option])));
    (c, rust)
}

/// Returns a file with this text, for a process to read on standard input.
fn input(text: &str) -> Stdio {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("write");
    file.into()
}

/// Returns the instructions of a process, as callgrind counts them.
fn instructions(command: &Command, text: &str) -> u64 {
    let profile = tempfile::NamedTempFile::new().expect("a file");
    let option = format!("--callgrind-out-file={}", profile.path().display());
    let said = watched("valgrind", &["--tool=callgrind", &option], command, text);
    let count = said.lines().find(|line| line.contains("Collected")).and_then(|line| line.rsplit(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("callgrind said\n{said}"))
}

/// Returns the system calls of a process and its threads.
fn system_calls(command: &Command, text: &str) -> usize {
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let path = trace.path().to_str().expect("a path in UTF-8");
    watched("strace", &["-f", "-qq", "-e", "signal=none", "-o", path], command, text);
    let calls = fs::read_to_string(trace.path()).expect("the trace");
    calls.lines().filter(|line| line.contains('(')).count()
}

/// Runs a command below another program, and returns the standard error of both.
fn watched(watcher: &str, options: &[&str], command: &Command, text: &str) -> String {
    let mut watched = Command::new(watcher);
    watched.args(options).arg(command.get_program()).args(command.get_args());
    watched.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = watched.stdin(input(text)).output().unwrap_or_else(|error| panic!("{watcher}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?} under {watcher}\n{said}");
    said
}

/// Returns the command `git credential-store get` with a file of one line, with which a hit is compared.
fn credential_store(home: &'static Home, git: &str) -> Option<impl Fn() -> Command + use<>> {
    let exec_path = Command::new(git).arg("--exec-path").output().ok()?;
    let store = Path::new(String::from_utf8_lossy(&exec_path.stdout).trim()).join("git-credential-store");
    let file = home.write("git-credentials", "https://oauth2:secret@gitlab.acme.example\n", 0o600);
    Some(move || {
        let mut command = Command::new(&store);
        command.env_clear().env("HOME", home.path()).arg("--file").arg(&file).arg("get");
        command
    })
}

const STORE_REQUEST: &str = "protocol=https\nhost=gitlab.acme.example\n";

/// The counts of one process.
struct Counted {
    name: String,
    instructions: u64,
    system_calls: usize,
}

fn counted(name: impl Into<String>, command: &Command, text: &str) -> Counted {
    let (instructions, system_calls) = (instructions(command, text), system_calls(command, text));
    Counted { name: name.into(), instructions, system_calls }
}

/// The commands of a hit, with their standard input, in the order of [`MOST_INSTRUCTIONS`].
const QUESTIONS: [(&[&str], &str); 5] = [
    (&["kubectl"], ""),
    (&["token"], ""),
    (&["git", "get"], GIT_REQUEST),
    (&["docker", "get"], "gitlab.acme.example"),
    (&["get"], "{\"uri\":\"https://gitlab.acme.example/a\"}"),
];

/// Counts the hits of the static program.
fn counted_static(home: &'static Home) -> Vec<Counted> {
    QUESTIONS.iter().map(|(args, text)| counted(args.join(" "), &ours(home, args)(), text)).collect()
}

fn count() {
    let (c, rust) = empty_programs();
    let (home, _) = warm_home();
    let bare = |path: &Path| {
        let mut command = Command::new(path);
        command.env_clear();
        command
    };
    let mut rows = vec![counted("empty C, static", &bare(&c), ""), counted("empty Rust, glibc", &bare(&rust), "")];
    let store = credential_store(home, "git").expect("git");
    rows.push(counted("`git credential-store get`", &store(), STORE_REQUEST));
    let named = |kind: &str, rows: Vec<Counted>| -> Vec<Counted> {
        rows.into_iter().map(|row| Counted { name: format!("ours, {kind}, `{}`", row.name), ..row }).collect()
    };
    rows.extend(named("static", counted_static(home)));
    let plain = QUESTIONS.iter().map(|(args, text)| counted(args.join(" "), &ours_plain(home, args)(), text));
    rows.extend(named("glibc", plain.collect()));
    println!("| process | instructions | system calls |\n|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} |", row.name, row.instructions, row.system_calls);
    }
}

/// Asserts the limits of a hit that can be counted.
fn check() {
    let (home, _) = warm_home();
    for (row, (name, most)) in counted_static(home).iter().zip(MOST_INSTRUCTIONS) {
        println!(
            "static, {name}: {} instructions of at most {most}, {} system calls",
            row.instructions, row.system_calls
        );
        assert_eq!(row.name, name, "the limits are in the order of the questions");
        assert!(row.instructions <= most, "{name}: {} instructions, at most {most}", row.instructions);
        assert!(row.system_calls <= MOST_SYSTEM_CALLS, "{name}: {} system calls", row.system_calls);
    }
    let libraries = Command::new("ldd").arg(program()).output().expect("ldd");
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    assert!(!["ssl", "crypto", "dbus"].iter().any(|name| libraries.contains(name)), "{libraries}");
    // The limit is for the git of Debian 12. Newer versions are faster by a tenth.
    let gits = support::git::gits();
    let Some((git, _)) = gits.iter().find(|(_, is_new)| !is_new) else {
        return println!("glibc: not compared, there is no git older than 2.46");
    };
    let store = credential_store(home, &git.display().to_string()).expect("git");
    let processes = [Process::fed("git", STORE_REQUEST, store), Process::new("token", ours_plain(home, &["token"]))];
    let (ratio, _) = Turns::run(300, &processes).ratios(1, 0);
    println!("glibc, token: {ratio:.2} of the time of `git credential-store get`, at most {MOST_OF_GIT}");
    assert!(ratio <= MOST_OF_GIT, "token, glibc: {ratio:.2} of the time of `git credential-store get`");
}

/// Compares a hit with other programs that do as much or less.
fn hit() {
    let (c, rust) = empty_programs();
    let (home, _) = warm_home();
    let run = |path: PathBuf| {
        move || {
            let mut command = Command::new(&path);
            command.env_clear();
            command
        }
    };
    let mut processes = vec![Process::new("empty C, static", run(c)), Process::new("empty Rust, glibc", run(rust))];
    // The system's git, and the gits that the tests use if they differ.
    for (git, _) in support::git::gits() {
        let git = git.display().to_string();
        let Some(store) = credential_store(home, &git) else { continue };
        let version = Command::new(&git).arg("--version").output().expect("git");
        let version = String::from_utf8_lossy(&version.stdout).trim().replace("git version ", "");
        let name = String::leak(format!("`git credential-store get` ({version})"));
        processes.push(Process::fed(name, STORE_REQUEST, store));
    }
    processes.push(Process::new("**ours, static, `kubectl`**", ours(home, &["kubectl"])));
    processes.push(Process::new("**ours, static, `token`**", ours(home, &["token"])));
    processes.push(Process::fed("**ours, static, `git get`**", GIT_REQUEST, ours(home, &["git", "get"])));
    processes.push(Process::new("**ours, glibc, `kubectl`**", ours_plain(home, &["kubectl"])));
    let peers = ["docker-credential-ecr-login", "gke-gcloud-auth-plugin"];
    for missing in peers.into_iter().filter(|name| client(name).is_none()) {
        println!("({missing} is not on this machine)\n");
    }
    if let Some(ecr) = client("docker-credential-ecr-login") {
        ecr_cache(home);
        let registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com\n";
        processes.push(Process::fed("`docker-credential-ecr-login get`, cached (Go)", registry, move || {
            let mut command = Command::new(&ecr);
            command.arg("get").env_clear().env("HOME", home.path()).env("AWS_REGION", "us-east-1");
            // If the cache does not work, the program cannot reach the network.
            command
                .env("AWS_ACCESS_KEY_ID", ECR_KEY)
                .env("AWS_SECRET_ACCESS_KEY", "x")
                .env("HTTPS_PROXY", "http://127.0.0.1:1");
            command
        }));
    }
    if let Some(gke) = client("gke-gcloud-auth-plugin") {
        home.write(".kube/config", GKE_KUBECONFIG, 0o600);
        home.write(".kube/gke_gcloud_auth_plugin_cache", GKE_CACHE, 0o600);
        processes.push(Process::new("`gke-gcloud-auth-plugin`, cached (Go)", move || {
            let mut command = Command::new(&gke);
            command.env_clear().env("HOME", home.path()).env("HTTPS_PROXY", "http://127.0.0.1:1");
            command.env("KUBERNETES_EXEC_INFO", EXEC_INFO.replace("io/v1", "io/v1beta1"));
            command
        }));
    }
    let script = home.write("cached.sh", CACHED_SCRIPT, 0o700);
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs() + 3600;
    home.write("token.json", json!({"access_token": "t0ken", "expires_at": in_an_hour}).to_string(), 0o600);
    processes.push(Process::new("bash + jq, cached", move || {
        let mut command = Command::new(&script);
        command.env("HOME", home.path());
        command
    }));
    in_turns(600, &processes);
}

/// A script as users without a helper write it.
const CACHED_SCRIPT: &str = r#"#!/bin/bash
cache=$HOME/token.json
if [ -r "$cache" ] && [ "$(jq .expires_at "$cache")" -gt $(($(date +%s) + 60)) ]; then
  jq -r .access_token "$cache"
else
  echo "the benchmark is about the other branch" >&2
  exit 1
fi
"#;

/// The cache of gke-gcloud-auth-plugin belongs to the current context of the kubeconfig.
const GKE_KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
"clusters": [{"name": "c", "cluster": {"server": "https://localhost:1"}}], "users": [{"name": "u", "user": {}}]}"#;
const GKE_CACHE: &str =
    r#"{"current_context": "c", "access_token": "t0ken", "token_expiry": "2049-01-01T00:00:00Z", "extra_args": ""}"#;

const ECR_KEY: &str = "AKIDEXAMPLE";

/// Writes the cache of amazon-ecr-credential-helper 0.6. Its key has the region, the access key followed by the MD5 of
/// an empty text, and the registry.
fn ecr_cache(home: &Home) {
    use base64::Engine;
    let of_nothing = [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e];
    let key = base64::prelude::BASE64_STANDARD.encode([ECR_KEY.as_bytes(), &of_nothing].concat());
    let time = |hours: i64| {
        let seconds =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs() as i64;
        chrono::DateTime::from_timestamp(seconds + hours * 3600, 0)
            .expect("a time")
            .format("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    };
    let entry = json!({
        "AuthorizationToken": "QVdTOnRva2Vu", "RequestedAt": time(-1), "ExpiresAt": time(11), "Service": "ecr",
        "ProxyEndpoint": "https://123456789012.dkr.ecr.us-east-1.amazonaws.com",
    });
    let cache = json!({"Registries": {format!("us-east-1-{key}-123456789012"): entry}, "Version": "1.0"});
    home.write(".ecr/cache.json", cache.to_string(), 0o600);
}

/// Compares a fetch with curl and the same POST: one CA file, TLS 1.3, loopback.
fn miss() {
    let (home, issuer) = warm_home();
    let ca = home.path().join("ca.pem");
    let url = format!("{}/auth/realms/acme/protocol/openid-connect/token", issuer.url());
    let curl = move || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", "--output", "/dev/null", "--cacert"]).arg(&ca);
        let form = [("grant_type", "client_credentials"), ("scope", "openid"), ("response_type", "id_token")];
        for (name, value) in form.into_iter().chain([("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)]) {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        command.arg(&url);
        command
    };
    in_turns(
        100,
        &[
            Process::new("`curl --cacert`, the same POST", curl),
            Process::new("**ours**, lock, fetch and cache write", ours(home, &["token", "--refresh"])),
        ],
    );
}

/// Runs many processes with an empty cache at once: with a server that takes 100 ms, and with one that fails after 100
/// ms.
fn storm() {
    println!(
        "| processes at once | requests | wall ms | failing: requests | failing: wall ms |\n|---|---|---|---|---|"
    );
    for count in [1, 20, 200, 500] {
        let mut cells = Vec::new();
        for failing in [false, true] {
            let (home, issuer) = (Home::new(), Issuer::start());
            home.keycloak(&issuer);
            issuer.set_delay(Duration::from_millis(100));
            if failing {
                issuer.always(support::Answer::runai_error(503, "down").after(Duration::from_millis(100)));
            }
            let started = Instant::now();
            let outcomes = home.spawn_many(count, ["token"]);
            let wall = started.elapsed().as_millis();
            let code = if failing { 5 } else { 0 };
            for outcome in &outcomes {
                outcome.code(code);
            }
            cells.push(format!("{} | {wall}", issuer.token_requests()));
        }
        println!("| {count} | {} |", cells.join(" | "));
    }
}

/// Measures a hit with many other identities in the cache, and with many other profiles in the configuration.
fn scale() {
    let (alone, _) = warm_home();
    let (crowded, _) = warm_home();
    let tokens = crowded.cache_dir().join("tokens");
    for other in 0..100_000_u32 {
        fs::write(tokens.join(format!("{other:016x}.json")), "x").expect("a file");
    }
    let (listed, issuer) = warm_home();
    let config: Value = listed.keycloak(issuer);
    let mut many = json!({"default_profile": PROFILE, "profiles": {}});
    for other in 0..10_000 {
        let mut profile = config["profiles"][PROFILE].clone();
        profile["client_id"] = json!(format!("client-{other}"));
        many["profiles"][format!("profile-{other}")] = profile;
    }
    many["profiles"][PROFILE] = config["profiles"][PROFILE].clone();
    listed.config(&many);
    in_turns(
        200,
        &[
            Process::new("one identity, one profile", ours(alone, &["token"])),
            Process::new("100 000 identities in the cache", ours(crowded, &["token"])),
            Process::new("10 000 profiles in the configuration", ours(listed, &["token"])),
        ],
    );
}
