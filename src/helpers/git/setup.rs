//! git: a helper for each host, alone in its list (gitcredentials(7): an empty helper clears the list).

use serde_json::{Value, json};

use crate::error::{Error, Result, printable};
use crate::helpers::plan::{Action, Plan, SetupContext};
use crate::os::process;

/// What git calls us.
const HELPER: &str = "runai";

pub(super) fn plan(scene: &SetupContext<'_>) -> Result<Plan> {
    let git = scene.find_tool("git")?;
    let link = scene.link("git-credential-runai")?;
    let mut before = scene.remembered("helpers").and_then(Value::as_object).cloned().unwrap_or_default();
    let links = scene.links(link.as_ref());
    let mut plan = Plan { actions: link.into_iter().collect(), ..Plan::default() };
    for host in scene.hosts()? {
        let key = format!("credential.{host}.helper");
        let found = helpers(scene, &key)?;
        if found.last().is_some_and(|helper| helper == HELPER) && found.iter().any(String::is_empty) {
            continue;
        }
        before.entry(key.clone()).or_insert_with(|| json!(found));
        if !found.is_empty() {
            plan.actions.push(Action::Run(git.clone(), config(&["--unset-all", &key])));
        }
        plan.actions.push(Action::Run(git.clone(), config(&["--add", &key, ""])));
        plan.actions.push(Action::Run(git.clone(), config(&["--add", &key, HELPER])));
    }
    plan.memory = Some(json!({ "helpers": before, "links": links }));
    Ok(plan)
}

pub(super) fn undo(scene: &SetupContext<'_>) -> Result<Plan> {
    let git = scene.find_tool("git")?;
    let mut plan = Plan::default();
    let before = scene.remembered("helpers").and_then(Value::as_object);
    for (key, helpers_before) in before.into_iter().flatten() {
        if !helpers(scene, key)?.is_empty() {
            plan.actions.push(Action::Run(git.clone(), config(&["--unset-all", key])));
        }
        for helper in helpers_before.as_array().into_iter().flatten().filter_map(Value::as_str) {
            plan.actions.push(Action::Run(git.clone(), config(&["--add", key, helper])));
        }
    }
    plan.actions.extend(scene.remembered_links());
    Ok(plan)
}

fn config(args: &[&str]) -> Vec<String> {
    ["config", "--global"].iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}

/// The helpers in the user's own configuration.
fn helpers(scene: &SetupContext<'_>, key: &str) -> Result<Vec<String>> {
    let git = scene.find_tool("git")?;
    let failed = |why: &str| {
        let what = format!("git config cannot be read: {}", printable(why, 300));
        Error::config(what, "correct ~/.gitconfig (git config --global --list)")
    };
    let said = process::run(&git, config(&["--null", "--get-all", key])).map_err(|error| failed(&error.to_string()))?;
    // Exit 1 without a word: there is none.
    if !said.is_success && !said.stderr.trim().is_empty() {
        return Err(failed(said.stderr.trim()));
    }
    Ok(said.stdout.split_terminator('\0').map(str::to_owned).collect())
}
