//! Owner and mode on the open descriptor, and `renameat` in that of the folder.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::Trust;

/// Returns a number that no other user of this machine has.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens a file to read it, without waiting for the other end of a FIFO.
pub fn open_for_reading(path: &Path, follow_links: bool) -> io::Result<File> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if !follow_links {
        flags |= OFlags::NOFOLLOW;
    }
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Says what is wrong with a file that is to be trusted so.
pub fn judge(meta: &Metadata, trust: Trust) -> Result<(), &'static str> {
    let (owner, mode) = (meta.uid(), meta.mode());
    match trust {
        Trust::NotWritableByAll if mode & 0o002 != 0 => Err("everybody may write it (chmod o-w takes that away)"),
        Trust::OwnerOnly if owner != 0 && owner != user_id() => Err("it belongs to another user"),
        Trust::OwnerOnly if mode & 0o022 != 0 => Err("others may write it (chmod go-w takes that away)"),
        Trust::Private if !is_private(meta) || meta.nlink() != 1 => Err("it is open to others"),
        _ => Ok(()),
    }
}

/// Whether a file or folder belongs to this user and is closed to all others.
pub fn is_private(meta: &Metadata) -> bool {
    meta.uid() == user_id() && meta.mode() & 0o077 == 0
}

/// Whether this is a file that may be run.
pub fn is_executable(meta: &Metadata) -> bool {
    meta.is_file() && meta.mode() & 0o111 != 0
}

/// Whether there is a socket of this user at `path`.
pub fn is_own_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.file_type().is_socket() && meta.uid() == user_id())
}

/// Opens a private file that is there, to read and write it in place.
///
/// # Errors
/// That of the system, `InvalidData` if the file is not private.
pub fn open_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    judge(&meta, Trust::Private).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    Ok(file)
}

/// Reads exactly `bytes.len()` bytes at `offset`.
///
/// # Errors
/// That of the system.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// That of the system.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Makes `link` lead to the program of this name in the same folder.
///
/// # Errors
/// That of the system.
pub fn create_link(program: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(program, link)
}

/// Makes the folder of a file, closed to others, where it is missing; returns it.
pub fn make_parent(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    Ok(folder)
}

/// Makes an empty file of exactly this mode, exclusively and not through a link.
pub fn create_empty(path: &Path, mode: u32) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Writes `temporary` and renames it to `path`. It gets the mode of the file that is there, or else `mode`.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mode = std::fs::metadata(path).map_or(mode, |meta| meta.mode() & 0o7777);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
    let written = file.write_all(bytes).and_then(|()| {
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(temporary, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    written
}

/// An open folder that is private: whatever its path comes to mean, what is done in it is done in this one.
pub struct PrivateFolder(File);

impl PrivateFolder {
    /// Opens a folder, after making it where there is none. One that is not private is left as it is, because its owner may have a
    /// reason for it.
    ///
    /// # Errors
    /// That of the system, `PermissionDenied` if the folder is not private.
    pub fn open(path: &Path) -> io::Result<PrivateFolder> {
        make_dir(path)?;
        PrivateFolder::existing(path)
    }

    /// Opens a folder that is there, and nothing else that may stand in its place.
    ///
    /// # Errors
    /// As for [`PrivateFolder::open`].
    pub fn existing(path: &Path) -> io::Result<PrivateFolder> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if !is_private(&folder.metadata()?) {
            let why = "the folder does not belong to this user alone (mode 0700 is needed)";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(PrivateFolder(folder))
    }

    /// Makes a folder that is not there yet. Whatever is there already, a link too, is an error.
    ///
    /// # Errors
    /// As for [`PrivateFolder::open`], and `AlreadyExists`.
    pub fn create(path: &Path) -> io::Result<PrivateFolder> {
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        PrivateFolder::existing(path)
    }

    /// Replaces `name` by a private file with `bytes`, atomically and without fsync.
    ///
    /// # Errors
    /// That of the system; then the file is as it was.
    pub fn replace(&self, name: &str, temporary: &str, bytes: &[u8], modified: Option<SystemTime>) -> io::Result<()> {
        let PrivateFolder(folder) = self;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(folder, temporary, flags, Mode::RUSR | Mode::WUSR);
        let file = open().or_else(|error| match error {
            // Left by a process that was killed and chose the same name.
            rustix::io::Errno::EXIST => {
                rustix::fs::unlinkat(folder, temporary, AtFlags::empty())?;
                open()
            }
            _ => Err(error),
        })?;
        let mut file = File::from(file);
        let written = file.write_all(bytes).and_then(|()| {
            if let Some(modified) = modified {
                let _ = file.set_modified(modified);
            }
            rustix::fs::renameat(folder, temporary, folder, name).map_err(Into::into)
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
        }
        written
    }

    /// Opens a file to read and write it in place, after making it where there is none.
    ///
    /// # Errors
    /// That of the system, `PermissionDenied` if the file is not private.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        let meta = file.metadata()?;
        if !meta.is_file() || !is_private(&meta) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is not private"));
        }
        Ok(file)
    }

    /// Locks the folder itself, without waiting, for as long as this value lives. Returns false if another process has the lock. A
    /// file system that cannot lock excludes no one.
    pub fn try_lock(&self) -> bool {
        !matches!(self.0.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Whether the file system locks folders, and this one is free.
    pub fn is_abandoned(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Whether the path still leads to this folder.
    pub fn is_at(&self, path: &Path) -> bool {
        let (Ok(own), Ok(there)) = (self.0.metadata(), std::fs::symlink_metadata(path)) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }

    /// Whether the folder is on a file system of this machine: the lock calls of network file systems may hang for ever or exclude no
    /// one.
    pub fn is_local(&self) -> bool {
        is_local(&self.0)
    }
}

/// Makes a folder and those above it that are missing, unless that would be inside another user's folder: root with
/// somebody's `HOME` would leave them a folder there that they cannot use.
fn make_dir(path: &Path) -> std::io::Result<()> {
    let Some(existing) = path.ancestors().find_map(|above| Some((above, above.metadata().ok()?))) else {
        return Ok(());
    };
    if existing.0 == path {
        return Ok(());
    }
    let owner = existing.1.uid();
    if owner != 0 && owner != user_id() {
        let why = format!("{} belongs to another user", existing.0.display());
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a folder is on a file system of this machine, as far as `statfs` tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_local(dir: &File) -> bool {
    /// `f_type` of file systems whose locks go over a network or through a user-space daemon (`statfs(2)`, linux/magic.h).
    const REMOTE: [u32; 13] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB 2 and later
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x1983_0326, // BeeGFS
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
        0x6b41_4653, // AFS of the kernel
        0x7375_7245, // Coda
        0x6573_5546, // FUSE
        0x0102_1997, // 9P
    ];
    // The type is a signed or an unsigned word by architecture; the magic numbers are its lower 32 bits.
    rustix::fs::fstatfs(dir).is_ok_and(|stat| !REMOTE.contains(&(stat.f_type as u32)))
}

/// Elsewhere the number means something else on each system; `XDG_RUNTIME_DIR` and `/tmp` are local there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_local(_: &File) -> bool {
    true
}
