//! Tokens on disk: one file for each identity, and beside it the last failure of that identity.
//!
//! No function that reads or writes a record returns an error. A file that cannot be read is a miss. A record
//! that cannot be written is dropped. Both cost a request and never change an answer. Files are replaced by
//! rename and carry length and checksum. So a reader without a lock sees a whole record or none, and a crash
//! leaves nothing to repair. There is no fsync: a record that is lost in a power failure costs one request,
//! but an fsync would cost milliseconds each time (docs/decisions/0004).
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

/// Everything that decides which token an endpoint issues.
///
/// Two calls that differ in any field never share a file. The record contains the identity, and the reader
/// compares it in full. So a hash is enough for the file's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity<'a> {
    /// Where the profile is defined: the path of the configuration file, or `environment`.
    ///
    /// Part of the cache key, so that a copied profile without the secret cannot read this profile's token.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// The paths of the certificates that the profile trusts in addition to the system's.
    ///
    /// Part of the cache key, because the owner of such a certificate can answer in place of the endpoint.
    #[serde(borrow)]
    pub roots: Option<Cow<'a, str>>,
    /// The URL of the token endpoint.
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    /// The form of the request.
    #[serde(borrow)]
    pub api: Cow<'a, str>,
    /// The client id.
    #[serde(borrow)]
    pub client_id: Cow<'a, str>,
    /// The authentication of the client: `post`, `basic`, or the path of its assertion.
    #[serde(borrow)]
    pub auth: Cow<'a, str>,
    /// The scope as it is sent.
    #[serde(borrow)]
    pub scope: Option<Cow<'a, str>>,
    /// The audience as it is sent.
    #[serde(borrow)]
    pub audience: Option<Cow<'a, str>>,
    /// The resource as it is sent.
    #[serde(borrow)]
    pub resource: Option<Cow<'a, str>>,
}

/// A token record. The field names are the file format.
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

/// A failure record. The field names are the file format.
#[derive(Serialize, Deserialize)]
struct FailureRecord<'a> {
    #[serde(borrow)]
    identity: Identity<'a>,
    at: Moment,
    #[serde(borrow)]
    boot_id: Option<Cow<'a, str>>,
    error: Error,
    /// Whether the failed fetch had only the short time limit of a refresh.
    was_brief: bool,
    /// `Retry-After` of the server, counted from `at`; 0 if the server sent none.
    retry_after_ms: u64,
    /// A salt, and the [`tag`] of the refused secret under that salt. It binds a refusal to its secret.
    secret: Option<(u64, u32)>,
}

/// The last failure of an identity, in this process or another one.
#[derive(Clone, Debug)]
pub struct CachedFailure {
    /// The failure.
    pub error: Error,
    /// The time since the failure.
    pub age: Duration,
    /// Whether the failed fetch had only the short time limit of a refresh.
    pub was_brief: bool,
    /// `Retry-After` of the server, counted from the failure.
    pub retry_after: Duration,
    secret: Option<(u64, u32)>,
}

impl CachedFailure {
    /// Whether the failed request was sent with exactly this secret.
    pub fn was_with(&self, secret: &Secret) -> bool {
        self.secret.is_some_and(|(salt, recorded)| tag(salt, secret) == recorded)
    }
}

/// Returns a fingerprint of the secret. It shows that the secret has changed, and nothing else.
///
/// It is HMAC-SHA-256 under a salt, cut to 32 bits. That is too short to confirm a guess: one in four
/// thousand million guesses fits by chance. If a changed secret has the tag of the old one, it waits half a
/// minute.
fn tag(salt: u64, secret: &Secret) -> u32 {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &salt.to_be_bytes());
    let mac = ring::hmac::sign(&key, secret.expose().as_bytes());
    mac.as_ref().iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The cache entry of one identity.
pub struct Entry<'a> {
    /// The absolute path of the folder of records; `None` if no record may be kept on disk.
    dir: Option<PathBuf>,
    identity: Identity<'a>,
    name: String,
}

/// Largest record: two tokens, the identity and the times.
const MAX_RECORD: u64 = 2 * MAX_TOKEN as u64 + 16 * 1024;

impl<'a> Entry<'a> {
    /// Returns the entry of `identity` below `dir`, without opening a file.
    ///
    /// The records are in a folder of their own inside `dir`. So another user may have created `dir`, for
    /// example as the mount of a Kubernetes `emptyDir`, which every user may write.
    pub fn new(dir: Option<PathBuf>, identity: Identity<'a>) -> Self {
        let json = serde_json::to_vec(&identity).unwrap_or_default();
        Entry { dir: dir.map(|dir| dir.join("tokens")), name: format!("{:016x}", fingerprint(&json)), identity }
    }

    /// Returns the cached token of this kind and its age, even if it is no longer usable.
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

    /// Stores the tokens with a known lifetime, and removes the last failure.
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

    /// Removes unused files of other identities, at most once a day. A fetch does this, a hit never.
    pub fn sweep(&self, host: &dyn Host) {
        match self.dir.as_deref().map(|dir| sweep(dir, host.now())) {
            Some(Ok(removed)) if removed > 0 => host.note(|| format!("cache: removed {removed} unused files")),
            Some(Err(error)) => host.note(|| format!("cache: unused files cannot be removed: {error}")),
            _ => {}
        }
    }

    /// Removes the record if it holds this token.
    ///
    /// A token that another process has stored since then stays. One exception costs a request: a token that
    /// is stored between the comparison and the removal is lost.
    pub fn forget(&self, bearer: Bearer, token: Option<&Token>, host: &dyn Host) {
        let cached = self.read(bearer, host);
        if let (Some(cached), Some(path)) = (cached, self.path("json"))
            && Some(&cached.token) == token
        {
            host.note(|| "cache: removed the refused token".to_owned());
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes and removes a file in the folder of records. Returns the folder.
    ///
    /// # Errors
    /// The reason why no token can be stored, as text.
    pub fn check(&self, host: &dyn Host) -> Result<&Path, String> {
        let dir = self.dir.as_deref().ok_or("HOME is not set to a full path")?;
        let name = format!("{}.check", self.name);
        let now = host.now();
        replace(dir, &name, b"", now.unix_seconds_after(Duration::ZERO), now)
            .and_then(|()| std::fs::remove_file(dir.join(&name)))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(dir)
    }

    /// Removes the token and the failure of the identity.
    pub fn clear(&self) {
        for path in ["json", "failed"].into_iter().filter_map(|extension| self.path(extension)) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Returns the last failure, of any age.
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

    /// Stores a failure for the other processes, with the tag of the secret and `Retry-After`.
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
            // If the random generator fails, the salt is zero. The tag still shows that the secret has
            // changed.
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

    /// Opens one of the locks of this entry. `turn` names the lock.
    ///
    /// The name of the file also depends on the folder of records: processes that share no cache do not have
    /// to wait for each other.
    ///
    /// There are 4096 names. So the number of lock files is bounded, although no process removes one. Two
    /// identities may share a lock. Then a process may wait for a fetch of the other identity. Or it may take
    /// the end of that fetch for the end of its own, and fetch without the lock.
    pub fn lock(&self, turn: &str, host: &dyn Host) -> lock::Lock {
        let dir = self.dir.as_deref().unwrap_or(Path::new(""));
        let name = fingerprint(format!("{} {turn} {}", self.name, dir.display()).as_bytes()) % 4096;
        lock::Lock::open(format!("{name:03x}.lock"), host)
    }

    /// Returns a name for the identity that is a valid file name. Rarely, two identities have the same name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this entry keeps records on disk.
    pub fn is_kept(&self) -> bool {
        self.dir.is_some()
    }

    fn path(&self, extension: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{}.{extension}", self.name)))
    }

    /// Writes a record by rename. `use_for` is the time from now in which the record is needed.
    ///
    /// A failure only causes a note.
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

/// Returns the form of a token on disk; `None` if its lifetime is unknown.
fn stored(issued: &Issued) -> Option<Stored<'_>> {
    let lifetime = issued.lifetime?;
    Some(Stored {
        token: Cow::Borrowed(issued.token.expose()),
        lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Whether the running kernel is the one under which a record was written.
fn same_boot(recorded: Option<&str>, host: &dyn Host) -> bool {
    recorded.is_some() && recorded == host.boot_id().as_deref()
}

/// Returns the line before the JSON of a record.
fn header(json: &[u8]) -> String {
    format!("runai-credential 1 {} {:016x}\n", json.len(), fingerprint(json))
}

/// Returns the JSON of a record, if the line before it is correct.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(80).position(|byte| *byte == b'\n')?;
    let (found, json) = bytes.split_at(end + 1);
    (found == header(json).as_bytes()).then_some(json)
}

/// Reads a record that only this user can have written.
///
/// It is a regular file of this user, with mode 0600 or stricter and a single link. The folder need not be
/// checked. A process that can rename files in it can only exchange records of this user, and each record
/// contains its identity.
fn read_private(path: &Path) -> Option<Vec<u8>> {
    files::read(path, Trust::Private, MAX_RECORD).ok()
}

/// Replaces a file of the cache.
///
/// The file's modification time becomes `sweep_after`, in seconds since 1970. So the sweep need not open the
/// file. If the file system cannot set the time, the sweep removes the file one lifetime too early, which
/// costs a request.
fn replace(dir: &Path, name: &str, bytes: &[u8], sweep_after: i64, now: Moment) -> std::io::Result<()> {
    // Two containers may have a process with the same id; the time distinguishes them. The sweep recognises a
    // temporary file by the end of its name.
    let temporary = format!("{name}.{}-{:x}.new", std::process::id(), now.boot_ms);
    let modified = UNIX_EPOCH + Duration::from_secs(sweep_after.max(0).unsigned_abs());
    files::replace_private(dir, name, &temporary, bytes, modified)
}

/// The shortest time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// How long an unused file stays after its modification time.
///
/// The modification time of a record is the end of its use, and a day is added. A temporary file of a killed
/// process stays for an hour.
const RETENTION: [(&str, Duration); 3] = [
    (".json", Duration::from_secs(24 * 3600)),
    (".failed", Duration::from_secs(24 * 3600)),
    (".new", Duration::from_secs(3600)),
];

/// The name of the file whose modification time is the time of the last sweep.
const SWEEP_MARK: &str = "swept";

/// Removes the files of identities that no process has used since their token expired, at most once a day.
fn sweep(dir: &Path, now: Moment) -> std::io::Result<usize> {
    let time_now = UNIX_EPOCH + Duration::from_millis(now.unix_ms.max(0).unsigned_abs());
    let is_older = |meta: &std::fs::Metadata, than: Duration| {
        meta.modified().is_ok_and(|time| time_now.duration_since(time).is_ok_and(|age| age > than))
    };
    let mark = dir.join(SWEEP_MARK);
    if mark.symlink_metadata().is_ok_and(|meta| !is_older(&meta, SWEEP_INTERVAL)) {
        return Ok(0);
    }
    replace(dir, SWEEP_MARK, b"", now.unix_seconds_after(Duration::ZERO), now)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((_, retention)) = RETENTION.iter().find(|(end, _)| name.ends_with(end)) else { continue };
        // Only names that this program gives. Other files belong to other programs.
        let is_ours = name.len() > 16 && name.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
        if is_ours && entry.metadata().is_ok_and(|meta| meta.is_file() && is_older(&meta, *retention)) {
            removed += usize::from(std::fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(removed)
}

/// Returns a 64-bit hash that distinguishes files and contents.
///
/// For each eight bytes it rotates, applies exclusive or, and multiplies by an odd number. Each step is
/// reversible, so two inputs that differ in one place never have the same hash. The hash is for file names
/// and for torn files. Against forgery, the owner and the mode of the file protect.
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

    /// A record with its end cut off, a flipped bit or a byte too many is refused.
    #[test]
    fn damaged_record_has_no_payload() {
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
    fn tag_depends_on_secret_and_salt() {
        let secret = |text: &str| Secret::new(text.as_bytes(), 64).unwrap();
        assert_eq!(tag(1, &secret("a")), tag(1, &secret("a")));
        assert_ne!(tag(1, &secret("a")), tag(1, &secret("b")));
        assert_ne!(tag(1, &secret("a")), tag(2, &secret("a")));
    }

    proptest! {
        #[test]
        fn fingerprint_with_one_changed_byte_differs(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), at: usize, by in 1u8..) {
            let before = fingerprint(&bytes);
            let at = at % bytes.len();
            bytes[at] = bytes[at].wrapping_add(by);
            prop_assert_ne!(before, fingerprint(&bytes));
        }

        /// A record with a valid header and damaged JSON: a forged one, or one of an older version.
        #[test]
        fn damaged_json_under_valid_header_never_panics(json in crate::mutation::mutated(SEEDS)) {
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
        fn payload_of_random_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = payload(&bytes);
        }
    }
}
