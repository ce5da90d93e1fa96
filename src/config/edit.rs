//! Changes one profile of the configuration file and keeps the rest as the user wrote it.
//!
//! A save replaces the whole file, or leaves it unchanged.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, locate_file};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::os::files;
use crate::patch;
use crate::profile::Profile;

/// The configuration file. It may not exist yet.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    /// The contents; empty if the file does not exist.
    text: String,
}

impl ConfigFile {
    /// Reads the file that [`find_profile`](super::find_profile) reads.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if another user can change the file, or if its contents are
    /// wrong. A missing file is not an error.
    pub fn open(file: Option<&Path>, host: &dyn Host) -> Result<ConfigFile> {
        let place = locate_file(file, host).map_err(|error| error.error)?;
        let path = place.path.clone();
        let text = match place.read() {
            Ok((_, text)) => text,
            Err(error) if error.is_missing => String::new(),
            Err(error) => return Err(error.error),
        };
        let file = ConfigFile { path, text };
        file.config()?;
        Ok(file)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn config(&self) -> Result<Config> {
        if self.text.is_empty() {
            return Ok(Config { default_profile: None, profiles: Vec::new() });
        }
        Config::parse(&self.text, &self.path.to_string_lossy()).map_err(|wrong| wrong.in_file(&self.path))
    }

    /// Returns the profiles, and the name of the profile for calls that name none.
    ///
    /// # Errors
    /// As for [`ConfigFile::open`].
    pub fn profiles(&self) -> Result<(Vec<Profile>, Option<String>)> {
        let Config { default_profile, profiles } = self.config()?;
        let only = if let [only] = &profiles[..] { Some(only.name.clone()) } else { None };
        Ok((profiles, default_profile.or(only)))
    }

    /// Returns the value of a key of a profile.
    pub fn value(&self, profile: &str, key: &str) -> Option<Value> {
        let root: Value = serde_json::from_str(&self.text).ok()?;
        root.get("profiles")?.get(profile)?.get(key).cloned()
    }

    /// Returns this file with these values in a profile. `null` removes a key.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the result is not a valid configuration.
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

    /// Returns this file without a profile. Also removes `default_profile` if it names this profile.
    ///
    /// # Errors
    /// As for [`ConfigFile::with`].
    pub fn without(mut self, profile: &str) -> Result<ConfigFile> {
        let is_default = self.config()?.default_profile.as_deref() == Some(profile);
        let removed = [Some(&["profiles", profile][..]), is_default.then_some(&["default_profile"][..])];
        for path in removed.into_iter().flatten() {
            self.text = patch::remove(&self.text, path).map_err(|error| self.unchanged(&error))?;
        }
        self.config()?;
        Ok(self)
    }

    /// Returns the profile of this name.
    ///
    /// # Errors
    /// As for [`ConfigFile::open`], and if there is no profile of this name.
    pub fn profile(&self, name: &str) -> Result<Profile> {
        self.config()?.named(name).map_err(|wrong| wrong.in_file(&self.path))
    }

    /// Writes the file by rename, so that a reader finds the old text or the new one.
    ///
    /// It follows symbolic links and keeps the mode of the file. A new file gets mode 0600.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the system cannot write the file, which is then unchanged.
    pub fn save(&self) -> Result<()> {
        files::replace(&self.path, self.text.as_bytes(), 0o600).map_err(|error| {
            Error::config(
                format!("the configuration file {} cannot be written: {error}", self.path.display()),
                "see who owns it and its folder, and whether the disk is full; nothing was changed",
            )
        })
    }

    /// Returns the error for a change that [`patch`] cannot make.
    fn unchanged(&self, error: &serde_json::Error) -> Error {
        let what = format!("the configuration file {} cannot be changed: {error}", self.path.display());
        Error::config(what, "correct it by hand first")
    }
}

/// Returns a value as JSON on one line with blanks: `{ "keyring": true }`, `["a", "b"]`.
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
