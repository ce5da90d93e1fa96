//! Detects that a server rejected the token of a client, although no client reports this.
//!
//! When a Kubernetes API server rejects a token, the client runs the plugin again in exactly the same way and
//! passes it no information about the rejection (client-go, `exec.go`; aws-iam-authenticator issue 133). But
//! a client also keeps a token in memory until the advertised expiry. So a process that asks again before
//! that expiry lost its token to a rejection. The process is the same if its id, its start time and its
//! program are the same. Each answer leaves a mark, so that the next call can compare (docs/decisions/0009).
//!
//! The marks are in one file of fixed size in the folder of the locks. Each has a slot of 32 bytes, found by
//! hash. They are written without a lock: a lost or torn mark hides one rejection. A hit creates neither the
//! file nor its folder.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::cache::{fingerprint, lock};
use crate::host::Host;
use crate::os::{files, harden};
use crate::token::{LiveToken, Token};

/// The shortest time between two replacements for one caller.
///
/// More tokens do not help against a server that rejects every token. And a client that drops its tokens
/// early looks the same as a client whose token was rejected.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(300);

/// The lowest age of a rejected token.
///
/// The client received a younger one from this program a moment ago, and asks again for another reason.
const MIN_REJECTED_AGE: Duration = Duration::from_secs(10);

const SLOT: usize = 32;
const SLOTS: u64 = 128;
const NAME: &str = "kubectl-marks";

/// The calling process, identified as well as the system allows.
pub struct Caller {
    marks: File,
    /// Fingerprint of the process (id, start time, program) and of the identity.
    key: u64,
    /// The mark of this caller's last call, if its slot was not overwritten.
    last: Option<Mark>,
}

/// What a caller received with its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Fingerprint of the token.
    token: u64,
    /// The advertised expiry, in seconds since 1970.
    advertised_expiry: i64,
    /// The time of the last replacement, in milliseconds since boot; 0 for none.
    replaced_ms: i64,
}

impl Caller {
    /// Identifies the calling process for the identity called `name`.
    ///
    /// Returns `None` if there is no file of marks, or if the system cannot tell processes apart.
    pub fn recognise(name: &str, host: &dyn Host) -> Option<Caller> {
        let parent = host.caller()?;
        // The first existing folder is the one in which locks and marks are written. Marks in a later folder
        // belong to other callers.
        let place = lock::places(host).into_iter().find(|place| place.is_dir())?;
        let marks = open(&place.join(NAME))?;
        let key = fingerprint(format!("{parent} {name}").as_bytes());
        let mut slot = [0; SLOT];
        files::read_at(&marks, &mut slot, offset(key)).ok()?;
        Some(Caller { marks, key, last: Mark::read(&slot, key) })
    }

    /// Creates the file of marks in the first usable folder of the locks, if it is missing.
    ///
    /// Every fetch does this, for every kind of call: the next caller may be one that asks again.
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
                Err(error) => host.note(|| format!("marks: {} cannot be used: {error}", place.display())),
            }
        }
    }

    /// Whether this caller asks again with a rejected token and may get another one.
    pub fn was_rejected(&self, held: &LiveToken) -> bool {
        let Some(last) = self.last else { return false };
        let since = held.now.boot_ms.saturating_sub(last.replaced_ms);
        let is_allowed = last.replaced_ms == 0 || since < 0 || since >= REPLACEMENT_INTERVAL.as_millis() as i64;
        let is_old_enough = held.validity.is_some_and(|life| life.age >= MIN_REJECTED_AGE);
        is_allowed
            && is_old_enough
            && last.token == token_hash(&held.token)
            && last.advertised_expiry > held.now.unix_ms / 1000
    }

    /// Writes what the caller receives. `is_replacement` says that the token replaces a rejected one.
    pub fn mark(&self, held: &LiveToken, is_replacement: bool) {
        let Some(advertised_expiry) = held.advertised_expiry() else { return };
        let replaced_ms = match self.last {
            _ if is_replacement => held.now.boot_ms.max(1),
            Some(last) => last.replaced_ms,
            None => 0,
        };
        let mark = Mark { token: token_hash(&held.token), advertised_expiry, replaced_ms };
        // A write beyond the limit on file sizes raises a signal that ends the process.
        if self.last != Some(mark) && harden::allows_file_of(SLOTS * SLOT as u64) {
            let _ = files::write_at(&self.marks, &mark.bytes(self.key), offset(self.key));
        }
    }
}

fn token_hash(token: &Token) -> u64 {
    fingerprint(token.expose().as_bytes())
}

fn offset(key: u64) -> u64 {
    key % SLOTS * SLOT as u64
}

/// Opens an existing file of marks, if it is private and has the right size.
fn open(path: &Path) -> Option<File> {
    let file = files::open_private(path).ok()?;
    (file.metadata().ok()?.len() == SLOTS * SLOT as u64).then_some(file)
}

impl Mark {
    fn bytes(self, key: u64) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        let words = [
            key.to_le_bytes(),
            self.token.to_le_bytes(),
            self.advertised_expiry.to_le_bytes(),
            self.replaced_ms.to_le_bytes(),
        ];
        bytes.as_chunks_mut::<8>().0.copy_from_slice(&words);
        bytes
    }

    /// Returns the mark in a slot, unless another caller has taken the slot.
    fn read(slot: &[u8; SLOT], key: u64) -> Option<Mark> {
        let [slot_key, token, advertised_expiry, replaced_ms] = slot.as_chunks::<8>().0 else { return None };
        let mark = Mark {
            token: u64::from_le_bytes(*token),
            advertised_expiry: i64::from_le_bytes(*advertised_expiry),
            replaced_ms: i64::from_le_bytes(*replaced_ms),
        };
        (u64::from_le_bytes(*slot_key) == key).then_some(mark)
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

    fn mark(held: &LiveToken, replaced_ms: i64) -> Option<Mark> {
        let advertised_expiry = held.advertised_expiry().unwrap();
        Some(Mark { token: token_hash(&held.token), advertised_expiry, replaced_ms })
    }

    /// The columns: case, mark of the last call, cached token, expected result.
    #[test]
    fn caller_back_before_expiry_was_rejected() {
        let first = held(60, "t");
        let now = held(90, "t");
        let minutes_ago = |minutes: i64| now.now.boot_ms - minutes * 60_000;
        for (name, last, held, wanted) in [
            ("no mark", None, &now, false),
            ("the same token again", mark(&first, 0), &now, true),
            ("the cache has another token", mark(&held(60, "u"), 0), &now, false),
            ("replaced a minute ago", mark(&first, minutes_ago(1)), &now, false),
            ("replaced six minutes ago", mark(&first, minutes_ago(6)), &now, true),
            ("a mark of an earlier boot", mark(&first, minutes_ago(-60)), &now, true),
            ("a token just fetched", mark(&held(0, "t"), 0), &held(5, "t"), false),
            ("after the advertised expiry", mark(&first, 0), &held(3595, "t"), false),
        ] {
            assert_eq!(caller(last).was_rejected(held), wanted, "{name}");
        }
    }

    #[test]
    fn mark_is_read_only_by_its_key() {
        let mark = Mark { token: 1, advertised_expiry: -2, replaced_ms: 3 };
        assert_eq!(Mark::read(&mark.bytes(9), 9), Some(mark));
        assert_eq!(Mark::read(&mark.bytes(9), 8), None);
    }
}
