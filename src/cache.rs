//! Tokens on disk: one file for each identity, and beside it the last failure of that identity.
//!
//! Nothing here returns an error. What cannot be read is a miss and what cannot be written is forgotten; both cost a
//! request and never an answer. Files are replaced by rename and carry length and checksum, so a reader without a lock
//! sees a whole record or none, and nothing has to be repaired after a crash. There is no fsync: a record lost with
//! the power costs one request, the sync would cost milliseconds each time.
//!
//! A file is `runai-credential 1 LENGTH CHECKSUM`, a newline, and LENGTH bytes of JSON.

pub mod lock;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::host::{Host, Moment};
use crate::os::files::{self, Trust};
use crate::secret::Secret;
use crate::token::{Bearer, Grant, Issued, LiveToken, MAX_TOKEN, Token, Validity};

/// Everything that decides which token an endpoint gives. Two calls that differ in any of it never share a file; the
/// file spells it out and it is compared in full on reading, so its name may be a mere hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity<'a> {
    /// Who says so: the configuration file by its path, or the environment. A profile that somebody else describes in the
    /// same words, without the secret, must not find the token of this one.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// The certificates that are trusted beside the system's, by their paths. Whoever adds one could answer in the
    /// endpoint's place.
    #[serde(borrow)]
    pub roots: Option<Cow<'a, str>>,
    /// The token endpoint's URL.
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    /// The shape of the request.
    #[serde(borrow)]
    pub api: Cow<'a, str>,
    /// The client's id.
    #[serde(borrow)]
    pub client_id: Cow<'a, str>,
    /// How the client proves itself: `post`, `basic`, or the path of its assertion.
    #[serde(borrow)]
    pub auth: Cow<'a, str>,
    /// As sent.
    #[serde(borrow)]
    pub scope: Option<Cow<'a, str>>,
    /// As sent.
    #[serde(borrow)]
    pub audience: Option<Cow<'a, str>>,
    /// As sent.
    #[serde(borrow)]
    pub resource: Option<Cow<'a, str>>,
}

/// A token record. Field names are the format.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    identity: Identity<'a>,
    obtained: Moment,
    #[serde(borrow)]
    boot_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_token: Option<Stored<'a>>,
    #[serde(borrow)]
    id_token: Option<Stored<'a>>,
}

/// One token of a record.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    lifetime_ms: u64,
}

/// A failure record.
#[derive(Serialize, Deserialize)]
struct FailureRecord<'a> {
    #[serde(borrow)]
    identity: Identity<'a>,
    at: Moment,
    #[serde(borrow)]
    boot_id: Option<Cow<'a, str>>,
    error: Error,
    /// Whether whoever met it had only the short time of a refresh.
    was_brief: bool,
    /// Until when the server asked to be left alone (Retry-After), counted from `at`.
    retry_after_ms: u64,
    /// Binds the refusal of a secret to that secret: a salt and [`tag`] of the secret under it.
    secret: Option<(u64, u32)>,
}

/// A failure that somebody met with this identity.
#[derive(Clone, Debug)]
pub struct CachedFailure {
    /// What went wrong.
    pub error: Error,
    /// How long ago.
    pub age: Duration,
    /// Whether whoever met it had only the short time of a refresh.
    pub was_brief: bool,
    /// How long after it the server asked not to be called again.
    pub retry_after: Duration,
    secret: Option<(u64, u32)>,
}

impl CachedFailure {
    /// Whether it was met with this very secret.
    pub fn was_with(&self, secret: &Secret) -> bool {
        self.secret.is_some_and(|(salt, seen)| tag(salt, secret) == seen)
    }
}

/// A fingerprint of the secret that tells whether it has changed and nothing else: HMAC-SHA-256 under a salt, cut to 32
/// bits. So short, it cannot confirm a guess (one in four thousand million fits by chance), and a coincidence costs a
/// changed secret half a minute.
fn tag(salt: u64, secret: &Secret) -> u32 {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &salt.to_be_bytes());
    let mac = ring::hmac::sign(&key, secret.expose().as_bytes());
    mac.as_ref().iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The place of one identity in the cache.
pub struct Entry<'a> {
    /// The folder of records, absolute; `None` where nothing is to be kept on disk.
    dir: Option<PathBuf>,
    identity: Identity<'a>,
    name: String,
}

/// Largest record: two tokens and what describes them.
const MAX_RECORD: u64 = 2 * MAX_TOKEN as u64 + 16 * 1024;

impl<'a> Entry<'a> {
    /// The entry of `identity` below `dir`. Touches nothing.
    ///
    /// The records stand in a folder of their own inside `dir`, so that `dir` may also be something that others made,
    /// such as the mount of a Kubernetes `emptyDir`, which is open to everybody.
    pub fn new(dir: Option<PathBuf>, identity: Identity<'a>) -> Self {
        let spelled = serde_json::to_vec(&identity).unwrap_or_default();
        Entry { dir: dir.map(|dir| dir.join("tokens")), name: format!("{:016x}", fingerprint(&spelled)), identity }
    }

    /// The cached token of the wanted kind and its age, whether it is still good or not.
    pub fn read(&self, bearer: Bearer, host: &dyn Host) -> Option<LiveToken> {
        let bytes = read_private(&self.path("json")?)?;
        let record: Record<'_> = serde_json::from_slice(payload(&bytes)?).ok()?;
        if record.identity != self.identity {
            return None;
        }
        let stored = match bearer {
            Bearer::AccessToken => record.access_token,
            Bearer::IdToken => record.id_token,
        }?;
        let now = host.now();
        let age = now.since(record.obtained, || same_boot(record.boot_id.as_deref(), host))?;
        Some(LiveToken {
            token: Token::new(&stored.token).ok()?,
            validity: Some(Validity { lifetime: Duration::from_millis(stored.lifetime_ms), age }),
            now,
            is_new: false,
        })
    }

    /// Keeps what has a known lifetime, and forgets the last failure.
    pub fn store(&self, grant: &Grant, host: &dyn Host) {
        let record = Record {
            identity: self.identity.clone(),
            obtained: grant.obtained,
            boot_id: host.boot_id().map(Cow::Owned),
            access_token: stored(&grant.access),
            id_token: grant.id.as_ref().and_then(stored),
        };
        let lifetimes =
            [Some(&grant.access), grant.id.as_ref()].into_iter().flatten().filter_map(|issued| issued.lifetime);
        if let Some(longest) = lifetimes.max() {
            self.write("json", &record, longest, host);
        }
        if let Some(path) = self.path("failed") {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Now and then removes the files of other identities that nobody needs any more. Part of a fetch, never of a hit.
    pub fn sweep(&self, host: &dyn Host) {
        match self.dir.as_deref().map(|dir| sweep(dir, host.now())) {
            Some(Ok(removed)) if removed > 0 => host.note(|| format!("cache: removed {removed} files of no use")),
            Some(Err(error)) => host.note(|| format!("cache: cannot be swept: {error}")),
            _ => {}
        }
    }

    /// Removes the record if it holds this token; one that was stored since stays, but for the moment
    /// between look and removal, which costs a request.
    pub fn forget(&self, bearer: Bearer, token: Option<&Token>, host: &dyn Host) {
        let cached = self.read(bearer, host);
        if let (Some(cached), Some(path)) = (cached, self.path("json"))
            && Some(&cached.token) == token
        {
            host.note(|| "cache: dropping the refused token".to_owned());
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes and removes a file in the folder, to see whether tokens can be kept; the folder.
    ///
    /// # Errors
    /// Why they cannot.
    pub fn check(&self, host: &dyn Host) -> Result<&Path, String> {
        let dir = self.dir.as_deref().ok_or("HOME is not set to a full path")?;
        let name = format!("{}.check", self.name);
        let now = host.now();
        replace(dir, &name, b"", now.unix_seconds_after(Duration::ZERO), now)
            .and_then(|()| std::fs::remove_file(dir.join(&name)))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(dir)
    }

    /// Removes all that is kept of the identity.
    pub fn clear(&self) {
        for path in ["json", "failed"].into_iter().filter_map(|extension| self.path(extension)) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The last failure, however old.
    pub fn failure(&self, host: &dyn Host) -> Option<CachedFailure> {
        let bytes = read_private(&self.path("failed")?)?;
        let record: FailureRecord<'_> = serde_json::from_slice(payload(&bytes)?).ok()?;
        if record.identity != self.identity {
            return None;
        }
        let age = host.now().since(record.at, || same_boot(record.boot_id.as_deref(), host))?;
        Some(CachedFailure {
            error: record.error,
            age,
            was_brief: record.was_brief,
            retry_after: Duration::from_millis(record.retry_after_ms),
            secret: record.secret,
        })
    }

    /// Lets the other processes know that fetching failed, with which secret, and how long the server wants peace.
    pub fn fail(
        &self,
        error: &Error,
        secret: Option<&Secret>,
        was_brief: bool,
        retry_after: Duration,
        host: &dyn Host,
    ) {
        let at = host.now();
        let salted = secret.map(|secret| {
            let mut salt = [0; 8];
            // Without good randomness a salt is still a salt.
            let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt);
            let salt = u64::from_ne_bytes(salt);
            (salt, tag(salt, secret))
        });
        let record = FailureRecord {
            identity: self.identity.clone(),
            at,
            boot_id: host.boot_id().map(Cow::Owned),
            error: error.clone(),
            was_brief,
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            secret: salted,
        };
        self.write("failed", &record, retry_after, host);
    }

    /// A lock of this entry, of which there are several by `turn`. Its name depends on the folder too: processes that do
    /// not share a cache have nothing to wait for.
    ///
    /// There are 4096 names, so that the files, which are never removed, do not pile up; two identities of one name wait
    /// for each other, or do not wait for their own, without need.
    pub fn lock(&self, turn: &str, host: &dyn Host) -> lock::Lock {
        let dir = self.dir.as_deref().unwrap_or(Path::new(""));
        let name = fingerprint(format!("{} {turn} {}", self.name, dir.display()).as_bytes()) % 4096;
        lock::Lock::open(format!("{name:03x}.lock"), host)
    }

    /// A name for the identity, good for files; different identities may share it, if rarely.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether anything is kept at all.
    pub fn is_kept(&self) -> bool {
        self.dir.is_some()
    }

    fn path(&self, extension: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{}.{extension}", self.name)))
    }

    /// Writes a record by rename, of use for `use_for` from now. A failure is worth a note and no more.
    fn write(&self, extension: &str, record: &impl Serialize, use_for: Duration, host: &dyn Host) {
        let (Some(dir), Ok(json)) = (&self.dir, serde_json::to_vec(record)) else { return };
        let name = format!("{}.{extension}", self.name);
        let bytes = [header(&json).as_bytes(), &json].concat();
        let now = host.now();
        match replace(dir, &name, &bytes, now.unix_seconds_after(use_for), now) {
            Ok(()) => host.note(|| format!("cache: wrote {}", dir.join(&name).display())),
            Err(error) => host.note(|| format!("cache: {} cannot be written: {error}", dir.join(&name).display())),
        }
    }
}

/// A token as it is kept; `None` if nobody knows how long it lives.
fn stored(issued: &Issued) -> Option<Stored<'_>> {
    let lifetime = issued.lifetime?;
    Some(Stored {
        token: Cow::Borrowed(issued.token.expose()),
        lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Whether a record was written under the kernel that runs now.
fn same_boot(recorded: Option<&str>, host: &dyn Host) -> bool {
    recorded.is_some() && recorded == host.boot_id().as_deref()
}

/// What stands before the JSON of a record.
fn header(json: &[u8]) -> String {
    format!("runai-credential 1 {} {:016x}\n", json.len(), fingerprint(json))
}

/// The JSON of a record, if what stands before it is what should.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(80).position(|byte| *byte == b'\n')?;
    let (found, json) = bytes.split_at(end + 1);
    (found == header(json).as_bytes()).then_some(json)
}

/// Reads a record that only this user could have written: a regular file of ours without other names, closed to
/// everybody else. That is enough without a look at the folder: whoever could rename files in it could only swap
/// records of ours, and each of them says what it is for.
fn read_private(path: &Path) -> Option<Vec<u8>> {
    files::read(path, Trust::Private, MAX_RECORD).ok()
}

/// Replaces a file of the cache. Its time is set to `sweep_after`, in seconds since 1970, so that the sweep need not open it; where a
/// file system cannot do that, the sweep comes a lifetime too early, and costs a request.
fn replace(dir: &Path, name: &str, bytes: &[u8], sweep_after: i64, now: Moment) -> std::io::Result<()> {
    // The time tells processes apart that have one number in different containers. The sweep knows the name by its end.
    let temporary = format!("{name}.{}-{:x}.new", std::process::id(), now.boot_ms);
    let modified = UNIX_EPOCH + Duration::from_secs(sweep_after.max(0).unsigned_abs());
    files::replace_private(dir, name, &temporary, bytes, modified)
}

/// How often a fetch looks for files that nobody needs any more.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How long a file that nobody needs stays: a day for records, whose time is that of their end, and an hour for what a
/// killed process left half written.
const KEPT_FOR: [(&str, Duration); 3] = [
    (".json", Duration::from_secs(24 * 3600)),
    (".failed", Duration::from_secs(24 * 3600)),
    (".new", Duration::from_secs(3600)),
];

/// Marks the last sweep by its time.
const SWEPT: &str = "swept";

/// Removes the files of identities that nobody has used since their token ended, at most once a day.
fn sweep(dir: &Path, now: Moment) -> std::io::Result<usize> {
    let time_now = UNIX_EPOCH + Duration::from_millis(now.unix_ms.max(0).unsigned_abs());
    let older = |meta: &std::fs::Metadata, than: Duration| {
        meta.modified().is_ok_and(|time| time_now.duration_since(time).is_ok_and(|age| age > than))
    };
    let mark = dir.join(SWEPT);
    if mark.symlink_metadata().is_ok_and(|meta| !older(&meta, SWEEP_EVERY)) {
        return Ok(0);
    }
    replace(dir, SWEPT, b"", now.unix_seconds_after(Duration::ZERO), now)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((_, kept_for)) = KEPT_FOR.iter().find(|(end, _)| name.ends_with(end)) else { continue };
        // Only names that we give; whatever else somebody put here is theirs.
        let is_ours = name.len() > 16 && name.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
        if is_ours && entry.metadata().is_ok_and(|meta| meta.is_file() && older(&meta, *kept_for)) {
            removed += usize::from(std::fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(removed)
}

/// 64 bits that tell files and contents apart: eight bytes at a time, rotate, exclusive or, multiply by an odd number.
/// Each step can be undone, so two inputs that differ in one place never meet. It is for file names and for torn
/// files; against forgery there are the owner and the mode of the file.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = ODD ^ bytes.len() as u64;
    let mut step = |word: [u8; 8]| hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| step(*word));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(last);
    hash = (hash ^ hash >> 32).wrapping_mul(ODD);
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(json: &[u8]) -> Vec<u8> {
        [header(json).as_bytes(), json].concat()
    }

    const SEEDS: &[&str] = &[
        r#"{"identity":{"source":"environment","roots":null,"endpoint":"https://a.example/t","api":"oauth2","client_id":"c",
           "auth":"post","scope":null,"audience":null,"resource":"r"},"obtained":{"unix_ms":1795291200000,"boot_ms":5},
           "boot_id":"b","access_token":{"token":"t","lifetime_ms":3600000},"id_token":null}"#,
        r#"{"identity":{"source":"/c","roots":"ca_file=/x","endpoint":"e","api":"v1","client_id":"c","auth":"a","scope":"s",
           "audience":"a","resource":null},"at":{"unix_ms":-9223372036854775808,"boot_ms":9223372036854775807},"boot_id":null,
           "error":{"kind":"denied","what":"w","hint":"h"},"was_brief":true,"retry_after_ms":18446744073709551615,"secret":[1,2]}"#,
    ];

    #[test]
    fn a_whole_record_is_read_and_a_torn_one_is_not() {
        let whole = record(br#"{"some":"json"}"#);
        assert_eq!(payload(&whole), Some(&br#"{"some":"json"}"#[..]));
        for cut in 0..whole.len() {
            assert_eq!(payload(&whole[..cut]), None, "cut at {cut}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(payload(&flipped), None, "bit {bit} of byte {at}");
            }
        }
        let mut longer = whole.clone();
        longer.push(b' ');
        assert_eq!(payload(&longer), None);
    }

    #[test]
    fn the_tag_of_a_secret_depends_on_secret_and_salt() {
        let secret = |text: &str| Secret::new(text.as_bytes(), 64).unwrap();
        assert_eq!(tag(1, &secret("a")), tag(1, &secret("a")));
        assert_ne!(tag(1, &secret("a")), tag(1, &secret("b")));
        assert_ne!(tag(1, &secret("a")), tag(2, &secret("a")));
    }

    proptest! {
        #[test]
        fn one_changed_byte_changes_the_fingerprint(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), at: usize, by in 1u8..) {
            let before = fingerprint(&bytes);
            let at = at % bytes.len();
            bytes[at] = bytes[at].wrapping_add(by);
            prop_assert_ne!(before, fingerprint(&bytes));
        }

        /// A record whose header holds though its JSON is damaged: one that somebody forged, or an old program wrote.
        #[test]
        fn a_damaged_record_is_read_as_a_token_or_not_at_all(json in crate::mutation::mutated(SEEDS)) {
            let bytes = record(&json);
            let json = payload(&bytes).expect("the header holds");
            if let Ok(record) = serde_json::from_slice::<Record<'_>>(json) {
                let tokens = [record.access_token, record.id_token].into_iter().flatten();
                tokens.for_each(|stored| drop(Token::new(&stored.token)));
                let life = Validity { lifetime: Duration::from_millis(u64::MAX), age: Duration::MAX };
                prop_assert!(!life.usable());
                let now = Moment { unix_ms: i64::MAX, boot_ms: i64::MIN };
                let _ = (now.since(record.obtained, || true), record.obtained.since(now, || false));
            }
            let _ = serde_json::from_slice::<FailureRecord<'_>>(json);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = payload(&bytes);
        }
    }
}
