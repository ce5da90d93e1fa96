//! The configuration file: where it is, whether it can be trusted, what it says, and which profile a call means.
//!
//! The file is strict JSON and every fault in it names line, column and key. Values are taken apart as raw slices of
//! the text, so the place of anything is the distance of its slice from the beginning.

mod edit;
mod locate;
mod parse;
mod text;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::origin::Origin;
use crate::profile::{self, Profile};

use locate::{Place, place};
use parse::Config;

pub use edit::ConfigFile;

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

#[cfg(test)]
mod tests;
