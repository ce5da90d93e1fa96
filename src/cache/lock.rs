//! The lock that makes N processes send one request.
//!
//! It only saves work. It is an advisory `flock` on a file of its own in a folder on this machine, so it dies with
//! its process; the file stays, because unlinking it would let two processes lock two files of one name. Where there is
//! no local folder — the lock calls of network file systems may hang for ever or exclude nobody — there is no lock.

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

/// How long the place of locks may take to answer. It is on this machine and answers at once, or it hangs.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);

/// The lock, taken; given back when dropped, or when the process ends in whatever way.
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a>(Option<&'a File>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0 {
            // If this fails, closing the file will do it.
            let _ = file.unlock();
        }
    }
}

impl Guard<'_> {
    /// Notes that a fetch has ended under this lock, whatever came of it.
    pub fn mark_use(&self, now: Moment) {
        if let Some(file) = self.0 {
            let _ = files::write_at(file, &now.boot_ms.to_le_bytes(), 0);
        }
    }

    /// Whether there is a place for locks at all; without one everybody has this guard.
    pub fn has_place(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a fetch has ended under this lock after `asked` and by `now`. A process that was killed has left no note; one
    /// that ended in the very millisecond of `asked` may have ended before it and does not count.
    pub fn was_used_since(&self, asked: Moment, now: Moment) -> bool {
        let mut used = [0; 8];
        let noted = self.0.is_some_and(|file| files::read_at(file, &mut used, 0).is_ok());
        let used = i64::from_le_bytes(used);
        noted && asked.boot_ms < used && used <= now.boot_ms
    }
}

impl Lock {
    /// Opens the lock called `name` in the first usable place, within a bounded time.
    pub fn open(name: String, host: &dyn Host) -> Lock {
        harden::survive_size_limit();
        let places = places(host);
        let (sender, receiver) = mpsc::channel();
        // A file system that hangs cannot be interrupted, only left alone.
        let opened = std::thread::Builder::new().spawn(move || {
            for place in places {
                let file = open_place(&place).and_then(|folder| folder.open_file(&name));
                let is_found = file.is_ok();
                if sender.send((place, file)).is_err() || is_found {
                    break;
                }
            }
        });
        let patience = Deadline::after(PLACE_PATIENCE);
        while opened.is_ok()
            && let Ok((place, file)) = receiver.recv_timeout(patience.left())
        {
            match file {
                Ok(file) => return Lock(Some(file)),
                Err(error) => host.note(|| format!("lock: not in {}: {error}", place.display())),
            }
        }
        host.note(|| "lock: there is no place for one; going on without".to_owned());
        Lock(None)
    }

    /// Takes the lock if it is free. Without a place for locks everybody has it: there is nothing to wait for.
    pub fn try_take(&self) -> Option<Guard<'_>> {
        let Some(file) = &self.0 else { return Some(Guard(None)) };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            // A file system that cannot lock excludes nobody.
            Ok(()) | Err(TryLockError::Error(_)) => Some(Guard(Some(file))),
        }
    }

    /// Waits for the lock until `patience` ends, or until `news` has an answer that makes it needless.
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
            // Up to 25 ms, at a pace that differs from process to process so that they do not all wake at once.
            let most = 15 + u64::from(std::process::id() % 11);
            pause = (pause * 3 / 2).min(Duration::from_millis(most));
        }
    }
}

/// How waiting for a lock ended.
pub enum Waited<'a, T> {
    /// The lock is ours.
    Taken(Guard<'a>),
    /// It is not needed any more.
    News(T),
    /// Whoever has it has had it for longer than we can wait.
    Nothing,
}

/// Folders for locks, best first: the user's run-time folder, which is local by definition, then one of our own below
/// the system's temporary folder.
pub fn places(host: &dyn Host) -> Vec<PathBuf> {
    let run = folders::runtime(host).map(|dir| dir.join("runai-credential"));
    let temporary = folders::temporary(host);
    run.into_iter().chain([temporary.join(format!("runai-credential-{}", files::user_id()))]).collect()
}

/// Opens a place, after making it where it is missing.
pub fn open_place(place: &Path) -> std::io::Result<PrivateFolder> {
    let folder = PrivateFolder::open(place)?;
    if !folder.is_local() {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "it is on a network file system"));
    }
    Ok(folder)
}
