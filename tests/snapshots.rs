//! Compares the program's output with `tests/snapshots/`, byte for byte, so that each change is visible in a diff.
//!
//! `cargo insta review`, or `INSTA_UPDATE=always cargo test snapshots`, accepts a change.

use std::path::Path;

use serde_json::json;

use support::*;

/// Compares a text with `tests/snapshots/NAME.snap`.
#[track_caller]
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Returns the subcommands that the program lists for `make install`.
fn subcommands() -> Vec<String> {
    let listed = Home::new().run(["man", "--list"]).code(0).stdout.clone();
    listed.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

/// Replaces the parts that differ between runs: the home, the port of the server, the version and times.
fn stable(text: &str, home: &Home, issuer: &Issuer) -> String {
    let port = issuer.url().rsplit(':').next().expect("a port").to_owned();
    let text = text.replace(&home.path().display().to_string(), "[HOME]").replace(&format!(":{port}"), ":[PORT]");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    // The addresses of `localhost` and the path of the certificates depend on the machine.
    let text = between(&text, "localhost is ", " (", "[ADDRESSES]");
    let text = between(&text, "trusted are ", " and ", "[BUNDLE]");
    let mut stable = String::new();
    for line in text.lines() {
        // A step's time is in parentheses at the end of its line.
        let line = match line.rsplit_once(" (") {
            Some((start, end)) if end.ends_with(" ms)") => format!("{start} ([TIME])"),
            _ => line.to_owned(),
        };
        stable += &(line.trim_end().to_owned() + "\n");
    }
    stable
}

/// Replaces the text between the first two marks.
fn between(text: &str, start: &str, end: &str, by: &str) -> String {
    let Some((before, rest)) = text.split_once(start) else { return text.to_owned() };
    let (_, after) = rest.split_once(end).expect("the end of what varies");
    format!("{before}{start}{by}{end}{after}")
}

/// `--help` prints the same text as in the snapshots, for the program and for each subcommand.
#[test]
fn help_of_each_subcommand_is_unchanged() {
    let home = Home::new();
    snapshot("help", &home.run(["--help"]).code(0).stdout);
    for name in subcommands() {
        snapshot(&format!("help-{name}"), &home.run([name.as_str(), "--help"]).code(0).stdout);
    }
}

/// `man` prints the same pages as in the snapshots, for the program and for each subcommand.
#[test]
fn man_page_of_each_subcommand_is_unchanged() {
    let home = Home::new();
    let page = |args: &[&str]| home.run(args).code(0).stdout.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    snapshot("man", &page(&["man"]));
    for name in subcommands() {
        snapshot(&format!("man-{name}"), &page(&["man", &name]));
    }
}

/// `login`, `status`, `setup --print` of each tool, and `logout` print the texts of the snapshots. The server accepts
/// the client.
#[test]
fn output_for_people_is_unchanged() {
    let (home, issuer) = (Home::new(), Issuer::start());
    home.install("runai-credential");
    let ca = home.write("ca.pem", issuer.ca_pem(), 0o644).display().to_string();
    snapshot("status-empty", &stable(&home.run(["status"]).stderr, &home, &issuer));
    let login = ["login", "--profile", "prod", "--url", issuer.url(), "--realm", REALM, "--client-id", CLIENT_ID];
    let login = login.into_iter().chain(["--ca-file", &ca, "--host", "https://git.example", "--store", "file"]);
    let outcome = home.run_fed(login.chain(["--secret-stdin"]), CLIENT_SECRET);
    snapshot("login", &stable(&outcome.code(0).silent().stdout, &home, &issuer).replace("59 min", "[LEFT]"));
    for tool in ["git", "docker"] {
        let outcome = home.run(["setup", tool, "--print"]);
        snapshot(&format!("setup-{tool}"), &stable(&outcome.code(0).silent().stdout, &home, &issuer));
    }
    let status = home.run(["status"]).code(0).silent().stdout.clone();
    let status = status.replace(" 59 min left", " [LEFT] left").replace(" 60 min left", " [LEFT] left");
    // The longest path decides the width of a column.
    let status = stable(&status, &home, &issuer).split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    snapshot("status", &status);
    snapshot("logout", &stable(&home.run(["logout"]).code(0).silent().stdout, &home, &issuer));
}

/// `doctor` prints the texts of the snapshots: for a correct setup without tools, and for a wrong secret.
#[test]
fn output_of_doctor_is_unchanged() {
    let (home, issuer) = (Home::new(), Issuer::start());
    home.keycloak_with(&issuer, json!({"hosts": ["https://git.example"]}));
    let doctor = || {
        home.run_with(["doctor"], |command| {
            command.env("PATH", home.path().join("bin"));
        })
    };
    let uuid = |text: String| {
        let words = text.split(' ').map(|word| match word.starts_with("20") && word.contains('T') {
            true => "[TIMESTAMP]".to_owned(),
            false => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    snapshot("doctor", &uuid(stable(&doctor().code(0).silent().stdout, &home, &issuer)));
    home.write("secret", "wrong\n", 0o600);
    snapshot("doctor-wrong-secret", &uuid(stable(&doctor().code(4).silent().stdout, &home, &issuer)));
}
