//! Setup of git: one helper for each host, alone in its list.
//!
//! An empty helper clears the list of the helpers before it (gitcredentials(7)).

use serde_json::{Value, json};

use crate::error::{Error, Result, printable};
use crate::helpers::plan::{Action, Plan, SetupContext};
use crate::os::process;

/// Name of this program as a helper of git.
const HELPER: &str = "runai";

pub(super) fn plan(context: &SetupContext<'_>) -> Result<Plan> {
    let git = context.find_tool("git")?;
    let link = context.link("git-credential-runai")?;
    let mut before = context.remembered("helpers").and_then(Value::as_object).cloned().unwrap_or_default();
    let links = context.links(link.as_ref());
    let mut plan = Plan { actions: link.into_iter().collect(), ..Plan::default() };
    for host in context.hosts()? {
        let key = format!("credential.{host}.helper");
        let found = helpers(context, &key)?;
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

pub(super) fn undo(context: &SetupContext<'_>) -> Result<Plan> {
    let git = context.find_tool("git")?;
    let mut plan = Plan::default();
    let before = context.remembered("helpers").and_then(Value::as_object);
    for (key, helpers_before) in before.into_iter().flatten() {
        if !helpers(context, key)?.is_empty() {
            plan.actions.push(Action::Run(git.clone(), config(&["--unset-all", key])));
        }
        for helper in helpers_before.as_array().into_iter().flatten().filter_map(Value::as_str) {
            plan.actions.push(Action::Run(git.clone(), config(&["--add", key, helper])));
        }
    }
    plan.actions.extend(context.remembered_links());
    Ok(plan)
}

fn config(args: &[&str]) -> Vec<String> {
    ["config", "--global"].iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}

/// Returns the helpers under `key` in the user's own configuration.
fn helpers(context: &SetupContext<'_>, key: &str) -> Result<Vec<String>> {
    let git = context.find_tool("git")?;
    let failed = |why: &str| {
        let what = format!("git config cannot be read: {}", printable(why, 300));
        Error::config(what, "correct ~/.gitconfig (git config --global --list)")
    };
    let output =
        process::run(&git, config(&["--null", "--get-all", key])).map_err(|error| failed(&error.to_string()))?;
    // git exits with 1 and prints nothing if there is no such key (git-config(1)).
    if !output.is_success && !output.stderr.trim().is_empty() {
        return Err(failed(output.stderr.trim()));
    }
    Ok(output.stdout.split_terminator('\0').map(str::to_owned).collect())
}
