//! Runs the program on each configuration in `tests/cases/config/` and compares what it reports.
//!
//! The unit tests of the module `config` check `docs/config.schema.json` against the same cases.

use std::time::Duration;

use serde_json::Value;

use crate::config::refused;
use support::*;

#[track_caller]
fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("a list of cases")
}

#[track_caller]
fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {case}"))
}

/// The program refuses each wrong configuration with the position, the error and the hint that the case states.
#[test]
fn wrong_configuration_error_has_position_and_hint() {
    let home = Home::new();
    for case in cases(include_str!("../cases/config/refused.json")) {
        let lines: Vec<&str> = case["text"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
        let path = home.write(home.config_file(), lines.join("\n"), 0o600);
        let what = format!("{}:{}: {}", path.display(), text(&case, "at"), text(&case, "what"));
        let outcome = home.run(["token"]);
        let told = Outcome { what: text(&case, "name").to_owned(), ..outcome };
        refused(&told, &what, text(&case, "hint"));
    }
    assert_eq!(home.files().len(), 1, "a refused configuration leaves nothing behind: {:?}", home.files());
}

/// The program accepts each right configuration: its only error is the missing secret.
#[test]
fn right_configuration_fails_at_its_secret() {
    let home = Home::new();
    for case in cases(include_str!("../cases/config/accepted.json")) {
        let path = home.config(&case["config"]);
        let then = text(&case, "then").replace("CONFIG", &path.display().to_string());
        let outcome = home.run(["token"]);
        let told = Outcome { what: text(&case, "name").to_owned(), ..outcome };
        told.code(3).stdout_is("").stderr_has(&format!("error: {then}\n"));
    }
}

/// The program names the position of the first byte that is not UTF-8.
#[test]
fn non_utf8_error_names_first_byte() {
    let home = Home::new();
    for (bytes, at) in [
        (&b"{\n  \"profiles\": {\"caf\xe9\": {}}\n}"[..], "2:20"),
        ("{ \"é".as_bytes().iter().chain(b"\xff").copied().collect::<Vec<_>>().as_slice(), "1:5"),
        (b"\xff\xfe{\0}\0", "1:1"),
        (b"{\"profiles\": \xed\xa0\x80", "1:14"),
    ] {
        let path = home.write(home.config_file(), bytes, 0o600);
        let what = format!("{}:{at}: the file is not UTF-8", path.display());
        refused(&home.run(["token"]), &what, "save it as UTF-8 without a byte order mark");
    }
}

/// The program refuses lists that are nested a million deep within five seconds and does not crash.
#[test]
fn deep_nesting_is_refused_without_crash() {
    const DEPTH: usize = 1_000_000;
    let home = Home::new();
    for (beginning, end, at, what) in [
        ("", "", "1:1", "the configuration is a list, not an object"),
        ("{\"profiles\": {\"p\": {\"url\": ", "}}}", "1:28", "url is a list, not a text"),
        ("{\"profiles\": {\"p\": {\"hosts\": [", "]}}}", "1:31", "hosts has a list in it, not a text"),
    ] {
        let text = format!("{beginning}{}{}{end}", "[".repeat(DEPTH), "]".repeat(DEPTH));
        let path = home.write(home.config_file(), text, 0o600);
        let outcome = home.run(["token"]);
        outcome.code(3).within(Duration::from_secs(5));
        outcome.stderr_has(&format!("error: {}:{at}: {what}\nhint: make it", path.display()));
    }
    let path = home.write(home.config_file(), "[".repeat(DEPTH), 0o600);
    home.run(["token"]).code(3).stderr_has(&format!(
        "{}:1:{}: not JSON: the file ends too early",
        path.display(),
        DEPTH + 1
    ));
}

/// The program refuses a file of 64 GiB by its size, without reading it.
#[test]
fn huge_file_is_refused_without_reading() {
    let home = Home::new();
    let path = home.config(&serde_json::json!({"profiles": {"p": super::without_secret("UNSET")}}));
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("open it");
    file.set_len(64 << 30).expect("make it 64 GiB, all hole");
    let outcome = home.run(["token"]);
    outcome.within(Duration::from_secs(2));
    refused(
        &outcome,
        &format!("cannot use the configuration file {}: it is too large", path.display()),
        "it must be a regular file of at most 16 MiB that you may read, that belongs to you or root, and that no other user \
         may write",
    );
}

/// The program shortens long values, hides passwords and escapes control characters in its errors.
#[test]
fn error_omits_long_or_hostile_values() {
    let home = Home::new();
    let long = "x".repeat(1 << 20);
    for value in [format!("http://{long}.example"), format!("https://user:{}@a.example", "canary-password")] {
        let mut profile = super::without_secret("UNSET");
        profile["url"] = value.into();
        home.config(&serde_json::json!({"profiles": {"p": profile}}));
        let outcome = home.run(["token"]);
        outcome.code(3).stderr_has("url of profile \"p\" ");
        assert!(outcome.stderr.len() < 700, "{outcome}");
        assert!(!outcome.stderr.contains("canary") && !outcome.stderr.contains("xxxx"), "{outcome}");
    }
    let escaped = r#"{"profiles": {"p": {"url": "https://user:canary\u0040a.example"}}}"#;
    home.write(home.config_file(), escaped, 0o600);
    let outcome = home.run(["token"]);
    outcome.code(3).stderr_has("url of profile \"p\" holds user info");
    assert!(!outcome.stderr.contains("canary"), "{outcome}");

    let name = "\u{1b}]0;owned\u{7}\u{202e}".repeat(300);
    home.write(home.config_file(), format!("{{\"profiles\": {{}}, {}: 1}}", Value::from(name)), 0o600);
    let outcome = home.run(["token"]);
    outcome.code(3).stderr_has("unknown key");
    let hostile = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!outcome.stderr.contains(hostile) && outcome.stderr.lines().count() == 2, "{outcome}");
}
