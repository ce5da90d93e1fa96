//! Traces the system calls of a call that finds its token in the cache, and checks what it does and does not do.

use support::*;

/// Returns the system calls of a hit, one a line, from the program's own first call on.
fn trace(home: &Home, args: &[&str], exec_info: bool) -> Option<Vec<String>> {
    trace_fed(home, args, exec_info, "")
}

/// [`trace`], with this input on standard input.
fn trace_fed(home: &Home, args: &[&str], exec_info: bool, input: &str) -> Option<Vec<String>> {
    require("strace")?;
    let trace = home.path().join("trace");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_runai-credential")).args(args).env_clear();
    for (key, value) in home.command(args).get_envs().filter_map(|(key, value)| Some((key, value?))) {
        command.env(key, value);
    }
    if exec_info {
        command
            .env("KUBERNETES_EXEC_INFO", r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}"#);
    }
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed(input.into());
    running.finish().code(0);
    let text = std::fs::read_to_string(&trace).expect("a trace");
    // `main` calls `harden` first. The calls before it are the loader's and the start of Rust's library.
    let ours = text.lines().skip_while(|line| !line.contains("PR_SET_DUMPABLE"));
    Some(ours.map(|line| line.split_once(' ').map_or(line, |(_, call)| call.trim_start()).to_owned()).collect())
}

/// Asserts that there is no socket, lock, thread, child or random number, and no new folder or file.
fn no_more_than_reading(calls: &[String]) {
    const NONE: [&str; 11] = [
        "socket",
        "connect",
        "flock",
        "clone",
        "fork",
        "execve",
        "getrandom",
        "mkdir",
        "rename",
        "unlink",
        "ftruncate",
    ];
    // The allocator of glibc takes eight random bytes at its first use.
    let is_ours = |call: &&String| !call.contains(", 8, GRND_NONBLOCK)");
    let found: Vec<&String> =
        calls.iter().filter(|call| NONE.iter().any(|none| call.starts_with(none))).filter(is_ours).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// A hit opens the configuration and one cache record, and writes only to standard output.
#[test]
fn hit_opens_only_two_files() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak_with(&issuer, serde_json::json!({"hosts": ["https://a.example"]}));
    home.run(["token"]).code(0);
    let requests = [
        (&["token"][..], ""),
        (&["git", "get"], "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=a.example\n"),
        (&["docker", "get"], "a.example"),
        (&["get"], "{\"uri\":\"https://a.example/v1/x\"}"),
    ];
    for (args, input) in requests {
        let Some(calls) = trace_fed(&home, args, false, input) else { return };
        assert_opens_only_two_files(&home, &calls);
    }
    assert_eq!(issuer.token_requests(), 1);
}

fn assert_opens_only_two_files(home: &Home, calls: &[String]) {
    let of = |name: &str| -> Vec<&String> { calls.iter().filter(|call| call.starts_with(name)).collect() };
    let opened: Vec<&str> = of("open").iter().filter_map(|call| call.split('"').nth(1)).collect();
    let home_path = home.path().display().to_string();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert_eq!(opened[0], home.config_file().display().to_string());
    assert!(opened[1].starts_with(&home_path) && opened[1].ends_with(".json"), "{opened:?}");
    no_more_than_reading(calls);
    let written = of("write").into_iter().chain(of("pwrite")).collect::<Vec<_>>();
    assert!(written.len() == 1 && written[0].starts_with("write(1, "), "{written:?}");
    let secret = home.path().join("secret").display().to_string();
    assert!(!calls.iter().any(|call| call.contains(&secret) || call.contains("ca.pem") || call.contains("/etc/ssl")));
}

/// A hit of `kubectl` also reads which process called it and writes a mark of 32 bytes.
#[test]
fn kubectl_hit_writes_only_one_mark() {
    let issuer = Issuer::start();
    let home = Home::new();
    home.keycloak(&issuer);
    let Some(_) = trace(&home, &["kubectl"], true) else { return };
    let marks = home.run_dir().join("runai-credential/kubectl-marks");
    let size = marks.metadata().expect("the file of marks").len();
    let calls = trace(&home, &["kubectl"], true).expect("a trace");
    let of = |name: &str| -> Vec<&String> { calls.iter().filter(|call| call.starts_with(name)).collect() };
    let opened: Vec<&str> = of("open").iter().filter_map(|call| call.split('"').nth(1)).collect();
    let own: Vec<&&str> = opened.iter().filter(|path| !path.starts_with("/proc/")).collect();
    assert!(own.len() == 3 && *own[2] == marks.display().to_string(), "{opened:?}");
    assert_eq!(opened.len(), 4, "{opened:?}");
    no_more_than_reading(&calls);
    let marked = of("pwrite");
    assert!(marked.len() == 1 && marked[0].contains(", 32, "), "{marked:?}");
    assert_eq!(marks.metadata().expect("the file of marks").len(), size);
    assert_eq!(issuer.token_requests(), 1);
}
