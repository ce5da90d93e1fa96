//! Setup of kubectl: a user in the kubeconfig that calls this program, and a context with this user.
//!
//! If the kuberc lists the programs that kubectl may run (KEP-3104), setup adds this program to the list.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result, printable};
use crate::helpers::plan::{Action, Plan, SetupContext};
use crate::os::process;
use crate::subcommand::PROGRAM;

/// Name of the user in the kubeconfig.
const USER: &str = "runai-credential";

pub(super) fn plan(context: &SetupContext<'_>) -> Result<Plan> {
    let kubectl = context.find_tool("kubectl")?;
    context.program()?;
    let profile = context.profile()?;
    let view = view(&kubectl)?;
    let kubeconfig_context = find_context(context, &view)?;
    let named = context.choice.profile.as_deref();
    let user = named.map_or_else(|| USER.to_owned(), |name| format!("{USER}-{name}"));

    let flags =
        process::run(&kubectl, ["config", "set-credentials", "--help"]).map(|output| output.stdout).unwrap_or_default();
    // v1 requires interactiveMode, which an older `config set-credentials` cannot write. v1beta1 works without it.
    let has_mode = flags.contains("--exec-interactive-mode");
    let version = if has_mode { "v1" } else { "v1beta1" };
    let mut args: Vec<&str> = Vec::new();
    args.extend(named.iter().flat_map(|name| ["--profile", name]));
    let config = context.choice.config.as_ref().map(|path| path.display().to_string());
    args.extend(config.iter().flat_map(|path| ["--config", path]));
    args.push("kubectl");
    let mut set = words(&["config", "set-credentials", &user]);
    set.push(format!("--exec-command={PROGRAM}"));
    set.push(format!("--exec-api-version=client.authentication.k8s.io/{version}"));
    set.extend(args.iter().map(|arg| format!("--exec-arg={arg}")));
    let mut exec =
        json!({"command": PROGRAM, "apiVersion": format!("client.authentication.k8s.io/{version}"), "args": args});
    if has_mode {
        set.push("--exec-interactive-mode=Never".to_owned());
        exec["interactiveMode"] = json!("Never");
    }
    let mut plan = Plan::default();
    if !profile.clusters.is_empty() {
        if flags.contains("--exec-provide-cluster-info") {
            set.push("--exec-provide-cluster-info=true".to_owned());
            exec["provideClusterInfo"] = json!(true);
        } else {
            plan.remarks.push(format!(
                "profile {} is bound to clusters; this kubectl cannot write provideClusterInfo: true into user {user}, do that by hand",
                profile.name
            ));
        }
    }

    let existing = entry(&view, "users", &user).map(|entry| entry["user"].clone());
    let is_up_to_date = existing.as_ref().is_some_and(|existing| {
        exec.as_object().into_iter().flatten().all(|(key, value)| existing["exec"].get(key) == Some(value))
            && existing.as_object().is_some_and(|existing| existing.len() == 1)
    });
    if !is_up_to_date {
        if existing.is_some() {
            // Other keys of the user, such as a token, would take precedence over the exec entry.
            plan.actions.push(Action::Run(kubectl.clone(), words(&["config", "delete-user", &user])));
        }
        plan.actions.push(Action::Run(kubectl.clone(), set));
    }
    let before = entry(&view, "contexts", &kubeconfig_context).and_then(|entry| entry["context"]["user"].as_str());
    if before != Some(&user) {
        let set_context = words(&["config", "set-context", &kubeconfig_context, &format!("--user={user}")]);
        plan.actions.push(Action::Run(kubectl.clone(), set_context));
    }
    let mut contexts = context.remembered("contexts").and_then(Value::as_object).cloned().unwrap_or_default();
    if before != Some(&user) {
        contexts.entry(kubeconfig_context).or_insert_with(|| json!(before));
    }
    let mut users = context.remembered("users").and_then(Value::as_array).cloned().unwrap_or_default();
    if !users.contains(&json!(user)) {
        users.push(json!(user));
    }
    let allow = allow(&kubectl, &mut plan);
    let kuberc = context.remembered("kuberc").cloned().or(allow);
    plan.memory = Some(json!({ "users": users, "contexts": contexts, "kuberc": kuberc }));
    Ok(plan)
}

pub(super) fn undo(context: &SetupContext<'_>) -> Result<Plan> {
    let kubectl = context.find_tool("kubectl")?;
    let view = view(&kubectl)?;
    let mut plan = Plan::default();
    let is_ours = |name: Option<&str>| {
        let users = context.remembered("users").and_then(Value::as_array).into_iter().flatten();
        name.is_some_and(|name| users.filter_map(Value::as_str).any(|ours| ours == name))
    };
    let contexts = context.remembered("contexts").and_then(Value::as_object);
    for (kubeconfig_context, before) in contexts.into_iter().flatten() {
        // A context that got another user since the setup keeps that user.
        if is_ours(entry(&view, "contexts", kubeconfig_context).and_then(|entry| entry["context"]["user"].as_str())) {
            let user = before.as_str().unwrap_or_default();
            let restore = words(&["config", "set-context", kubeconfig_context, &format!("--user={user}")]);
            plan.actions.push(Action::Run(kubectl.clone(), restore));
        }
    }
    let users = context.remembered("users").and_then(Value::as_array).into_iter().flatten();
    for user in users.filter_map(Value::as_str).filter(|user| entry(&view, "users", user).is_some()) {
        plan.actions.push(Action::Run(kubectl.clone(), words(&["config", "delete-user", user])));
    }
    if let Some(before) = context.remembered("kuberc").and_then(Value::as_array) {
        let now = kuberc(&kubectl).map(|kuberc| entries(&kuberc)).unwrap_or_default();
        let before: Vec<String> = before.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if now.len() == before.len() + 1 && before.iter().all(|entry| now.contains(entry)) {
            plan.actions.push(Action::Run(kubectl, set_list(&before)));
        } else {
            plan.remarks.push("the allow-list of your kuberc has changed since, so it is left alone".to_owned());
        }
    }
    Ok(plan)
}

/// Adds this program to the allow-list of the kuberc. Returns the list from before.
///
/// Returns `None` if there is no allow-list, if the program is on it, or if this kubectl cannot change it.
fn allow(kubectl: &Path, plan: &mut Plan) -> Option<Value> {
    let kuberc = kuberc(kubectl)?;
    let policy = kuberc["credentialPluginPolicy"].as_str().unwrap_or_default();
    let before = entries(&kuberc);
    if policy == "DenyAll" {
        plan.remarks.push(
            "your kuberc has credentialPluginPolicy: DenyAll, so kubectl runs no plugin; setup does not change this policy"
                .to_owned(),
        );
    }
    if policy != "Allowlist" || before.iter().any(|entry| entry.ends_with(&format!("={PROGRAM}"))) {
        return None;
    }
    let help = process::run(kubectl, ["kuberc", "set", "--help"]).map(|output| output.stdout).unwrap_or_default();
    if !help.contains("--allowlist-entry") {
        // kubectl 1.35 knows only the key `name`; later versions know `command` as well. All accept both at once.
        plan.remarks.push(format!(
            "your kuberc has an allow-list that lacks us, and this kubectl cannot change it: add to credentialPluginAllowlist \
             \"- {{command: {PROGRAM}, name: {PROGRAM}}}\""
        ));
        return None;
    }
    let mut after = before.clone();
    after.push(format!("command={PROGRAM}"));
    plan.actions.push(Action::Run(kubectl.to_owned(), set_list(&after)));
    Some(json!(before))
}

/// Returns the arguments of kubectl that replace the whole allow-list with `entries`.
fn set_list(entries: &[String]) -> Vec<String> {
    let mut set = words(&["kuberc", "set", "--section", "credentialplugin", "--policy", "Allowlist"]);
    set.extend(entries.iter().flat_map(|entry| ["--allowlist-entry".to_owned(), entry.clone()]));
    set
}

/// Returns the entries of the allow-list, in the form that [`set_list`] needs.
fn entries(kuberc: &Value) -> Vec<String> {
    let list = kuberc["credentialPluginAllowlist"].as_array().into_iter().flatten();
    list.filter_map(|entry| entry["command"].as_str().or_else(|| entry["name"].as_str()))
        .map(|command| format!("command={command}"))
        .collect()
}

fn kuberc(kubectl: &Path) -> Option<Value> {
    let output = process::run(kubectl, ["kuberc", "view", "-o", "json"]).ok().filter(|output| output.is_success)?;
    serde_json::from_str(&output.stdout).ok()
}

fn view(kubectl: &Path) -> Result<Value> {
    let failed = |why: &str| {
        let what = format!("the kubeconfig cannot be read: {}", printable(why, 300));
        Error::config(what, "correct it (kubectl config view)")
    };
    let output = process::run(kubectl, ["config", "view", "-o", "json"]).map_err(|error| failed(&error.to_string()))?;
    if !output.is_success {
        return Err(failed(output.stderr.trim()));
    }
    serde_json::from_str(&output.stdout).map_err(|error| failed(&error.to_string()))
}

/// Returns the name of the context to change: `--context`, else the current context.
fn find_context(context: &SetupContext<'_>, view: &Value) -> Result<String> {
    let contexts: Vec<&str> =
        view["contexts"].as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect();
    let current = view["current-context"].as_str().filter(|name| !name.is_empty());
    let Some(kubeconfig_context) = context.kubeconfig_context.or(current) else {
        return Err(Error::config(
            "the kubeconfig has no current context",
            format!("name one with --context; there are: {}", contexts.join(", ")),
        ));
    };
    if !contexts.contains(&kubeconfig_context) {
        return Err(Error::config(
            format!("the kubeconfig has no context {kubeconfig_context:?}"),
            format!(
                "there are: {}; Run:ai's user interface gives you a kubeconfig for your cluster",
                contexts.join(", ")
            ),
        ));
    }
    Ok(kubeconfig_context.to_owned())
}

fn entry<'a>(view: &'a Value, of: &str, name: &str) -> Option<&'a Value> {
    view[of].as_array()?.iter().find(|entry| entry["name"] == name)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
