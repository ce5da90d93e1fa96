//! The token's file: alone in a folder of its own, which ends with its value.
//!
//! The folder is locked for as long as a process renews what is in it. A process that was killed leaves its folder, but not
//! its lock, so the next one can tell and removes it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::os::files::{self, PrivateFolder};
use crate::os::{folders, harden};
use crate::token::Token;

/// How the names of our folders begin.
const PREFIX: &str = "runai-credential-exec-";

/// How many entries of a crowded temporary folder are looked at for what others left behind.
const MOST_ENTRIES: usize = 10_000;

/// The name of the file, and that of the next one until it is whole.
const NAME: &str = "token";
const TEMPORARY: &str = "token.new";

/// The file; dropping this removes it with its folder.
pub struct TokenFile {
    folder: PathBuf,
    path: PathBuf,
    /// Its lock keeps other processes from taking the folder for abandoned.
    open: PrivateFolder,
}

impl TokenFile {
    /// Makes folder and file in the user's run-time folder, or else in the temporary one.
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
                // Another process may have swept it in the moment before it was locked.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts this token in the place of the one before: a reader sees one or the other. No newline: most readers strip
    /// one, some choke on it.
    pub fn replace(&self, token: &Token) -> io::Result<()> {
        self.open.replace(NAME, TEMPORARY, token.expose().as_bytes(), None)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what processes that were killed have left.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().take(MOST_ENTRIES).flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let folder = entry.path();
        if PrivateFolder::existing(&folder).is_ok_and(|open| open.is_abandoned()) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
