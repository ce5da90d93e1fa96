//! The configuration file: where it is, whether it can be trusted, what it says, and which profile a call means.
//!
//! The file is strict JSON and every fault in it names line, column and key. Values are taken apart as raw slices of
//! the text, so the place of anything is the distance of its slice from the beginning.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::files::{self, Links};
use crate::origin::Origin;
use crate::profile::{self, Draft, Fault, Profile};
use crate::secret::Source;
use crate::system::System;

/// Largest configuration file in bytes: some ten thousand profiles.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// The profile that a call means.
///
/// `named` is the `--profile` option; `asked` is the origin that a `git`, `docker`, `get` or `token --url` call is about.
/// `None` says that the origin belongs to no profile, which is not an error.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) for a configuration that is missing, unsafe or wrong, and where two profiles claim one origin.
pub fn find_profile(
    file: Option<&Path>,
    named: Option<&str>,
    asked: Option<&Origin>,
    system: &System<'_>,
) -> Result<Option<Profile>> {
    let named = named.map(str::to_owned).or_else(|| system.var("RUNAI_PROFILE"));
    // Variables that nobody asked for cannot spoil a call that names its profile.
    let from_env = match named.as_deref() {
        None | Some(profile::ENV) => profile::from_env(system)?,
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
    let place = place(file, system)?;
    let text = match place.read() {
        Ok(text) => text,
        // The environment may be all there is.
        Err(error) if error.is_missing && asked.is_some() && from_env.is_some() => {
            return named_profile(from_env, asked);
        }
        Err(error) => return Err(error.error),
    };
    let config = Config::parse(&text).map_err(|wrong| wrong.in_file(&place.path))?;
    let found = match (named, asked) {
        (Some(name), _) => config.named(&name),
        (None, Some(origin)) => config.serving(origin, from_env),
        (None, None) => config.default(),
    };
    let profile = found.map_err(|wrong| wrong.in_file(&place.path))?;
    named_profile(profile, asked)
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
struct Unread {
    error: Error,
    is_missing: bool,
}

fn place(file: Option<&Path>, system: &System<'_>) -> Result<Place> {
    let chosen = match file {
        Some(path) => Some((path.to_owned(), "--config")),
        None => (system.env)("RUNAI_CREDENTIAL_CONFIG")
            .filter(|path| !path.is_empty())
            .map(|path| (PathBuf::from(path), "RUNAI_CREDENTIAL_CONFIG")),
    };
    if let Some((path, by)) = chosen {
        if !path.is_absolute() {
            return Err(Error::config(
                format!("{by} is the relative path {}", path.display()),
                "give the path in full, from /: what a call means must not depend on the folder it is started in",
            ));
        }
        return Ok(Place { path });
    }
    let base = system.dir("XDG_CONFIG_HOME").or_else(|| system.dir("HOME").map(|home| home.join(".config")));
    match base {
        Some(base) => Ok(Place { path: base.join("runai-credential/config.json") }),
        None => Err(Error::config(
            "there is no configuration: HOME is not set to a full path",
            "set HOME, or name a file with --config, or describe a profile with RUNAI_URL, RUNAI_CLIENT_ID and \
             RUNAI_CLIENT_SECRET",
        )),
    }
}

impl Place {
    /// Reads the file if it belongs to this user or root and nobody else may write it.
    fn read(&self) -> Result<String, Unread> {
        let shown = self.path.display();
        let judge = |meta: &std::fs::Metadata| {
            let owner = meta.uid();
            if owner != 0 && owner != rustix::process::geteuid().as_raw() {
                Err("it belongs to another user")
            } else if meta.mode() & 0o022 != 0 {
                Err("others may write it (chmod go-w takes that away)")
            } else {
                Ok(())
            }
        };
        let bytes = files::read(&self.path, Links::Followed, MAX_CONFIG, judge).map_err(|error| {
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
            Unread { error, is_missing }
        })?;
        String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let (line, column) = position(&String::from_utf8_lossy(good));
            let error = Error::config(
                format!("{shown}:{line}:{column}: the file is not UTF-8"),
                "save it as UTF-8 without a byte order mark",
            );
            Unread { error, is_missing: false }
        })
    }
}

/// A fault and its place in the text.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: usize,
    column: usize,
    what: String,
    hint: String,
}

impl Wrong {
    fn in_file(self, path: &Path) -> Error {
        let Wrong { line, column, what, hint } = self;
        let shown = path.display();
        Error::config(
            if line == 0 { format!("{shown}: {what}") } else { format!("{shown}:{line}:{column}: {what}") },
            hint,
        )
    }

    /// A fault that has no place, such as a name that came from elsewhere.
    fn nowhere(what: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { line: 0, column: 0, what: what.into(), hint: hint.into() }
    }
}

type Parsed<T> = std::result::Result<T, Wrong>;

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
    fn wrong(self, at: usize, what: impl Into<String>, hint: impl Into<String>) -> Wrong {
        let (line, column) = position(self.0.get(..at).unwrap_or(self.0));
        Wrong { line, column, what: what.into(), hint: hint.into() }
    }

    /// A fault of a value.
    fn wrong_value(self, raw: &RawValue, what: impl Into<String>, hint: impl Into<String>) -> Wrong {
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

    fn mistyped(self, key: &str, raw: &RawValue, name: &str, error: &serde_json::Error) -> Wrong {
        if error.is_data() {
            self.wrong_value(raw, format!("{key} is {}, not {name}", kind(raw)), format!("make it {name}"))
        } else {
            // Only escapes that make no character get past the first look at the syntax.
            self.wrong_value(raw, format!("{key} has an escape that is no character"), "write the character itself")
        }
    }

    /// The members of an object, in order. A key that stands twice is a fault: one of the two is a mistake.
    fn members(self, of: &str, raw: &'a RawValue) -> Parsed<Vec<Member<'a>>> {
        let mut parser = serde_json::Deserializer::from_str(raw.get());
        let pairs = parser.deserialize_map(Pairs).map_err(|error| self.mistyped(of, raw, "an object", &error))?;
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
    fn unknown(self, member: &Member<'_>, of: &str, known: &[&str]) -> Wrong {
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

/// Collects the members of an object without looking into them.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            pairs.push((key, map.next_value()?));
        }
        Ok(pairs)
    }
}

/// A text, borrowed from the source unless it was written with escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A configuration, each profile of which has been checked.
struct Config<'a> {
    text: Text<'a>,
    default_profile: Option<String>,
    profiles: Vec<Described<'a>>,
}

/// One profile of the file.
struct Described<'a> {
    name: Cow<'a, str>,
    raw: &'a RawValue,
    draft: Draft<'a>,
}

const TOP_KEYS: [&str; 3] = ["$schema", "default_profile", "profiles"];
const OTHER_KEYS: [&str; 4] = ["client_secret", "client_assertion", "hosts", "clusters"];
const SOURCE_KEYS: [&str; 4] = ["keyring", "file", "env", "command"];

fn is_profile_key(key: &str) -> bool {
    Draft::TEXT_KEYS.contains(&key) || OTHER_KEYS.contains(&key)
}

impl<'a> Config<'a> {
    fn parse(source: &'a str) -> Parsed<Config<'a>> {
        let text = Text(source);
        let root: &RawValue = serde_json::from_str(source).map_err(|error| text.malformed(&error))?;
        let mut config = Config { text, default_profile: None, profiles: Vec::new() };
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
                        config.profiles.push(described(text, profile)?);
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
        let names: Vec<&str> = self.profiles.iter().take(12).map(|profile| profile.name.as_ref()).collect();
        if names.is_empty() {
            "add a profile to profiles".to_owned()
        } else {
            format!("the profiles are {}", names.join(", "))
        }
    }

    fn finish(&self, profile: &Described<'a>) -> Parsed<Option<Profile>> {
        profile.draft.finish(&profile.name).map(Some).map_err(|fault| self.text.unfit(profile, &fault))
    }

    fn named(&self, name: &str) -> Parsed<Option<Profile>> {
        match self.profiles.iter().find(|profile| profile.name == name) {
            Some(profile) => self.finish(profile),
            None => Err(Wrong::nowhere(format!("there is no profile {name:?}"), self.names())),
        }
    }

    fn default(&self) -> Parsed<Option<Profile>> {
        match (&self.default_profile, self.profiles.as_slice()) {
            (Some(name), _) => self.named(name),
            (None, [only]) => self.finish(only),
            (None, []) => Err(Wrong::nowhere("there is no profile in it", self.names())),
            (None, _) => Err(Wrong::nowhere(
                "it has several profiles and none of them is the default",
                format!("name one with --profile or default_profile; {}", self.names()),
            )),
        }
    }

    /// The one profile that serves `origin`, the environment's among them.
    fn serving(&self, origin: &Origin, from_env: Option<Profile>) -> Parsed<Option<Profile>> {
        let from_env = from_env.filter(|profile| profile.hosts.contains(origin));
        let mut serving = self.profiles.iter().filter(|profile| profile.draft.serves(origin));
        let two = |one: &str, other: &str| {
            Wrong::nowhere(
                format!("the profiles {one:?} and {other:?} both claim {origin}"),
                "take the host out of one of them, or name the profile with --profile or RUNAI_PROFILE",
            )
        };
        match (from_env, serving.next(), serving.next()) {
            (_, Some(one), Some(other)) => Err(two(&one.name, &other.name)),
            (Some(_), Some(one), None) => Err(two(profile::ENV, &one.name)),
            (None, Some(one), None) => self.finish(one),
            (from_env, None, _) => Ok(from_env),
        }
    }
}

impl Text<'_> {
    /// A text that is not JSON. The mistakes that people make most have their own words.
    fn malformed(self, error: &serde_json::Error) -> Wrong {
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
    fn refused(self, profile: &str, raw: &RawValue, fault: &Fault) -> Wrong {
        // A short text is shown, unless it may hold a password, as the URL of a proxy may.
        let value = match kind(raw) {
            "a text" if raw.get().len() < 200 && !raw.get().contains('@') => format!(": {}", raw.get()),
            _ => String::new(),
        };
        self.wrong_value(
            raw,
            format!("{} of profile {profile:?}{value} {}", fault.key, fault.what),
            profile::remedy(fault.key),
        )
    }

    /// Values that do not fit together: the place is that of the key to blame, or of the profile if it is not there.
    fn unfit(self, profile: &Described<'_>, fault: &Fault) -> Wrong {
        let members = Text(self.0).members("", profile.raw).unwrap_or_default();
        let (at, hint) = match members.iter().find(|member| member.key == fault.key) {
            Some(member) => (member.at, format!("take {} out, or change what it does not fit", fault.key)),
            None => (self.offset(profile.raw.get()), format!("add {} to the profile", fault.key)),
        };
        self.wrong(at, format!("{} of profile {:?} {}", fault.key, profile.name, fault.what), hint)
    }
}

/// Reads one profile and checks that its values fit together.
fn described<'a>(text: Text<'a>, profile: Member<'a>) -> Parsed<Described<'a>> {
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
        let refused = |fault: Fault| text.refused(&name, raw, &fault);
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
    let described = Described { name, raw, draft };
    match described.draft.finish(&described.name) {
        Ok(_) => Ok(described),
        Err(fault) => Err(text.unfit(&described, &fault)),
    }
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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const SCHEMA: &str = include_str!("../docs/config.schema.json");
    const ACCEPTED: &str = include_str!("../tests/cases/config/accepted.json");
    const REFUSED: &str = include_str!("../tests/cases/config/refused.json");

    fn schema() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        jsonschema::draft202012::meta::validate(&schema).expect("the schema is one");
        jsonschema::draft202012::new(&schema).expect("its patterns and references are good")
    }

    fn cases(text: &str) -> Vec<Value> {
        serde_json::from_str(text).expect("a list of cases")
    }

    /// The message for a text: place, what is wrong, hint.
    fn fault(source: &str) -> Option<(String, String, String)> {
        Config::parse(source).err().map(|wrong| (format!("{}:{}", wrong.line, wrong.column), wrong.what, wrong.hint))
    }

    /// A machine with these variables and nothing else.
    fn with_system<T>(variables: &[(&str, &str)], act: impl FnOnce(&System<'_>) -> T) -> T {
        act(&System {
            env: &|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
            now: &|| unreachable!("no profile depends on the time"),
            boot_id: &|| None,
            host: &String::new,
            stdin: &|_| unreachable!("no profile depends on standard input"),
            notes: &|_| {},
            verbose: std::cell::Cell::new(false),
        })
    }

    /// `git`, `docker`, `get` and `token --url` are about an origin, and that chooses.
    #[test]
    fn an_origin_means_the_one_profile_that_serves_it() {
        let profile = |url: &str, hosts: &[&str]| json!({"url": url, "client_id": "c", "client_secret": {"keyring": true}, "hosts": hosts});
        let config = json!({"default_profile": "a", "profiles": {
            "a": profile("https://a.example", &["https://both.example", "http://127.0.0.1:5000"]),
            "b": profile("https://b.example/base", &["https://BOTH.example:443", "https://b.example", "https://c.example"]),
        }});
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), config.to_string()).expect("write it");
        let env = [
            ("RUNAI_URL", "https://env.example"),
            ("RUNAI_CLIENT_ID", "c"),
            ("RUNAI_CLIENT_SECRET", "s"),
            ("RUNAI_HOSTS", " https://c.example , http://[::1]:5000,"),
        ];
        let none: &[(&str, &str)] = &[];
        let both =
            |one: &str, other: &str, origin: &str| format!("the profiles {one:?} and {other:?} both claim {origin}");
        for (variables, named, asked, wanted) in [
            (none, None, "https://a.example", Ok(Some("a"))),
            (none, None, "https://b.example", Ok(Some("b"))),
            (none, None, "http://127.0.0.1:5000", Ok(Some("a"))),
            (none, None, "https://127.0.0.1:5000", Ok(None)),
            (none, None, "https://a.example:8443", Ok(None)),
            (none, None, "https://sub.a.example", Ok(None)),
            (none, None, "https://both.example", Err(both("a", "b", "https://both.example"))),
            // A name settles who is meant, and never who may have the token.
            (none, Some("b"), "https://both.example", Ok(Some("b"))),
            (none, Some("b"), "https://a.example", Ok(None)),
            (&env, None, "https://env.example", Ok(Some("env"))),
            (&env, None, "http://[::1]:5000", Ok(Some("env"))),
            (&env, None, "https://a.example", Ok(Some("a"))),
            (&env, None, "https://nobody.example", Ok(None)),
            (&env, None, "https://c.example", Err(both("env", "b", "https://c.example"))),
            (&env, Some("env"), "https://c.example", Ok(Some("env"))),
            (&env, Some("env"), "https://a.example", Ok(None)),
            (&env, Some("b"), "https://c.example", Ok(Some("b"))),
        ] {
            let origin = Origin::parse(asked).expect("an origin");
            let found = with_system(variables, |system| find_profile(Some(file.path()), named, Some(&origin), system));
            let found = found.map(|profile| profile.map(|profile| profile.name));
            match (&found, wanted) {
                (Ok(name), Ok(wanted)) => assert_eq!(name.as_deref(), wanted, "{named:?} {asked}"),
                (Err(error), Err(wanted)) => assert!(error.what.ends_with(&wanted), "{error:?}"),
                (found, wanted) => panic!("{named:?} {asked}: {found:?} and not {wanted:?}"),
            }
        }
        // Without a file, the environment is all there is.
        let missing = Path::new("/nonexistent/config.json");
        for (asked, wanted) in [("https://c.example", Some("env")), ("https://a.example", None)] {
            let origin = Origin::parse(asked).expect("an origin");
            let found = with_system(&env, |system| find_profile(Some(missing), None, Some(&origin), system));
            assert_eq!(found.expect("no error").map(|profile| profile.name).as_deref(), wanted, "{asked}");
        }
    }

    /// Cases that a schema cannot judge as the parser does say why: `schema_cannot_know`.
    #[test]
    fn schema_and_parser_agree_on_every_case() {
        let schema = schema();
        for case in cases(ACCEPTED) {
            let name = &case["name"];
            assert_eq!(fault(&case["config"].to_string()), None, "{name}");
            let errors: Vec<_> = schema.iter_errors(&case["config"]).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
        for case in cases(REFUSED) {
            let name = &case["name"];
            let lines = case["text"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let text = lines.collect::<Vec<_>>().join("\n");
            assert!(fault(&text).is_some(), "{name} was accepted");
            // What is not JSON never gets as far as a schema.
            let accepted = serde_json::from_str(&text).is_ok_and(|value| schema.is_valid(&value));
            let unknowable = case.get("schema_cannot_know").is_some_and(|reason| reason != "it is not JSON");
            assert_eq!(accepted, unknowable, "{name}: does the schema accept it?");
        }
    }

    #[test]
    fn every_key_is_in_the_schema_with_a_description_and_in_an_accepted_case() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let keys = |value: &Value| -> Vec<String> {
            let mut keys: Vec<String> = value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
            keys.sort_unstable();
            keys
        };
        let sorted = |known: &mut dyn Iterator<Item = &'static str>| -> Vec<String> {
            let mut known: Vec<String> = known.map(str::to_owned).collect();
            known.sort_unstable();
            known
        };
        let top = &schema["properties"];
        let profile = &schema["$defs"]["profile"]["properties"];
        let source = &schema["$defs"]["source"]["properties"];
        assert_eq!(keys(top), sorted(&mut TOP_KEYS.into_iter()));
        assert_eq!(keys(profile), sorted(&mut Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS)));
        assert_eq!(keys(source), sorted(&mut SOURCE_KEYS.into_iter()));
        for (key, said) in [top, profile, source].into_iter().filter_map(Value::as_object).flatten() {
            assert!(said["description"].as_str().is_some_and(|said| said.len() > 20), "{key} has no description");
            let quoted = format!("\"{key}\":");
            assert!(ACCEPTED.contains(&quoted), "no accepted case has {key}");
        }
    }

    /// Values that are right somewhere, or nearly so.
    fn values() -> impl Strategy<Value = Value> {
        let texts = prop::sample::select(vec![
            "",
            "a",
            "acme",
            "a b",
            "a/b",
            "..",
            "é",
            "a\u{1}b",
            "a\u{a0}b",
            "a:b",
            "a\"b",
            "openid profile",
            "env",
            "https://a.example",
            "https://a.example/",
            "https://a.example/b/../c",
            "https://a.example:65536",
            "https://a.example?x",
            "https://u@a.example",
            "HTTPS://A.example:443",
            "https://a..example",
            "https://1.2.3",
            "https://1.2.3.4:5",
            "https://1.2.3.04",
            "https://[::1]:5",
            "http://[::1]",
            "http://127.0.0.1:5000",
            "http://127.0.0.256",
            "http://127.1",
            "http://localhost",
            "http://LocalHost:1",
            "http://a.example",
            "http://u:p@a.example:3128/",
            "a.example:3128",
            "socks5://a.example",
            "ftp://a.example",
            "https://",
            "none",
            "None",
            "disk",
            "post",
            "basic",
            "access_token",
            "id_token",
            "keycloak",
            "v2",
            "v1",
            "app-token",
            "oauth2",
            "/x",
            "x",
            "/x\0",
            "10s",
            "0s",
            "00010m",
            "11m",
            "600s",
            "601s",
            "99ms",
            "600000ms",
            "600001ms",
            "1h",
            "10",
            "1.5s",
        ]);
        let leaf = prop_oneof![
            6 => texts.prop_map(Value::from),
            1 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::from),
            1 => prop::sample::select(vec![json!(0), json!(10), json!(-1.5), json!(1e300)]),
        ];
        let keys = prop::sample::select(vec!["keyring", "file", "env", "command", "x"]);
        prop_oneof![
            4 => leaf.clone(),
            1 => prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from),
            1 => prop::collection::btree_map(keys, leaf, 0..3).prop_map(|map| json!(map)),
            1 => prop::collection::vec(Just(json!("/x")), 1..3).prop_map(|list| json!({"command": list})),
        ]
    }

    /// What is done to a profile: a key is dropped, renamed, or given a value.
    #[derive(Clone, Debug)]
    enum Change {
        Drop(prop::sample::Index),
        Rename(prop::sample::Index, &'static str),
        Set(&'static str, Value),
        /// A member of another good profile.
        Graft(String, Value),
    }

    fn changes(good: &[Value]) -> impl Strategy<Value = Vec<Change>> + use<> {
        let members: Vec<(String, Value)> = good.iter().filter_map(Value::as_object).flat_map(Clone::clone).collect();
        let names: Vec<&str> = Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS).chain(["", "relm", "URL"]).collect();
        let names = prop::sample::select(names);
        let change = prop_oneof![
            1 => any::<prop::sample::Index>().prop_map(Change::Drop),
            1 => (any::<prop::sample::Index>(), names.clone()).prop_map(|(which, name)| Change::Rename(which, name)),
            3 => (names, values()).prop_map(|(name, value)| Change::Set(name, value)),
            3 => prop::sample::select(members).prop_map(|(key, value)| Change::Graft(key, value)),
        ];
        prop::collection::vec(change, 1..4)
    }

    fn change(profile: &mut serde_json::Map<String, Value>, change: Change) {
        let key = |profile: &serde_json::Map<String, Value>, which: prop::sample::Index| {
            (!profile.is_empty()).then(|| which.get(&profile.keys().cloned().collect::<Vec<_>>()).clone())
        };
        match change {
            Change::Drop(which) => drop(key(profile, which).and_then(|key| profile.remove(&key))),
            Change::Rename(which, name) => {
                if let Some(value) = key(profile, which).and_then(|key| profile.remove(&key)) {
                    profile.insert(name.to_owned(), value);
                }
            }
            Change::Set(name, value) => drop(profile.insert(name.to_owned(), value)),
            Change::Graft(key, value) => drop(profile.insert(key, value)),
        }
    }

    #[test]
    fn schema_and_parser_agree_on_what_becomes_of_a_good_profile() {
        let schema = schema();
        let good: Vec<Value> = cases(ACCEPTED)
            .iter()
            .filter_map(|case| case["config"]["profiles"].as_object())
            .flat_map(|profiles| profiles.values().cloned())
            .collect();
        let verdicts = std::cell::Cell::new([0_u32; 2]);
        let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
        let changes = changes(&good);
        let names = prop_oneof![9 => Just("p".to_owned()), 1 => "env||[a-z\u{7}]{1,3}"];
        proptest!(config, |(base in prop::sample::select(good), changes in changes, name in names)| {
            let mut profile = base.as_object().cloned().unwrap_or_default();
            changes.into_iter().for_each(|one| change(&mut profile, one));
            let value = json!({"profiles": {name: profile}});
            let text = value.to_string();
            let parsed = fault(&text);
            let mut counts = verdicts.get();
            counts[usize::from(parsed.is_none())] += 1;
            verdicts.set(counts);
            let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
            prop_assert_eq!(parsed.is_none(), errors.is_empty(), "{}\nparser: {:?}\nschema: {:?}", text, parsed, errors);
        });
        let [refused, accepted] = verdicts.get();
        assert!(refused > 500 && accepted > 200, "one-sided: {accepted} accepted, {refused} refused");
    }

    /// The same above the profiles, where less can be said.
    #[test]
    fn schema_and_parser_agree_on_the_outermost_keys() {
        let schema = schema();
        let profile = || json!({"url": "https://a.example", "client_id": "c", "client_secret": {"keyring": true}});
        let values = || {
            prop_oneof![
                values(),
                Just(json!("p")),
                Just(json!({"p": profile()})),
                Just(json!({"p": profile(), "q": 1}))
            ]
        };
        let keys = prop::sample::select(vec!["$schema", "default_profile", "profiles", "profile", ""]);
        let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(added in prop::collection::btree_map(keys, values(), 0..3), bare in values())| {
            let mut value = json!({"profiles": {"p": profile()}});
            for (key, added) in added {
                value[key] = added;
            }
            for value in [value, bare] {
                let parsed = fault(&value.to_string());
                // The one thing here that a schema cannot know.
                if parsed.as_ref().is_none_or(|(_, what, _)| !what.ends_with("is not one of the profiles")) {
                    prop_assert_eq!(parsed.is_none(), schema.is_valid(&value), "{}\nparser: {:?}", value, parsed);
                }
            }
        });
    }
}
