//! Owner and mode from the open descriptor, and `renameat` relative to the descriptor of the folder.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::Trust;

/// Returns the effective user id. No other user of this machine has it.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens a file for reading, without waiting for the writer of a FIFO.
pub fn open_for_reading(path: &Path, follow_links: bool) -> io::Result<File> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if !follow_links {
        flags |= OFlags::NOFOLLOW;
    }
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Checks owner, mode and links of a file. Returns the reason if the file does not meet `trust`.
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

/// Whether this user owns a file or folder and no other user has access to it.
pub fn is_private(meta: &Metadata) -> bool {
    meta.uid() == user_id() && meta.mode() & 0o077 == 0
}

/// Whether this is a file that a user may execute.
pub fn is_executable(meta: &Metadata) -> bool {
    meta.is_file() && meta.mode() & 0o111 != 0
}

/// Whether there is a socket of this user at `path`.
pub fn is_own_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.file_type().is_socket() && meta.uid() == user_id())
}

/// Opens an existing private file, to read and write it in place.
///
/// # Errors
/// The error of the system, `InvalidData` if the file is not private.
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
/// The error of the system.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// The error of the system.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Creates the symbolic link `link` to `program` in the same folder.
///
/// # Errors
/// The error of the system.
pub fn create_link(program: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(program, link)
}

/// Creates the folder of a file if it is missing, closed to other users. Returns the folder.
pub fn make_parent(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    Ok(folder)
}

/// Creates an empty file with exactly this mode, exclusively and not through a link.
pub fn create_empty(path: &Path, mode: u32) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Returns the mode of a file that exists.
pub fn mode_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.mode() & 0o7777)
}

/// Writes `temporary` with exactly `mode`, and renames it to `path`.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let open = || File::options().write(true).create_new(true).mode(0o600).open(temporary);
    let mut file = open().or_else(|error| {
        // A process that was killed had the same process id. In a container every process may have id 1.
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        std::fs::remove_file(temporary)?;
        open()
    })?;
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

/// An open private folder.
///
/// Every operation uses its descriptor. So it stays in this folder even if another process exchanges the
/// folder at the path.
pub struct PrivateFolder(File);

impl PrivateFolder {
    /// Opens a folder, and creates it if it is missing.
    ///
    /// A folder that is not private is refused and not changed, because its owner may have a reason for its
    /// mode.
    ///
    /// # Errors
    /// The error of the system, `PermissionDenied` if the folder is not private.
    pub fn open(path: &Path) -> io::Result<PrivateFolder> {
        make_dir(path)?;
        PrivateFolder::existing(path)
    }

    /// Opens an existing folder. A symbolic link or another file at the path is an error.
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

    /// Creates a folder. Any file at the path, a symbolic link included, is an error.
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
    /// The error of the system. The file is then unchanged.
    pub fn replace(&self, name: &str, temporary: &str, bytes: &[u8], modified: Option<SystemTime>) -> io::Result<()> {
        let PrivateFolder(folder) = self;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(folder, temporary, flags, Mode::RUSR | Mode::WUSR);
        let file = open().or_else(|error| match error {
            // A killed process left this file, and this process has chosen the same name.
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

    /// Opens a file to read and write it in place, and creates it if it is missing.
    ///
    /// # Errors
    /// The error of the system, `PermissionDenied` if the file is not private.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        let meta = file.metadata()?;
        if !meta.is_file() || !is_private(&meta) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is not private"));
        }
        Ok(file)
    }

    /// Locks the folder itself without waiting. The lock lasts as long as this value.
    ///
    /// Returns false if another process holds the lock. A file system that cannot lock excludes no process.
    pub fn try_lock(&self) -> bool {
        !matches!(self.0.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Locks the folder without waiting. Returns true if that worked: no living process holds the folder.
    ///
    /// A file system that cannot lock gives false.
    pub fn is_abandoned(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Whether the path still leads to this folder.
    pub fn is_at(&self, path: &Path) -> bool {
        let (Ok(own), Ok(there)) = (self.0.metadata(), std::fs::symlink_metadata(path)) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }

    /// Whether the folder is on a local file system.
    ///
    /// The lock calls of network file systems may hang forever or exclude no other process.
    pub fn is_local(&self) -> bool {
        is_local(&self.0)
    }
}

/// Creates a folder and its missing parents, but not inside the folder of another user.
///
/// Otherwise root with the `HOME` of another user would create a folder there that this user cannot use.
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

/// Whether `statfs` reports a local file system.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_local(dir: &File) -> bool {
    /// `f_type` of file systems whose locks go over a network or through a user-space daemon.
    ///
    /// Source: `statfs(2)`, linux/magic.h.
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
    // Depending on the architecture, the type is a signed or an unsigned word. The magic numbers are its
    // lower 32 bits.
    rustix::fs::fstatfs(dir).is_ok_and(|stat| !REMOTE.contains(&(stat.f_type as u32)))
}

/// Returns true.
///
/// On other systems the number has other meanings, and `XDG_RUNTIME_DIR` and `/tmp` are local there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_local(_: &File) -> bool {
    true
}
