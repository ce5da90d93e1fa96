//! The secret file beside the configuration: `login --store file` writes it, and `logout` removes it.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigFile;
use crate::error::{Error, Result};
use crate::os::files;
use crate::profile::{Profile, Proof};
use crate::secret::{Secret, Source};

/// Returns the path of the secret file of a profile. `login` and `logout` write and remove no other file.
pub fn path(file: &ConfigFile, profile: &str) -> PathBuf {
    file.path().with_file_name(format!("{}.secret", profile.replace('/', "_")))
}

/// Returns the file that a profile reads its secret from.
pub fn of(profile: &Profile) -> Option<&Path> {
    match &profile.proof {
        Proof::Secret(Source::File(path), _) => Some(path),
        _ => None,
    }
}

/// Returns another profile that reads its secret or its assertion from the same file, in whatever spelling of the path.
pub fn other_reader<'a>(path: &Path, name: &str, profiles: &'a [Profile]) -> Option<&'a Profile> {
    let reads = |profile: &&Profile| {
        let file = match &profile.proof {
            Proof::Assertion(file) => Some(file.as_path()),
            Proof::Secret(..) => of(profile),
        };
        file.is_some_and(|file| files::lead_to_same_file(file, path))
    };
    profiles.iter().filter(|profile| profile.name != name).find(reads)
}

/// Checks that `login` may write `path` for the profile `name`: nothing has that name yet, or only this profile reads it.
///
/// Two profile names may yield one path (`a/b` and `a_b`). Then the other profile would send the new secret to its own endpoint.
/// The user may also have put a file there by hand, or a link to one.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config).
pub fn check(path: &Path, name: &str, profiles: &[Profile]) -> Result<()> {
    let shown = path.display();
    if let Some(other) = other_reader(path, name, profiles) {
        return Err(Error::config(
            format!("the secret file {shown} belongs to profile {:?}", other.name),
            "give this profile another name, or keep its secret in the keyring",
        ));
    }
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    let is_own = profiles.iter().any(|profile| profile.name == name && of(profile) == Some(path));
    if !is_own {
        return Err(Error::config(
            format!("the secret file {shown} is there already, and profile {name:?} does not read it"),
            "move that file away, or give the profile another name with --profile",
        ));
    }
    if !meta.is_file() {
        return Err(Error::config(
            format!("the secret file {shown} is a link or no regular file"),
            "remove it, or name the file that it leads to in client_secret and write the secret there",
        ));
    }
    Ok(())
}

/// What was at the path before [`write()`].
pub struct Previous(Option<Vec<u8>>);

/// Writes the secret to a file that only this user may read. `is_own`: the profile reads this file already, so it is replaced; else the
/// file must be new.
///
/// # Errors
/// That of the system; then the path is as it was.
pub fn write(path: &Path, secret: &Secret, is_own: bool) -> io::Result<Previous> {
    let text = format!("{}\n", secret.expose());
    if !is_own {
        return files::create(path, text.as_bytes(), 0o600).map(|()| Previous(None));
    }
    let previous = Previous(std::fs::read(path).ok());
    files::replace_secret(path, text.as_bytes()).map(|()| previous)
}

/// Restores what was at the path before [`write()`], as far as that is possible.
pub fn restore(path: &Path, previous: Previous) {
    let _ = match previous.0 {
        Some(bytes) => files::replace_secret(path, &bytes),
        None => std::fs::remove_file(path),
    };
}
