//! Runs the program against each refusal of a server in `tests/cases/refusals.json` and compares its error and hint.

use serde::Deserialize;
use serde_json::{Value, json};

use support::*;

/// One answer, and the two lines that the program prints. `{url}` stands for the issuer's URL, `{secret}` for the file
/// of the client secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// A sentence that describes the refusal.
    name: String,
    /// The `api` of the profile. `None` stands for `keycloak`.
    api: Option<String>,
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    content_type: String,
    /// The body: a text, or JSON.
    body: Value,
    exit: i32,
    what: String,
    hint: String,
}

/// For each refusal the program prints the error and the hint of its row and exits with its code.
#[test]
fn each_refusal_prints_its_two_lines() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../cases/refusals.json")).expect("rows");
    let issuer = Issuer::start();
    let mut wrong = Vec::new();
    for row in &rows {
        let home = Home::new();
        // Without a cache the program stores no refusal that the next row would use.
        let mut keys = json!({"cache": "none"});
        match row.api.as_deref() {
            None => {}
            Some("oauth2") => {
                keys["token_url"] = format!("{}/oauth2/token", issuer.url()).into();
                keys["url"] = Value::Null;
                keys["realm"] = Value::Null;
            }
            Some(api) => {
                keys["api"] = api.into();
                keys["realm"] = Value::Null;
            }
        }
        home.keycloak_with(&issuer, keys);
        let body = row.body.as_str().map_or_else(|| row.body.to_string(), str::to_owned);
        let answer = Answer::text(row.status, &row.content_type, &body);
        issuer.always(row.headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value)));
        let outcome = home.run(["token"]);
        let secret = home.path().join("secret").display().to_string();
        let lines = format!("runai-credential: error: {}\nhint: {}\n", row.what, row.hint);
        let lines = lines.replace("{url}", issuer.url()).replace("{secret}", &secret);
        if outcome.code != Some(row.exit) || outcome.stderr != lines || !outcome.stdout.is_empty() {
            let seen = outcome.stderr.replace(issuer.url(), "{url}").replace(&secret, "{secret}");
            wrong.push(format!("{}: exit {:?}\n{seen}", row.name, outcome.code));
        }
    }
    assert!(rows.len() >= 40, "only {} rows", rows.len());
    assert!(wrong.is_empty(), "{} of {} rows are not as written:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
