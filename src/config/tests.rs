//! Compares the parser with the JSON schema, on golden cases and on mutations, and tests the selection by origin.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::parse::{OTHER_KEYS, SOURCE_KEYS, TOP_KEYS};
use super::*;
use crate::host::Moment;
use crate::profile::Draft;
use std::ffi::OsString;

const SCHEMA: &str = include_str!("../../docs/config.schema.json");
const ACCEPTED: &str = include_str!("../../tests/cases/config/accepted.json");
const REFUSED: &str = include_str!("../../tests/cases/config/refused.json");

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("the schema is one");
    jsonschema::draft202012::new(&schema).expect("its patterns and references are good")
}

fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("a list of cases")
}

/// Returns the position, the message and the hint of the error in `source`.
fn fault(source: &str) -> Option<(String, String, String)> {
    Config::parse(source, "/c.json")
        .err()
        .map(|wrong| (format!("{}:{}", wrong.line, wrong.column), wrong.what, wrong.hint))
}

/// A machine that has only these environment variables.
struct Variables<'a>(&'a [(&'a str, &'a str)]);

impl Host for Variables<'_> {
    fn var_os(&self, name: &str) -> Option<OsString> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }

    fn now(&self) -> Moment {
        unreachable!("no profile depends on the time")
    }

    fn read_stdin(&self, _: usize) -> std::io::Result<Vec<u8>> {
        unreachable!("no profile depends on standard input")
    }

    fn is_verbose(&self) -> bool {
        false
    }

    fn set_verbose(&self, _: bool) {}

    fn show_note(&self, _: &str) {}
}

fn with_host<T>(variables: &[(&str, &str)], act: impl FnOnce(&dyn Host) -> T) -> T {
    act(&Variables(variables))
}

/// The origin in a `git`, `docker`, `get` or `token --url` call selects the profile.
#[test]
fn origin_selects_profile_that_serves_it() {
    let profile = |url: &str, hosts: &[&str]| json!({"url": url, "client_id": "c", "client_secret": {"keyring": true}, "hosts": hosts});
    let config = json!({"default_profile": "a", "profiles": {
        "a": profile("https://a.example", &["https://both.example", "http://127.0.0.1:5000"]),
        "b": profile("https://b.example/base", &["https://BOTH.example:443", "https://b.example", "https://c.example"]),
    }});
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), config.to_string()).expect("write it");
    let env = [
        ("RUNAI_URL", "https://env.example"),
        ("RUNAI_CLIENT_ID", "c"),
        ("RUNAI_CLIENT_SECRET", "s"),
        ("RUNAI_HOSTS", " https://c.example , http://[::1]:5000,"),
    ];
    let none: &[(&str, &str)] = &[];
    let both = |one: &str, other: &str, origin: &str| format!("the profiles {one:?} and {other:?} both claim {origin}");
    for (variables, named, asked, wanted) in [
        (none, None, "https://a.example", Ok(Some("a"))),
        (none, None, "https://b.example", Ok(Some("b"))),
        (none, None, "http://127.0.0.1:5000", Ok(Some("a"))),
        (none, None, "https://127.0.0.1:5000", Ok(None)),
        (none, None, "https://a.example:8443", Ok(None)),
        (none, None, "https://sub.a.example", Ok(None)),
        (none, None, "https://both.example", Err(both("a", "b", "https://both.example"))),
        // A profile name selects the profile. It does not add a receiver of its token.
        (none, Some("b"), "https://both.example", Ok(Some("b"))),
        (none, Some("b"), "https://a.example", Ok(None)),
        (&env, None, "https://env.example", Ok(Some("env"))),
        (&env, None, "http://[::1]:5000", Ok(Some("env"))),
        (&env, None, "https://a.example", Ok(Some("a"))),
        (&env, None, "https://unknown.example", Ok(None)),
        (&env, None, "https://c.example", Err(both("b", "env", "https://c.example"))),
        (&env, Some("env"), "https://c.example", Ok(Some("env"))),
        (&env, Some("env"), "https://a.example", Ok(None)),
        (&env, Some("b"), "https://c.example", Ok(Some("b"))),
    ] {
        let origin = Origin::parse(asked).expect("an origin");
        let found = with_host(variables, |host| find_profile(Some(file.path()), named, Some(&origin), host));
        let found = found.map(|profile| profile.map(|profile| profile.name));
        match (&found, wanted) {
            (Ok(name), Ok(wanted)) => assert_eq!(name.as_deref(), wanted, "{named:?} {asked}"),
            (Err(error), Err(wanted)) => assert!(error.what.ends_with(&wanted), "{error:?}"),
            (found, wanted) => panic!("{named:?} {asked}: {found:?} and not {wanted:?}"),
        }
    }
    // Without a file, the environment has the only profile.
    let missing = Path::new("/nonexistent/config.json");
    for (asked, wanted) in [("https://c.example", Some("env")), ("https://a.example", None)] {
        let origin = Origin::parse(asked).expect("an origin");
        let found = with_host(&env, |host| find_profile(Some(missing), None, Some(&origin), host));
        assert_eq!(found.expect("no error").map(|profile| profile.name).as_deref(), wanted, "{asked}");
    }
}

/// A case that the schema cannot judge like the parser gives the reason in `schema_cannot_know`.
#[test]
fn schema_agrees_with_parser_on_cases() {
    let schema = schema();
    for case in cases(ACCEPTED) {
        let name = &case["name"];
        assert_eq!(fault(&case["config"].to_string()), None, "{name}");
        let errors: Vec<_> = schema.iter_errors(&case["config"]).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    for case in cases(REFUSED) {
        let name = &case["name"];
        let lines = case["text"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let text = lines.collect::<Vec<_>>().join("\n");
        assert!(fault(&text).is_some(), "{name} was accepted");
        // A validator does not see a text that is not JSON.
        let accepted = serde_json::from_str(&text).is_ok_and(|value| schema.is_valid(&value));
        let unknowable = case.get("schema_cannot_know").is_some_and(|reason| reason != "it is not JSON");
        assert_eq!(accepted, unknowable, "{name}: does the schema accept it?");
    }
}

/// Every key has a description in the schema and occurs in an accepted case.
#[test]
fn known_keys_have_description_and_case() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |known: &mut dyn Iterator<Item = &'static str>| -> Vec<String> {
        let mut known: Vec<String> = known.map(str::to_owned).collect();
        known.sort_unstable();
        known
    };
    let top = &schema["properties"];
    let profile = &schema["$defs"]["profile"]["properties"];
    let source = &schema["$defs"]["source"]["properties"];
    assert_eq!(keys(top), sorted(&mut TOP_KEYS.into_iter()));
    assert_eq!(keys(profile), sorted(&mut Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS)));
    assert_eq!(keys(source), sorted(&mut SOURCE_KEYS.into_iter()));
    for (key, said) in [top, profile, source].into_iter().filter_map(Value::as_object).flatten() {
        assert!(said["description"].as_str().is_some_and(|said| said.len() > 20), "{key} has no description");
        let quoted = format!("\"{key}\":");
        assert!(ACCEPTED.contains(&quoted), "no accepted case has {key}");
    }
}

/// Returns values that are valid for some key, or nearly valid.
fn values() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "",
        "a",
        "acme",
        "a b",
        "a/b",
        "..",
        "é",
        "a\u{1}b",
        "a\u{a0}b",
        "a:b",
        "a\"b",
        "openid profile",
        "env",
        "https://a.example",
        "https://a.example/",
        "https://a.example/b/../c",
        "https://a.example:65536",
        "https://a.example?x",
        "https://u@a.example",
        "HTTPS://A.example:443",
        "https://a..example",
        "https://1.2.3",
        "https://1.2.3.4:5",
        "https://1.2.3.04",
        "https://[::1]:5",
        "http://[::1]",
        "http://127.0.0.1:5000",
        "http://127.0.0.256",
        "http://127.1",
        "http://localhost",
        "http://LocalHost:1",
        "http://a.example",
        "http://u:p@a.example:3128/",
        "a.example:3128",
        "socks5://a.example",
        "ftp://a.example",
        "https://",
        "none",
        "None",
        "disk",
        "post",
        "basic",
        "access_token",
        "id_token",
        "keycloak",
        "v2",
        "v1",
        "app-token",
        "oauth2",
        "/x",
        "x",
        "/x\0",
        "10s",
        "0s",
        "00010m",
        "11m",
        "600s",
        "601s",
        "99ms",
        "600000ms",
        "600001ms",
        "1h",
        "10",
        "1.5s",
    ]);
    let leaf = prop_oneof![
        6 => texts.prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => prop::sample::select(vec![json!(0), json!(10), json!(-1.5), json!(1e300)]),
    ];
    let keys = prop::sample::select(vec!["keyring", "file", "env", "command", "x"]);
    prop_oneof![
        4 => leaf.clone(),
        1 => prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from),
        1 => prop::collection::btree_map(keys, leaf, 0..3).prop_map(|map| json!(map)),
        1 => prop::collection::vec(Just(json!("/x")), 1..3).prop_map(|list| json!({"command": list})),
    ]
}

/// A change to a profile: it drops or renames a key, or sets its value.
#[derive(Clone, Debug)]
enum Change {
    Drop(prop::sample::Index),
    Rename(prop::sample::Index, &'static str),
    Set(&'static str, Value),
    /// A member of another good profile.
    Graft(String, Value),
}

fn changes(good: &[Value]) -> impl Strategy<Value = Vec<Change>> + use<> {
    let members: Vec<(String, Value)> = good.iter().filter_map(Value::as_object).flat_map(Clone::clone).collect();
    let names: Vec<&str> = Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS).chain(["", "relm", "URL"]).collect();
    let names = prop::sample::select(names);
    let change = prop_oneof![
        1 => any::<prop::sample::Index>().prop_map(Change::Drop),
        1 => (any::<prop::sample::Index>(), names.clone()).prop_map(|(which, name)| Change::Rename(which, name)),
        3 => (names, values()).prop_map(|(name, value)| Change::Set(name, value)),
        3 => prop::sample::select(members).prop_map(|(key, value)| Change::Graft(key, value)),
    ];
    prop::collection::vec(change, 1..4)
}

fn change(profile: &mut serde_json::Map<String, Value>, change: Change) {
    let key = |profile: &serde_json::Map<String, Value>, which: prop::sample::Index| {
        (!profile.is_empty()).then(|| which.get(&profile.keys().cloned().collect::<Vec<_>>()).clone())
    };
    match change {
        Change::Drop(which) => drop(key(profile, which).and_then(|key| profile.remove(&key))),
        Change::Rename(which, name) => {
            if let Some(value) = key(profile, which).and_then(|key| profile.remove(&key)) {
                profile.insert(name.to_owned(), value);
            }
        }
        Change::Set(name, value) => drop(profile.insert(name.to_owned(), value)),
        Change::Graft(key, value) => drop(profile.insert(key, value)),
    }
}

#[test]
fn schema_agrees_with_parser_on_changed_profiles() {
    let schema = schema();
    let good: Vec<Value> = cases(ACCEPTED)
        .iter()
        .filter_map(|case| case["config"]["profiles"].as_object())
        .flat_map(|profiles| profiles.values().cloned())
        .collect();
    let verdicts = std::cell::Cell::new([0_u32; 2]);
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let changes = changes(&good);
    let names = prop_oneof![9 => Just("p".to_owned()), 1 => "env||[a-z\u{7}]{1,3}"];
    proptest!(config, |(base in prop::sample::select(good), changes in changes, name in names)| {
        let mut profile = base.as_object().cloned().unwrap_or_default();
        changes.into_iter().for_each(|one| change(&mut profile, one));
        let value = json!({"profiles": {name: profile}});
        let text = value.to_string();
        let parsed = fault(&text);
        let mut counts = verdicts.get();
        counts[usize::from(parsed.is_none())] += 1;
        verdicts.set(counts);
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        prop_assert_eq!(parsed.is_none(), errors.is_empty(), "{}\nparser: {:?}\nschema: {:?}", text, parsed, errors);
    });
    let [refused, accepted] = verdicts.get();
    assert!(refused > 500 && accepted > 200, "one-sided: {accepted} accepted, {refused} refused");
}

/// The outermost keys have simpler rules than a profile, so this test has fewer cases.
#[test]
fn schema_agrees_with_parser_on_outermost_keys() {
    let schema = schema();
    let profile = || json!({"url": "https://a.example", "client_id": "c", "client_secret": {"keyring": true}});
    let values = || {
        prop_oneof![values(), Just(json!("p")), Just(json!({"p": profile()})), Just(json!({"p": profile(), "q": 1}))]
    };
    let keys = prop::sample::select(vec!["$schema", "default_profile", "profiles", "profile", ""]);
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(added in prop::collection::btree_map(keys, values(), 0..3), bare in values())| {
        let mut value = json!({"profiles": {"p": profile()}});
        for (key, added) in added {
            value[key] = added;
        }
        for value in [value, bare] {
            let parsed = fault(&value.to_string());
            // A schema cannot check that `default_profile` names a profile.
            if parsed.as_ref().is_none_or(|(_, what, _)| !what.ends_with("is not one of the profiles")) {
                prop_assert_eq!(parsed.is_none(), schema.is_valid(&value), "{}\nparser: {:?}", value, parsed);
            }
        }
    });
}

const SEEDS: &[&str] = &[
    r#"{"default_profile":"p","profiles":{"p":{"url":"https://a.example:8443/base","realm":"r","client_id":"c","timeout":"10s",
       "client_secret":{"command":["/bin/x","y"]},"hosts":["https://h.example","http://[::1]:5000"],"proxy":"http://u:p@p.example:1"}}}"#,
    r#"{"$schema":"s","profiles":{"a":{"api":"oauth2","token_url":"https://t.example/x","client_id":"\u00e9","scope":"",
       "client_assertion":{"file":"/f"},"clusters":["https://k.example:6443"]},"b":{"url":"https://b.example","client_id":"c",
       "client_secret":{"env":"E"},"cache":"none","bearer":"id_token","username":"u","ca_file":"/c"}}}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The parser accepts any text, or refuses it with a position and a message on one line.
    #[test]
    fn damaged_file_error_has_position_and_message(bytes in crate::mutation::mutated(SEEDS)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(wrong) = Config::parse(&text, "/c.json") {
            prop_assert!(wrong.line >= 1 && wrong.line <= text.lines().count().max(1) + 1 && wrong.column >= 1);
            let error = wrong.in_file(Path::new("/c.json"));
            prop_assert!(!error.what.chars().chain(error.hint.chars()).any(char::is_control));
        }
    }
}
