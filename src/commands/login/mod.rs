//! `login`: makes a profile that works from the values that Run:ai gave the user.

mod questions;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::secret_file;
use crate::config::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::host::{Deadline, Host};
use crate::issuer;
use crate::profile::{Api, Profile, Proof};
use crate::reply::Reply;
use crate::secret::{Secret, Source};
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};
use crate::token::Grant;
use questions::Questions;

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "login", program_names: &[], grammar, run, usage_error: Reply::from };

/// The options that set a key of the profile: key, option, placeholder of the value, help.
const LOGIN_TEXTS: [(&str, &str, &str, &str); 8] = [
    ("url", "url", "URL", "The control plane: the address of Run:ai in the browser"),
    ("realm", "realm", "REALM", "The realm (Settings > General > Researcher Authentication)"),
    ("client_id", "client-id", "ID", "The application's name, or client id (Settings > Applications)"),
    ("api", "api", "API", "Which token endpoint; without it, the one that answers is found"),
    ("token_url", "token-url", "URL", "The endpoint itself, for api oauth2"),
    ("scope", "scope", "SCOPE", "Sent as it is"),
    ("ca_file", "ca-file", "FILE", "PEM certificates to trust beside the system's"),
    ("proxy", "proxy", "URL", "The proxy, or none"),
];

fn grammar(command: Command) -> Command {
    let texts = LOGIN_TEXTS.map(|(key, long, value, help)| {
        let arg = Arg::new(key).long(long).value_name(value).help(help);
        if key == "api" { arg.value_parser(PossibleValuesParser::new(Api::NAMES)) } else { arg }
    });
    command
        .about("Make a profile that works: ask for what is missing, get one token as proof, keep the secret in the keyring")
        .args(texts)
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("ORIGIN")
                .action(ArgAction::Append)
                .help("A host that may have the token through git, docker and get, such as https://gitlab.acme.example"),
        )
        .arg(
            Arg::new("secret-stdin")
                .long("secret-stdin")
                .action(ArgAction::SetTrue)
                .help("Read the secret from standard input"),
        )
        .arg(
            Arg::new("secret-file")
                .long("secret-file")
                .value_name("FILE")
                .conflicts_with("secret-stdin")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read the secret from this file"),
        )
        .arg(
            Arg::new("store")
                .long("store")
                .value_name("WHERE")
                .default_value("keyring")
                .value_parser(PossibleValuesParser::new(Store::NAMES))
                .help("Where to keep the secret"),
        )
        .after_help("Example: runai-credential login --profile prod --url https://app.run.ai --realm acme")
}

/// Reads the options.
fn options(login: &ArgMatches) -> Login {
    let text = |id: &str| login.get_one::<String>(id).cloned();
    Login {
        texts: LOGIN_TEXTS.iter().filter_map(|(key, ..)| Some((*key, text(key)?))).collect(),
        hosts: login.get_many::<String>("host").into_iter().flatten().cloned().collect(),
        secret: match (login.get_flag("secret-stdin"), login.get_one::<PathBuf>("secret-file")) {
            (true, _) => SecretInput::Stdin,
            (false, Some(path)) => SecretInput::File(path.clone()),
            (false, None) => SecretInput::Prompt,
        },
        store: text("store").and_then(|name| Store::named(&name)).unwrap_or_default(),
    }
}

/// The options of `login`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Login {
    /// The options that set a key of the profile, each with its value.
    texts: Vec<(&'static str, String)>,
    /// Every `--host`.
    hosts: Vec<String>,
    /// Where `login` gets the secret.
    secret: SecretInput,
    /// `--store`.
    store: Store,
}

/// Where `login` gets the secret.
#[derive(Debug, Default, PartialEq, Eq)]
enum SecretInput {
    /// The user types it.
    #[default]
    Prompt,
    /// `--secret-stdin`.
    Stdin,
    /// `--secret-file`.
    File(PathBuf),
}

/// Where `login` keeps the secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Store {
    /// The keyring of the operating system.
    #[default]
    Keyring,
    /// A file beside the configuration that only this user may read.
    File,
}

names!(Store { Keyring: "keyring", File: "file" });

/// Name of the profile if neither the user nor the configuration names one.
const NAME: &str = "default";

/// Time limit of one token request.
///
/// It is long, because a user waits for it and prefers a late answer to an early error.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a profile, gets one token with it, and only then saves the secret and the profile.
///
/// If it gets no token, it changes nothing.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let login = &options(matches);
    let (choice, host) = (&context.choice, context.host);
    let file = ConfigFile::open(choice.config.as_deref(), host)?;
    let (profiles, default) = file.profiles()?;
    let name = choice.profile.clone().or_else(|| host.var("RUNAI_PROFILE")).or(default);
    let name = name.unwrap_or_else(|| NAME.to_owned());
    let secret_path = secret_file::path(&file, &name);
    if login.store == Store::File {
        secret_file::check(&secret_path, &name, &profiles)?;
    }
    let before = profiles.into_iter().find(|profile| profile.name == name);

    let questions = Questions { login, file: &file, profile: &name, host };
    let mut terminal = None;
    let texts = questions.texts(&mut terminal)?;
    let hosts = questions.hosts()?;
    let secret = questions.secret(&mut terminal)?;

    let source = match login.store {
        Store::Keyring => json!({ "keyring": true }),
        Store::File => json!({ "file": secret_path }),
    };
    let mut values: Vec<(&str, Value)> = texts.iter().map(|(key, value)| (*key, json!(value))).collect();
    values.extend([("client_secret", source), ("client_assertion", Value::Null)]);
    values.extend(hosts.map(|hosts| ("hosts", json!(hosts))));

    let (file, profile, grant) = find_working_api(file, &name, &values, &secret, host)?;
    save(&file, &profile, &secret, login.store, before.as_ref(), host)?;
    Session::new(&profile, host).keep(&grant);

    let mut report =
        format!("Profile {name}: {} at {} (api {})\n", profile.client_id, profile.endpoint, profile.api.name());
    report += &match grant.access.lifetime {
        Some(life) => format!("  token:  got one, it lives for {}\n", words(life)),
        None => "  token:  got one; the server does not say how long it lives, so none is kept\n".to_owned(),
    };
    report += &match login.store {
        Store::Keyring => "  secret: in the keyring\n".to_owned(),
        Store::File => format!("  secret: in {}, which only you may read\n", secret_path.display()),
    };
    report += &format!("  config: {}\n", file.path().display());
    if host.var("RUNAI_CLIENT_ID").is_some() {
        report += "  note:   RUNAI_CLIENT_ID is set, so a call that names no profile uses the environment instead\n";
    }
    report += "Next: runai-credential setup kubectl, setup git or setup docker; runai-credential doctor if anything is wrong\n";
    Ok(Reply::of(report))
}

/// Finds an `api` by which the control plane accepts the client, unless the profile names one.
fn find_working_api(
    file: ConfigFile,
    name: &str,
    values: &[(&str, Value)],
    secret: &Secret,
    host: &dyn Host,
) -> Result<(ConfigFile, Profile, Grant)> {
    let is_given = |key: &str| values.iter().any(|(known, value)| *known == key && !value.is_null());
    let candidates: &[Api] = match (is_given("api") || is_given("token_url"), is_given("realm")) {
        (true, _) => &[],
        (false, true) => &[Api::Keycloak, Api::V2, Api::V1, Api::AppToken],
        (false, false) => &[Api::V2, Api::V1, Api::AppToken],
    };
    let file = file.with(name, values)?;
    if candidates.is_empty() {
        let profile = file.profile(name)?;
        let grant = issuer::probe(&profile, secret, host, Deadline::after(PROBE_TIMEOUT))?.outcome?;
        return Ok((file, profile, grant));
    }
    let mut first = None;
    for api in candidates {
        let mut file = file.clone().with(name, &[("api", json!(api.name()))])?;
        let profile = file.profile(name)?;
        let probe = issuer::probe(&profile, secret, host, Deadline::after(PROBE_TIMEOUT))?;
        let error = match probe.outcome {
            Ok(grant) => {
                // The default `api` is not written. A realm that this `api` does not use would mislead.
                let is_default = matches!((api, is_given("realm")), (Api::Keycloak, true) | (Api::V2, false));
                let tidy: &[(&str, Value)] = match (is_default, api) {
                    (true, _) => &[("api", Value::Null)],
                    (false, Api::Keycloak) => &[],
                    (false, _) => &[("realm", Value::Null)],
                };
                file = file.with(name, tidy)?;
                let profile = file.profile(name)?;
                return Ok((file, profile, grant));
            }
            Err(error) => error,
        };
        host.note(|| format!("login: not by {}: {}", api.name(), error.what));
        // Without an answer, the other paths would fail as well: they are on the same server. A refusal by
        // Keycloak is final, because Keycloak knows the realm.
        let is_final = probe.status.is_none() || (*api == Api::Keycloak && error.kind == Kind::Denied);
        let is_better =
            error.kind == Kind::Denied && first.as_ref().is_none_or(|first: &Error| first.kind != Kind::Denied);
        if first.is_none() || is_better {
            first = Some(error);
        }
        if is_final {
            break;
        }
    }
    Err(first.unwrap_or_else(|| Error::unreachable("no token endpoint was tried", "name one with --api")))
}

/// Saves the secret, then the profile.
///
/// If the profile cannot be saved, a new secret is removed again. A secret that replaced another one stays.
fn save(
    file: &ConfigFile,
    profile: &Profile,
    secret: &Secret,
    store: Store,
    before: Option<&Profile>,
    host: &dyn Host,
) -> Result<()> {
    let entry = profile.keyring_entry(host);
    let had_entry = before.is_some_and(|before| is_in_keyring(before) && before.keyring_entry(host) == entry);
    let mut written = None;
    match (store, secret_file::of(profile)) {
        (Store::File, Some(path)) => {
            let is_own = before.and_then(secret_file::of) == Some(path);
            let previous = secret_file::write(path, secret, is_own).map_err(|error| {
                Error::config(
                    format!("the secret cannot be written to {}: {error}", path.display()),
                    "see who owns the folder, and whether the disk is full",
                )
            })?;
            written = Some((path, previous));
        }
        _ => entry.store(secret.expose(), host)?,
    }
    if let Err(error) = file.save() {
        // Another profile may read the same entry.
        if store == Store::Keyring && !had_entry && !is_shared(file, profile, host).unwrap_or(true) {
            let _ = entry.remove(host);
        }
        if let Some((path, previous)) = written {
            secret_file::restore(path, previous);
        }
        return Err(error);
    }
    // The profile no longer needs the secret in its former place.
    let file_before = before
        .and_then(|before| secret_file::of(before).filter(|path| **path == secret_file::path(file, &before.name)));
    if let Some(path) = file_before.filter(|_| store == Store::Keyring) {
        let _ = std::fs::remove_file(path);
    }
    if let Some(before) = before.filter(|before| is_in_keyring(before) && !had_entry)
        && !is_shared(file, before, host)?
    {
        let _ = before.keyring_entry(host).remove(host);
    }
    Ok(())
}

/// Whether the profile reads its secret from the keyring.
pub(super) fn is_in_keyring(profile: &Profile) -> bool {
    matches!(profile.proof, Proof::Secret(Source::Keyring, _))
}

/// Whether another profile of the file reads the same keyring entry.
pub(super) fn is_shared(file: &ConfigFile, profile: &Profile, host: &dyn Host) -> Result<bool> {
    let entry = profile.keyring_entry(host);
    let (profiles, _) = file.profiles()?;
    let mut others = profiles.iter().filter(|other| other.name != profile.name && is_in_keyring(other));
    Ok(others.any(|other| other.keyring_entry(host) == entry))
}

/// Returns a lifetime for people, in seconds, minutes or hours.
fn words(life: Duration) -> String {
    match life.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
