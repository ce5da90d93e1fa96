//! The findings of `doctor` in the configuration of git.

use crate::error::printable;
use crate::helpers::check::{Finding, Report};
use crate::origin::Origin;
use crate::os::process::{self, CommandOutput};
use crate::profile::Profile;
use crate::session::Choice;

/// Checks the list of helpers that git calls for each host of the profile.
pub fn check(profile: Option<&Profile>, _: &Choice, report: &mut Report<'_>) {
    let host = report.host;
    let Some(git) = process::find("git", host) else {
        return report.add("git", Finding::skipped("it is not on the PATH"));
    };
    let pattern = r"^credential\.(.*\.)?helper$";
    let helpers = match process::run(&git, ["config", "--null", "--get-regexp", pattern]) {
        Ok(CommandOutput { stdout, is_success, stderr }) if is_success || stderr.is_empty() => helpers(&stdout),
        Ok(output) => {
            let what = format!("its configuration cannot be read: {}", output.stderr.trim());
            return report.add("git", Finding::failed(printable(&what, 300), "correct it (git config --list)"));
        }
        Err(error) => return report.add("git", Finding::skipped(format!("it did not answer: {error}"))),
    };
    if !helpers.iter().any(|(_, helper)| is_ours(helper)) {
        return report.add("git", Finding::skipped("no helper of git is runai (setup git makes it one)"));
    }
    if process::find("git-credential-runai", host).is_none() && helpers.iter().any(|(_, helper)| helper == "runai") {
        return report.add(
            "git",
            Finding::failed(
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
                    Finding::warning(
                        format!("for {origin} git asks {before} before runai, which may answer with an old password, and is told the token"),
                        "put an empty helper before ours, which clears the list: runai-credential setup git",
                    ),
                );
            }
            None => {}
        }
    }
    // git may also call this program for hosts that no profile has. That is no fault: git gets no answer there.
    if served.is_empty() {
        report.add("git", Finding::ok("a helper is runai; no host of this profile is among those that it is for"));
    } else {
        report.add("git", Finding::ok(format!("asks runai first for {}", served.join(", "))));
    }
}

/// Parses the output of `git config --null`: the URL of each helper, if it has one, and the helper.
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

/// Returns the helpers that git calls for `origin`, in order.
///
/// An empty helper clears the list (gitcredentials(7)).
fn chain<'a>(helpers: &'a [(Option<String>, String)], origin: &Origin) -> Vec<&'a str> {
    let mut chain = Vec::new();
    for (url, helper) in helpers {
        let is_for_origin = match url {
            None => true,
            Some(url) => Origin::of_url(url).is_ok_and(|(of, _)| of == *origin),
        };
        match (is_for_origin, helper.as_str()) {
            (false, _) => {}
            (true, "") => chain.clear(),
            (true, helper) => chain.push(helper),
        }
    }
    chain
}

/// Whether git calls this program by `helper`.
fn is_ours(helper: &str) -> bool {
    helper == "runai"
        || helper.starts_with("runai ")
        || helper.contains("runai-credential")
        || helper.contains("git-credential-runai")
}
