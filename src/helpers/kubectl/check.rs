//! The findings of `doctor` in the kubeconfig and the kuberc.

use std::path::Path;

use serde_json::Value;

use crate::error::printable;
use crate::helpers::check::{Finding, Report};
use crate::host::Host;
use crate::os::process;
use crate::profile::Profile;
use crate::session::Choice;

/// The program names by which a kubeconfig may call this program.
const NAMES: [&str; 2] = ["runai-credential", "kubectl-runai_credential"];

/// Checks the users in the kubeconfig that call this program, and the kuberc, which may forbid that.
pub fn check(profile: Option<&Profile>, _: &Choice, report: &mut Report<'_>) {
    let host = report.host;
    let Some(kubectl) = process::find("kubectl", host) else {
        report.add("kubectl", Finding::skipped("it is not on the PATH"));
        return;
    };
    let view = match json_of(&kubectl, &["config", "view", "-o", "json"]) {
        Ok(view) => view,
        Err(why) => {
            report.add(
                "kubectl",
                Finding::failed(format!("the kubeconfig cannot be read: {why}"), "correct the kubeconfig"),
            );
            return;
        }
    };
    let ours: Vec<(&str, &Value)> = list(&view, "users")
        .filter_map(|user| Some((user["name"].as_str()?, user["user"].get("exec")?)))
        .filter(|(_, exec)| exec["command"].as_str().is_some_and(is_our_name))
        .collect();
    if ours.is_empty() {
        report.add(
            "kubectl",
            Finding::skipped("no user of the kubeconfig calls runai-credential (setup kubectl makes one)"),
        );
        return;
    }
    let current = view["current-context"].as_str().unwrap_or_default();
    let is_current = list(&view, "contexts")
        .any(|context| context["name"] == current && ours.iter().any(|(name, _)| context["context"]["user"] == *name));
    for (name, exec) in &ours {
        report.add("kubectl", user(name, exec, is_current, profile, host));
    }
    let commands: Vec<&str> = ours.iter().filter_map(|(_, exec)| exec["command"].as_str()).collect();
    report.add("kuberc", kuberc(&kubectl, &commands, host));
    report.has_kubernetes_client = true;
}

/// Checks one user in the kubeconfig that calls this program.
fn user(name: &str, exec: &Value, is_current: bool, profile: Option<&Profile>, host: &dyn Host) -> Finding {
    let command = exec["command"].as_str().unwrap_or_default();
    let args: Vec<&str> = list(exec, "args").filter_map(Value::as_str).collect();
    let is_there = if command.contains('/') {
        // A relative path starts at the folder of its kubeconfig. There may be several, so it is not checked.
        !Path::new(command).is_absolute() || process::is_program(Path::new(command))
    } else {
        process::find(command, host).is_some()
    };
    if !is_there {
        return Finding::failed(
            format!("user {name} of the kubeconfig calls {command}, which is not there or not on the PATH"),
            "install it there, put its folder on the PATH, or run runai-credential setup kubectl again",
        );
    }
    if !args.contains(&"kubectl") {
        return Finding::failed(
            format!("user {name} of the kubeconfig calls {command} without the argument kubectl"),
            "run runai-credential setup kubectl, or add kubectl to args of the exec entry",
        );
    }
    let is_bound = profile.is_some_and(|profile| !profile.clusters.is_empty());
    if is_bound && exec["provideClusterInfo"] != true {
        return Finding::failed(
            format!(
                "the profile is bound to clusters, and user {name} of the kubeconfig does not say which cluster it is for"
            ),
            "set provideClusterInfo: true in the exec entry",
        );
    }
    if is_current {
        Finding::ok(format!("user {name} of the kubeconfig calls {command}; the current context uses it"))
    } else {
        Finding::ok(format!("user {name} of the kubeconfig calls {command}; the current context uses another user"))
    }
}

/// Checks the kuberc. These preferences of the user may list the programs that kubectl may run (KEP-3104).
fn kuberc(kubectl: &Path, commands: &[&str], host: &dyn Host) -> Finding {
    let Ok(kuberc) = json_of(kubectl, &["kuberc", "view", "-o", "json"]) else {
        return Finding::skipped("none, or this kubectl does not know it");
    };
    let listed: Vec<&str> = list(&kuberc, "credentialPluginAllowlist")
        .filter_map(|entry| entry["command"].as_str().or_else(|| entry["name"].as_str()))
        .collect();
    let is_listed = |command: &str| {
        // kubectl accepts the name itself, or the path at which it finds the name on the PATH.
        let found = process::find(command, host).map(|path| path.display().to_string());
        listed.iter().any(|entry| *entry == command || found.as_deref() == Some(*entry))
    };
    match kuberc["credentialPluginPolicy"].as_str().unwrap_or_default() {
        "" | "AllowAll" => Finding::ok("it allows every credential plugin"),
        "Allowlist" => match commands.iter().find(|command| !is_listed(command)) {
            None => Finding::ok("runai-credential is on its allow-list"),
            Some(command) => Finding::failed(
                format!("its allow-list lacks {command}, so kubectl does not run it"),
                format!(
                    "kubectl kuberc set --section credentialplugin --policy Allowlist --allowlist-entry command={command}, \
                     with an entry for each other program that is on the list"
                ),
            ),
        },
        policy => Finding::failed(
            format!("its policy is {policy}, so kubectl runs no credential plugin"),
            "set credentialPluginPolicy to Allowlist with an entry for runai-credential",
        ),
    }
}

/// Whether `command` is this program.
fn is_our_name(command: &str) -> bool {
    Path::new(command).file_name().is_some_and(|name| NAMES.iter().any(|ours| name == *ours))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Runs a program and parses its output as JSON.
fn json_of(program: &Path, args: &[&str]) -> Result<Value, String> {
    let output = process::run(program, args).map_err(|error| error.to_string())?;
    if !output.is_success {
        return Err(printable(output.stderr.trim(), 300));
    }
    serde_json::from_str(&output.stdout).map_err(|error| error.to_string())
}
