//! The configuration file: where it is, whether it can be trusted, what it says, and which profile a call means.
//!
//! The file is strict JSON and every fault in it names line, column and key. Values are taken apart as raw slices of
//! the text, so the place of anything is the distance of its slice from the beginning.

mod edit;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::origin::Origin;
use crate::os::files::{self, Trust};
use crate::os::folders;
use crate::patch::{self, Key};
use crate::profile::{self, Draft, InvalidValue, Profile};
use crate::secret::Source;

pub use edit::ConfigFile;

/// Largest configuration file in bytes: some ten thousand profiles.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// The profile that a call means.
///
/// `named` is the `--profile` option; `asked` is the origin that a `git`, `docker`, `get` or `token --url` call is about.
/// `None` says that the origin belongs to no profile, which is not an error.
///
/// # Errors
/// [`Kind::Config`] for a configuration that is missing, unsafe or wrong, [`Kind::Ambiguous`] where two profiles claim one origin.
pub fn find_profile(
    file: Option<&Path>,
    named: Option<&str>,
    asked: Option<&Origin>,
    host: &dyn Host,
) -> Result<Option<Profile>> {
    let named = named.map(str::to_owned).or_else(|| host.var("RUNAI_PROFILE"));
    // Variables that nobody asked for cannot spoil a call that names its profile.
    let from_env = match named.as_deref() {
        None | Some(profile::ENV) => profile::from_env(host)?,
        Some(_) => None,
    };
    match (named.as_deref(), asked, &from_env) {
        (None, None, Some(_)) | (Some(profile::ENV), _, Some(_)) => return named_profile(from_env, asked),
        (Some(profile::ENV), _, None) => {
            return Err(Error::config(
                "there is no profile \"env\": RUNAI_CLIENT_ID is not set",
                "set RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET, or name another profile",
            ));
        }
        _ => {}
    }
    let from_file = configuration(file, asked.is_some() && from_env.is_some(), host)?;
    let Some((config, path)) = from_file else { return named_profile(from_env, asked) };
    let found = match (named, asked) {
        (Some(name), _) => config.named(&name),
        (None, Some(origin)) => return config.serving(origin, from_env, &path),
        (None, None) => config.default(),
    };
    let profile = found.map_err(|wrong| wrong.in_file(&path))?;
    named_profile(Some(profile), asked)
}

/// All profiles that a call about an origin may mean: the named one, or else everything that the file and the environment
/// describe.
///
/// # Errors
/// As for [`find_profile`].
pub fn profiles(file: Option<&Path>, named: Option<&str>, host: &dyn Host) -> Result<Vec<Profile>> {
    if named.is_some() || host.var("RUNAI_PROFILE").is_some() {
        return Ok(find_profile(file, named, None, host)?.into_iter().collect());
    }
    let from_env = profile::from_env(host)?;
    let from_file = configuration(file, from_env.is_some(), host)?;
    let mut profiles = from_file.map_or_else(Vec::new, |(config, _)| config.profiles);
    profiles.extend(from_env);
    Ok(profiles)
}

/// What the file says, and where it is. `None`: there is no file, which is no error if it `may_miss`, because the
/// environment may be all there is.
fn configuration(file: Option<&Path>, may_miss: bool, host: &dyn Host) -> Result<Option<(Config, PathBuf)>> {
    let (path, text) = match place(file, host).and_then(Place::read) {
        Ok(found) => found,
        Err(error) if error.is_missing && may_miss => return Ok(None),
        Err(error) => return Err(if error.is_missing { half_set(error.error, host) } else { error.error }),
    };
    let config = Config::parse(&text, &path.to_string_lossy()).map_err(|wrong| wrong.in_file(&path))?;
    Ok(Some((config, path)))
}

/// There is no file; if there is part of a profile in the environment, that is what is missing.
fn half_set(error: Error, host: &dyn Host) -> Error {
    let set = ["RUNAI_URL", "RUNAI_BASE_URL", "RUNAI_CLIENT_SECRET", "RUNAI_CLIENT_SECRET_FILE", "RUNAI_TOKEN_URL"];
    match set.into_iter().find(|name| host.var(name).is_some()) {
        Some(name) => Error::config(
            format!("{name} is set but RUNAI_CLIENT_ID is not, and {}", error.what),
            "set RUNAI_CLIENT_ID to the application's name as well, or write the file (see the README)",
        ),
        None => error,
    }
}

/// A profile, if it may answer for the origin that was asked about.
fn named_profile(profile: Option<Profile>, asked: Option<&Origin>) -> Result<Option<Profile>> {
    Ok(profile.filter(|profile| asked.is_none_or(|origin| profile.hosts.contains(origin))))
}

/// Where the configuration is.
struct Place {
    path: PathBuf,
}

/// Why it could not be read.
struct ReadError {
    error: Error,
    is_missing: bool,
}

fn place(file: Option<&Path>, host: &dyn Host) -> Result<Place, ReadError> {
    let chosen = match file {
        Some(path) => Some((path.to_owned(), "--config")),
        None => host
            .var_os("RUNAI_CREDENTIAL_CONFIG")
            .filter(|path| !path.is_empty())
            .map(|path| (PathBuf::from(path), "RUNAI_CREDENTIAL_CONFIG")),
    };
    if let Some((path, by)) = chosen {
        if !path.is_absolute() {
            let error = Error::config(
                format!("{by} is the relative path {}", path.display()),
                "give the path in full, from /: what a call means must not depend on the folder it is started in",
            );
            return Err(ReadError { error, is_missing: false });
        }
        return Ok(Place { path });
    }
    let base = folders::config(host);
    match base {
        Some(base) => Ok(Place { path: base.join("runai-credential/config.json") }),
        None => {
            let error = Error::config(
                "there is no configuration: HOME is not set to a full path",
                "set HOME, or name a file with --config, or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID and \
                 RUNAI_CLIENT_SECRET",
            );
            Err(ReadError { error, is_missing: true })
        }
    }
}

impl Place {
    /// Reads the file if it belongs to this user or root and nobody else may write it.
    fn read(self) -> Result<(PathBuf, String), ReadError> {
        let shown = self.path.display();
        let bytes = files::read(&self.path, Trust::OwnerOnly, MAX_CONFIG).map_err(|error| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = if is_missing {
                Error::config(
                    format!("there is no configuration file {shown}"),
                    "write one (see the README), or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET",
                )
            } else {
                Error::config(
                    format!("cannot use the configuration file {shown}: {error}"),
                    "it must be a regular file of at most 16 MiB that you may read, that belongs to you or root, and that \
                     nobody else may write",
                )
            };
            ReadError { error, is_missing }
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let (line, column) = position(&String::from_utf8_lossy(good));
            let error = Error::config(
                format!("{shown}:{line}:{column}: the file is not UTF-8"),
                "save it as UTF-8 without a byte order mark",
            );
            ReadError { error, is_missing: false }
        })?;
        Ok((self.path, text))
    }
}

/// A fault and its place in the text.
#[derive(Debug, PartialEq, Eq)]
struct ConfigSyntaxError {
    line: usize,
    column: usize,
    what: String,
    hint: String,
}

impl ConfigSyntaxError {
    fn in_file(self, path: &Path) -> Error {
        let ConfigSyntaxError { line, column, what, hint } = self;
        let shown = path.display();
        Error::config(
            if line == 0 { format!("{shown}: {what}") } else { format!("{shown}:{line}:{column}: {what}") },
            hint,
        )
    }

    /// A fault that has no place, such as a name that came from elsewhere.
    fn nowhere(what: impl Into<String>, hint: impl Into<String>) -> ConfigSyntaxError {
        ConfigSyntaxError { line: 0, column: 0, what: what.into(), hint: hint.into() }
    }
}

type Parsed<T> = std::result::Result<T, ConfigSyntaxError>;

/// Line and column (in characters, both from 1) of the character after `before`.
fn position(before: &str) -> (usize, usize) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The text of a configuration, for telling places in it.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

/// A member of an object.
struct Member<'a> {
    key: Cow<'a, str>,
    /// Where the key stands in the text, in bytes.
    at: usize,
    raw: &'a RawValue,
}

impl<'a> Text<'a> {
    /// Where `part`, a slice of this text, begins.
    fn offset(self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.0.as_ptr() as usize)
    }

    /// A fault at a place in bytes.
    fn wrong(self, at: usize, what: impl Into<String>, hint: impl Into<String>) -> ConfigSyntaxError {
        let (line, column) = position(self.0.get(..at).unwrap_or(self.0));
        ConfigSyntaxError { line, column, what: what.into(), hint: hint.into() }
    }

    /// A fault of a value.
    fn wrong_value(self, raw: &RawValue, what: impl Into<String>, hint: impl Into<String>) -> ConfigSyntaxError {
        self.wrong(self.offset(raw.get()), what, hint)
    }

    /// The value of `key` as a `T`, which people call `name`.
    fn value<T: serde::Deserialize<'a>>(self, key: &str, raw: &'a RawValue, name: &str) -> Parsed<T> {
        serde_json::from_str(raw.get()).map_err(|error| self.mistyped(key, raw, name, &error))
    }

    /// The value of `key` as a text, borrowed unless it was written with escapes.
    fn text(self, key: &str, raw: &'a RawValue) -> Parsed<Cow<'a, str>> {
        self.value::<Key<'_>>(key, raw, "a text").map(|key| key.0)
    }

    /// The texts of a list, each with where it stands.
    fn list(self, key: &str, raw: &'a RawValue) -> Parsed<Vec<(&'a RawValue, Cow<'a, str>)>> {
        let items: Vec<&RawValue> = self.value(key, raw, "a list of texts")?;
        let text = |item: &'a RawValue| match kind(item) {
            "a text" => Ok((item, self.text(key, item)?)),
            other => Err(self.wrong_value(item, format!("{key} has {other} in it, not a text"), "make it a text")),
        };
        items.into_iter().map(text).collect()
    }

    /// The member of an object that must have exactly one, of a known key.
    fn only_member(self, of: &str, raw: &'a RawValue, known: &[&str], hint: &str) -> Parsed<Member<'a>> {
        if kind(raw) != "an object" {
            return Err(self.wrong_value(raw, format!("{of} is {}, not an object", kind(raw)), hint));
        }
        let mut members = self.members(of, raw)?;
        if let Some(member) = members.iter().find(|member| !known.contains(&member.key.as_ref())) {
            return Err(self.unknown(member, of, known));
        }
        match (members.pop(), members.is_empty()) {
            (Some(member), true) => Ok(member),
            (None, _) => Err(self.wrong_value(raw, format!("{of} is empty"), hint)),
            (Some(second), false) => {
                Err(self.wrong(second.at, format!("{of} has more than one source"), format!("keep one: {hint}")))
            }
        }
    }

    fn mistyped(self, key: &str, raw: &RawValue, name: &str, error: &serde_json::Error) -> ConfigSyntaxError {
        if error.is_data() {
            self.wrong_value(raw, format!("{key} is {}, not {name}", kind(raw)), format!("make it {name}"))
        } else {
            // Only escapes that make no character get past the first look at the syntax.
            self.wrong_value(raw, format!("{key} has an escape that is no character"), "write the character itself")
        }
    }

    /// The members of an object, in order. A key that stands twice is a fault: one of the two is a mistake.
    fn members(self, of: &str, raw: &'a RawValue) -> Parsed<Vec<Member<'a>>> {
        let pairs = patch::members(raw).map_err(|error| self.mistyped(of, raw, "an object", &error))?;
        let mut members: Vec<Member<'a>> = Vec::with_capacity(pairs.len());
        for (key, raw) in pairs {
            let at = match &key {
                // One byte back: the quote.
                Cow::Borrowed(key) => self.offset(key).saturating_sub(1),
                Cow::Owned(_) => self.offset(raw.get()),
            };
            members.push(Member { key, at, raw });
        }
        let mut seen: Vec<(&str, usize)> = members.iter().map(|member| (member.key.as_ref(), member.at)).collect();
        seen.sort_unstable();
        match seen.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => {
                Err(self.wrong(pair[1].1, format!("{:?} stands twice in {of}", pair[1].0), "take one of the two away"))
            }
            None => Ok(members),
        }
    }

    /// A fault for a key that nobody knows.
    fn unknown(self, member: &Member<'_>, of: &str, known: &[&str]) -> ConfigSyntaxError {
        let alike = member.key.to_ascii_lowercase().replace('-', "_");
        let near = known.iter().map(|name| (strsim::jaro_winkler(&alike, name), *name));
        let hint = match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((score, name)) if score > 0.75 => format!("did you mean {name:?}?"),
            _ => format!("known keys: {}", known.join(", ")),
        };
        self.wrong(member.at, format!("unknown key {:?} in {of}", member.key), hint)
    }
}

/// What a JSON value is, in words.
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A configuration, each profile of which has been checked.
struct Config {
    default_profile: Option<String>,
    profiles: Vec<Profile>,
}

const TOP_KEYS: [&str; 3] = ["$schema", "default_profile", "profiles"];
const OTHER_KEYS: [&str; 4] = ["client_secret", "client_assertion", "hosts", "clusters"];
const SOURCE_KEYS: [&str; 4] = ["keyring", "file", "env", "command"];

fn is_profile_key(key: &str) -> bool {
    Draft::TEXT_KEYS.contains(&key) || OTHER_KEYS.contains(&key)
}

impl Config {
    /// Reads the text of the configuration file at `path`.
    fn parse(source: &str, path: &str) -> Parsed<Config> {
        let text = Text(source);
        let root: &RawValue = serde_json::from_str(source).map_err(|error| text.malformed(&error))?;
        let mut config = Config { default_profile: None, profiles: Vec::new() };
        let mut default_at = 0;
        let mut has_profiles = false;
        for member in text.members("the configuration", root)? {
            let (key, raw) = (member.key.as_ref(), member.raw);
            match key {
                "$schema" => drop(text.text(key, raw)?),
                "default_profile" => {
                    default_at = text.offset(raw.get());
                    config.default_profile = Some(text.text(key, raw)?.into_owned());
                }
                "profiles" => {
                    has_profiles = true;
                    for profile in text.members(key, raw)? {
                        config.profiles.push(profile_in(text, profile, path)?);
                    }
                }
                _ if is_profile_key(key) => {
                    let hint = format!("move it into a profile: \"profiles\": {{ \"NAME\": {{ {key:?}: … }} }}");
                    return Err(text.wrong(member.at, format!("{key:?} stands outside the profiles"), hint));
                }
                _ => return Err(text.unknown(&member, "the configuration", &TOP_KEYS)),
            }
        }
        if !has_profiles {
            return Err(text.wrong_value(root, "profiles is missing", "add \"profiles\": { \"NAME\": { … } }"));
        }
        if let Some(name) = &config.default_profile
            && !config.profiles.iter().any(|profile| profile.name == name.as_str())
        {
            return Err(text.wrong(
                default_at,
                format!("default_profile {name:?} is not one of the profiles"),
                config.names(),
            ));
        }
        Ok(config)
    }

    /// The profiles there are, as a hint.
    fn names(&self) -> String {
        let names: Vec<&str> = self.profiles.iter().take(12).map(|profile| profile.name.as_str()).collect();
        if names.is_empty() {
            "add a profile to profiles".to_owned()
        } else {
            format!("the profiles are {}", names.join(", "))
        }
    }

    fn named(mut self, name: &str) -> Parsed<Profile> {
        match self.profiles.iter().position(|profile| profile.name == name) {
            Some(at) => Ok(self.profiles.swap_remove(at)),
            None => Err(ConfigSyntaxError::nowhere(format!("there is no profile {name:?}"), self.names())),
        }
    }

    fn default(mut self) -> Parsed<Profile> {
        if let Some(name) = self.default_profile.take() {
            return self.named(&name);
        }
        match (self.profiles.pop(), self.profiles.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(ConfigSyntaxError::nowhere("there is no profile in it", self.names())),
            (Some(last), false) => {
                self.profiles.push(last);
                Err(ConfigSyntaxError::nowhere(
                    "it has several profiles and none of them is the default",
                    format!("name one with --profile or default_profile; {}", self.names()),
                ))
            }
        }
    }

    /// The one profile that serves `origin`, the environment's among them.
    ///
    /// # Errors
    /// [`Kind::Ambiguous`].
    fn serving(self, origin: &Origin, from_env: Option<Profile>, path: &Path) -> Result<Option<Profile>> {
        let mut serving = self.profiles.into_iter().chain(from_env).filter(|profile| profile.hosts.contains(origin));
        match (serving.next(), serving.next()) {
            (Some(one), Some(other)) => Err(Error::new(
                Kind::Ambiguous,
                format!("{}: the profiles {:?} and {:?} both claim {origin}", path.display(), one.name, other.name),
                "take the host out of one of them, or name the profile with --profile or RUNAI_PROFILE",
            )),
            (found, _) => Ok(found),
        }
    }
}

impl<'a> Text<'a> {
    /// A text that is not JSON. The mistakes that people make most have their own words.
    fn malformed(self, error: &serde_json::Error) -> ConfigSyntaxError {
        if self.0.trim().is_empty() {
            return self.wrong(0, "the file is empty", "write a configuration (see the README)");
        }
        if self.0.starts_with('\u{feff}') {
            return self.wrong(0, "the file begins with a byte order mark", "save it as UTF-8 without one");
        }
        let line_start: usize = self.0.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut at = (line_start + error.column().saturating_sub(1)).min(self.0.len());
        while !self.0.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = self.0.split_at(at);
        if before.trim_end().ends_with(',') && after.starts_with(['}', ']']) {
            let comma = before.trim_end().len() - 1;
            return self.wrong(comma, "not JSON: nothing follows this comma", "take the comma away");
        }
        if after.starts_with(['/', '#']) {
            return self.wrong(at, "not JSON: it has no comments", "take the comment out");
        }
        if error.is_eof() {
            let hint = "complete it: a quotation mark, a bracket or a brace is not closed";
            return self.wrong(self.0.len(), "not JSON: the file ends too early", hint);
        }
        let said = error.to_string();
        if said.starts_with("control character") {
            let at = at + after.find(char::is_control).unwrap_or(0);
            let hint = "write it as an escape, such as \\n or \\t, or close the text before it";
            return self.wrong(at, "not JSON: a control character in a text", hint);
        }
        let what = said.split(" at line ").next().unwrap_or(&said);
        self.wrong(at, format!("not JSON: {what}"), "correct the syntax there, or just before it")
    }

    /// A value that cannot be taken.
    fn refused(self, profile: &str, raw: &'a RawValue, fault: &InvalidValue) -> ConfigSyntaxError {
        // A short text is shown, unless it may hold a password, as the URL of a proxy may.
        let is_shown = raw.get().len() < 200 && self.text("", raw).is_ok_and(|value| !value.contains('@'));
        let value = if is_shown { format!(": {}", raw.get()) } else { String::new() };
        self.wrong_value(
            raw,
            format!("{} of profile {profile:?}{value} {}", fault.key, fault.what),
            profile::remedy(fault.key),
        )
    }

    /// Values that do not fit together: the place is that of the key to blame, or of the profile if it is not there.
    fn unfit(self, profile: &str, raw: &'a RawValue, fault: &InvalidValue) -> ConfigSyntaxError {
        let members = self.members("", raw).unwrap_or_default();
        let (at, hint) = match members.iter().find(|member| member.key == fault.key) {
            Some(member) => (member.at, format!("take {} out, or change what it does not fit", fault.key)),
            None => (self.offset(raw.get()), format!("add {} to the profile", fault.key)),
        };
        self.wrong(at, format!("{} of profile {profile:?} {}", fault.key, fault.what), hint)
    }
}

/// Reads one profile and checks that its values fit together.
fn profile_in<'a>(text: Text<'a>, profile: Member<'a>, path: &str) -> Parsed<Profile> {
    let Member { key: name, at, raw } = profile;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(text.wrong(
            at,
            "a profile's name is empty or has a control character",
            "give it a name such as \"prod\"",
        ));
    }
    if name == profile::ENV {
        let hint = "give it another name; env is the profile that the RUNAI_* variables make";
        return Err(text.wrong(at, "a profile cannot be called \"env\"", hint));
    }
    let of = format!("profile {name:?}");
    let mut draft = Draft::default();
    for member in text.members(&of, raw)? {
        let (key, raw) = (member.key.as_ref(), member.raw);
        let refused = |fault: InvalidValue| text.refused(&name, raw, &fault);
        if let Some(known) = Draft::TEXT_KEYS.iter().find(|known| **known == key) {
            draft.text(known, text.text(key, raw)?).map_err(refused)?;
            continue;
        }
        match key {
            "hosts" | "clusters" => {
                for (item, origin) in text.list(key, raw)? {
                    let taken = if key == "hosts" { draft.host(&origin) } else { draft.cluster(&origin) };
                    taken.map_err(|fault| text.refused(&name, item, &fault))?;
                }
            }
            "client_secret" => draft.secret(source(text, raw)?).map_err(refused)?,
            "client_assertion" => {
                let file = text.only_member(key, raw, &["file"], "write {\"file\": PATH}")?;
                draft.assertion(&text.text("file", file.raw)?).map_err(refused)?;
            }
            _ => {
                let known: Vec<&str> = Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS).collect();
                return Err(text.unknown(&member, &of, &known));
            }
        }
    }
    draft.finish(&name, path).map_err(|fault| text.unfit(&name, raw, &fault))
}

/// Reads a `client_secret`.
fn source<'a>(text: Text<'a>, raw: &'a RawValue) -> Parsed<Source> {
    if kind(raw) == "a text" {
        let what = "client_secret is a text; a configuration holds no secret, it says where the secret is";
        return Err(text.wrong_value(raw, what, profile::SOURCES));
    }
    let member = text.only_member("client_secret", raw, &SOURCE_KEYS, profile::SOURCES)?;
    let (key, raw) = (member.key.as_ref(), member.raw);
    match key {
        "keyring" if raw.get() == "true" => Ok(Source::Keyring),
        "keyring" => Err(text.wrong_value(raw, "keyring can only be true", profile::SOURCES)),
        "file" => Ok(Source::File(PathBuf::from(text.text(key, raw)?.into_owned()))),
        "env" => Ok(Source::Env(text.text(key, raw)?.into_owned())),
        _ => Ok(Source::Command(text.list(key, raw)?.into_iter().map(|(_, word)| word.into_owned()).collect())),
    }
}

#[cfg(test)]
mod tests;
