//! Where the configuration file is, and whether it can be trusted.

use std::path::{Path, PathBuf};

use super::text::position;
use crate::error::Error;
use crate::host::Host;
use crate::os::files::{self, Trust};
use crate::os::folders;

/// Largest configuration file in bytes: some ten thousand profiles.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// Where the configuration is.
pub(super) struct Place {
    pub(super) path: PathBuf,
}

/// Why it could not be read.
pub(super) struct ReadError {
    pub(super) error: Error,
    pub(super) is_missing: bool,
}

pub(super) fn place(file: Option<&Path>, host: &dyn Host) -> Result<Place, ReadError> {
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
