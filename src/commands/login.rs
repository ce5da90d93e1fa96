//! `login` and `logout`: from what somebody was given by Run:ai to a profile that works, and back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{self, File};
use crate::error::{Error, Kind, Result};
use crate::files::{self, Links};
use crate::issuer;
use crate::profile::{Api, Draft, Profile, Proof, remedy};
use crate::reply::Reply;
use crate::secret::{MAX_SECRET, Secret, Source};
use crate::supply::{self, Choice};
use crate::system::{Deadline, System};
use crate::terminal::Terminal;
use crate::token::Grant;

/// What the command line of `login` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The options that are a key of the profile with a text, by that key.
    pub texts: Vec<(&'static str, String)>,
    /// `--host`, as often as it stands there.
    pub hosts: Vec<String>,
    /// Where the secret comes from.
    pub secret: From,
    /// `--store`.
    pub store: Store,
}

/// Where `login` gets the secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum From {
    /// Somebody types it.
    #[default]
    Prompt,
    /// `--secret-stdin`.
    Stdin,
    /// `--secret-file`.
    File(PathBuf),
}

/// Where `login` puts the secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// The keyring of the operating system.
    #[default]
    Keyring,
    /// A file beside the configuration, which only this user may read.
    File,
}

impl Store {
    /// The names on the command line.
    pub const NAMES: [&'static str; 2] = ["keyring", "file"];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Store> {
        match name {
            "keyring" => Some(Store::Keyring),
            "file" => Some(Store::File),
            _ => None,
        }
    }
}

/// What a profile is called if nobody says.
const NAME: &str = "default";

/// How long the proof may take: somebody waits for it and would rather have an answer.
const PROOF: Duration = Duration::from_secs(30);

/// Makes a profile, proves it with one token, and only then keeps secret and profile.
///
/// # Errors
/// Whatever stands in the way; then nothing is changed.
pub fn login(login: &Login, choice: &Choice, system: &System<'_>) -> Result<Reply> {
    let file = File::open(choice.config.as_deref(), system)?;
    let (profiles, default) = file.profiles()?;
    let name = choice.profile.clone().or_else(|| system.var("RUNAI_PROFILE")).or(default);
    let name = name.unwrap_or_else(|| NAME.to_owned());
    let beside = beside(&file, &name);
    if login.store == Store::File {
        check_secret_file(&beside, &name, &profiles)?;
    }
    let before = profiles.into_iter().find(|profile| profile.name == name);

    let asking = Asking { login, file: &file, profile: &name, system };
    let mut terminal = None;
    let texts = asking.texts(&mut terminal)?;
    let hosts = asking.hosts()?;
    let secret = asking.secret(&mut terminal)?;

    let source = match login.store {
        Store::Keyring => json!({ "keyring": true }),
        Store::File => json!({ "file": beside }),
    };
    let mut values: Vec<(&str, Value)> = texts.iter().map(|(key, value)| (*key, json!(value))).collect();
    values.extend([("client_secret", source), ("client_assertion", Value::Null)]);
    values.extend(hosts.map(|hosts| ("hosts", json!(hosts))));

    let (file, profile, grant) = prove(file, &name, &values, &secret, system)?;
    keep(&file, &profile, &secret, login.store, before.as_ref(), system)?;
    supply::entry(&profile, system).store(&grant, system);

    let mut said =
        format!("Profile {name}: {} at {} (api {})\n", profile.client_id, profile.endpoint, profile.api.name());
    said += &match grant.access.lifetime {
        Some(life) => format!("  token:  got one, it lives for {}\n", words(life)),
        None => "  token:  got one; the server does not say how long it lives, so none is kept\n".to_owned(),
    };
    said += &match login.store {
        Store::Keyring => "  secret: in the keyring\n".to_owned(),
        Store::File => format!("  secret: in {}, which only you may read\n", beside.display()),
    };
    said += &format!("  config: {}\n", file.path().display());
    if system.var("RUNAI_CLIENT_ID").is_some() {
        said += "  note:   RUNAI_CLIENT_ID is set, so a call that names no profile uses the environment instead\n";
    }
    said += "Next: runai-credential setup kubectl, setup git or setup docker; runai-credential doctor if anything is wrong\n";
    Ok(Reply::of(said))
}

/// Finds out by what `api` the control plane takes the client, unless that was said.
fn prove(
    file: File,
    name: &str,
    values: &[(&str, Value)],
    secret: &Secret,
    system: &System<'_>,
) -> Result<(File, Profile, Grant)> {
    let said = |key: &str| values.iter().any(|(known, value)| *known == key && !value.is_null());
    let candidates: &[Api] = match (said("api") || said("token_url"), said("realm")) {
        (true, _) => &[],
        (false, true) => &[Api::Keycloak, Api::V2, Api::V1, Api::AppToken],
        (false, false) => &[Api::V2, Api::V1, Api::AppToken],
    };
    let file = file.with(name, values)?;
    if candidates.is_empty() {
        let profile = file.profile(name)?;
        let grant = issuer::probe(&profile, secret, system, Deadline::after(PROOF))?.outcome?;
        return Ok((file, profile, grant));
    }
    let mut first = None;
    for api in candidates {
        let mut file = file.clone().with(name, &[("api", json!(api.name()))])?;
        let profile = file.profile(name)?;
        let probe = issuer::probe(&profile, secret, system, Deadline::after(PROOF))?;
        let error = match probe.outcome {
            Ok(grant) => {
                // The default is not written down, and a realm that the endpoint does not know would mislead.
                let is_default = matches!((api, said("realm")), (Api::Keycloak, true) | (Api::V2, false));
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
        system.note(|| format!("login: not by {}: {}", api.name(), error.what));
        // Nobody answered: the other paths lead to the same server. Or somebody who knows the realm said no.
        let is_over = probe.status.is_none() || (*api == Api::Keycloak && error.kind == Kind::Denied);
        let is_better =
            error.kind == Kind::Denied && first.as_ref().is_none_or(|first: &Error| first.kind != Kind::Denied);
        if first.is_none() || is_better {
            first = Some(error);
        }
        if is_over {
            break;
        }
    }
    Err(first.unwrap_or_else(|| Error::unreachable("no token endpoint was tried", "name one with --api")))
}

/// Keeps the secret, then the profile; if the second fails, the first is undone.
fn keep(
    file: &File,
    profile: &Profile,
    secret: &Secret,
    store: Store,
    before: Option<&Profile>,
    system: &System<'_>,
) -> Result<()> {
    let entry = profile.keyring_entry(system);
    let had_entry = before.is_some_and(|before| is_in_keyring(before) && before.keyring_entry(system) == entry);
    let mut new_file = None;
    match (store, secret_file(profile)) {
        (Store::File, Some(path)) => {
            let is_own = before.and_then(secret_file) == Some(path);
            let write = if is_own { config::replace } else { config::create };
            write(path, format!("{}\n", secret.expose()).as_bytes(), 0o600).map_err(|error| {
                Error::config(
                    format!("the secret cannot be written to {}: {error}", path.display()),
                    "see who owns the folder, and whether the disk is full",
                )
            })?;
            new_file = Some(path).filter(|_| !is_own);
        }
        _ => entry.store(secret.expose(), system)?,
    }
    file.save().inspect_err(|_| {
        if store == Store::Keyring && !had_entry {
            let _ = entry.remove(system);
        }
        if let Some(path) = new_file {
            let _ = std::fs::remove_file(path);
        }
    })?;
    // What the profile kept in another place is of no use any more.
    let file_before = before.and_then(|before| secret_file(before).filter(|path| **path == beside(file, &before.name)));
    if let Some(path) = file_before.filter(|_| store == Store::Keyring) {
        let _ = std::fs::remove_file(path);
    }
    if let Some(before) = before.filter(|before| is_in_keyring(before) && !had_entry)
        && !is_shared(file, before, system)?
    {
        let _ = before.keyring_entry(system).remove(system);
    }
    Ok(())
}

/// Takes away what `login` put in place.
///
/// # Errors
/// [`Kind::Config`].
pub fn logout(choice: &Choice, system: &System<'_>) -> Result<Reply> {
    let file = File::open(choice.config.as_deref(), system)?;
    let (profiles, default) = file.profiles()?;
    let name = choice.profile.clone().or_else(|| system.var("RUNAI_PROFILE")).or(default).ok_or_else(|| {
        Error::config(
            format!("{} has no profile, or several and no default", file.path().display()),
            "name the one to log out of with --profile",
        )
    })?;
    let profile = match profiles.into_iter().find(|profile| profile.name == name) {
        Some(profile) => profile,
        None => file.profile(&name)?,
    };
    let file = file.without(&name)?;
    let mut said = String::new();
    match &profile.proof {
        Proof::Secret(Source::Keyring, _) if is_shared(&file, &profile, system)? => {
            said += "  secret: stays in the keyring, another profile uses it\n";
        }
        Proof::Secret(Source::Keyring, _) => {
            let removed = profile.keyring_entry(system).remove(system)?;
            said += if removed { "  secret: removed from the keyring\n" } else { "  secret: was not in the keyring\n" };
        }
        Proof::Secret(Source::File(path), _) if *path == beside(&file, &name) => match std::fs::remove_file(path) {
            Ok(()) => said += &format!("  secret: removed {}\n", path.display()),
            Err(error) => said += &format!("  secret: {} stays: {error}\n", path.display()),
        },
        Proof::Secret(source, _) => said += &format!("  secret: stays where it is, in {source}\n"),
        Proof::Assertion(path) => said += &format!("  assertion: stays where it is, in {}\n", path.display()),
    }
    supply::entry(&profile, system).clear();
    file.save()?;
    said += &format!("  config: the profile is gone from {}\n", file.path().display());
    Ok(Reply::of(format!(
        "Logged out of profile {name}. A token that was handed out stays good until it ends.\n{said}"
    )))
}

/// The file in which `login` keeps a secret that is not to go to a keyring. Any other file is somebody else's.
fn beside(file: &File, profile: &str) -> PathBuf {
    file.path().with_file_name(format!("{}.secret", profile.replace('/', "_")))
}

/// Returns the file that a profile reads its secret from.
fn secret_file(profile: &Profile) -> Option<&PathBuf> {
    match &profile.proof {
        Proof::Secret(Source::File(path), _) => Some(path),
        _ => None,
    }
}

/// Checks that `--store file` may write `path`: there is nothing yet, or this profile alone reads it already.
///
/// Two names of profiles may lead to one path (`a/b` and `a_b`), and a file may have been put there by hand. Another profile
/// would send the new secret to its own endpoint.
fn check_secret_file(path: &Path, name: &str, profiles: &[Profile]) -> Result<()> {
    let readers = || profiles.iter().filter(|profile| secret_file(profile).is_some_and(|file| file == path));
    if let Some(other) = readers().find(|profile| profile.name != name) {
        return Err(Error::config(
            format!("the secret file {} belongs to profile {:?}", path.display(), other.name),
            "give this profile another name, or keep its secret in the keyring",
        ));
    }
    if readers().next().is_none() && path.symlink_metadata().is_ok() {
        return Err(Error::config(
            format!("the secret file {} is there already, and profile {name:?} does not read it", path.display()),
            "move that file away, or give the profile another name with --profile",
        ));
    }
    Ok(())
}

fn is_in_keyring(profile: &Profile) -> bool {
    matches!(profile.proof, Proof::Secret(Source::Keyring, _))
}

/// Whether another profile of the file reads the same entry of the keyring.
fn is_shared(file: &File, profile: &Profile, system: &System<'_>) -> Result<bool> {
    let entry = profile.keyring_entry(system);
    let (profiles, _) = file.profiles()?;
    let mut others = profiles.iter().filter(|other| other.name != profile.name && is_in_keyring(other));
    Ok(others.any(|other| other.keyring_entry(system) == entry))
}

/// A lifetime in words.
fn words(life: Duration) -> String {
    match life.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Finds out what `login` needs to know: from the command line, the profile that is there, or the person at the terminal.
struct Asking<'a> {
    login: &'a Login,
    file: &'a File,
    profile: &'a str,
    system: &'a System<'a>,
}

impl Asking<'_> {
    /// The texts of the profile, checked one by one.
    fn texts(&self, terminal: &mut Option<Terminal>) -> Result<Vec<(&'static str, String)>> {
        let mut texts = Vec::new();
        for (key, value) in &self.login.texts {
            check(key, value)?;
            texts.push((*key, value.clone()));
        }
        let has = |texts: &[(&str, String)], key: &str| {
            texts.iter().any(|(known, _)| *known == key) || self.file.value(self.profile, key).is_some()
        };
        let is_oauth2 = has(&texts, "token_url");
        let is_new = !has(&texts, "url") && !is_oauth2;
        let questions = [
            ("url", is_new, "Company URL (the address of Run:ai in the browser, such as https://app.run.ai): "),
            (
                "realm",
                is_new && !has(&texts, "realm") && !has(&texts, "api"),
                "Realm (Settings > General > Researcher Authentication; Enter if there is none): ",
            ),
            (
                "client_id",
                !has(&texts, "client_id"),
                "Application name (Settings > Applications; newer versions: Access > Service accounts).\n\
                 It needs an access rule: Researcher (L1 or L2) for kubectl and the Researcher API, Administrator for the \
                 Administrator API.\nName or client id: ",
            ),
        ];
        for (key, is_asked, question) in questions {
            if !is_asked {
                continue;
            }
            loop {
                let answer = self.person(terminal, key)?.ask(question).map_err(|error| unanswered(&error))?;
                if answer.is_empty() && key == "realm" {
                    break;
                }
                match check(key, &answer) {
                    Ok(()) => {
                        texts.push((key, answer));
                        break;
                    }
                    Err(error) => {
                        let again = format!("{}; {}\n", error.what, error.hint);
                        self.person(terminal, key)?.show(&again).map_err(|error| unanswered(&error))?;
                    }
                }
            }
        }
        // What was said before stays said, so that the proof is of the whole profile.
        for key in ["realm", "api", "token_url"] {
            if let Some(Value::String(value)) = self.file.value(self.profile, key).filter(|_| !has_text(&texts, key)) {
                texts.push((key, value));
            }
        }
        Ok(texts)
    }

    /// The hosts that are there and those of the command line, if there are any of these.
    fn hosts(&self) -> Result<Option<Vec<Value>>> {
        if self.login.hosts.is_empty() {
            return Ok(None);
        }
        let mut hosts = match self.file.value(self.profile, "hosts") {
            Some(Value::Array(hosts)) => hosts,
            _ => Vec::new(),
        };
        for host in &self.login.hosts {
            Draft::default()
                .host(host)
                .map_err(|fault| Error::new(Kind::Usage, format!("--host {host} {}", fault.what), remedy(fault.key)))?;
            let host = json!(host);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(Some(hosts))
    }

    fn secret(&self, terminal: &mut Option<Terminal>) -> Result<Secret> {
        let hint = "give the application's secret alone, on one line of printable ASCII, at most 8 KiB";
        let (bytes, from) = match &self.login.secret {
            From::Stdin => {
                let bytes = (self.system.stdin)(MAX_SECRET + 3).map_err(|error| {
                    Error::config(
                        format!("the secret on standard input cannot be read: {error}"),
                        "pipe it in, or leave out --secret-stdin to be asked for it",
                    )
                })?;
                (bytes, "on standard input")
            }
            From::File(path) => {
                let bytes = files::read(path, Links::Followed, MAX_SECRET as u64 + 2, files::not_writable_by_all);
                let bytes = bytes.map_err(|error| {
                    Error::config(
                        format!("the secret cannot be read from {}: {error}", path.display()),
                        "name a file that holds it on one line",
                    )
                })?;
                (bytes, "in the file")
            }
            From::Prompt => {
                let asked = self
                    .person(terminal, "client_secret")?
                    .ask_secret("Secret (shown once when the application was made; what you type is not shown): ")
                    .map_err(|error| unanswered(&error))?;
                (asked.into_bytes(), "that was typed")
            }
        };
        Secret::new(&bytes, MAX_SECRET).map_err(|fault| Error::config(format!("the secret {from} {fault}"), hint))
    }

    /// The person who is asked for `key`, if there is one.
    fn person<'t>(&self, terminal: &'t mut Option<Terminal>, key: &str) -> Result<&'t mut Terminal> {
        if terminal.is_none() {
            *terminal = (self.system.terminal)();
        }
        let option = match key {
            "client_secret" => "--secret-stdin or --secret-file".to_owned(),
            key => format!("--{}", key.replace('_', "-")),
        };
        terminal.as_mut().ok_or_else(|| {
            Error::new(
                Kind::Usage,
                format!("login needs to know the {}, and there is no terminal to ask at", key.replace('_', " ")),
                format!("give {option}"),
            )
        })
    }
}

fn has_text(texts: &[(&str, String)], key: &str) -> bool {
    texts.iter().any(|(known, _)| *known == key)
}

/// Checks one value as the configuration would.
fn check(key: &'static str, value: &str) -> Result<()> {
    Draft::default().text(key, value.into()).map_err(|fault| {
        let shown = if value.contains('@') { String::new() } else { format!(" {value:?}") };
        Error::new(Kind::Usage, format!("--{}{shown} {}", key.replace('_', "-"), fault.what), remedy(fault.key))
    })
}

fn unanswered(error: &std::io::Error) -> Error {
    Error::new(
        Kind::Usage,
        format!("the question was not answered: {error}"),
        "start again, or give the answers as options (runai-credential login --help)",
    )
}
