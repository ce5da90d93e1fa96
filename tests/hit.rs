//! What a call that finds its token in the cache does, by a trace of its system calls, and what it does not do.

use support::*;

/// The system calls of a hit, one a line, from after the program has been loaded.
fn trace(home: &Home, args: &[&str], exec_info: bool) -> Option<Vec<String>> {
    trace_fed(home, args, exec_info, "")
}

/// [`trace`], with this on standard input.
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
    // `harden` is the first thing that `main` does; before it there are the loader and the start of Rust's library.
    let ours = text.lines().skip_while(|line| !line.contains("PR_SET_DUMPABLE"));
    Some(ours.map(|line| line.split_once(' ').map_or(line, |(_, call)| call.trim_start()).to_owned()).collect())
}

/// No socket, no lock, no thread, no child, no random numbers, no folder, no file made or replaced.
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
    // The allocator of glibc takes eight random bytes when it is first used.
    let is_ours = |call: &&String| !call.contains(", 8, GRND_NONBLOCK)");
    let found: Vec<&String> =
        calls.iter().filter(|call| NONE.iter().any(|none| call.starts_with(none))).filter(is_ours).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_hit_opens_two_files_and_nothing_else() {
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
        opens_two_files_and_nothing_else(&home, &calls);
    }
    assert_eq!(issuer.token_requests(), 1);
}

fn opens_two_files_and_nothing_else(home: &Home, calls: &[String]) {
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

/// `kubectl` alone leaves a mark, and reads who called it.
#[test]
fn a_hit_of_kubectl_leaves_a_mark_of_a_few_bytes_and_nothing_else() {
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
