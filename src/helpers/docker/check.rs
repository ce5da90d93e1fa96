//! The findings of `doctor` in the configuration of docker.

use std::path::Path;

use serde_json::Value;

use super::wire::Server;
use crate::error::{Error, Kind};
use crate::helpers::check::{Finding, Report};
use crate::os::files::{self, Trust};
use crate::os::process;
use crate::profile::Profile;
use crate::session::Choice;

/// Checks the keys of docker's configuration that name this program.
pub fn check(profile: Option<&Profile>, choice: &Choice, report: &mut Report<'_>) {
    let host = report.host;
    let folder = super::folder(host);
    let Some(path) = folder.map(|folder| folder.join("config.json")) else {
        return report.add("docker", Finding::skipped("HOME is not set"));
    };
    let config = match read_json(&path) {
        Ok(Some(config)) => config,
        Ok(None) => return report.add("docker", Finding::skipped(format!("there is no {}", path.display()))),
        Err(why) => {
            let what = format!("{} cannot be read: {why}", path.display());
            return report.add("docker", Finding::failed(what, "correct it; docker ignores or refuses it as it is"));
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
            .add("docker", Finding::skipped("no registry of its configuration is ours (setup docker makes it so)"));
    }
    if process::find("docker-credential-runai", host).is_none() {
        return report.add(
            "docker",
            Finding::failed(
                "docker is told to ask docker-credential-runai, which is not on the PATH",
                "link that name to runai-credential in a folder of the PATH: ln -s runai-credential docker-credential-runai",
            ),
        );
    }
    let profiles = choice.profiles(host);
    let is_known = |registry: &str| {
        // A broken configuration does not show which profile has the host. It is a fault of its own.
        let Ok(profiles) = &profiles else { return true };
        let Ok(server) = Server::read(registry.as_bytes()) else { return false };
        let mut hosts = profiles.iter().chain(profile).flat_map(|profile| &profile.hosts);
        hosts.any(|host| server.origins.contains(host))
    };
    match ours.iter().find(|registry| !is_known(registry)) {
        Some(registry) => {
            let hint = format!("add \"https://{registry}\" to hosts of the profile that should serve it");
            let error = Error::new(
                Kind::NotOurs,
                format!("docker asks us for {registry}, which is no host of a profile"),
                hint,
            );
            report.add("docker", error);
        }
        None if ours.is_empty() => report.add("docker", Finding::ok("asks runai for every registry (credsStore)")),
        None => report.add("docker", Finding::ok(format!("asks runai for {}", ours.join(", ")))),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, String> {
    match files::read(path, Trust::Regular, 16 * 1024 * 1024) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
