//! The tools that call us: whether they find us, and whether something stands before us.

use std::path::Path;

use serde_json::Value;

use super::{Found, NOT_OURS, Report};
use crate::error::Error;
use crate::files::{self, Links};
use crate::origin::Origin;
use crate::profile::Profile;
use crate::supply::Choice;
use crate::system::System;
use crate::tools::{self, Said};

/// The names by which a kubeconfig may call us.
const NAMES: [&str; 2] = ["runai-credential", "kubectl-runai_credential"];

/// What is known of kubectl.
#[derive(Default)]
pub(super) struct Kubectl {
    /// Whether a user of the kubeconfig has its token from us.
    pub(super) calls_us: bool,
}

/// Our own users in the kubeconfig, and the kuberc that may forbid us.
pub(super) fn kubectl(profile: Option<&Profile>, report: &mut Report<'_>) -> Kubectl {
    let system = report.system;
    let Some(kubectl) = tools::find("kubectl", system) else {
        report.add("kubectl", Found::skipped("it is not on the PATH"));
        return Kubectl::default();
    };
    let view = match json_of(&kubectl, &["config", "view", "-o", "json"]) {
        Ok(view) => view,
        Err(why) => {
            report.add(
                "kubectl",
                Found::failed(format!("the kubeconfig cannot be read: {why}"), "correct the kubeconfig"),
            );
            return Kubectl::default();
        }
    };
    let ours: Vec<(&str, &Value)> = list(&view, "users")
        .filter_map(|user| Some((user["name"].as_str()?, user["user"].get("exec")?)))
        .filter(|(_, exec)| exec["command"].as_str().is_some_and(is_our_name))
        .collect();
    if ours.is_empty() {
        report.add(
            "kubectl",
            Found::skipped("no user of the kubeconfig calls runai-credential (setup kubectl makes one)"),
        );
        return Kubectl::default();
    }
    let current = view["current-context"].as_str().unwrap_or_default();
    let is_current = list(&view, "contexts")
        .any(|context| context["name"] == current && ours.iter().any(|(name, _)| context["context"]["user"] == *name));
    for (name, exec) in &ours {
        report.add("kubectl", user(name, exec, is_current, profile, system));
    }
    let commands: Vec<&str> = ours.iter().filter_map(|(_, exec)| exec["command"].as_str()).collect();
    report.add("kuberc", kuberc(&kubectl, &commands, system));
    Kubectl { calls_us: true }
}

/// One user of the kubeconfig that calls us.
fn user(name: &str, exec: &Value, is_current: bool, profile: Option<&Profile>, system: &System<'_>) -> Found {
    let command = exec["command"].as_str().unwrap_or_default();
    let args: Vec<&str> = list(exec, "args").filter_map(Value::as_str).collect();
    let is_there = match command.contains('/') {
        // Relative to the folder of the kubeconfig, which is one of several.
        true => !Path::new(command).is_absolute() || tools::is_program(Path::new(command)),
        false => tools::find(command, system).is_some(),
    };
    if !is_there {
        return Found::failed(
            format!("user {name} of the kubeconfig calls {command}, which is not there or not on the PATH"),
            "install it there, put its folder on the PATH, or run runai-credential setup kubectl again",
        );
    }
    if !args.contains(&"kubectl") {
        return Found::failed(
            format!("user {name} of the kubeconfig calls {command} without the argument kubectl"),
            "run runai-credential setup kubectl, or add kubectl to args of the exec entry",
        );
    }
    let is_bound = profile.is_some_and(|profile| !profile.clusters.is_empty());
    if is_bound && exec["provideClusterInfo"] != true {
        return Found::failed(
            format!(
                "the profile is bound to clusters, and user {name} of the kubeconfig does not say which cluster it is for"
            ),
            "set provideClusterInfo: true in the exec entry",
        );
    }
    match is_current {
        true => Found::ok(format!("user {name} of the kubeconfig calls {command}; the current context uses it")),
        false => {
            Found::ok(format!("user {name} of the kubeconfig calls {command}; the current context uses another user"))
        }
    }
}

/// The user's preferences, which may name the programs that kubectl may run (KEP-3104).
fn kuberc(kubectl: &Path, commands: &[&str], system: &System<'_>) -> Found {
    let Ok(kuberc) = json_of(kubectl, &["kuberc", "view", "-o", "json"]) else {
        return Found::skipped("none, or this kubectl does not know it");
    };
    let listed: Vec<&str> = list(&kuberc, "credentialPluginAllowlist")
        .filter_map(|entry| entry["command"].as_str().or_else(|| entry["name"].as_str()))
        .collect();
    let is_listed = |command: &str| {
        // As kubectl looks: the name, or the path at which the PATH has it.
        let found = tools::find(command, system).map(|path| path.display().to_string());
        listed.iter().any(|entry| *entry == command || found.as_deref() == Some(*entry))
    };
    match kuberc["credentialPluginPolicy"].as_str().unwrap_or_default() {
        "" | "AllowAll" => Found::ok("it allows every credential plugin"),
        "Allowlist" => match commands.iter().find(|command| !is_listed(command)) {
            None => Found::ok("runai-credential is on its allow-list"),
            Some(command) => Found::failed(
                format!("its allow-list lacks {command}, so kubectl does not run it"),
                format!(
                    "kubectl kuberc set --section credentialplugin --policy Allowlist --allowlist-entry command={command}, \
                     with an entry for each other program that is on the list"
                ),
            ),
        },
        policy => Found::failed(
            format!("its policy is {policy}, so kubectl runs no credential plugin"),
            "set credentialPluginPolicy to Allowlist with an entry for runai-credential",
        ),
    }
}

/// The chain of helpers for each of the profile's hosts.
pub(super) fn git(profile: Option<&Profile>, report: &mut Report<'_>) {
    let system = report.system;
    let Some(git) = tools::find("git", system) else {
        return report.add("git", Found::skipped("it is not on the PATH"));
    };
    let pattern = r"^credential\.(.*\.)?helper$";
    let helpers = match tools::run(&git, ["config", "--null", "--get-regexp", pattern]) {
        Ok(Said { stdout, is_success, stderr }) if is_success || stderr.is_empty() => helpers(&stdout),
        Ok(said) => {
            let what = format!("its configuration cannot be read: {}", said.stderr.trim());
            return report
                .add("git", Found::failed(crate::error::printable(&what, 300), "correct it (git config --list)"));
        }
        Err(error) => return report.add("git", Found::skipped(format!("it did not answer: {error}"))),
    };
    if !helpers.iter().any(|(_, helper)| is_ours(helper)) {
        return report.add("git", Found::skipped("no helper of git is runai (setup git makes it one)"));
    }
    if tools::find("git-credential-runai", system).is_none() && helpers.iter().any(|(_, helper)| helper == "runai") {
        return report.add(
            "git",
            Found::failed(
                "git is told to ask git-credential-runai, which is not on the PATH",
                "link that name to runai-credential in a folder of the PATH: ln -s runai-credential git-credential-runai",
            ),
        );
    }
    let hosts = profile.map_or(&[][..], |profile| &profile.hosts);
    let mut served = Vec::new();
    for origin in hosts {
        let chain = chain(&helpers, origin);
        match chain.iter().position(|helper| is_ours(helper)) {
            Some(0) => served.push(origin.to_string()),
            Some(at) => {
                let before = chain[..at].join(", ");
                report.add(
                    "git",
                    Found::warning(
                        format!("for {origin} git asks {before} before runai, which may answer with an old password, and is told the token"),
                        "put an empty helper before ours, which clears the list: runai-credential setup git",
                    ),
                );
            }
            None => {}
        }
    }
    // Helpers for hosts that no profile has are never answered.
    match served.is_empty() {
        true => {
            report.add("git", Found::ok("a helper is runai; no host of this profile is among those that it is for"))
        }
        false => report.add("git", Found::ok(format!("asks runai first for {}", served.join(", ")))),
    }
}

/// Keys and values of `git config --null`: the URL of a helper, if it has one, and the helper.
fn helpers(listed: &str) -> Vec<(Option<String>, String)> {
    let entries = listed.split('\0').filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
            let url = key.strip_prefix("credential.").and_then(|rest| rest.strip_suffix(".helper"));
            (url.map(str::to_owned), value.to_owned())
        })
        .collect()
}

/// The helpers that git asks for an origin, in order: an empty one clears the list (gitcredentials(7)).
fn chain<'a>(helpers: &'a [(Option<String>, String)], origin: &Origin) -> Vec<&'a str> {
    let mut chain = Vec::new();
    for (url, helper) in helpers {
        let is_meant = match url {
            None => true,
            Some(url) => Origin::of_url(url).is_ok_and(|(of, _)| of == *origin),
        };
        match (is_meant, helper.as_str()) {
            (false, _) => {}
            (true, "") => chain.clear(),
            (true, helper) => chain.push(helper),
        }
    }
    chain
}

fn is_ours(helper: &str) -> bool {
    helper == "runai"
        || helper.starts_with("runai ")
        || helper.contains("runai-credential")
        || helper.contains("git-credential-runai")
}

/// The keys of docker's configuration that lead to us.
pub(super) fn docker(profile: Option<&Profile>, choice: &Choice, report: &mut Report<'_>) {
    let system = report.system;
    let folder = system.dir("DOCKER_CONFIG").or_else(|| system.dir("HOME").map(|home| home.join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")) else {
        return report.add("docker", Found::skipped("HOME is not set"));
    };
    let config = match read_json(&path) {
        Ok(Some(config)) => config,
        Ok(None) => return report.add("docker", Found::skipped(format!("there is no {}", path.display()))),
        Err(why) => {
            let what = format!("{} cannot be read: {why}", path.display());
            return report.add("docker", Found::failed(what, "correct it; docker ignores or refuses it as it is"));
        }
    };
    let helpers = config["credHelpers"].as_object();
    let ours: Vec<&str> = helpers
        .into_iter()
        .flatten()
        .filter(|(_, helper)| **helper == "runai")
        .map(|(registry, _)| registry.as_str())
        .collect();
    if ours.is_empty() && config["credsStore"] != "runai" {
        return report
            .add("docker", Found::skipped("no registry of its configuration is ours (setup docker makes it so)"));
    }
    if tools::find("docker-credential-runai", system).is_none() {
        return report.add(
            "docker",
            Found::failed(
                "docker is told to ask docker-credential-runai, which is not on the PATH",
                "link that name to runai-credential in a folder of the PATH: ln -s runai-credential docker-credential-runai",
            ),
        );
    }
    let profiles = choice.profiles(system);
    let is_known = |registry: &str| {
        // Whose host it is cannot be said of a configuration that is broken, which is a fault of its own.
        let Ok(profiles) = &profiles else { return true };
        let url = if registry.contains("://") { registry.to_owned() } else { format!("https://{registry}") };
        let origin = Origin::parse(&url);
        origin.is_ok_and(|origin| profiles.iter().chain(profile).any(|profile| profile.hosts.contains(&origin)))
    };
    match ours.iter().find(|registry| !is_known(registry)) {
        Some(registry) => {
            let hint = format!("add \"https://{registry}\" to hosts of the profile that should serve it");
            let error =
                Error::new(NOT_OURS, format!("docker asks us for {registry}, which is no host of a profile"), hint);
            report.add("docker", error);
        }
        None if ours.is_empty() => report.add("docker", Found::ok("asks runai for every registry (credsStore)")),
        None => report.add("docker", Found::ok(format!("asks runai for {}", ours.join(", ")))),
    }
}

fn is_our_name(command: &str) -> bool {
    Path::new(command).file_name().is_some_and(|name| NAMES.iter().any(|ours| name == *ours))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// What a program prints as JSON.
fn json_of(program: &Path, args: &[&str]) -> Result<Value, String> {
    let said = tools::run(program, args).map_err(|error| error.to_string())?;
    if !said.is_success {
        return Err(crate::error::printable(said.stderr.trim(), 300));
    }
    serde_json::from_str(&said.stdout).map_err(|error| error.to_string())
}

fn read_json(path: &Path) -> Result<Option<Value>, String> {
    match files::read(path, Links::Followed, 16 * 1024 * 1024, |_| Ok(())) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
