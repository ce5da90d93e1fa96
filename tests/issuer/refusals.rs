//! What servers say when they refuse, and what the user reads then: `tests/cases/refusals.json`, row by row.

use serde::Deserialize;
use serde_json::{Value, json};

use support::*;

/// One answer and its two lines. `{url}` stands for the issuer's, `{secret}` for the file with the client secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// A sentence.
    name: String,
    /// `keycloak` unless said otherwise.
    api: Option<String>,
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    content_type: String,
    /// A text as it is, or JSON.
    body: Value,
    exit: i32,
    what: String,
    hint: String,
}

#[test]
fn every_refusal_tells_the_user_what_is_wrong_and_what_to_do() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../cases/refusals.json")).expect("rows");
    let issuer = Issuer::start();
    let mut wrong = Vec::new();
    for row in &rows {
        let home = Home::new();
        // Without a cache nothing is remembered from one row to the next.
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
