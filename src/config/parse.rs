//! Parses the text of the configuration file into profiles. Each error has its position.

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::text::{ConfigSyntaxError, Member, Parsed, Text, kind};
use crate::error::{Error, Kind, Result};
use crate::origin::Origin;
use crate::profile::{self, Draft, InvalidValue, Profile};
use crate::secret::Source;

/// The contents of the configuration file. The values of each profile are checked.
pub(super) struct Config {
    pub(super) default_profile: Option<String>,
    pub(super) profiles: Vec<Profile>,
}

/// The keys of the outermost object.
pub(super) const TOP_KEYS: [&str; 3] = ["$schema", "default_profile", "profiles"];
/// The keys of a profile whose value is an object or a list.
pub(super) const OTHER_KEYS: [&str; 4] = ["client_secret", "client_assertion", "hosts", "clusters"];
/// The keys of a `client_secret`, of which it has exactly one.
pub(super) const SOURCE_KEYS: [&str; 4] = ["keyring", "file", "env", "command"];

pub(super) fn is_profile_key(key: &str) -> bool {
    Draft::TEXT_KEYS.contains(&key) || OTHER_KEYS.contains(&key)
}

impl Config {
    /// Parses `source`, the text of the configuration file at `path`.
    pub(super) fn parse(source: &str, path: &str) -> Parsed<Config> {
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

    /// Returns the names of the first twelve profiles, as a hint.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.profiles.iter().take(12).map(|profile| profile.name.as_str()).collect();
        if names.is_empty() {
            "add a profile to profiles".to_owned()
        } else {
            format!("the profiles are {}", names.join(", "))
        }
    }

    /// Returns the profile of this name.
    pub(super) fn named(mut self, name: &str) -> Parsed<Profile> {
        match self.profiles.iter().position(|profile| profile.name == name) {
            Some(at) => Ok(self.profiles.swap_remove(at)),
            None => Err(ConfigSyntaxError::without_position(format!("there is no profile {name:?}"), self.names())),
        }
    }

    /// Returns the profile for a call that names none: `default_profile`, or the only profile.
    pub(super) fn default(mut self) -> Parsed<Profile> {
        if let Some(name) = self.default_profile.take() {
            return self.named(&name);
        }
        match (self.profiles.pop(), self.profiles.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(ConfigSyntaxError::without_position("there is no profile in it", self.names())),
            (Some(last), false) => {
                self.profiles.push(last);
                Err(ConfigSyntaxError::without_position(
                    "it has several profiles and none of them is the default",
                    format!("name one with --profile or default_profile; {}", self.names()),
                ))
            }
        }
    }

    /// Returns the only profile that serves `origin`. `from_env` is one of the candidates.
    ///
    /// # Errors
    /// [`Kind::Ambiguous`] if two profiles claim the origin.
    pub(super) fn serving(self, origin: &Origin, from_env: Option<Profile>, path: &Path) -> Result<Option<Profile>> {
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

/// Parses one profile and checks that its values fit together.
pub(super) fn profile_in<'a>(text: Text<'a>, profile: Member<'a>, path: &str) -> Parsed<Profile> {
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
    let owner = format!("profile {name:?}");
    let mut draft = Draft::default();
    for member in text.members(&owner, raw)? {
        let (key, raw) = (member.key.as_ref(), member.raw);
        let refused = |fault: InvalidValue| text.refused(&name, raw, &fault);
        if let Some(known) = Draft::TEXT_KEYS.iter().find(|known| **known == key) {
            draft.text(known, text.text(key, raw)?).map_err(refused)?;
            continue;
        }
        match key {
            "hosts" | "clusters" => {
                for (item, origin) in text.list(key, raw)? {
                    let checked = if key == "hosts" { draft.host(&origin) } else { draft.cluster(&origin) };
                    checked.map_err(|fault| text.refused(&name, item, &fault))?;
                }
            }
            "client_secret" => draft.secret(source(text, raw)?).map_err(refused)?,
            "client_assertion" => {
                let file = text.only_member(key, raw, &["file"], "write {\"file\": PATH}")?;
                draft.assertion(&text.text("file", file.raw)?).map_err(refused)?;
            }
            _ => {
                let known: Vec<&str> = Draft::TEXT_KEYS.into_iter().chain(OTHER_KEYS).collect();
                return Err(text.unknown(&member, &owner, &known));
            }
        }
    }
    draft.finish(&name, path).map_err(|fault| text.unfit(&name, raw, &fault))
}

/// Parses the value of `client_secret`.
pub(super) fn source<'a>(text: Text<'a>, raw: &'a RawValue) -> Parsed<Source> {
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
