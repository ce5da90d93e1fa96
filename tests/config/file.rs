//! Tests of where the program finds its configuration, and when it trusts the file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{meant, refused, with, without_secret};
use support::*;

const SAFE: &str = "it must be a regular file of at most 16 MiB that you may read, that belongs to you or root, and that no \
                    other user may write";
const WRITE_ONE: &str =
    "write one (see the README), or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET";

/// Writes a configuration with one profile, which the error about this variable identifies.
fn planted(home: &Home, at: impl AsRef<Path>, variable: &str) -> std::path::PathBuf {
    home.write(at, json!({"profiles": {"p": without_secret(variable)}}).to_string(), 0o600)
}

/// The program prefers `--config`, then `RUNAI_CREDENTIAL_CONFIG`, then `XDG_CONFIG_HOME`, then `HOME`. An empty
/// variable counts as unset.
#[test]
fn option_beats_variable_xdg_and_home() {
    let home = Home::new();
    planted(&home, ".config/runai-credential/config.json", "BY_HOME");
    let no_xdg = |command: &mut Command| {
        command.env_remove("XDG_CONFIG_HOME");
    };
    meant(&home.run_with(["token"], no_xdg), "BY_HOME");
    meant(&home.run_with(["token"], with(&[("XDG_CONFIG_HOME", "")])), "BY_HOME");
    meant(&home.run_with(["token"], with(&[("XDG_CONFIG_HOME", "config")])), "BY_HOME");

    planted(&home, home.config_file(), "BY_XDG");
    meant(&home.run(["token"]), "BY_XDG");

    let by_variable = planted(&home, "variable.json", "BY_VARIABLE").display().to_string();
    let variable = [("RUNAI_CREDENTIAL_CONFIG", by_variable.as_str())];
    meant(&home.run_with(["token"], with(&variable)), "BY_VARIABLE");
    meant(&home.run_with(["token"], with(&[("RUNAI_CREDENTIAL_CONFIG", "")])), "BY_XDG");

    let by_option = planted(&home, "option.json", "BY_OPTION").display().to_string();
    meant(&home.run_with(["token", "--config", &by_option], with(&variable)), "BY_OPTION");
    meant(&home.run_with(["--config", &by_option, "token"], with(&variable)), "BY_OPTION");
}

/// The program does not fall back to another file when the file of `--config` or of the variable is missing.
#[test]
fn missing_chosen_file_is_an_error() {
    let home = Home::new();
    planted(&home, home.config_file(), "BY_XDG");
    let missing = home.path().join("missing.json").display().to_string();
    let what = format!("there is no configuration file {missing}");
    refused(&home.run(["--config", &missing, "token"]), &what, WRITE_ONE);
    let variable = [("RUNAI_CREDENTIAL_CONFIG", missing.as_str())];
    refused(&home.run_with(["token"], with(&variable)), &what, WRITE_ONE);
}

/// The program refuses a relative path from the option and from the variable.
#[test]
fn relative_config_path_is_refused() {
    const HINT: &str = "give an absolute path: the profile must not depend on the working directory of the caller";
    let home = Home::new();
    planted(&home, "work/c.json", "PLANTED");
    for path in ["c.json", "./c.json", "../work/c.json", "~/work/c.json"] {
        let by_option = home.run(["--config", path, "token"]);
        refused(&by_option, &format!("--config is the relative path {path}"), HINT);
        let by_variable = home.run_with(["token"], with(&[("RUNAI_CREDENTIAL_CONFIG", path)]));
        refused(&by_variable, &format!("RUNAI_CREDENTIAL_CONFIG is the relative path {path}"), HINT);
    }
}

/// The program reads no configuration from the working directory: another person may have written the files there.
#[test]
fn working_directory_has_no_configuration() {
    let home = Home::new();
    for name in [
        "config.json",
        "runai-credential/config.json",
        ".config/runai-credential/config.json",
        "config/runai-credential/config.json",
        "runai-credential.json",
        ".runai-credential.json",
        ".runai-credential/config.json",
        ".env",
    ] {
        planted(&home, Path::new("work").join(name), "PLANTED");
    }
    let what = format!("there is no configuration file {}", home.config_file().display());
    refused(&home.run(["token"]), &what, WRITE_ONE);

    const SET_HOME: &str = "set HOME, or name a file with --config, or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID \
                            and RUNAI_CLIENT_SECRET";
    // An empty, relative or missing directory variable must not resolve to the working directory.
    for (config_home, home_dir) in [(None, None), (Some(""), Some("")), (Some("."), Some(".")), (Some("config"), None)]
    {
        let outcome = home.run_with(["token"], |command| {
            for (name, value) in [("XDG_CONFIG_HOME", config_home), ("HOME", home_dir)] {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        });
        refused(&outcome, "there is no configuration: HOME is not set to a full path", SET_HOME);
    }
}

/// The program refuses a configuration file that its group or all users may write.
#[test]
fn file_writable_by_others_is_refused() {
    let home = Home::new();
    let path = planted(&home, home.config_file(), "UNSET");
    let what = format!(
        "cannot use the configuration file {}: others may write it (chmod go-w takes that away)",
        path.display()
    );
    for mode in [0o620, 0o602, 0o622, 0o660, 0o666, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
        refused(&home.run(["token"]), &what, SAFE);
    }
    for mode in [0o400, 0o600, 0o640, 0o644, 0o755] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
        meant(&home.run(["token"]), "UNSET");
    }
}

/// The program refuses a configuration file of a user other than its own and root.
#[test]
fn file_of_another_user_is_refused() {
    let home = Home::new();
    let path = planted(&home, home.config_file(), "UNSET");
    // Only root can give a file to another user. Other users have only root's files, which the program trusts.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(&path, Some(65_534), None).expect("give it to another user");
    let what = format!("cannot use the configuration file {}: it belongs to another user", path.display());
    refused(&home.run(["token"]), &what, SAFE);
}

/// The program follows a link to the configuration and checks the target. A missing target or a loop is an error.
#[test]
fn link_is_judged_by_its_target() {
    let home = Home::new();
    let end = planted(&home, "dotfiles/runai.json", "UNSET");
    home.write("config/runai-credential/.keep", "", 0o600);
    symlink("../../dotfiles/runai.json", home.config_file()).expect("make a link");
    meant(&home.run(["token"]), "UNSET");

    fs::set_permissions(&end, Permissions::from_mode(0o606)).expect("change the mode");
    home.run(["token"]).code(3).stderr_has("others may write it");

    fs::remove_file(&end).expect("remove its end");
    let what = format!("there is no configuration file {}", home.config_file().display());
    refused(&home.run(["token"]), &what, WRITE_ONE);

    symlink("runai.json", &end).expect("make a circle");
    home.run(["token"]).code(3).stderr_has(LINK_LOOP);
}

/// The program refuses FIFOs, sockets, devices and folders within two seconds, without waiting for them.
#[test]
fn irregular_file_is_refused_at_once() {
    let home = Home::new();
    let fifo = home.fifo("fifo");
    let socket = std::os::unix::net::UnixListener::bind(home.path().join("socket")).expect("make a socket");
    for (path, why) in [
        (fifo.clone(), "it is not a regular file"),
        (home.work_dir(), "it is not a regular file"),
        ("/dev/null".into(), "it is not a regular file"),
        ("/dev/zero".into(), "it is not a regular file"),
        (home.path().join("socket"), "No such device or address (os error 6)"),
        (fifo.join("config.json"), "Not a directory (os error 20)"),
    ] {
        let path = path.display().to_string();
        let outcome = home.run(["--config", &path, "token"]);
        outcome.within(Duration::from_secs(2));
        refused(&outcome, &format!("cannot use the configuration file {path}: {why}"), SAFE);
    }
    drop(socket);
}
