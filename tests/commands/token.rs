//! Tests of the `token` formats that other programs read: a shell, curl, a GitHub Actions runner.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use support::*;

fn home() -> (Home, Issuer) {
    let (home, issuer) = (Home::new(), Issuer::start());
    home.keycloak(&issuer);
    home.install("runai-credential");
    (home, issuer)
}

/// bash, dash, zsh and fish evaluate the output of `--format env` and export the variable.
#[test]
fn each_shell_evaluates_the_assignment() {
    let (home, issuer) = home();
    let script = "eval \"$(runai-credential token --format env)\"; sh -c 'printf %s \"$RUNAI_TOKEN\"'";
    for shell in ["bash", "dash", "zsh", "fish"] {
        let Some(program) = require(shell) else { continue };
        let script =
            if shell == "fish" { script.replace("\"$(", "(").replace(")\";", ");") } else { script.to_owned() };
        let outcome = Running::start(&mut home.tool(program, ["-c", &script])).finish();
        outcome.code(0).silent().stdout_is(issuer.last_token());
    }
    assert_eq!(issuer.token_requests(), 1);
}

/// `--format github-actions` prints the mask first and then writes the file for later steps. The runner reads standard
/// output line by line and masks from that line on.
#[test]
fn github_job_masks_token_before_setting() {
    let (home, issuer) = home();
    let file = home.write("github_env", "FIRST=1\nOPEN=2", 0o600);
    let run = |file: &Path| {
        home.run_with(["token", "--format", "github-actions"], |command| {
            command.env("GITHUB_ACTIONS", "true").env("GITHUB_ENV", file);
        })
    };
    let outcome = run(&file);
    let token = issuer.last_token();
    outcome.code(0).silent().stdout_is(format!("::add-mask::{token}\n"));
    let wanted = format!("FIRST=1\nOPEN=2\nRUNAI_TOKEN={token}\n");
    assert_eq!(fs::read_to_string(&file).expect("the file"), wanted);
    run(&file).code(0);
    assert_eq!(fs::read_to_string(&file).expect("the file"), format!("{wanted}RUNAI_TOKEN={token}\n"));

    // If the mask cannot be printed, the program does not write the file.
    let outcome = home.run_with(["token", "--format", "github-actions"], |command| {
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_ENV", &file).stdout(Stdio::from(full));
    });
    outcome.code(74);
    assert_eq!(fs::read_to_string(&file).expect("the file"), format!("{wanted}RUNAI_TOKEN={token}\n"));

    run(&home.path().join("nowhere")).code(2).stdout_is("").stderr_has("the file of GITHUB_ENV is not there");
    run(&home.path().join("work")).code(2).stdout_is("").stderr_has("the file of GITHUB_ENV is not there");
}

/// Outside a GitHub job the program prints nothing: no runner would hide the token in the mask line.
#[test]
fn github_format_fails_outside_github_jobs() {
    let (home, issuer) = home();
    let file = home.write("github_env", "", 0o600);
    for value in [None, Some("false"), Some("1")] {
        let outcome = home.run_with(["token", "--format", "github-actions"], |command| {
            command.env("GITHUB_ENV", &file).envs(value.map(|value| ("GITHUB_ACTIONS", value)));
        });
        outcome.code(2).stdout_is("").stderr_has("GITHUB_ACTIONS is not true");
    }
    let outcome = home.run_with(["token", "--format", "github-actions"], |command| {
        command.env("GITHUB_ACTIONS", "true");
    });
    outcome.code(2).stdout_is("").stderr_has("GITHUB_ENV names no file");
    assert_eq!((fs::read_to_string(&file).expect("the file"), issuer.token_requests()), (String::new(), 0));
}

/// Each format ends with a newline, and without one with `-n`.
#[test]
fn option_n_omits_the_newline() {
    let (home, issuer) = home();
    home.run(["token"]).code(0);
    let token = issuer.last_token();
    for (format, text) in [
        ("plain", token.clone()),
        ("header", format!("Authorization: Bearer {token}")),
        ("curl", format!("header = \"Authorization: Bearer {token}\"")),
        ("env", format!("export RUNAI_TOKEN='{token}'")),
    ] {
        home.run(["token", "--format", format]).code(0).stdout_is(format!("{text}\n"));
        home.run(["token", "--format", format, "-n"]).code(0).stdout_is(text);
    }
}
