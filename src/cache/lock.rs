//! The lock that makes N processes send one request.
//!
//! The lock saves requests and never decides whether a call gets a token. It is an advisory `flock` on a
//! separate file in a local folder, so it ends with its process. The file stays: if a process removed it, two
//! processes could lock two files of the same name. Without a local folder there is no lock, because the lock
//! calls of network file systems may hang forever or exclude no other process (docs/decisions/0005).

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::host::{Deadline, Host, Moment};
use crate::os::files::{self, PrivateFolder};
use crate::os::folders;
use crate::os::harden;

/// The lock of one identity, not yet taken.
pub struct Lock(Option<File>);

/// The time limit for opening a lock file. A local folder answers at once, or it hangs.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// The taken lock. It is released when this value is dropped, or when the process ends in any way.
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a>(Option<&'a File>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0 {
            // If this fails, closing the file releases the lock.
            let _ = file.unlock();
        }
    }
}

impl Guard<'_> {
    /// Notes in the lock file that a fetch has ended under this lock, with or without success.
    pub fn mark_use(&self, now: Moment) {
        if let Some(file) = self.0 {
            let _ = files::write_at(file, &now.boot_ms.to_le_bytes(), 0);
        }
    }

    /// Whether there is a lock file. Without one, every process gets a guard at once.
    pub fn has_place(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a fetch has ended under this lock after `start` and by `now`.
    ///
    /// A killed process leaves no note. A fetch that ended in the same millisecond as `start` may have ended
    /// before it, and does not count.
    pub fn was_used_since(&self, start: Moment, now: Moment) -> bool {
        let mut used = [0; 8];
        let is_noted = self.0.is_some_and(|file| files::read_at(file, &mut used, 0).is_ok());
        let used = i64::from_le_bytes(used);
        is_noted && start.boot_ms < used && used <= now.boot_ms
    }
}

impl Lock {
    /// Opens the lock called `name` in the first usable folder, within [`OPEN_TIMEOUT`].
    pub fn open(name: String, host: &dyn Host) -> Lock {
        harden::survive_size_limit();
        let places = places(host);
        let (sender, receiver) = mpsc::channel();
        // A call to a hanging file system cannot be interrupted, so the thread is abandoned.
        let opened = std::thread::Builder::new().spawn(move || {
            for place in places {
                let file = open_place(&place).and_then(|folder| folder.open_file(&name));
                let is_found = file.is_ok();
                if sender.send((place, file)).is_err() || is_found {
                    break;
                }
            }
        });
        let patience = Deadline::after(OPEN_TIMEOUT);
        while opened.is_ok()
            && let Ok((place, file)) = receiver.recv_timeout(patience.left())
        {
            match file {
                Ok(file) => return Lock(Some(file)),
                Err(error) => host.note(|| format!("lock: {} cannot be used: {error}", place.display())),
            }
        }
        host.note(|| "lock: no folder for locks can be used; continuing without a lock".to_owned());
        Lock(None)
    }

    /// Takes the lock if it is free. Without a lock file it always succeeds: there is no process to wait for.
    pub fn try_take(&self) -> Option<Guard<'_>> {
        let Some(file) = &self.0 else { return Some(Guard(None)) };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            // A file system that cannot lock excludes no process.
            Ok(()) | Err(TryLockError::Error(_)) => Some(Guard(Some(file))),
        }
    }

    /// Waits for the lock until `patience` ends or `news` returns an answer.
    ///
    /// An answer of `news` makes the lock needless.
    pub fn wait<T>(&self, patience: Deadline, mut news: impl FnMut() -> Option<T>) -> Waited<'_, T> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(guard) = self.try_take() {
                return Waited::Taken(guard);
            }
            if let Some(answer) = news() {
                return Waited::News(answer);
            }
            if patience.passed() {
                return Waited::Nothing;
            }
            std::thread::sleep(pause.min(patience.left()));
            // At most 15 to 25 ms. The limit depends on the process id, so that the processes do not all wake
            // at once.
            let most = 15 + u64::from(std::process::id() % 11);
            pause = (pause * 3 / 2).min(Duration::from_millis(most));
        }
    }
}

/// The end of a wait for a lock.
pub enum Waited<'a, T> {
    /// This process has taken the lock.
    Taken(Guard<'a>),
    /// The lock is not needed any more.
    News(T),
    /// Another process held the lock until the deadline.
    Nothing,
}

/// Returns the folders for locks, best first.
///
/// The first is below the user's runtime folder, which is local by definition (XDG base directory
/// specification). The second is a folder of this user below the system's temporary folder.
pub fn places(host: &dyn Host) -> Vec<PathBuf> {
    let run = folders::runtime(host).map(|dir| dir.join("runai-credential"));
    let temporary = folders::temporary(host);
    run.into_iter().chain([temporary.join(format!("runai-credential-{}", files::user_id()))]).collect()
}

/// Opens a folder for locks, and creates it if it is missing.
///
/// # Errors
/// `Unsupported` if the folder is on a network file system, and as for [`PrivateFolder::open`].
pub fn open_place(place: &Path) -> std::io::Result<PrivateFolder> {
    let folder = PrivateFolder::open(place)?;
    if !folder.is_local() {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "it is on a network file system"));
    }
    Ok(folder)
}
