//! kubectl: a user of the kubeconfig that calls us, the context that uses it, and the list of programs that kubectl may
//! call, where there is one (KEP-3104).

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result, printable};
use crate::helpers::plan::{Action, Plan, SetupContext};
use crate::os::process;
use crate::subcommand::PROGRAM;

/// What the user is called in the kubeconfig.
const USER: &str = "runai-credential";

pub(super) fn plan(scene: &SetupContext<'_>) -> Result<Plan> {
    let kubectl = scene.find_tool("kubectl")?;
    scene.program()?;
    let profile = scene.profile()?;
    let view = view(&kubectl)?;
    let context = context(scene, &view)?;
    let named = scene.choice.profile.as_deref();
    let user = named.map_or_else(|| USER.to_owned(), |name| format!("{USER}-{name}"));

    let flags =
        process::run(&kubectl, ["config", "set-credentials", "--help"]).map(|said| said.stdout).unwrap_or_default();
    // v1 wants interactiveMode, which an older set-credentials cannot write; v1beta1 does without.
    let has_mode = flags.contains("--exec-interactive-mode");
    let version = if has_mode { "v1" } else { "v1beta1" };
    let mut args: Vec<&str> = Vec::new();
    args.extend(named.iter().flat_map(|name| ["--profile", name]));
    let config = scene.choice.config.as_ref().map(|path| path.display().to_string());
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

    let was = entry(&view, "users", &user).map(|entry| entry["user"].clone());
    let is_so = was.as_ref().is_some_and(|was| {
        exec.as_object().into_iter().flatten().all(|(key, value)| was["exec"].get(key) == Some(value))
            && was.as_object().is_some_and(|was| was.len() == 1)
    });
    if !is_so {
        if was.is_some() {
            // What else it says, such as a token, would come before our answer.
            plan.actions.push(Action::Run(kubectl.clone(), words(&["config", "delete-user", &user])));
        }
        plan.actions.push(Action::Run(kubectl.clone(), set));
    }
    let before = entry(&view, "contexts", &context).and_then(|entry| entry["context"]["user"].as_str());
    if before != Some(&user) {
        let use_it = words(&["config", "set-context", &context, &format!("--user={user}")]);
        plan.actions.push(Action::Run(kubectl.clone(), use_it));
    }
    let mut contexts = scene.remembered("contexts").and_then(Value::as_object).cloned().unwrap_or_default();
    if before != Some(&user) {
        contexts.entry(context).or_insert_with(|| json!(before));
    }
    let mut users = scene.remembered("users").and_then(Value::as_array).cloned().unwrap_or_default();
    if !users.contains(&json!(user)) {
        users.push(json!(user));
    }
    let allow = allow(&kubectl, &mut plan);
    let kuberc = scene.remembered("kuberc").cloned().or(allow);
    plan.memory = Some(json!({ "users": users, "contexts": contexts, "kuberc": kuberc }));
    Ok(plan)
}

pub(super) fn undo(scene: &SetupContext<'_>) -> Result<Plan> {
    let kubectl = scene.find_tool("kubectl")?;
    let view = view(&kubectl)?;
    let mut plan = Plan::default();
    let is_ours = |name: Option<&str>| {
        let users = scene.remembered("users").and_then(Value::as_array).into_iter().flatten();
        name.is_some_and(|name| users.filter_map(Value::as_str).any(|ours| ours == name))
    };
    let contexts = scene.remembered("contexts").and_then(Value::as_object);
    for (context, before) in contexts.into_iter().flatten() {
        // Whoever gave it another user meanwhile wants that one.
        if is_ours(entry(&view, "contexts", context).and_then(|entry| entry["context"]["user"].as_str())) {
            let user = before.as_str().unwrap_or_default();
            let restore = words(&["config", "set-context", context, &format!("--user={user}")]);
            plan.actions.push(Action::Run(kubectl.clone(), restore));
        }
    }
    let users = scene.remembered("users").and_then(Value::as_array).into_iter().flatten();
    for user in users.filter_map(Value::as_str).filter(|user| entry(&view, "users", user).is_some()) {
        plan.actions.push(Action::Run(kubectl.clone(), words(&["config", "delete-user", user])));
    }
    if let Some(before) = scene.remembered("kuberc").and_then(Value::as_array) {
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

/// Puts us on the allow-list of the kuberc, if there is one that lacks us; the list as it was.
fn allow(kubectl: &Path, plan: &mut Plan) -> Option<Value> {
    let kuberc = kuberc(kubectl)?;
    let policy = kuberc["credentialPluginPolicy"].as_str().unwrap_or_default();
    let before = entries(&kuberc);
    if policy == "DenyAll" {
        plan.remarks.push(
            "your kuberc has credentialPluginPolicy: DenyAll, so kubectl runs no plugin; that was somebody's decision and stays"
                .to_owned(),
        );
    }
    if policy != "Allowlist" || before.iter().any(|entry| entry.ends_with(&format!("={PROGRAM}"))) {
        return None;
    }
    let help = process::run(kubectl, ["kuberc", "set", "--help"]).map(|said| said.stdout).unwrap_or_default();
    if !help.contains("--allowlist-entry") {
        // kubectl 1.35 knows the key name alone, later ones command as well; all take an entry with both.
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

/// The command that makes this the allow-list; it replaces the whole.
fn set_list(entries: &[String]) -> Vec<String> {
    let mut set = words(&["kuberc", "set", "--section", "credentialplugin", "--policy", "Allowlist"]);
    set.extend(entries.iter().flat_map(|entry| ["--allowlist-entry".to_owned(), entry.clone()]));
    set
}

/// The entries of an allow-list, as the command takes them.
fn entries(kuberc: &Value) -> Vec<String> {
    let list = kuberc["credentialPluginAllowlist"].as_array().into_iter().flatten();
    list.filter_map(|entry| entry["command"].as_str().or_else(|| entry["name"].as_str()))
        .map(|command| format!("command={command}"))
        .collect()
}

fn kuberc(kubectl: &Path) -> Option<Value> {
    let said = process::run(kubectl, ["kuberc", "view", "-o", "json"]).ok().filter(|said| said.is_success)?;
    serde_json::from_str(&said.stdout).ok()
}

fn view(kubectl: &Path) -> Result<Value> {
    let failed = |why: &str| {
        let what = format!("the kubeconfig cannot be read: {}", printable(why, 300));
        Error::config(what, "correct it (kubectl config view)")
    };
    let said = process::run(kubectl, ["config", "view", "-o", "json"]).map_err(|error| failed(&error.to_string()))?;
    if !said.is_success {
        return Err(failed(said.stderr.trim()));
    }
    serde_json::from_str(&said.stdout).map_err(|error| failed(&error.to_string()))
}

/// The context that is to use us.
fn context(scene: &SetupContext<'_>, view: &Value) -> Result<String> {
    let contexts: Vec<&str> =
        view["contexts"].as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect();
    let current = view["current-context"].as_str().filter(|name| !name.is_empty());
    let Some(context) = scene.kubeconfig_context.or(current) else {
        return Err(Error::config(
            "the kubeconfig has no current context",
            format!("name one with --context; there are: {}", contexts.join(", ")),
        ));
    };
    if !contexts.contains(&context) {
        return Err(Error::config(
            format!("the kubeconfig has no context {context:?}"),
            format!(
                "there are: {}; Run:ai's user interface gives you a kubeconfig for your cluster",
                contexts.join(", ")
            ),
        ));
    }
    Ok(context.to_owned())
}

fn entry<'a>(view: &'a Value, of: &str, name: &str) -> Option<&'a Value> {
    view[of].as_array()?.iter().find(|entry| entry["name"] == name)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
