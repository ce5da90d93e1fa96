//! Small files that matter: read with one look, judged by the open descriptor, bounded.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Whether the last part of a path may be a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It may: files that people and mounts put in place.
    Followed,
    /// It may not: files that only this program writes.
    Refused,
}

/// Reads a regular file of at most `max` bytes that passes `judge`.
///
/// The judgement is of the file that was opened, not of a path that may mean another one by now. A FIFO does not hang:
/// it is opened without waiting and then refused for not being a regular file.
///
/// # Errors
/// That of the system, or `InvalidData` with the reason for a refusal.
pub fn read(
    path: &Path,
    links: Links,
    max: u64,
    judge: impl FnOnce(&Metadata) -> Result<(), &'static str>,
) -> io::Result<Vec<u8>> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refused {
        flags |= OFlags::NOFOLLOW;
    }
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let meta = file.metadata()?;
    let refused = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    if !meta.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if meta.len() > max {
        return Err(refused("it is too large"));
    }
    judge(&meta).map_err(refused)?;
    contents(file, meta.len(), max)
}

/// A judgement for files that others may have put in place for us: not one that everybody may write.
pub fn not_writable_by_all(meta: &Metadata) -> Result<(), &'static str> {
    if meta.mode() & 0o002 == 0 { Ok(()) } else { Err("everybody may write it (chmod o-w takes that away)") }
}

/// Whether a file or folder belongs to this user and is closed to everybody else.
pub fn is_private(meta: &Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0
}

/// The whole file in one read where its size is known. Some file systems (those of the kernel) say 0.
fn contents(mut file: File, len: u64, max: u64) -> io::Result<Vec<u8>> {
    if len > 0 {
        let mut bytes = vec![0; len as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        return Ok(bytes);
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
