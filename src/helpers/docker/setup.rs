//! Setup of docker: an entry in `credHelpers` for each registry.
//!
//! docker has no command for that, so setup edits the file. It leaves all other text in the file as it is.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::helpers::plan::{Action, Plan, SetupContext};
use crate::os::files::{self, Trust};
use crate::patch;

/// Name of this program as a helper of docker.
const HELPER: &str = "runai";

pub(super) fn plan(context: &SetupContext<'_>) -> Result<Plan> {
    let (path, text) = read(context)?;
    let link = context.link("docker-credential-runai")?;
    let links = context.links(link.as_ref());
    let config: Value = parse(&path, text.as_deref())?;
    let mut before = match context.memory {
        Some(memory) => memory.clone(),
        None => {
            json!({ "path": path, "was_there": text.is_some(), "had_helpers": config.get("credHelpers").is_some(), "registries": {} })
        }
    };
    before["links"] = links;
    let mut changed = text.clone().unwrap_or_default();
    for host in context.hosts()? {
        // docker names a registry by host and port, without a scheme. That includes plain http on loopback.
        let registry = host.split_once("://").map_or(host.as_str(), |(_, registry)| registry);
        let found = config["credHelpers"].get(registry);
        if found.is_some_and(|helper| helper == HELPER) {
            continue;
        }
        if before["registries"].get(registry).is_none() {
            before["registries"][registry] = found.cloned().unwrap_or(Value::Null);
        }
        changed = patch::set(&changed, &["credHelpers", registry], &json!(HELPER).to_string())
            .map_err(|error| broken(&path, &error))?;
    }
    let mut plan = Plan { actions: link.into_iter().collect(), memory: Some(before), ..Plan::default() };
    if text.as_deref() != Some(&changed) {
        plan.actions.push(Action::Write(path, changed));
    }
    Ok(plan)
}

pub(super) fn undo(context: &SetupContext<'_>) -> Result<Plan> {
    let (path, text) = read(context)?;
    let mut plan = Plan::default();
    if let Some(text) = text {
        let mut changed = text.clone();
        let before = context.remembered("registries").and_then(Value::as_object);
        for (registry, helper) in before.into_iter().flatten() {
            let at = ["credHelpers", registry];
            let restored = match helper {
                Value::Null => patch::remove(&changed, &at),
                helper => patch::set(&changed, &at, &helper.to_string()),
            };
            changed = restored.map_err(|error| broken(&path, &error))?;
        }
        let now = parse(&path, Some(&changed))?;
        let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        if context.remembered("had_helpers") == Some(&json!(false)) && is_empty(&now["credHelpers"]) {
            changed = patch::remove(&changed, &["credHelpers"]).map_err(|error| broken(&path, &error))?;
        }
        let now = parse(&path, Some(&changed))?;
        plan.actions.push(if context.remembered("was_there") == Some(&json!(false)) && is_empty(&now) {
            Action::Remove(path)
        } else {
            Action::Write(path, changed)
        });
    }
    plan.actions.extend(context.remembered_links());
    Ok(plan)
}

/// Returns the path of docker's configuration, and its text if the file exists.
fn read(context: &SetupContext<'_>) -> Result<(PathBuf, Option<String>)> {
    let host = context.host;
    let folder = super::folder(host);
    let path = folder
        .ok_or_else(|| Error::config("HOME is not set to a full path", "set HOME, or DOCKER_CONFIG"))?
        .join("config.json");
    let failed = |why: String| {
        let what = format!("docker's configuration {} cannot be read: {why}", path.display());
        Error::config(what, "see that it is a text file that you may read")
    };
    match files::read(&path, Trust::Regular, 16 * 1024 * 1024) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|error| failed(error.to_string()))?;
            Ok((path, Some(text)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((path, None)),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn parse(path: &std::path::Path, text: Option<&str>) -> Result<Value> {
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    serde_json::from_str(text).map_err(|error| broken(path, &error))
}

fn broken(path: &std::path::Path, error: &serde_json::Error) -> Error {
    let what = format!("docker's configuration {} is not what it should be: {error}", path.display());
    Error::config(what, "correct it there; nothing was changed")
}
