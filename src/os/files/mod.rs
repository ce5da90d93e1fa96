//! Files: opened once and checked by the open handle, replaced atomically, in folders that are closed to
//! other users.
//!
//! On Unix a file is private if this user owns it and its mode gives no access to other users. On Windows the
//! access list must say the same, and a reparse point counts as a link.

mod unix;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use super::harden;

pub use unix::{
    PrivateFolder, create_link, is_executable, is_own_socket, is_private, open_private, read_at, user_id, write_at,
};

/// The condition under which the contents of a file are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Any regular file.
    Regular,
    /// Not writable by every user. For files that users and mounts put in place.
    NotWritableByAll,
    /// Owned by this user or root, and writable only by the owner.
    OwnerOnly,
    /// Private, with a single link, and not a symbolic link. For files that only this program writes.
    Private,
}

/// Reads a regular file of at most `max` bytes that meets `trust`.
///
/// The check is on the open file, not on its path: another process may exchange the file at the path. A FIFO
/// does not block. The file is opened without waiting, and a file that is not regular is refused.
///
/// # Errors
/// The error of the system, or `InvalidData` with the reason why the file is refused.
pub fn read(path: &Path, trust: Trust, max: u64) -> io::Result<Vec<u8>> {
    let file = unix::open_for_reading(path, trust != Trust::Private)?;
    let meta = file.metadata()?;
    let refused = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    if !meta.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if meta.len() > max {
        return Err(refused("it is too large"));
    }
    unix::judge(&meta, trust).map_err(refused)?;
    contents(file, &meta, max)
}

/// Returns the contents of the file, in one read if its size is known.
///
/// Kernel file systems such as `/proc` report the size 0.
fn contents(mut file: File, meta: &Metadata, max: u64) -> io::Result<Vec<u8>> {
    if meta.len() > 0 {
        let mut bytes = vec![0; meta.len() as usize];
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

/// Replaces a file of the user by rename, or creates it with `mode`.
///
/// A missing folder is created, closed to other users. Symbolic links are followed. An existing file keeps
/// its mode. The text survives a power failure, unlike a token.
///
/// # Errors
/// The error of the system. The file is then unchanged.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Dotfile managers put links in place of configuration files. The link stays, and its target is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = unix::mode_of(&path).unwrap_or(mode);
    replace_with_mode(&path, bytes, mode)
}

/// Replaces a file with a secret by rename, or creates it: private afterwards, whatever it was before. A link is replaced and not
/// followed.
///
/// # Errors
/// The error of the system. The file is then unchanged.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with_mode(path, bytes, 0o600)
}

fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    harden::survive_size_limit();
    let folder = unix::make_parent(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.new", std::process::id()));
    unix::replace(path, &temporary, bytes, mode)
}

/// Whether two paths lead to the same file, through whatever links and spellings. The file itself may be missing.
pub fn lead_to_same_file(one: &Path, other: &Path) -> bool {
    let end = |path: &Path| {
        std::fs::canonicalize(path).ok().or_else(|| {
            let folder = std::fs::canonicalize(path.parent()?).ok()?;
            Some(folder.join(path.file_name()?))
        })
    };
    one == other || end(one).is_some_and(|path| Some(path) == end(other))
}

/// Creates a file with `mode`. Fails if the name exists.
///
/// A missing folder is created, closed to other users. First an empty file takes the name, exclusively and
/// not through a link. Then the whole text replaces it. So a killed process leaves no part of the text.
///
/// # Errors
/// `AlreadyExists`, or another error of the system. There is then no new file.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    unix::make_parent(path)?;
    unix::create_empty(path, mode)?;
    replace(path, bytes, mode).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Replaces `name` in `folder` by a private file with `bytes`, atomically and without fsync.
///
/// A missing folder is created. A folder that is not private is an error. `temporary` is the name of the file
/// until it is complete. `modified` becomes its modification time, if the file system can set it.
///
/// # Errors
/// The error of the system, or `PermissionDenied` if the folder is not private. The file is then unchanged.
pub fn replace_private(
    folder: &Path,
    name: &str,
    temporary: &str,
    bytes: &[u8],
    modified: SystemTime,
) -> io::Result<()> {
    harden::survive_size_limit();
    PrivateFolder::open(folder)?.replace(name, temporary, bytes, Some(modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what `read` returns for a file with this mode.
    fn read_with_mode(mode: u32, trust: Trust) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        create(&path, b"text", mode).expect("a file");
        read(&path, trust, 100).map_err(|error| error.to_string())
    }

    #[test]
    fn trust_depends_on_the_mode() {
        for (mode, trust, good) in [
            (0o666, Trust::Regular, true),
            (0o664, Trust::NotWritableByAll, true),
            (0o666, Trust::NotWritableByAll, false),
            (0o644, Trust::OwnerOnly, true),
            (0o664, Trust::OwnerOnly, false),
            (0o600, Trust::Private, true),
            (0o640, Trust::Private, false),
        ] {
            let outcome = read_with_mode(mode, trust);
            assert_eq!(outcome == Ok(b"text".to_vec()), good, "{mode:o} {trust:?}: {outcome:?}");
        }
    }

    /// A symbolic link is refused too; `Trust::OwnerOnly` follows it.
    #[test]
    fn private_file_with_second_name_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link, second) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("second"));
        create(&path, b"text", 0o600).expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(read(&path, Trust::Private, 100).is_ok() && read(&link, Trust::OwnerOnly, 100).is_ok());
        assert!(read(&link, Trust::Private, 100).is_err());
        std::fs::hard_link(&path, &second).expect("a second name");
        assert!(read(&path, Trust::Private, 100).is_err());
        assert!(read(&path, Trust::Regular, 3).is_err(), "too large");
    }

    /// `replace` then changes it, and neither leaves a temporary file.
    #[test]
    fn create_with_existing_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/file");
        create(&path, b"one", 0o600).expect("a file");
        assert_eq!(create(&path, b"two", 0o600).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(&path).expect("the file"), b"one");
        replace(&path, b"three", 0o600).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("the file"), b"three");
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("the folder").count(), 1);
    }

    /// A missing folder is created.
    #[test]
    fn private_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("private");
        replace_private(&path, "name", "name.new", b"one", SystemTime::UNIX_EPOCH).expect("written");
        assert_eq!(read(&path.join("name"), Trust::Private, 100).expect("read"), b"one");
        let open = folder.path().join("open");
        std::fs::create_dir(&open).expect("a folder");
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        assert!(replace_private(&open, "name", "name.new", b"one", SystemTime::UNIX_EPOCH).is_err());
    }

    /// A process with the same process id was killed before it renamed its file.
    #[test]
    fn replace_after_a_kill_removes_the_temporary_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, stale) = (folder.path().join("file"), format!(".file.{}.new", std::process::id()));
        std::fs::write(folder.path().join(stale), "half").expect("a file");
        replace(&path, b"whole", 0o600).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("the file"), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }

    #[test]
    fn secret_file_is_private_whatever_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        create(&path, b"one", 0o644).expect("a file");
        replace_secret(&path, b"two").expect("replaced");
        assert_eq!(read(&path, Trust::Private, 100).expect("private"), b"two");
    }

    #[test]
    fn paths_through_links_lead_to_same_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link, linked) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("linked"));
        std::os::unix::fs::symlink(folder.path(), &linked).expect("a link to the folder");
        assert!(lead_to_same_file(&path, &linked.join("file")), "a file that is missing");
        create(&path, b"one", 0o600).expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link to the file");
        for same in
            [&link, &linked.join("file"), &linked.join("../").join(folder.path().file_name().unwrap()).join("file")]
        {
            assert!(lead_to_same_file(&path, same), "{}", same.display());
        }
        assert!(!lead_to_same_file(&path, &folder.path().join("other")));
    }
}
