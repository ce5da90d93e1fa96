//! Tests of `login`, `logout`, `status` and the keyring, with a real Secret Service and a real terminal.

use std::time::Duration;

use serde_json::{Value, json};

use support::session::{at_terminal, keyring_files, mute_bus, person};
use support::{Answer, CLIENT_ID, CLIENT_SECRET, Home, Issuer, REALM, Session, refused_url};

/// Returns the arguments of a login at this issuer.
fn options(home: &Home, issuer: &Issuer) -> Vec<String> {
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644).display().to_string();
    ["login", "--profile", "prod", "--url", issuer.url(), "--client-id", CLIENT_ID, "--ca-file", &ca, "--secret-stdin"]
        .map(str::to_owned)
        .to_vec()
}

fn login(home: &Home, issuer: &Issuer, more: &[&str]) -> support::Outcome {
    let more = more.iter().map(|arg| (*arg).to_owned());
    home.run_fed(options(home, issuer).into_iter().chain(more), format!("{CLIENT_SECRET}\n"))
}

fn config(home: &Home) -> Value {
    serde_json::from_slice(&std::fs::read(home.config_file()).expect("a configuration")).expect("JSON")
}

/// `login` stores the secret in the keyring and in no file. `logout` removes it.
#[test]
fn login_stores_secret_only_in_keyring() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let session = Session::start(&home);
    let outcome = login(&home, &issuer, &["--realm", REALM]);
    outcome.code(0).stdout_has("secret: in the keyring");
    let ca = home.path().join("ca.pem").display().to_string();
    assert_eq!(
        config(&home),
        json!({"profiles": {"prod": {"url": issuer.url(), "realm": REALM, "client_id": CLIENT_ID, "ca_file": ca,
            "client_secret": {"keyring": true}}}})
    );
    assert_eq!(home.files()[&home.config_file().strip_prefix(home.path()).unwrap().to_owned()], 0o600);
    assert_eq!(home.grep(CLIENT_SECRET), Vec::<std::path::PathBuf>::new());
    assert!(keyring_files(&home) > 0);

    // `login` puts its token into the cache, so the first call is a hit. The second one fetches with the keyring's
    // secret.
    assert_eq!(issuer.token_requests(), 1);
    home.run(["token"]).code(0);
    assert_eq!(issuer.token_requests(), 1);
    home.run(["token", "--refresh"]).code(0);
    assert_eq!(issuer.token_requests(), 2);

    // The keyring's own program finds the entry.
    let service =
        format!("runai-credential {}/auth/realms/{REALM}/protocol/openid-connect/token ca_file={ca}", issuer.url());
    let entry = ["lookup", "service", &service, "username", CLIENT_ID];
    assert_eq!(session.secret_tool(&entry).code(0).stdout, CLIENT_SECRET);

    let outcome = home.run(["logout"]);
    outcome.code(0).stdout_has("removed from the keyring");
    assert_eq!(session.secret_tool(&entry).stdout, "");
    assert_eq!(config(&home), json!({"profiles": {}}));
    home.run(["token"]).code(3);
}

/// A `login` that moves the secret from a file to the keyring deletes the file that an earlier `login` made.
#[test]
fn secret_moved_to_keyring_leaves_no_file() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let _session = Session::start(&home);
    login(&home, &issuer, &["--store", "file"]).code(0);
    assert_eq!(home.grep(CLIENT_SECRET).len(), 1);
    login(&home, &issuer, &[]).code(0);
    assert_eq!(home.grep(CLIENT_SECRET), Vec::<std::path::PathBuf>::new());
    // `logout` does not remove a file that the user made.
    home.keycloak(&issuer);
    home.run(["logout"]).code(0).stdout_has("stays where it is");
    assert_eq!(home.grep(CLIENT_SECRET), [std::path::PathBuf::from("secret")]);
}

/// A keyring entry is valid for its endpoint, client and roots only. With another value, the program finds no secret.
#[test]
fn keyring_entry_is_bound_to_identity() {
    let (home, issuer, other) = (Home::new(), Issuer::start(), Issuer::start());
    let _session = Session::start(&home);
    login(&home, &issuer, &["--realm", REALM]).code(0);
    let good = config(&home);
    let ca = home.write("other.pem", other.ca_pem(), 0o644);
    for (key, value) in
        [("url", json!(other.url())), ("realm", json!("other")), ("client_id", json!("other")), ("ca_file", json!(ca))]
    {
        let mut changed = good.clone();
        changed["profiles"]["prod"][key] = value;
        home.config(&changed);
        let outcome = home.run(["token"]);
        outcome.code(3);
        assert!(outcome.stderr.contains("the keyring has no secret for"), "{key}: {outcome:?}");
    }
    assert_eq!(other.token_requests(), 0);
}

/// The program reports a missing, silent, ambiguous, stopped or locked keyring within five seconds.
#[test]
fn keyring_fault_is_reported_in_time() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let no_bus = login(&home, &issuer, &[]);
    no_bus.code(3);
    assert!(no_bus.stderr.contains("no session bus is running for this user here"), "{no_bus:?}");
    assert!(!home.config_file().exists(), "nothing is half done");
    {
        let _mute = mute_bus(&home);
        let outcome = login(&home, &issuer, &[]);
        outcome.code(3).within(Duration::from_secs(5));
        assert!(outcome.stderr.contains("it did not answer within 2.5 s"), "{outcome:?}");
    }
    std::fs::remove_file(home.run_dir().join("bus")).expect("remove the socket");

    let mut session = Session::without_keyring(&home);
    let outcome = login(&home, &issuer, &[]);
    outcome.code(3);
    assert!(outcome.stderr.contains("no keyring answers on the session bus"), "{outcome:?}");

    session.start_keyring(true);
    login(&home, &issuer, &[]).code(0);
    let service =
        format!("runai-credential {}/api/v2/token ca_file={}", issuer.url(), home.path().join("ca.pem").display());
    session.secret_tool_store("another", &["service", &service, "username", CLIENT_ID, "target", "default", "x", "y"]);
    let outcome = home.run(["token", "--refresh"]);
    outcome.code(3);
    assert!(outcome.stderr.contains("the keyring has 2 secrets for"), "{outcome:?}");
    session.secret_tool(&["clear", "x", "y"]).code(0);
    home.run(["token", "--refresh"]).code(0);

    session.freeze();
    let outcome = home.run(["token", "--refresh"]);
    outcome.code(3).within(Duration::from_secs(5));
    assert!(outcome.stderr.contains("the keyring cannot be read"), "{outcome:?}");
    // A call with a cached token needs no keyring.
    home.run(["token"]).code(0).within(Duration::from_secs(1));

    session.lock();
    let outcome = home.run(["token", "--refresh"]);
    outcome.code(3).within(Duration::from_secs(5));
    assert!(outcome.stderr.contains("it is locked, and the user did not unlock it"), "{outcome:?}");
    assert_eq!(home.grep(CLIENT_SECRET), Vec::<std::path::PathBuf>::new());
}

/// The program refuses bus addresses with which libdbus would start a program or open a TCP connection.
#[test]
fn bus_address_starting_programs_is_refused() {
    let (home, issuer) = (Home::new(), Issuer::start());
    home.keycloak_with(&issuer, json!({"client_secret": {"keyring": true}}));
    let mark = home.path().join("started");
    for address in [
        format!("unixexec:path=/usr/bin/touch,argv1={}", mark.display()),
        format!("unix:path=/nowhere;unixexec:path=/usr/bin/touch,argv1={}", mark.display()),
        "autolaunch:".to_owned(),
        "tcp:host=127.0.0.1,port=1".to_owned(),
    ] {
        let outcome = home.run_with(["token"], |command| {
            command.env("DBUS_SESSION_BUS_ADDRESS", &address);
        });
        outcome.code(3);
        assert!(outcome.stderr.contains("DBUS_SESSION_BUS_ADDRESS is not the address of a socket"), "{outcome:?}");
    }
    assert!(!mark.exists());
}

/// `login` tries the token endpoints and writes the api and realm of the one that answers.
#[test]
fn login_finds_the_api_that_answers() {
    for (path, more, api, keys) in [
        ("/auth/realms/acme/protocol/openid-connect/token", &["--realm", REALM][..], "keycloak", json!([null, REALM])),
        ("/api/v2/token", &["--realm", REALM], "v2", json!(["v2", null])),
        ("/api/v2/token", &[], "v2", json!([null, null])),
        ("/api/v1/token", &[], "v1", json!(["v1", null])),
    ] {
        let (home, issuer) = (Home::new(), Issuer::start());
        issuer.script(
            move |request, _| {
                if request.path == path { Answer::grant() } else { Answer::text(404, "text/plain", "no") }
            },
        );
        let outcome = login(&home, &issuer, &[more, &["--store", "file"]].concat());
        outcome.code(0);
        assert!(outcome.stdout.contains(&format!("(api {api})")), "{outcome:?}");
        let profile = &config(&home)["profiles"]["prod"];
        assert_eq!(json!([profile["api"], profile["realm"]]), keys, "{path}");
        home.run(["token", "--refresh"]).code(0);
    }
}

/// A `login` that the server refuses or does not answer leaves the configuration as it was and stores no secret.
#[test]
fn failed_login_changes_no_file() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let before = "{\n  \"profiles\": { \"prod\": {\"url\": \"https://a.example\", \"client_id\": \"c\",\n    \"client_secret\": {\"env\": \"X\"}} }\n}";
    home.write(home.config_file(), before, 0o640);
    issuer.set_secret("another");
    let outcome = login(&home, &issuer, &["--store", "file", "--realm", REALM]);
    outcome.code(4);
    assert!(outcome.stderr.contains("invalid_client") || outcome.stderr.contains("unauthorized_client"), "{outcome:?}");
    let outcome = home.run_fed(
        ["login", "--url", &refused_url(), "--client-id", "c", "--store", "file", "--secret-stdin", "--profile", "new"],
        "secret",
    );
    outcome.code(5);
    let text = std::fs::read_to_string(home.config_file()).expect("the configuration");
    assert_eq!(text, before);
    assert_eq!(home.grep(CLIENT_SECRET), Vec::<std::path::PathBuf>::new());
}

/// `login` and `logout` change only their own profile and keep the rest of the file byte by byte.
#[test]
fn login_keeps_existing_configuration_text() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let before = "{\n\t\"$schema\": \"x\",\n\t\"profiles\": {\n\t\t\"other\": {\"url\":\"https://a.example\", \"client_id\":\"c\",  \"client_secret\": {\"env\": \"X\"}}\n\t}\n}\n";
    home.write(home.config_file(), before, 0o644);
    let more = ["--store", "file", "--host", "https://git.example", "--host", "https://reg.example:5000"];
    login(&home, &issuer, &more).code(0);
    let text = std::fs::read_to_string(home.config_file()).expect("the configuration");
    let (kept, _) = before.split_once("\n\t}\n}").expect("two braces");
    assert!(text.starts_with(kept), "{text}");
    assert_eq!(config(&home)["profiles"]["prod"]["hosts"], json!(["https://git.example", "https://reg.example:5000"]));
    assert_eq!(home.files()[&home.config_file().strip_prefix(home.path()).unwrap().to_owned()], 0o644);
    let secret = home.config_file().with_file_name("prod.secret");
    assert_eq!(home.files()[&secret.strip_prefix(home.path()).unwrap().to_owned()], 0o600);

    // A second login adds a host. It keeps the other values and needs only the secret.
    let again = ["login", "--profile", "prod", "--host", "https://git2.example", "--store", "file", "--secret-stdin"];
    home.run_fed(again, CLIENT_SECRET).code(0);
    let hosts = json!(["https://git.example", "https://reg.example:5000", "https://git2.example"]);
    assert_eq!(config(&home)["profiles"]["prod"]["hosts"], hosts);

    home.run(["logout", "--profile", "prod"]).code(0);
    assert!(!secret.exists());
    assert_eq!(std::fs::read_to_string(home.config_file()).expect("the configuration"), before);
}

/// `login --store file` refuses the secret file of another profile, which would send the new secret to its own
/// endpoint.
#[test]
fn login_refuses_other_profiles_secret_file() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let store = |profile: &str| {
        let mut args = options(&home, &issuer);
        args[2] = profile.to_owned();
        args.extend(["--store", "file"].map(str::to_owned));
        home.run_fed(args, CLIENT_SECRET)
    };
    store("a/b").code(0);
    let (text, secret) =
        (std::fs::read(home.config_file()).expect("a file"), home.config_file().with_file_name("a_b.secret"));
    let requests = issuer.token_requests();
    let outcome = store("a_b");
    outcome.code(3).stderr_has(&format!("the secret file {} belongs to profile \"a/b\"", secret.display()));
    assert_eq!(issuer.token_requests(), requests, "the refusal comes before any request");
    assert_eq!(std::fs::read(home.config_file()).expect("a file"), text);
    // A login of the file's own profile replaces the secret.
    std::fs::write(&secret, "old\n").expect("write");
    store("a/b").code(0);
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), format!("{CLIENT_SECRET}\n"));
}

/// `login --store file` refuses to replace a file, link or folder that it did not make.
#[test]
fn login_refuses_existing_secret_file() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let path = home.config_file().with_file_name("prod.secret");
    for kind in ["file", "link", "dangling link", "folder"] {
        let kept = home.write("kept", "by hand\n", 0o600);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make it");
        match kind {
            "file" => std::fs::rename(&kept, &path).expect("move it"),
            "link" => std::os::unix::fs::symlink(&kept, &path).expect("link it"),
            "dangling link" => std::os::unix::fs::symlink("/nowhere/at/all", &path).expect("link it"),
            _ => std::fs::create_dir(&path).expect("make it"),
        }
        let outcome = login(&home, &issuer, &["--store", "file"]);
        outcome.code(3).stderr_has(&format!("the secret file {} is there already", path.display()));
        assert!(home.grep(CLIENT_SECRET).is_empty() && !home.config_file().exists(), "{kind}");
        if kind == "file" {
            assert_eq!(std::fs::read_to_string(&path).expect("the file"), "by hand\n");
        }
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
    }
    login(&home, &issuer, &["--store", "file"]).code(0);
}

/// A path has many spellings: through a linked folder, or through a link to the file.
#[test]
fn login_refuses_secret_file_read_through_links() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let folder = home.config_file().parent().expect("a folder").to_owned();
    login(&home, &issuer, &["--store", "file"]).code(0);
    let secret = folder.join("prod.secret");
    let linked = home.path().join("linked");
    std::os::unix::fs::symlink(&folder, &linked).expect("a link to the folder");
    let good = config(&home);
    for reader in
        [json!({"client_secret": {"file": linked.join("prod.secret")}}), json!({"client_assertion": {"file": secret}})]
    {
        let mut changed = good.clone();
        let mut other = json!({"token_url": "https://other.example/token", "client_id": "c"});
        other.as_object_mut().expect("an object").extend(reader.as_object().expect("an object").clone());
        changed["profiles"]["other"] = other;
        home.config(&changed);
        let outcome = login(&home, &issuer, &["--store", "file"]);
        outcome.code(3).stderr_has("belongs to profile \"other\"");
        let outcome = home.run(["logout", "--profile", "prod"]);
        outcome.code(0).stdout_has("stays, profile \"other\" reads it");
        assert!(secret.exists());
    }
    home.config(&good);
    std::fs::rename(&secret, folder.join("kept")).expect("move it");
    std::os::unix::fs::symlink(folder.join("kept"), &secret).expect("a link to the file");
    login(&home, &issuer, &["--store", "file"]).code(3).stderr_has("is a link or no regular file");
}

/// The profile reads its file already; a `login` that cannot write the configuration puts the old secret back.
#[test]
fn failed_login_restores_the_old_secret() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let padded = format!("{{\"$schema\": \"{}\", \"profiles\": {{}}}}", "x".repeat(600));
    home.write(home.config_file(), padded, 0o600);
    login(&home, &issuer, &["--store", "file"]).code(0);
    let secret = home.config_file().with_file_name("prod.secret");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("open it");
    issuer.set_secret("another");
    let mut command = home.tool("sh", ["-c", "ulimit -f 1; exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_runai-credential")).args(options(&home, &issuer)).args(["--store", "file"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = support::Running::start(&mut command);
    running.feed(b"another".to_vec());
    running.finish().code(3).stderr_has("File too large");
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), format!("{CLIENT_SECRET}\n"));
    assert_eq!(home.files()[secret.strip_prefix(home.path()).expect("below")], 0o600, "private, whatever it was");
}

/// `login` and `setup` leave no partial files under `ulimit -f`.
///
/// SIGXFSZ ends a process that does not handle it. With a limit of one block (512 bytes) the program can write the
/// secret, but not the configuration after it.
#[test]
fn size_limit_leaves_no_partial_files() {
    let (home, issuer) = (Home::new(), Issuer::start());
    home.install("runai-credential");
    home.install("git-credential-runai");
    let limited = |blocks: u32, args: &[String], input: &str| {
        let mut command = home.tool("sh", ["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_runai-credential")).args(args).stdin(std::process::Stdio::piped());
        let mut running = support::Running::start(&mut command);
        running.feed(input.into());
        running.finish()
    };
    let before = format!("{{\"$schema\": \"{}\", \"profiles\": {{}}}}", "x".repeat(600));
    home.write(home.config_file(), &before, 0o600);
    let beside = || std::fs::read_dir(home.config_file().parent().expect("a folder")).expect("the folder").count();
    let mut args = options(&home, &issuer);
    args.extend(["--store", "file", "--host", "https://git.example"].map(str::to_owned));
    for blocks in [0, 1] {
        limited(blocks, &args, CLIENT_SECRET).code(3).stderr_has("File too large");
        assert!(home.grep(CLIENT_SECRET).is_empty(), "no part of the secret stays behind, {blocks} blocks");
        assert_eq!(std::fs::read_to_string(home.config_file()).expect("the configuration"), before);
        assert_eq!(beside(), 1, "{blocks} blocks");
    }
    home.run_fed(args, CLIENT_SECRET).code(0);
    for tool in ["git", "docker"] {
        limited(0, &["setup".to_owned(), tool.to_owned()], "").code(3).stderr_has("File too large");
    }
    assert_eq!(beside(), 2, "the configuration and the secret");
}

/// `login` asks at the terminal for missing values, asks again after a wrong answer, and does not show the secret.
#[test]
fn login_prompt_does_not_show_secret() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644).display().to_string();
    let url = format!("{}\n", issuer.url());
    let outcome = at_terminal(
        &home,
        &["login", "--ca-file", &ca, "--store", "file"],
        &[
            ("such as https://app.run.ai): ", "http://clear.example\n"),
            ("such as https://app.run.ai): ", &url),
            ("Enter if there is none): ", &format!("{REALM}\n")),
            ("Name or client id: ", &format!("{CLIENT_ID}\n")),
            ("is not shown): ", &format!("{CLIENT_SECRET}\n")),
        ],
    );
    outcome.code(0);
    for wanted in [
        "is not an https URL",
        "Settings > Applications",
        "Researcher Authentication",
        "Researcher (L1 or L2)",
        "Profile default: ",
    ] {
        assert!(outcome.stdout.contains(wanted), "{wanted}: {outcome:?}");
    }
    assert!(!outcome.stdout.contains(CLIENT_SECRET), "{outcome:?}");
    home.run(["token"]).code(0);
}

/// ^C at the secret's prompt ends `login` with status 2, writes no file and restores the terminal's echo.
#[test]
fn ctrl_c_at_prompt_restores_echo() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644).display().to_string();
    let script = format!(
        "'{}' login --url {} --client-id c --realm r --ca-file {ca} --store file; echo status $?; stty -a",
        env!("CARGO_BIN_EXE_runai-credential"),
        issuer.url()
    );
    let home = &home;
    let outcome = person(home, &["/bin/sh", "-c", &script], &[("is not shown): ", "half\u{3}")]);
    outcome.code(0).stdout_has("the question was not answered").stdout_has("status 2");
    let modes: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert!(modes.contains(&"echo") && modes.contains(&"isig"), "{outcome}");
    assert!(!outcome.stdout.contains("half") && !home.config_file().exists(), "{outcome}");
}

/// Without a terminal, `login` names the option that is missing.
#[test]
fn login_without_terminal_names_missing_option() {
    let (home, issuer) = (Home::new(), Issuer::start());
    // A new session has no terminal.
    let ask = |args: &[&str]| {
        let mut command = home.tool("setsid", ["--wait", env!("CARGO_BIN_EXE_runai-credential"), "login"]);
        command.args(args);
        support::Running::start(&mut command).finish()
    };
    for (args, option) in [
        (&[][..], "give --url"),
        (&["--url", issuer.url(), "--realm", "r"], "give --client-id"),
        (&["--url", issuer.url(), "--realm", "r", "--client-id", "c"], "give --secret-stdin or --secret-file"),
    ] {
        let outcome = ask(args);
        outcome.code(2);
        assert!(outcome.stderr.contains(option), "{outcome:?}");
    }
    let outcome = ask(&["--url", "https://user:pass@a.example", "--realm", "r"]);
    outcome.code(2);
    assert!(!outcome.stderr.contains("pass"), "{outcome:?}");
}

/// `status` prints one line for each profile, sends no request and shows no token.
#[test]
fn status_prints_one_line_per_profile() {
    let (home, issuer) = (Home::new(), Issuer::start());
    let mut config = home.keycloak(&issuer);
    config["profiles"]["other"] =
        json!({"url": refused_url(), "client_id": "c2", "client_secret": {"keyring": true}, "timeout": "500ms"});
    config["profiles"]["other"]["client_secret"] = json!({"env": "S"});
    config["default_profile"] = json!("prod");
    home.config(&config);
    home.run(["token"]).code(0);
    home.run_with(["token", "--profile", "other"], |command| {
        command.env("S", "canary-secret");
    })
    .code(5);
    let outcome = home.run(["status"]);
    outcome.code(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{outcome:?}");
    assert!(lines[0].starts_with("PROFILE"), "{outcome:?}");
    let line = |name: &str| *lines.iter().find(|line| line.starts_with(name)).expect("a line");
    let secret = home.path().join("secret");
    for part in ["prod *", CLIENT_ID, issuer.url(), &format!("the file {}", secret.display()), " left", "none"] {
        assert!(line("prod").contains(part), "{part}: {outcome:?}");
    }
    for part in ["the variable S", "  none  ", "ago: "] {
        assert!(line("other").contains(part), "{part}: {outcome:?}");
    }
    let json: Value = serde_json::from_str(&home.run(["status", "--format", "json"]).code(0).stdout).expect("JSON");
    let prod = json.as_array().expect("a list").iter().find(|row| row["profile"] == "prod").expect("prod");
    assert_eq!(prod["default"], true);
    assert!(prod["token"]["expires_in"].as_u64().is_some_and(|left| left > 0), "{json}");
    assert!(!json.to_string().contains(&issuer.last_token()), "{json}");
    assert_eq!(issuer.token_requests(), 1);
}
