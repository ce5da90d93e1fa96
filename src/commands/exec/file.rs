//! The token's file: alone in a folder of its own, which ends with its value.
//!
//! The folder is locked for as long as somebody renews what is in it. A process that was killed leaves its folder, but not
//! its lock, so the next one can tell and removes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::host::Host;
use crate::os::files;
use crate::os::harden;
use crate::token::Token;

/// How the names of our folders begin.
const PREFIX: &str = "runai-credential-exec-";

/// How many entries of a crowded temporary folder are looked at for what others left behind.
const MOST_ENTRIES: usize = 10_000;

/// The file; dropping this removes it with its folder.
pub struct TokenFile {
    folder: PathBuf,
    path: PathBuf,
    /// Keeps others from taking the folder for abandoned.
    _lock: File,
}

impl TokenFile {
    /// Makes folder and file in the user's run-time folder, or else in the temporary one.
    pub fn create(token: &Token, host: &dyn Host) -> io::Result<TokenFile> {
        harden::survive_size_limit();
        let run =
            host.dir("XDG_RUNTIME_DIR").filter(|dir| fs::metadata(dir).is_ok_and(|meta| files::is_private(&meta)));
        let temporary = host.dir("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
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
            // Whatever is there already, a link too, is an error: the folder is new, so it is ours and private.
            match DirBuilder::new().mode(0o700).create(&folder).and_then(|()| lock(&folder)) {
                Ok(lock) => {
                    let file = TokenFile { path: folder.join("token"), folder, _lock: lock };
                    file.replace(token)?;
                    return Ok(file);
                }
                Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => error = fault,
                // Swept by somebody in the moment before it was locked.
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

    /// Puts this token in the place of the one before: who reads sees one or the other. No newline: most readers strip
    /// one, some choke on it.
    pub fn replace(&self, token: &Token) -> io::Result<()> {
        let new = self.folder.join("token.new");
        let _ = fs::remove_file(&new);
        let flags = OFlags::NOFOLLOW.bits() as i32;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(&new)?;
        let written = file.write_all(token.expose().as_bytes()).and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Opens a folder, and nothing else that may stand in its place.
fn open(folder: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(folder)
}

/// Locks a folder, if it is (still) there and nobody has.
fn lock(folder: &Path) -> io::Result<File> {
    let file = open(folder)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::NotFound.into()),
        // A file system that cannot lock does without, and nothing is swept there.
        Ok(()) | Err(fs::TryLockError::Error(_)) => {}
    }
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(folder)?);
    match (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
        true => Ok(file),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Removes what processes that were killed have left.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().take(MOST_ENTRIES).flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let folder = entry.path();
        let is_ours = fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_dir() && files::is_private(&meta));
        if !is_ours {
            continue;
        }
        if let Ok(file) = open(&folder)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
