//! The configuration as its users meet it: which file is read, whether it is trusted, what is said about each mistake
//! in it, and which profile a call means.

mod file;
mod golden;
mod profile;

use std::process::Command;

use support::*;

/// A profile that gets as far as its secret, which is not there: the way to see, without a server, which profile a
/// call means and that nothing is wrong with it.
fn without_secret(variable: &str) -> serde_json::Value {
    serde_json::json!({"url": "https://a.example", "client_id": "c", "client_secret": {"env": variable}})
}

/// Asserts that the call meant the profile of [`without_secret`] with this variable.
#[track_caller]
fn meant(outcome: &Outcome, variable: &str) {
    let what = format!("error: the variable {variable}, which should hold the client secret, is not set\n");
    outcome.code(3).stdout_is("").stderr_has(&what);
}

/// Asserts a failure with exit code 3 and exactly these texts.
#[track_caller]
fn refused(outcome: &Outcome, what: &str, hint: &str) {
    outcome.code(3).stdout_is("").stderr_is(format!("runai-credential: error: {what}\nhint: {hint}\n"));
}

/// Adds variables to a command.
fn with<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&mut Command) + 'a {
    move |command| {
        command.envs(variables.iter().copied());
    }
}
