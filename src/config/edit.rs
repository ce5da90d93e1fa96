//! Changes to the configuration file: one profile at a time, the rest as people wrote it, and all or nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, place};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::os::files;
use crate::patch;
use crate::profile::Profile;

/// The configuration file, with or without anything in it yet.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    /// What it says; empty if it is not there.
    text: String,
}

impl ConfigFile {
    /// Reads the file that a call would read.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), if it cannot be trusted or is wrong. That it is missing is no error.
    pub fn open(file: Option<&Path>, host: &dyn Host) -> Result<ConfigFile> {
        let place = place(file, host).map_err(|unread| unread.error)?;
        let path = place.path.clone();
        let text = match place.read() {
            Ok((_, text)) => text,
            Err(unread) if unread.is_missing => String::new(),
            Err(unread) => return Err(unread.error),
        };
        let file = ConfigFile { path, text };
        file.config()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn config(&self) -> Result<Config> {
        if self.text.is_empty() {
            return Ok(Config { default_profile: None, profiles: Vec::new() });
        }
        Config::parse(&self.text, &self.path.to_string_lossy()).map_err(|wrong| wrong.in_file(&self.path))
    }

    /// The profiles in it, and the name of the one that a call means that names none.
    ///
    /// # Errors
    /// As for [`ConfigFile::open`].
    pub fn profiles(&self) -> Result<(Vec<Profile>, Option<String>)> {
        let Config { default_profile, profiles } = self.config()?;
        let only = if let [only] = &profiles[..] { Some(only.name.clone()) } else { None };
        Ok((profiles, default_profile.or(only)))
    }

    /// What the file says for a key of a profile.
    pub fn value(&self, profile: &str, key: &str) -> Option<Value> {
        let root: Value = serde_json::from_str(&self.text).ok()?;
        root.get("profiles")?.get(profile)?.get(key).cloned()
    }

    /// This file with these values in a profile; `null` takes a key away.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it would not be a configuration.
    pub fn with(mut self, profile: &str, values: &[(&str, Value)]) -> Result<ConfigFile> {
        for (key, value) in values {
            let path = ["profiles", profile, key];
            let changed = match value {
                Value::Null => patch::remove(&self.text, &path),
                value => patch::set(&self.text, &path, &one_line(value)),
            };
            self.text = changed.map_err(|error| self.unchanged(&error))?;
        }
        self.config()?;
        Ok(self)
    }

    /// This file without a profile, which is not the default any more either.
    ///
    /// # Errors
    /// As for [`ConfigFile::with`].
    pub fn without(mut self, profile: &str) -> Result<ConfigFile> {
        let is_default = self.config()?.default_profile.as_deref() == Some(profile);
        let gone = [Some(&["profiles", profile][..]), is_default.then_some(&["default_profile"][..])];
        for path in gone.into_iter().flatten() {
            self.text = patch::remove(&self.text, path).map_err(|error| self.unchanged(&error))?;
        }
        self.config()?;
        Ok(self)
    }

    /// The profile of this name, with the fault and its place if it is none.
    ///
    /// # Errors
    /// As for [`ConfigFile::open`].
    pub fn profile(&self, name: &str) -> Result<Profile> {
        self.config()?.named(name).map_err(|wrong| wrong.in_file(&self.path))
    }

    /// Writes it, by rename: a reader finds the old text or the new one. Links are followed, and the mode is kept.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config).
    pub fn save(&self) -> Result<()> {
        files::replace(&self.path, self.text.as_bytes(), 0o600).map_err(|error| {
            Error::config(
                format!("the configuration file {} cannot be written: {error}", self.path.display()),
                "see who owns it and its folder, and whether the disk is full; nothing was changed",
            )
        })
    }

    fn unchanged(&self, error: &serde_json::Error) -> Error {
        let what = format!("the configuration file {} cannot be changed: {error}", self.path.display());
        Error::config(what, "correct it by hand first")
    }
}

/// A value as people write it: `{ "keyring": true }`, `["a", "b"]`.
fn one_line(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}: {}", Value::from(&**key), one_line(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
