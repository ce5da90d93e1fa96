//! The file with the token, alone in a folder of its own. Dropping the [`TokenFile`] removes both.
//!
//! A process locks the folder as long as it renews the token. A process that is killed leaves its folder, but
//! not its lock. So the next process recognises that folder as abandoned and removes it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::os::files::{self, PrivateFolder};
use crate::os::{folders, harden};
use crate::token::Token;

/// Prefix of the folder names.
const PREFIX: &str = "runai-credential-exec-";

/// Maximum number of entries of a temporary folder that [`sweep`] reads, because the folder may be crowded.
const MOST_ENTRIES: usize = 10_000;

/// Name of the file.
const NAME: &str = "token";

/// Name of a new file until it is complete.
const TEMPORARY: &str = "token.new";

/// The file with the token. Dropping this removes the file and its folder.
pub struct TokenFile {
    folder: PathBuf,
    path: PathBuf,
    /// The open folder. It holds the lock by which other processes see that the folder is not abandoned.
    open: PrivateFolder,
}

impl TokenFile {
    /// Makes the folder and the file, in the user's runtime folder or else in the temporary folder.
    ///
    /// # Errors
    /// The last error of the system, with the folder that it is about.
    pub fn create(token: &Token, host: &dyn Host) -> io::Result<TokenFile> {
        harden::survive_size_limit();
        let run = folders::runtime(host).filter(|dir| fs::metadata(dir).is_ok_and(|meta| files::is_private(&meta)));
        let temporary = folders::temporary(host);
        let mut answer = Err(io::ErrorKind::NotFound.into());
        for place in run.into_iter().chain([temporary]) {
            sweep(&place);
            answer = TokenFile::create_in(&place, token)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", place.display())));
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    fn create_in(place: &Path, token: &Token) -> io::Result<TokenFile> {
        let random = RandomState::new();
        let mut error = io::ErrorKind::AlreadyExists.into();
        for attempt in 0..8 {
            let folder = place.join(format!("{PREFIX}{:016x}", random.hash_one(attempt)));
            match PrivateFolder::create(&folder) {
                // Another process may remove the folder between its creation and the lock.
                Ok(open) if open.try_lock() && open.is_at(&folder) => {
                    let file = TokenFile { path: folder.join(NAME), folder, open };
                    file.replace(token)?;
                    return Ok(file);
                }
                Ok(_) => error = io::ErrorKind::NotFound.into(),
                Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => error = fault,
                Err(fault) if fault.kind() == io::ErrorKind::NotFound && place.is_dir() => error = fault,
                Err(fault) => return Err(fault),
            }
        }
        Err(error)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the token in the file. A reader sees the old token or the new one.
    ///
    /// The file has no newline at its end: most readers strip one, but some fail on it.
    ///
    /// # Errors
    /// As for [`PrivateFolder::replace`].
    pub fn replace(&self, token: &Token) -> io::Result<()> {
        self.open.replace(NAME, TEMPORARY, token.expose().as_bytes(), None)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of processes that were killed.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().take(MOST_ENTRIES).flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let folder = entry.path();
        if PrivateFolder::existing(&folder).is_ok_and(|open| open.is_abandoned()) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
