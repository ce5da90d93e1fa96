//! Finds the configuration file and reads it if no other user can change it.

use std::path::{Path, PathBuf};

use super::text::position;
use crate::error::Error;
use crate::host::Host;
use crate::os::files::{self, Trust};
use crate::os::folders;

/// Largest configuration file in bytes. It holds some ten thousand profiles.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// The absolute path of the configuration file, which may not exist.
pub(super) struct Place {
    pub(super) path: PathBuf,
}

/// The reason why the file could not be read.
pub(super) struct ReadError {
    pub(super) error: Error,
    pub(super) is_missing: bool,
}

/// Returns the path from `--config`, from `RUNAI_CREDENTIAL_CONFIG`, or below the user's configuration folder.
///
/// # Errors
/// A relative path, or no configuration folder because `HOME` is not set to an absolute path.
pub(super) fn locate_file(file: Option<&Path>, host: &dyn Host) -> Result<Place, ReadError> {
    let chosen = match file {
        Some(path) => Some((path.to_owned(), "--config")),
        None => host
            .var_os("RUNAI_CREDENTIAL_CONFIG")
            .filter(|path| !path.is_empty())
            .map(|path| (PathBuf::from(path), "RUNAI_CREDENTIAL_CONFIG")),
    };
    if let Some((path, setting)) = chosen {
        if !path.is_absolute() {
            let error = Error::config(
                format!("{setting} is the relative path {}", path.display()),
                "give an absolute path: the profile must not depend on the working directory of the caller",
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
    /// Reads the file. It must belong to this user or root, and only its owner may write to it.
    ///
    /// # Errors
    /// The error with the path: the file is missing, unsafe, too large or not UTF-8.
    pub(super) fn read(self) -> Result<(PathBuf, String), ReadError> {
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
                     no other user may write",
                )
            };
            ReadError { error, is_missing }
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let (line, column) = position(&String::from_utf8_lossy(valid));
            let error = Error::config(
                format!("{shown}:{line}:{column}: the file is not UTF-8"),
                "save it as UTF-8 without a byte order mark",
            );
            ReadError { error, is_missing: false }
        })?;
        Ok((self.path, text))
    }
}
