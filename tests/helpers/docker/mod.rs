//! Tests of `docker` with requests in the protocol of docker's credential helpers. `integrations/docker.rs` tests real
//! clients.

mod real;

use serde_json::json;

use support::*;

const NOT_FOUND: &str = "credentials not found in native keychain\n";
const REGISTRY: &str = "https://registry.acme.example:5000";

/// Returns a home whose profile serves these hosts.
fn home_for(issuer: &Issuer, hosts: &[&str]) -> Home {
    let home = Home::new();
    home.keycloak_with(issuer, json!({"hosts": hosts}));
    home
}

#[track_caller]
fn get(home: &Home, server: &str) -> Outcome {
    home.run_fed(["docker", "get"], server)
}

/// Asserts a failure: the program prints the reason on standard output as well, because the clients show only that.
#[track_caller]
fn fails(outcome: &Outcome, what: &str) {
    outcome.code(1).stdout_has(what);
    let reason = outcome.stdout.trim_end();
    assert!(outcome.stderr.starts_with(&format!("runai-credential: error: {reason}\nhint: ")), "{outcome}");
    assert_eq!((outcome.stdout.lines().count(), outcome.stderr.lines().count()), (1, 2), "{outcome}");
}

/// `get` returns the token for each spelling of a listed host, and sends one request for all of them.
#[test]
fn get_serves_every_spelling_of_hosts() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY, "https://gitlab.acme.example", "http://127.0.0.1:5001"]);
    for server in [
        "registry.acme.example:5000",
        "registry.acme.example:5000\n",
        "  REGISTRY.acme.example:5000\r\n",
        "registry.acme.example:5000/a/b",
        "https://registry.acme.example:5000/v1/",
        "gitlab.acme.example",
        "gitlab.acme.example:443",
        "https://gitlab.acme.example:443/",
        "127.0.0.1:5001",
        "http://127.0.0.1:5001/v2/",
        issuer.url(),
    ] {
        let outcome = get(&home, server);
        outcome.code(0).silent();
        let wanted = json!({"ServerURL": server.trim(), "Username": "oauth2", "Secret": issuer.last_token()});
        assert_eq!(outcome.json(), wanted, "{server:?}");
        assert!(outcome.stdout.ends_with("}\n") && outcome.stdout.lines().count() == 1);
    }
    assert_eq!(issuer.token_requests(), 1);
}

/// docker compares this text (`credentials/error.go`).
#[test]
fn docker_get_unknown_server_prints_not_found() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY, "http://127.0.0.1:5001"]);
    for server in [
        "registry.acme.example",
        "registry.acme.example:443",
        "http://registry.acme.example:5000",
        "https://hub.example/v1/",
        "hub.example",
        "evil.example",
        "evil.example/registry.acme.example:5000",
        "registry.acme.example:5000.evil.example",
        "user@registry.acme.example:5000",
        "registry.acme.example:5000@evil.example",
        "registry.acme.example:5000\nevil.example",
        "registry.acme.example:5000\\",
        "registry.acme.example.:5000",
        "registry.acme.example:5000?x",
        "https://127.0.0.1:5001",
        "localhost:5001",
        "127.1:5001",
        "\0",
        "\u{fffd}",
    ] {
        get(&home, server).code(1).stdout_is(NOT_FOUND).silent();
    }
    assert_eq!(issuer.connections(), 0);
}

/// `get`, `store` and `erase` refuse a request without a server or a user name, and one of more than 64 KiB.
#[test]
fn empty_or_oversized_request_is_refused() {
    let home = Home::new();
    for verb in ["get", "erase"] {
        for server in ["", "\n", " \r\n"] {
            home.run_fed(["docker", verb], server).code(1).stdout_is("no credentials server URL\n").silent();
        }
    }
    let store = |request: &str| home.run_fed(["docker", "store"], request);
    store(r#"{"Username":"u","Secret":"s"}"#).code(1).stdout_is("no credentials server URL\n").silent();
    store(r#"{"ServerURL":"r","Secret":"s"}"#).code(1).stdout_is("no credentials username\n").silent();
    fails(&store("r"), "store got something else than a JSON object");
    for verb in ["get", "store", "erase"] {
        let long = " ".repeat(64 * 1024) + "r";
        fails(&home.run_fed(["docker", verb], long), "the request on standard input is longer than 64 KiB");
    }
}

/// A failure for a listed host is never "not found", because a client then continues without a credential.
#[test]
fn failure_is_printed_on_both_streams() {
    let home = Home::new();
    fails(&get(&home, "registry.acme.example:5000"), "there is no configuration file ");

    home.write(home.config_file(), "{", 0o600);
    fails(&get(&home, "registry.acme.example:5000"), "not JSON: the file ends too early");

    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY]);
    home.write("secret", "canary-wrong", 0o600);
    let refused = get(&home, "registry.acme.example:5000");
    fails(&refused, "the server refused client ci-pipeline: unauthorized_client");
    assert!(!refused.to_string().contains("canary-wrong"));

    home.keycloak_with(&issuer, json!({"url": refused_url(), "hosts": [REGISTRY]}));
    fails(&get(&home, "registry.acme.example:5000"), "cannot reach https://");
    get(&home, "evil.example").code(1).stdout_is(NOT_FOUND).silent();

    home.keycloak_with(&issuer, json!({"username": "<token>", "hosts": [REGISTRY]}));
    fails(&get(&home, "registry.acme.example:5000"), "username of profile \"prod\" is <token>");
    home.run(["docker", "list"]).code(0).silent().stdout_is("{}\n");
}

/// A host that two profiles list is an error for `get`, and `list` omits it. A URL scheme or `--profile` resolves it.
#[test]
fn host_claimed_twice_is_an_error() {
    let issuer = Issuer::start();
    let home = Home::new();
    let mut config = home.keycloak(&issuer);
    let profiles = config["profiles"].as_object_mut().expect("profiles");
    let mut other = profiles[PROFILE].clone();
    other["hosts"] = json!([REGISTRY, "http://127.0.0.1:5001"]);
    other["username"] = json!("other");
    other["scope"] = json!("openid other");
    profiles[PROFILE]["hosts"] = json!([REGISTRY, "https://127.0.0.1:5001", "https://mine.example"]);
    profiles.insert("other".to_owned(), other);
    home.config(&config);
    for server in ["registry.acme.example:5000", issuer.url(), "127.0.0.1:5001"] {
        let outcome = get(&home, server);
        fails(&outcome, " both claim ");
        assert!(outcome.stdout.contains("\"prod\"") && outcome.stdout.contains("\"other\""), "{outcome}");
    }
    assert_eq!(issuer.connections(), 0);
    // The scheme of the URL decides.
    assert_eq!(get(&home, "https://127.0.0.1:5001").code(0).json()["Username"], "oauth2");
    assert_eq!(get(&home, "http://127.0.0.1:5001").code(0).json()["Username"], "other");
    let named = home.run_fed(["docker", "--profile", "other", "get"], "registry.acme.example:5000");
    assert_eq!(named.code(0).json()["Username"], "other");
    // `list` omits ambiguous hosts.
    assert_eq!(home.run(["docker", "list"]).code(0).silent().json(), json!({"mine.example": "oauth2"}));
}

/// `get` returns a token that lives at least ten more minutes: BuildKit keeps it for that long.
#[test]
fn served_token_lives_ten_more_minutes() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY]);
    let ago = |seconds| Machine { behind: std::time::Duration::from_secs(seconds), ..Machine::of(&home) };
    // 2990 of 3600 s: 610 s are left.
    assert_eq!(ago(2990).call(&["token"]).status, 0);
    let first = issuer.last_token();
    assert_eq!(get(&home, "registry.acme.example:5000").code(0).json()["Secret"], first.as_str());
    assert_eq!(home.run(["docker", "erase"]).code(1).stdout, "no credentials server URL\n");
    home.run_fed(["docker", "erase"], "registry.acme.example:5000").code(0).silent();
    // 3010 of 3600 s: 590 s are left, which is good for kubectl.
    assert_eq!(ago(3010).call(&["token"]).status, 0);
    let second = issuer.last_token();
    assert_eq!(home.run(["kubectl"]).code(0).json()["status"]["token"], second.as_str());
    let served = get(&home, "registry.acme.example:5000");
    assert_ne!(served.code(0).json()["Secret"], second.as_str());
    assert_eq!(issuer.token_requests(), 3);
}

/// `store` accepts the token that `get` serves for the host. It refuses every other secret and writes nothing.
#[test]
fn store_accepts_only_the_served_token() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY]);
    let store = |server: &str, secret: &str| {
        let request = json!({"ServerURL": server, "Username": "oauth2", "Secret": secret});
        home.run_fed(["docker", "store"], request.to_string())
    };
    fails(&store("registry.acme.example:5000", "canary"), "this helper keeps no passwords");
    get(&home, "registry.acme.example:5000").code(0);
    let before = home.files();
    store("registry.acme.example:5000", &issuer.last_token()).code(0).silent().stdout_is("");
    store("https://registry.acme.example:5000/v1/", &issuer.last_token()).code(0).silent().stdout_is("");
    for (server, secret) in [
        ("registry.acme.example:5000", "canary"),
        ("registry.acme.example:5000", ""),
        ("registry.acme.example:5000", &*issuer.last_id_token()),
        ("http://registry.acme.example:5000", &*issuer.last_token()),
        ("evil.example", &*issuer.last_token()),
        ("https://u:canary@registry.acme.example:5000", "canary"),
    ] {
        let outcome = store(server, secret);
        fails(&outcome, "this helper keeps no passwords");
        assert!(!outcome.to_string().contains("canary"), "{outcome}");
        assert!(secret.is_empty() || !outcome.to_string().contains(secret), "{outcome}");
    }
    assert_eq!(home.files(), before);
    assert_eq!(home.grep("canary"), home.grep(CLIENT_SECRET));
    assert_eq!(issuer.token_requests(), 1);
}

/// `erase` removes the cached token of a listed host and ignores other hosts. It sends no request.
#[test]
fn erase_drops_token_without_any_request() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY]);
    let is_token = |path: &&std::path::PathBuf| {
        path.starts_with("cache/runai-credential/tokens") && path.extension().is_some_and(|end| end == "json")
    };
    let tokens = || home.files().keys().filter(is_token).count();
    let erase = |server: &str| {
        home.run_fed(["docker", "erase"], server).code(0).silent().stdout_is("");
    };
    for server in [
        "registry.acme.example:5000",
        "http://registry.acme.example:5000",
        "https://registry.acme.example:5000",
        "registry.acme.example:5000/v1/",
    ] {
        get(&home, "registry.acme.example:5000").code(0);
        assert_eq!(tokens(), 1);
        let requests = issuer.connections();
        erase("evil.example");
        erase("https://hub.example/v1/");
        erase("user@registry.acme.example:5000");
        assert_eq!(tokens(), 1);
        erase(server);
        assert_eq!(tokens(), 0, "{server}");
        // docker erases a login twice, or under four names.
        erase(server);
        assert_eq!(issuer.connections(), requests);
    }
    // The ID token is erased as well.
    get(&home, "registry.acme.example:5000").code(0);
    home.run_fed(["docker", "--bearer", "id_token", "erase"], "registry.acme.example:5000").code(0);
    assert_eq!(tokens(), 0);
    home.write(home.config_file(), "{", 0o600);
    home.run_fed(["docker", "erase"], "r.example").code(0).stdout_is("").stderr_has("not JSON");
}

/// `list` names the hosts for which `get` has a cached token and needs no request.
#[test]
fn list_names_hosts_with_cached_token() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY, "https://gitlab.acme.example", "http://127.0.0.1:5001"]);
    let list = || home.run_fed(["docker", "list"], "unused");
    list().code(0).silent().stdout_is("{}\n");
    get(&home, "registry.acme.example:5000").code(0);
    let listed = list().code(0).silent().json();
    let own = issuer.url().trim_start_matches("https://").to_owned();
    assert_eq!(
        listed,
        json!({
            "127.0.0.1:5001": "oauth2", "gitlab.acme.example": "oauth2", "registry.acme.example:5000": "oauth2",
            own: "oauth2",
        })
    );
    let before = issuer.connections();
    for server in listed.as_object().expect("an object").keys() {
        get(&home, server).code(0).silent();
    }
    assert_eq!(issuer.connections(), before);
    // `list` does not read standard input: a terminal or an open pipe must not make it wait.
    home.run(["docker", "list"]).code(0).silent();

    home.write(home.config_file(), "{", 0o600);
    list().code(0).stdout_is("{}\n").stderr_has("not JSON");
    Home::new().run(["docker", "list"]).code(0).stdout_is("{}\n").stderr_has("there is no configuration file");
}

/// `get`, `list` and `erase` work with a profile from environment variables.
#[test]
fn env_profile_serves_docker_without_file() {
    let issuer = Issuer::start();
    let home = Home::new();
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644);
    let run = |verb: &str, input: &str| {
        let mut command = home.command(["docker", verb]);
        command.env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CA_FILE", &ca);
        command
            .env("RUNAI_CLIENT_ID", CLIENT_ID)
            .env("RUNAI_CLIENT_SECRET", CLIENT_SECRET)
            .env("RUNAI_HOSTS", REGISTRY);
        command.stdin(std::process::Stdio::piped());
        let mut running = Running::start(&mut command);
        running.feed(input.into());
        running.finish()
    };
    assert_eq!(
        run("get", "registry.acme.example:5000").code(0).silent().json()["Secret"],
        issuer.last_token().as_str()
    );
    run("get", "evil.example").code(1).silent().stdout_is(NOT_FOUND);
    assert_eq!(run("list", "").code(0).silent().json()["registry.acme.example:5000"], "oauth2");
    run("erase", "registry.acme.example:5000").code(0).silent();
    run("list", "").code(0).silent().stdout_is("{}\n");
    // A CI job may have no home directory, and so no path for a configuration file.
    let mut command = home.command(["docker", "get"]);
    command.env("RUNAI_URL", issuer.url()).env("RUNAI_REALM", REALM).env("RUNAI_CA_FILE", &ca);
    command.env("RUNAI_CLIENT_ID", CLIENT_ID).env("RUNAI_CLIENT_SECRET", CLIENT_SECRET).env("RUNAI_HOSTS", REGISTRY);
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME").stdin(std::process::Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed("registry.acme.example:5000".into());
    running.finish().code(0).silent();
}

/// Called as `docker-credential-runai`, the program accepts only the verbs of docker's protocol. Installers make a link
/// or a copy with this name.
#[test]
fn helper_name_selects_docker_protocol() {
    let issuer = Issuer::start();
    let home = home_for(&issuer, &[REGISTRY]);
    home.install("docker-credential-runai");
    let copy = home.path().join("copy/docker-credential-runai");
    std::fs::create_dir(copy.parent().expect("a folder")).expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_runai-credential"), &copy).expect("a copy");
    for program in [home.path().join("bin/docker-credential-runai"), copy] {
        let run = |words: &str, input: &str| {
            let mut command = home.tool(&program, words.split(' ').filter(|word| !word.is_empty()));
            command.stdin(std::process::Stdio::piped());
            let mut running = Running::start(&mut command);
            running.feed(input.into());
            running.finish()
        };
        assert_eq!(run("get", REGISTRY).code(0).silent().json()["Secret"], issuer.last_token().as_str());
        run("get", "evil.example").code(1).silent().stdout_is(NOT_FOUND);
        for words in ["version", "--version", "-v"] {
            let version = format!("docker-credential-runai (runai-credential) {}\n", env!("CARGO_PKG_VERSION"));
            run(words, "").code(0).silent().stdout_is(version);
        }
        for words in ["", "get get", "login", "--get", "get extra"] {
            let outcome = run(words, "evil.example");
            outcome.code(1).stdout_is("").stderr_has("runai-credential: error: ");
            outcome.stderr_has("\nhint: usage: docker-credential-runai get|store|erase|list|version\n");
        }
        run("-v get", "evil.example").code(1).stdout_is(NOT_FOUND).stderr_has("none of the hosts");
    }
    assert_eq!(issuer.token_requests(), 1);
}
