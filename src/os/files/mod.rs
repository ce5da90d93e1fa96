//! Files: read with one look and judged by the open handle, replaced atomically, in folders that are closed to others.
//!
//! On Unix a file is private if it belongs to this user and its mode lets no one else in. On Windows the access list has to say the
//! same, and a reparse point counts as a link.

mod unix;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use super::harden;

pub use unix::{
    PrivateFolder, create_link, is_executable, is_own_socket, is_private, open_private, read_at, user_id, write_at,
};

/// What a file must be, so that its contents are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Any regular file.
    Regular,
    /// Not writable by every user: files that people and mounts put in place.
    NotWritableByAll,
    /// Owned by this user or root, and writable by no one else.
    OwnerOnly,
    /// Private, without a second name, and not a link: files that only this program writes.
    Private,
}

/// Reads a regular file of at most `max` bytes that is as `trust` says.
///
/// The judgement is of the file that was opened, not of a path that may mean another one by now. A FIFO does not hang:
/// it is opened without waiting and then refused for not being a regular file.
///
/// # Errors
/// That of the system, or `InvalidData` with the reason for a refusal.
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

/// The whole file in one read where its size is known. Some file systems (those of the kernel) say 0.
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

/// Replaces a file of the user's by rename, or makes it with `mode`, and its folder, closed to others. Links are followed, the mode of
/// a file that is there stays, and the text outlives a loss of power, unlike a token.
///
/// # Errors
/// That of the system; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    harden::survive_size_limit();
    // The file that a link stands for, as dotfile managers make them.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = unix::make_parent(&path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.new", std::process::id()));
    unix::replace(&path, &temporary, bytes, mode)
}

/// Makes a file with `mode`, and its folder, closed to others. Whatever has the name already stays as it is.
///
/// The name is taken by an empty file first, exclusively and not through a link, which the whole text then replaces: a call that is
/// killed leaves no part of the text.
///
/// # Errors
/// `AlreadyExists`, or another one of the system; then there is no new file.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    unix::make_parent(path)?;
    unix::create_empty(path, mode)?;
    replace(path, bytes, mode).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Replaces `name` in `folder` by a private file with `bytes`, atomically and without fsync. The folder is made if it is missing, and
/// used only if it is private.
///
/// `temporary` is the name of the file until it is whole. `modified` becomes its time, where the file system can set it.
///
/// # Errors
/// That of the system; then the file is as it was.
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

    /// What `read` says to a file with this mode.
    fn said(mode: u32, trust: Trust) -> Result<Vec<u8>, String> {
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
            let said = said(mode, trust);
            assert_eq!(said == Ok(b"text".to_vec()), good, "{mode:o} {trust:?}: {said:?}");
        }
    }

    #[test]
    fn private_file_is_no_link_and_has_one_name() {
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

    #[test]
    fn create_leaves_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/file");
        create(&path, b"one", 0o600).expect("a file");
        assert_eq!(create(&path, b"two", 0o600).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(&path).expect("the file"), b"one");
        replace(&path, b"three", 0o600).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("the file"), b"three");
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("the folder").count(), 1);
    }

    #[test]
    fn private_folder_is_made_and_an_open_one_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("private");
        replace_private(&path, "name", "name.new", b"one", SystemTime::UNIX_EPOCH).expect("written");
        assert_eq!(read(&path.join("name"), Trust::Private, 100).expect("read"), b"one");
        let open = folder.path().join("open");
        std::fs::create_dir(&open).expect("a folder");
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        assert!(replace_private(&open, "name", "name.new", b"one", SystemTime::UNIX_EPOCH).is_err());
    }
}
