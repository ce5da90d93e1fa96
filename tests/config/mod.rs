//! Tests of the configuration: which file the program reads and trusts, what it reports about each mistake, and which
//! profile a call uses.

mod file;
mod golden;
mod profile;

use std::process::Command;

use support::*;

/// Returns a profile whose secret is missing: the variable is not set.
///
/// The error about it shows, without a server, that the program chose this profile and found no other mistake.
fn without_secret(variable: &str) -> serde_json::Value {
    serde_json::json!({"url": "https://a.example", "client_id": "c", "client_secret": {"env": variable}})
}

/// Asserts that the call used the profile of [`without_secret`] with this variable.
#[track_caller]
fn meant(outcome: &Outcome, variable: &str) {
    let what = format!("error: the variable {variable}, which should hold the client secret, is not set\n");
    outcome.code(3).stdout_is("").stderr_has(&what);
}

/// Asserts exit code 3 and exactly this error and hint.
#[track_caller]
fn refused(outcome: &Outcome, what: &str, hint: &str) {
    outcome.code(3).stdout_is("").stderr_is(format!("runai-credential: error: {what}\nhint: {hint}\n"));
}

/// Returns a closure that adds the variables to a command.
fn with<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&mut Command) + 'a {
    move |command| {
        command.envs(variables.iter().copied());
    }
}
