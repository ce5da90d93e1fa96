//! Finds, reads and changes the configuration file, and selects the profile for a call.
//!
//! The file is strict JSON. The message for an error in it names line, column and key. The parser keeps each value
//! as a slice of the text. So the distance of the slice from the beginning of the text is the position of the value.

mod edit;
mod locate;
mod parse;
mod text;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::origin::Origin;
use crate::profile::{self, Profile};

use locate::{Place, locate_file};
use parse::Config;

pub use edit::ConfigFile;

/// Returns the profile for a call.
///
/// `named` is the `--profile` option. `asked` is the origin in a `git`, `docker`, `get` or `token --url` call. The
/// result is `None` if no profile serves the origin. That is not an error.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) for a configuration that is missing, unsafe or wrong,
/// [`Kind::Ambiguous`](crate::error::Kind::Ambiguous) if two profiles claim one origin.
pub fn find_profile(
    file: Option<&Path>,
    named: Option<&str>,
    asked: Option<&Origin>,
    host: &dyn Host,
) -> Result<Option<Profile>> {
    let named = named.map(str::to_owned).or_else(|| host.var("RUNAI_PROFILE"));
    // A call that names a profile of the file must not fail because of wrong RUNAI_* variables.
    let from_env = match named.as_deref() {
        None | Some(profile::ENV) => profile::from_env(host)?,
        Some(_) => None,
    };
    match (named.as_deref(), asked, &from_env) {
        (None, None, Some(_)) | (Some(profile::ENV), _, Some(_)) => return Ok(if_serving(from_env, asked)),
        (Some(profile::ENV), _, None) => {
            return Err(Error::config(
                "there is no profile \"env\": RUNAI_CLIENT_ID is not set",
                "set RUNAI_URL, RUNAI_CLIENT_ID and RUNAI_CLIENT_SECRET, or name another profile",
            ));
        }
        _ => {}
    }
    let from_file = configuration(file, asked.is_some() && from_env.is_some(), host)?;
    let Some((config, path)) = from_file else { return Ok(if_serving(from_env, asked)) };
    let found = match (named, asked) {
        (Some(name), _) => config.named(&name),
        (None, Some(origin)) => return config.serving(origin, from_env, &path),
        (None, None) => config.default(),
    };
    let profile = found.map_err(|wrong| wrong.in_file(&path))?;
    Ok(if_serving(Some(profile), asked))
}

/// Returns the profiles from which a call with an origin can select.
///
/// This is the named profile, or else all profiles of the file and the environment.
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

/// Returns the contents of the file and its path.
///
/// If `is_optional` is set and there is no file, returns `None`: the environment may have the only profile.
fn configuration(file: Option<&Path>, is_optional: bool, host: &dyn Host) -> Result<Option<(Config, PathBuf)>> {
    let (path, text) = match locate_file(file, host).and_then(Place::read) {
        Ok(found) => found,
        Err(error) if error.is_missing && is_optional => return Ok(None),
        Err(error) => return Err(if error.is_missing { explain_missing_file(error.error, host) } else { error.error }),
    };
    let config = Config::parse(&text, &path.to_string_lossy()).map_err(|wrong| wrong.in_file(&path))?;
    Ok(Some((config, path)))
}

/// Returns the error for a missing file.
///
/// If the environment has a part of a profile, the error names the missing `RUNAI_CLIENT_ID`.
fn explain_missing_file(error: Error, host: &dyn Host) -> Error {
    let set = ["RUNAI_URL", "RUNAI_BASE_URL", "RUNAI_CLIENT_SECRET", "RUNAI_CLIENT_SECRET_FILE", "RUNAI_TOKEN_URL"];
    match set.into_iter().find(|name| host.var(name).is_some()) {
        Some(name) => Error::config(
            format!("{name} is set but RUNAI_CLIENT_ID is not, and {}", error.what),
            "set RUNAI_CLIENT_ID to the application's name as well, or write the file (see the README)",
        ),
        None => error,
    }
}

/// Returns the profile if the call has no origin, or if the profile serves the origin of the call.
fn if_serving(profile: Option<Profile>, asked: Option<&Origin>) -> Option<Profile> {
    profile.filter(|profile| asked.is_none_or(|origin| profile.hosts.contains(origin)))
}

#[cfg(test)]
mod tests;
