//! Callers that come back: how a client's rejected token is noticed although nobody says so.
//!
//! A Kubernetes client whose token the API server refuses runs the plugin again, in exactly the same way, and tells it
//! nothing (client-go, `exec.go`; aws-iam-authenticator issue 133). But a client also keeps a token in memory until the
//! expiry that it was told. So when the same process — the same parent, with the same start time — asks again before
//! that, its token was rejected. To know that, each answer leaves a mark.
//!
//! Marks stand in one file of fixed size in the place of locks, a slot of 32 bytes each, found by hash. They are written
//! without a lock: whatever is lost or torn costs the notice of one refusal. A hit makes neither the file nor its folder.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::cache::{fingerprint, lock};
use crate::host::Host;
use crate::os::{files, harden};
use crate::token::{LiveToken, Token};

/// How often one caller may have its token replaced. A server that refuses every token is not helped by more of them, and
/// clients that throw tokens away early look the same as rejected ones.
const ONCE_IN: Duration = Duration::from_secs(300);

/// A token younger than this was not rejected for its age: the client got it from us and asks again for another reason.
const TOO_YOUNG: Duration = Duration::from_secs(10);

const SLOT: usize = 32;
const SLOTS: u64 = 128;
const NAME: &str = "kubectl-marks";

/// A caller, as far as it can be recognised.
pub struct Caller {
    marks: File,
    /// Of process, start time and identity.
    key: u64,
    /// What it was told before, if that mark is still there.
    last: Option<Mark>,
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Fingerprint of the token.
    token: u64,
    /// The expiry that it was told, in seconds since 1970.
    told: i64,
    /// When it last had a token replaced, in milliseconds since boot; 0 for never.
    replaced: i64,
}

impl Caller {
    /// Recognises the process that called us for the identity called `name`; `None` where there is no place for marks, or
    /// no way to tell processes apart.
    pub fn recognise(name: &str, host: &dyn Host) -> Option<Caller> {
        let parent = host.caller()?;
        // The place where locks live is the first that is there; marks in a later one are not those of its callers.
        let place = lock::places(host).into_iter().find(|place| place.is_dir())?;
        let marks = open(&place.join(NAME))?;
        let key = fingerprint(format!("{parent} {name}").as_bytes());
        let mut slot = [0; SLOT];
        files::read_at(&marks, &mut slot, offset(key)).ok()?;
        Some(Caller { marks, key, last: Mark::read(&slot, key) })
    }

    /// Makes the file of marks where locks live, if there is none. Part of a fetch, whoever asked for it: the next caller
    /// may be one that comes back.
    pub fn prepare(host: &dyn Host) {
        let make = |place: &Path| {
            let dir = lock::open_place(place)?;
            if open(&place.join(NAME)).is_some() {
                return Ok(());
            }
            harden::survive_size_limit();
            dir.open_file(NAME)?.set_len(SLOTS * SLOT as u64)
        };
        for place in lock::places(host) {
            match make(&place) {
                Ok(()) => return,
                Err(error) => host.note(|| format!("marks: not in {}: {error}", place.display())),
            }
        }
    }

    /// Whether this caller comes back with a token that must have been rejected, and may have another one.
    pub fn was_rejected(&self, held: &LiveToken) -> bool {
        let Some(last) = self.last else { return false };
        let since = held.now.boot_ms.saturating_sub(last.replaced);
        let may = last.replaced == 0 || since < 0 || since >= ONCE_IN.as_millis() as i64;
        let old_enough = held.validity.is_some_and(|life| life.age >= TOO_YOUNG);
        may && old_enough && last.token == print(&held.token) && last.told > held.now.unix_ms / 1000
    }

    /// Remembers what the caller is told; `replaced` if it is because its token was rejected.
    pub fn mark(&self, held: &LiveToken, replaced: bool) {
        let Some(told) = held.advertised_expiry() else { return };
        let replaced = match self.last {
            _ if replaced => held.now.boot_ms.max(1),
            Some(last) => last.replaced,
            None => 0,
        };
        let mark = Mark { token: print(&held.token), told, replaced };
        // Beyond a limit on file sizes a write is a signal that ends the process.
        if self.last != Some(mark) && harden::allows_file_of(SLOTS * SLOT as u64) {
            let _ = files::write_at(&self.marks, &mark.bytes(self.key), offset(self.key));
        }
    }
}

fn print(token: &Token) -> u64 {
    fingerprint(token.expose().as_bytes())
}

fn offset(key: u64) -> u64 {
    key % SLOTS * SLOT as u64
}

/// Opens an existing file of marks, which is private and has the one size.
fn open(path: &Path) -> Option<File> {
    let file = files::open_private(path).ok()?;
    (file.metadata().ok()?.len() == SLOTS * SLOT as u64).then_some(file)
}

impl Mark {
    fn bytes(self, key: u64) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        let words = [key.to_le_bytes(), self.token.to_le_bytes(), self.told.to_le_bytes(), self.replaced.to_le_bytes()];
        bytes.as_chunks_mut::<8>().0.copy_from_slice(&words);
        bytes
    }

    /// The mark in a slot, if it is of this key: another caller may have taken the slot.
    fn read(slot: &[u8; SLOT], key: u64) -> Option<Mark> {
        let [found, token, told, replaced] = slot.as_chunks::<8>().0 else { return None };
        let mark = Mark {
            token: u64::from_le_bytes(*token),
            told: i64::from_le_bytes(*told),
            replaced: i64::from_le_bytes(*replaced),
        };
        (u64::from_le_bytes(*found) == key).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Moment;
    use crate::token::Validity;

    fn held(age: u64, token: &str) -> LiveToken {
        LiveToken {
            token: Token::new(token).unwrap(),
            validity: Some(Validity { lifetime: Duration::from_secs(3600), age: Duration::from_secs(age) }),
            now: Moment { unix_ms: 1_000_000_000 + age as i64 * 1000, boot_ms: 10_000_000 + age as i64 * 1000 },
            is_new: false,
        }
    }

    fn caller(last: Option<Mark>) -> Caller {
        Caller { marks: tempfile::tempfile().unwrap(), key: 7, last }
    }

    fn told(held: &LiveToken, replaced: i64) -> Option<Mark> {
        Some(Mark { token: print(&held.token), told: held.advertised_expiry().unwrap(), replaced })
    }

    #[test]
    fn who_comes_back_too_early_was_rejected() {
        let first = held(60, "t");
        let now = held(90, "t");
        let minutes_ago = |minutes: i64| now.now.boot_ms - minutes * 60_000;
        for (name, last, held, wanted) in [
            ("never seen", None, &now, false),
            ("the same token again", told(&first, 0), &now, true),
            ("another token by now", told(&held(60, "u"), 0), &now, false),
            ("had one replaced a minute ago", told(&first, minutes_ago(1)), &now, false),
            ("had one replaced six minutes ago", told(&first, minutes_ago(6)), &now, true),
            ("a mark of an earlier boot", told(&first, minutes_ago(-60)), &now, true),
            ("a token just fetched", told(&held(0, "t"), 0), &held(5, "t"), false),
            ("after the expiry that it was told", told(&first, 0), &held(3595, "t"), false),
        ] {
            assert_eq!(caller(last).was_rejected(held), wanted, "{name}");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_only_by_its_own_key() {
        let mark = Mark { token: 1, told: -2, replaced: 3 };
        assert_eq!(Mark::read(&mark.bytes(9), 9), Some(mark));
        assert_eq!(Mark::read(&mark.bytes(9), 8), None);
    }
}
