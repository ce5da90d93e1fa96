//! `doctor`: goes through every step of a real call, and prints the outcome and the remedy of each.
//!
//! It continues after a fault, so that it names all faults at once. It never shows a secret or a token.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use crate::error::{Result, printable};
use crate::helpers::{
    self,
    check::{Finding, Outcome, Report, Step},
};
use crate::host::Deadline;
use crate::issuer::{self, Probe};
use crate::profile::{self, Profile, Proof};
use crate::reply::Reply;
use crate::session::{Choice, Session};
use crate::subcommand::{Context, Subcommand};
use crate::token::{Bearer, Grant, rfc3339};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "doctor", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Go through every step of a real call and say what is wrong and what to do")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("text")
                .value_parser(["text", "json"])
                .help("How to print it"),
        )
        .arg(
            Arg::new("audience")
                .long("audience")
                .value_name("CLIENT")
                .help("What the API server of the cluster wants in aud (its --oidc-client-id) [default: runai]"),
        )
        .after_help("Example: runai-credential doctor --profile prod")
}

/// The options of `doctor`.
struct Options {
    /// `--format json`.
    json: bool,
    /// `--audience`: the client id that the API server of the cluster requires in a token.
    audience: Option<String>,
}

/// The `--oidc-client-id` that Run:ai's documentation sets for the API server.
const AUDIENCE: &str = "runai";

/// Clock difference in seconds that causes no warning. Certificates and tokens tolerate it.
const SKEW_SECONDS: i64 = 60;

/// Time limit of the name lookup and of the token request, each. It is long, because a user is watching.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs all steps and prints their findings.
///
/// The exit status belongs to the first fault that makes a call fail. It is 0 if a call would succeed.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let options = Options { json: text("format").as_deref() == Some("json"), audience: text("audience") };
    let mut report = Report::new(host);
    let profile = choice.profile(host);
    match &profile {
        Ok(profile) => {
            let Profile { name, source, client_id, endpoint, api, .. } = profile;
            let found = format!("profile {name} ({source}): client {client_id} at {endpoint} (api {})", api.name());
            report.add("configuration", Finding::ok(found));
        }
        Err(error) => report.add("configuration", error.clone()),
    }
    let profile = profile.ok();
    let grant = profile.as_ref().and_then(|profile| {
        variables(profile, choice, &mut report);
        call(profile, &mut report)
    });
    // The tools come first: only if a Kubernetes client gets the token, its audience matters.
    let mut tools = Report::new(host);
    for check in helpers::ALL.iter().filter_map(|helper| helper.check) {
        check(profile.as_ref(), choice, &mut tools);
    }
    if let Some(profile) = &profile {
        tokens(profile, choice, grant.as_ref(), tools.has_kubernetes_client, &options, &mut report);
    }
    report.steps.extend(tools.steps);

    let status = report.steps.iter().map(|step| step.exit).find(|exit| *exit != 0).unwrap_or(0);
    let stdout = if options.json { json(&report.steps) } else { text_of(&report.steps) };
    Ok(Reply { stdout: stdout.into_bytes(), status, ..Reply::default() })
}

/// Reports a variable that is set and has another effect than users expect.
fn variables(profile: &Profile, choice: &Choice, report: &mut Report<'_>) {
    let host = report.host;
    let unused = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .find(|name| host.var(name).is_some() && profile.tls_variable(name, host).is_none());
    let shadowed = profile.name == profile::ENV
        && choice.profile.is_none()
        && Choice { profile: None, ..choice.clone() }.profiles(host).is_ok_and(|profiles| profiles.len() > 1);
    let found = if let Some(name) = unused {
        Finding::warning(
            format!("{name} is set and not used: it counts only for the profile env"),
            format!("set ca_file in profile {} if the control plane needs that certificate", profile.name),
        )
    } else if shadowed {
        Finding::warning(
            "RUNAI_CLIENT_ID is set, so the environment is used and not the configuration file",
            "unset RUNAI_CLIENT_ID, or name a profile with --profile or RUNAI_PROFILE",
        )
    } else {
        Finding::ok("none that stands in the way")
    };
    report.add("variables", found);
}

/// Reports the call itself: secret, proxy, name, server, clock, token and cache.
///
/// Returns the grant of the server, if it gave one.
fn call(profile: &Profile, report: &mut Report<'_>) -> Option<Grant> {
    let host = report.host;
    let proof = issuer::proof(profile, true, host, Deadline::after(profile.timeout));
    let from = match &profile.proof {
        Proof::Secret(source, _) => source.to_string(),
        Proof::Assertion(path) => format!("the assertion in {}", path.display()),
    };
    match &proof {
        Ok(_) => report.add("secret", Finding::ok(format!("read from {from}"))),
        Err(error) => report.add("secret", error.clone()),
    }

    let way = match issuer::way(profile, host) {
        Ok(way) => way,
        Err(error) => {
            report.add("proxy", error);
            return None;
        }
    };
    let via = way.via.as_ref().map_or_else(|| "none".to_owned(), |via| format!("through {via}"));
    report.add("proxy", Finding::ok(via));

    match way.addresses(Deadline::after(PATIENCE)) {
        Ok(addresses) => report.add("name", Finding::ok(format!("{} is {}", way.first(), addresses.join(", ")))),
        Err(error) => {
            report.add("name", error);
            report.add("server", Finding::skipped("its address is not known"));
            cache(profile, None, report);
            return None;
        }
    }

    let probe = match &proof {
        Ok((proof, _)) => issuer::probe(profile, proof, host, Deadline::after(PATIENCE)),
        Err(_) => issuer::reach(profile, host, Deadline::after(PATIENCE)),
    };
    let grant = match probe {
        Ok(probe) => server(&probe, proof.is_ok(), &way.trusts, report),
        Err(error) => {
            report.add("server", error);
            None
        }
    };
    cache(profile, grant.as_ref(), report);
    grant
}

/// Reports whether the server answers, whether its clock agrees with ours, and whether it accepts the client.
///
/// Returns the grant of the server. Without `has_proof` there is none.
fn server(probe: &Probe, has_proof: bool, trusts: &str, report: &mut Report<'_>) -> Option<Grant> {
    let Some(status) = probe.status else {
        if let Err(error) = &probe.outcome {
            report.add("server", error.clone());
        }
        return None;
    };
    report.add(
        "server",
        Finding::ok(format!("it answers (HTTP {status}); its certificate is good (trusted are {trusts})")),
    );
    report.add("clock", clock(probe));
    if !has_proof {
        report.add("token", Finding::skipped("without the secret there is none to ask for"));
        return None;
    }
    match &probe.outcome {
        Ok(grant) => {
            let lives = grant.access.lifetime.map_or_else(
                || "the server states no lifetime, so each call gets a new one".to_owned(),
                |life| format!("it lives for {} s", life.as_secs()),
            );
            report.add("token", Finding::ok(format!("the server gave one; {lives}")));
            Some(grant.clone())
        }
        Err(error) => {
            report.add("token", error.clone());
            None
        }
    }
}

/// Compares this machine's clock with the server's.
fn clock(probe: &Probe) -> Finding {
    let Some(date) = probe.date else { return Finding::skipped("the server does not say what time it is there") };
    let ahead = probe.asked.unix_ms.div_euclid(1000) - date;
    if ahead.abs() <= SKEW_SECONDS {
        return Finding::ok("it agrees with the server's");
    }
    let minutes = (ahead.abs() + 30) / 60;
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    Finding::warning(
        format!("this machine's clock is {minutes} min {side} the server's"),
        "set it by NTP (timedatectl set-ntp true): certificates and the expiry that clients are told go by it",
    )
}

/// Stores the grant in the cache, as a call would, and reports whether the cache can be used.
fn cache(profile: &Profile, grant: Option<&Grant>, report: &mut Report<'_>) {
    let host = report.host;
    let session = Session::new(profile, host);
    if let Some(grant) = grant {
        session.keep(grant);
    }
    let found = match (profile.cached, session.check_cache()) {
        (false, _) => Finding::ok("off, by the profile: each call asks the server"),
        (true, Ok(folder)) => Finding::ok(format!("{} can be written", folder.display())),
        (true, Err(why)) => Finding::warning(
            format!("the cache cannot be used, so each call asks the server: {why}"),
            "make the folder yours and writable (mode 0700), or name another one with RUNAI_CREDENTIAL_CACHE_DIR",
        ),
    };
    report.add("cache", found);
}

/// Reports the claims of the tokens, and whether a cluster would accept the token that a call returns.
fn tokens(
    profile: &Profile,
    choice: &Choice,
    grant: Option<&Grant>,
    is_for_kubectl: bool,
    options: &Options,
    report: &mut Report<'_>,
) {
    let Some(grant) = grant else { return };
    let wanted = choice.bearer(profile);
    let audience = options.audience.as_deref().unwrap_or(AUDIENCE);
    let fits = |bearer: Bearer| {
        let claims = grant.issued(bearer).and_then(|issued| issued.token.payload());
        claims.is_some_and(|claims| audiences(&claims).contains(&audience))
    };
    for (bearer, step) in [(Bearer::AccessToken, "access_token"), (Bearer::IdToken, "id_token")] {
        let Some(issued) = grant.issued(bearer) else {
            if wanted == bearer {
                report.add(
                    step,
                    Finding::failed(
                        format!("the server gave no {step}, which profile {} hands out", profile.name),
                        "add openid to the scope if the endpoint gives ID tokens, or set bearer to access_token",
                    ),
                );
            }
            continue;
        };
        let Some(claims) = issued.token.payload() else {
            report.add(step, Finding::ok("no JWT, so it says nothing about itself"));
            continue;
        };
        let about = about(&claims);
        // Only an API server certainly checks the audience, and only Kubernetes clients send the token to one.
        let matters = wanted == bearer && (is_for_kubectl || options.audience.is_some());
        if !matters || fits(bearer) {
            let role = if wanted == bearer { "handed out; " } else { "" };
            report.add(step, Finding::ok(format!("{role}{about}")));
            continue;
        }
        let other = Bearer::ALL.into_iter().find(|other| *other != bearer && fits(*other));
        let remedy = match other {
            Some(Bearer::IdToken) => "set \"bearer\": \"id_token\" in the profile: that one has it".to_owned(),
            Some(Bearer::AccessToken) => "set \"bearer\": \"access_token\" in the profile: that one has it".to_owned(),
            None => format!(
                "have an audience mapper for {audience} added to the client in Keycloak, or, if the API server has another \
                 --oidc-client-id, say so with --audience"
            ),
        };
        report.add(
            step,
            Finding::failed(
                format!("an API server with --oidc-client-id={audience} refuses it: aud lacks {audience} ({about})"),
                remedy,
            ),
        );
    }
}

/// Returns the audiences of a token. `aud` is one name or a list of names (RFC 7519 §4.1.3).
fn audiences(claims: &Value) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the claims that decide whether a server accepts a token, as text.
fn about(claims: &Value) -> String {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or("none");
    let audiences = audiences(claims);
    let aud = if audiences.is_empty() { "none".to_owned() } else { audiences.join(", ") };
    let exp = claims.get("exp").and_then(Value::as_f64).map_or_else(|| "none".to_owned(), |exp| rfc3339(exp as i64));
    printable(&format!("iss {}, aud {aud}, sub {}, exp {exp}", text("iss"), text("sub")), 400)
}

fn json(steps: &[Step]) -> String {
    let healthy = steps.iter().all(|step| step.outcome != Outcome::Failed);
    let report = serde_json::json!({ "healthy": healthy, "steps": steps });
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn text_of(steps: &[Step]) -> String {
    let mut text = String::new();
    for Step { step, outcome, what, remedy, milliseconds, .. } in steps {
        let sign = match outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "WARNING",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "-",
        };
        text += &format!("{sign:<8} {step:<13} {what} ({milliseconds} ms)\n");
        if let Some(remedy) = remedy {
            text += &format!("{:<22} do: {remedy}\n", "");
        }
    }
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    text += &match (count(Outcome::Failed), count(Outcome::Warning)) {
        (0, 0) => "Everything is well.\n".to_owned(),
        (0, warnings) => format!("A call would succeed. Warnings: {warnings}\n"),
        (failures, warnings) => format!("A call would fail. Faults: {failures}, warnings: {warnings}\n"),
    };
    text
}
