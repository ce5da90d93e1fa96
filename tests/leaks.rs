//! Tests that the client secret and the token do not leak: into arguments, messages, `-v`, the environment of children,
//! or files outside the cache.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use support::*;

/// Collects the observable traces of runs: streams, written and executed data (from a system-call trace), and the files
/// of the home.
struct Traces {
    places: BTreeMap<String, Vec<u8>>,
}

impl Traces {
    fn new() -> Traces {
        Traces { places: BTreeMap::new() }
    }

    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.places.insert(place.into(), bytes.into());
    }

    /// Runs the program under strace and collects its traces.
    ///
    /// Standard output is collected only for a failed run: a successful one prints the token there.
    fn run(&mut self, name: &str, home: &Home, args: &[&str], input: &str, vars: &[(&str, String)]) -> Outcome {
        let trace = home.path().join("trace");
        let mut command = std::process::Command::new("strace");
        command.args([
            "-f",
            "-v",
            "-s",
            "1000000",
            "-e",
            "trace=execve,write,writev,sendto,sendmsg,openat,rename,renameat",
        ]);
        command.arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_runai-credential")).args(args);
        command.env_clear();
        for (key, value) in home.command(args).get_envs().filter_map(|(key, value)| Some((key, value?))) {
            command.env(key, value);
        }
        command.envs(vars.iter().map(|(key, value)| (key, value))).current_dir(home.work_dir());
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut running = Running::start(&mut command);
        running.feed(input.as_bytes().to_vec());
        let outcome = running.finish();
        let traced = std::fs::read_to_string(&trace).expect("a trace");
        std::fs::remove_file(&trace).expect("remove the trace");
        // The first line is the `execve` by strace, with the variables that the test set.
        let ours: String =
            traced.lines().skip(1).filter(|line| !is_answer_or_record(line)).map(|line| format!("{line}\n")).collect();
        self.add(format!("{name}: system calls"), ours);
        self.add(format!("{name}: stderr"), outcome.stderr.as_bytes());
        if outcome.code != Some(0) {
            self.add(format!("{name}: stdout"), outcome.stdout.as_bytes());
        }
        outcome
    }

    /// Collects the files below a home, except `but`, where the secret belongs.
    fn files(&mut self, home: &Home, but: &[&Path]) {
        for path in home.files().keys().filter(|path| !but.contains(&path.as_path())) {
            let bytes = std::fs::read(home.path().join(path)).expect("read a file of the home");
            self.add(format!("file {}", path.display()), bytes);
        }
    }

    fn holding(&self, needle: &str) -> Vec<&str> {
        let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        self.places.iter().filter(|(_, bytes)| found(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

/// Recognises the two writes that may contain a token: the answer on standard output and the record in the cache.
fn is_answer_or_record(line: &str) -> bool {
    let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
    call.starts_with("write(1, ") || (call.starts_with("write(") && call.contains("\"runai-credential 1 "))
}

/// The secret and the token appear in no message, argument, child environment or file, apart from the places for them.
#[test]
fn secret_and_token_appear_nowhere_else() {
    if require("strace").is_none() {
        return;
    }
    let issuer = Issuer::start();
    let home = Home::new();
    let config = home.keycloak(&issuer);
    let secret = home.path().join("secret");
    // A secret command that records its environment and arguments.
    let seen = home.path().join("seen");
    let script = home.write(
        "print-secret",
        format!(
            "#!/bin/sh\nenv > {0}\ncat /proc/$$/cmdline /proc/$PPID/cmdline >> {0}\ncat {1}\n",
            seen.display(),
            secret.display()
        ),
        0o700,
    );
    let mut by_command = config.clone();
    by_command["profiles"][PROFILE]["client_secret"] = json!({ "command": [script] });

    let mut traces = Traces::new();
    let env_profile: [(&str, String); 5] = [
        ("RUNAI_URL", issuer.url().to_owned()),
        ("RUNAI_REALM", REALM.to_owned()),
        ("RUNAI_CLIENT_ID", CLIENT_ID.to_owned()),
        ("RUNAI_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ("RUNAI_CA_FILE", home.path().join("ca.pem").display().to_string()),
    ];

    traces.run("fetch", &home, &["-v", "token"], "", &[]).code(0);
    traces.run("hit", &home, &["-v", "kubectl"], "", &[]).code(0);
    traces.run("refresh", &home, &["-v", "token", "--refresh", "--format", "json"], "", &[]).code(0);
    let refused = issuer.last_token();
    let (whole, open) = (format!("{{\"access_token\":\"{refused}\"}}"), format!("{{\"access_token\":\"{refused}\""));
    traces.run("rejected", &home, &["-v", "token", "--rejected-stdin", "--format", "header"], &refused, &[]).code(0);
    traces.run("environment", &home, &["-v", "token", "--refresh"], "", &env_profile).code(0);
    traces.run("too short", &home, &["-v", "token", "--min-validity", "9h"], "", &[]).code(7);
    home.config(&by_command);
    traces.run("command", &home, &["-v", "token", "--refresh"], "", &[]).code(0);
    // The same with the secret in the program's environment, which the command must not get.
    traces
        .run("command with environment", &home, &["--profile", PROFILE, "-v", "token", "--refresh"], "", &env_profile)
        .code(0);
    assert!(seen.exists(), "the secret command ran");
    home.config(&config);
    for (name, answer) in [
        ("echo of the request", Answer::text(400, "text/html", CLIENT_SECRET)),
        ("token in a refusal", Answer::text(403, "application/json", &whole)),
        ("token in a broken answer", Answer::text(200, "application/json", &open)),
        ("token of another type", Answer::json(200, json!({"access_token": refused, "token_type": "DPoP"}))),
        ("redirect", Answer::redirect(307, "https://localhost:1/elsewhere")),
        ("server fault", Answer::runai_error(503, "down")),
        ("cut", Answer::cut(whole.clone())),
    ] {
        issuer.always(answer);
        let outcome = traces.run(name, &home, &["-v", "token", "--refresh"], "", &[]);
        assert_ne!(outcome.code, Some(0), "{name}");
    }
    traces.files(&home, &[Path::new("secret")]);
    // The cache may contain the newest token of each identity, and never the secret.
    let cached = |place: &str| place.starts_with("file cache/runai-credential/tokens/") && place.ends_with(".json");

    assert_eq!(traces.holding(CLIENT_SECRET), Vec::<&str>::new());
    for token in issuer.issued() {
        let places: Vec<&str> = traces.holding(&token).into_iter().filter(|place| !cached(place)).collect();
        assert_eq!(places, Vec::<&str>::new());
    }

    // The test must notice a leak: these are deliberate leaks of each kind.
    let mut planted = Traces::new();
    let leak = home.write("leak", format!("#!/bin/sh\n/bin/echo {CLIENT_SECRET} >&2\n"), 0o700);
    let mut leaking = config;
    leaking["profiles"][PROFILE]["client_secret"] = json!({ "command": [leak] });
    home.config(&leaking);
    planted.run("planted", &home, &["token", "--refresh"], "", &[]);
    planted.add("planted: stderr", format!("error: {CLIENT_SECRET}\n"));
    planted.files(&home, &[Path::new("secret")]);
    let found = planted.holding(CLIENT_SECRET);
    assert!(found.contains(&"planted: system calls"), "an argument of a child was not seen: {found:?}");
    assert!(found.contains(&"planted: stderr") && found.contains(&"file leak"), "{found:?}");
}
