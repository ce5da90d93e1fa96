//! The token policy: when a cached token is the answer, when a process fetches another one, and what happens
//! if the fetch fails.
//!
//! A hit reads one cache file. Everything that a fetch needs (secret, TLS, network) comes in as a [`Fetch`],
//! and a hit never calls it. So the types show what a hit cannot touch.

mod rejection;

use std::time::Duration;

use crate::cache::lock::{Guard, Waited};
use crate::cache::{CachedFailure, Entry, fingerprint};
use crate::error::{Error, FailedRequest, Kind, Result};
use crate::host::{Deadline, Host, Moment};
use crate::secret::Secret;
use crate::token::{Bearer, Grant, LiveToken, Token, Validity};
use rejection::Caller;

/// The token that a caller requires.
#[derive(Clone, Debug)]
pub struct TokenRequirements {
    /// The kind of token.
    pub bearer: Bearer,
    /// The remaining lifetime that the caller prefers.
    ///
    /// The broker tries to reach it, and does not fail without it.
    pub preferred_validity: Duration,
    /// The remaining lifetime that the caller needs. The call fails if no token has it.
    pub min_validity: Option<Duration>,
    /// A token that must not be the answer, because a server refused it.
    pub exclude: Option<Exclude>,
    /// Whether the broker detects rejected tokens.
    ///
    /// If so, a caller that asks again before the advertised expiry counts as a caller with a rejected token.
    pub detect_rejection: bool,
}

/// The token that must not be the answer.
#[derive(Clone, Debug)]
pub enum Exclude {
    /// The token that is in the cache when the call starts.
    Cached,
    /// This token.
    This(Token),
}

/// The two steps of a fetch.
pub struct Fetch<'a> {
    /// Reads the client's proof. Returns it with the deadline for the request.
    ///
    /// The broker calls it once, and a second time if the server denies the client. The returned deadline may
    /// be later than the given one: the time in which a user unlocks a keyring does not shorten the request.
    pub secret: &'a mut dyn FnMut(Budget, Deadline) -> Result<(Secret, Deadline)>,
    /// Sends the request, retries included.
    pub request: &'a mut dyn FnMut(&Secret, Deadline) -> Result<Grant, FailedRequest>,
}

/// The time limit of a refresh. Meanwhile the other processes use the cached token, which is still good.
const REFRESH_BUDGET: Duration = Duration::from_secs(2);

/// The pause after a failed refresh or a refused client.
///
/// No process tries again in that time.
const PAUSE: Duration = Duration::from_secs(30);

/// The time that a fetch may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The whole `timeout`: without a token the call has no answer.
    Full,
    /// At most [`REFRESH_BUDGET`]: the caller already has a good token.
    Refresh,
}

/// Obtains the tokens of one identity.
pub struct Broker<'a> {
    /// The cache entry of the identity.
    pub entry: Entry<'a>,
    /// The machine.
    pub host: &'a dyn Host,
    /// The time limit of a whole fetch.
    ///
    /// It includes waiting for a lock, reading the secret, and sending the request with its retries.
    pub timeout: Duration,
}

impl Broker<'_> {
    /// Returns a token that meets the requirements: the cached one if possible, otherwise a fetched one.
    ///
    /// If several processes need a token at the same time, one of them fetches it for all.
    ///
    /// # Errors
    /// The error of the secret source, the error of the server, or [`Kind::TooShort`] if the token does not
    /// live as long as the caller needs.
    pub fn obtain(&self, want: &TokenRequirements, fetch: &mut Fetch<'_>) -> Result<LiveToken> {
        let call_start = self.host.now();
        let cached = self.entry.read(want.bearer, self.host);
        let caller = self.caller(want);
        let wanted = want.resolve(cached.as_ref());
        let usable = cached.filter(|held| wanted.accepts(held));
        let is_rejected = usable.as_ref().zip(caller.as_ref()).is_some_and(|(held, caller)| caller.was_rejected(held));
        let held = match usable {
            Some(held) if is_rejected => self.replace_rejected(held, call_start, wanted, fetch),
            Some(held) if self.is_due(&held, &wanted) => self.refresh(held, &wanted, fetch),
            Some(held) => {
                self.host.note(|| "cache: hit".to_owned());
                held
            }
            None => wanted.check(self.replace(call_start, &wanted, fetch)?)?,
        };
        // A fetch has created the file of the marks if it was missing, so the second attempt may find it.
        if let Some(caller) = caller.or_else(|| self.caller(want)) {
            caller.mark(&held, is_rejected);
        }
        Ok(held)
    }

    /// Returns the calling process, if this call detects rejected tokens and records are kept on disk.
    fn caller(&self, want: &TokenRequirements) -> Option<Caller> {
        let detect_rejection = want.detect_rejection && self.entry.is_kept();
        detect_rejection.then(|| Caller::recognise(self.entry.name(), self.host)).flatten()
    }

    /// Whether a fetch would bring a better token, although this one may be the answer.
    fn is_due(&self, held: &LiveToken, want: &ResolvedRequirements) -> bool {
        // Reads the host name only if the jitter can change the result.
        let jitter = || fingerprint(self.host.name().as_bytes());
        held.validity.is_some_and(|life| {
            (life.refresh_due(0) && life.refresh_due(jitter())) || !life.covers(want.preferred_validity)
        })
    }

    /// Fetches another token for a caller that asks again before the advertised expiry.
    ///
    /// Either a server rejected the token of the caller, or the caller drops its tokens early, as the Python
    /// client does. The fetch has the time limit of a refresh. If it fails, the cached token is still the
    /// best answer.
    fn replace_rejected(
        &self,
        held: LiveToken,
        call_start: Moment,
        want: ResolvedRequirements,
        fetch: &mut Fetch<'_>,
    ) -> LiveToken {
        self.host
            .note(|| "cache: the caller asks again before the advertised expiry, so its token was rejected".to_owned());
        if self.is_paused() {
            return held;
        }
        let want = ResolvedRequirements { exclude: Some(held.token.clone()), ..want };
        self.fetch_in_turn(call_start, &want, Budget::Refresh, fetch).unwrap_or_else(|error| {
            self.host.note(|| format!("refetch: {}; the cached token stays for now", error.what));
            held
        })
    }

    /// Whether a fetch failed so recently that no process tries a refresh yet.
    fn is_paused(&self) -> bool {
        let is_paused = self.entry.failure(self.host).is_some_and(|failure| failure.is_recent());
        if is_paused {
            self.host.note(|| "refresh: skipped after a recent failure; the cached token stays for now".to_owned());
        }
        is_paused
    }

    /// Fetches the next token, within the time limit of a refresh.
    ///
    /// The cached token is good but near its end. One process fetches; the other processes return the cached
    /// token without waiting.
    fn refresh(&self, held: LiveToken, want: &ResolvedRequirements, fetch: &mut Fetch<'_>) -> LiveToken {
        let deadline = self.deadline(Budget::Refresh);
        if self.is_paused() {
            return held;
        }
        let lock = self.entry.lock("first", self.host);
        let Some(guard) = lock.try_take() else {
            self.host.note(|| "refresh: another process is fetching a token".to_owned());
            return held;
        };
        // Another process may have stored a newer token before this one took the lock.
        if let Some(newer) = self.entry.read(want.bearer, self.host)
            && want.accepts(&newer)
            && !self.is_due(&newer, want)
        {
            return newer;
        }
        if self.is_paused() {
            return held;
        }
        let answer = self.fetch(want, deadline, Budget::Refresh, fetch);
        self.release(guard, Budget::Refresh);
        match answer {
            Ok(newer) => newer,
            Err(error) => {
                self.host.note(|| format!("refresh: {}; the cached token stays for now", error.what));
                held
            }
        }
    }

    /// Fetches a token if the cache has none that meets the requirements.
    ///
    /// One process fetches. The others wait, and share its token or its failure.
    fn replace(&self, call_start: Moment, want: &ResolvedRequirements, fetch: &mut Fetch<'_>) -> Result<LiveToken> {
        let answer = self.fetch_in_turn(call_start, want, Budget::Full, fetch).or_else(|error| {
            // Another process may have stored a token in the meantime.
            self.entry.read(want.bearer, self.host).filter(|held| want.accepts(held)).ok_or(error)
        });
        if want.is_rejected {
            // Removes the rejected token from the cache if it is still there. Otherwise the next call would
            // return it again if the fetch failed or its token could not be stored.
            self.entry.forget(want.bearer, want.exclude.as_ref(), self.host);
        }
        answer
    }

    /// Fetches a token under a lock, unless another process makes the fetch needless while this one waits.
    fn fetch_in_turn(
        &self,
        call_start: Moment,
        want: &ResolvedRequirements,
        budget: Budget,
        fetch: &mut Fetch<'_>,
    ) -> Result<LiveToken> {
        let deadline = self.deadline(budget);
        if !self.entry.is_kept() {
            return self.fetch(want, deadline, budget, fetch);
        }
        let budget_left = deadline.left();
        // A process that holds the first lock for half of our budget is slow or stuck. Waiters then queue for
        // a second lock, so that they do not all send a request at once. In the last eighth of the budget we
        // fetch without a lock (docs/decisions/0005).
        for (turn, reserve) in [("first", budget_left / 2), ("second", budget_left / 8)] {
            let lock = self.entry.lock(turn, self.host);
            let patience = deadline.at_most(deadline.left().saturating_sub(reserve));
            match lock.wait(patience, || self.news(call_start, want)) {
                Waited::News(answer) => return answer,
                Waited::Taken(guard) => {
                    // The process that held the lock may have stored what this one waits for.
                    if let Some(answer) = self.news(call_start, want) {
                        return answer;
                    }
                    if guard.was_used_since(call_start, self.host.now()) {
                        // A fetch under this lock has ended since this call started. Its token is the best
                        // that the server gives, even if it lives shorter than required or equals the cached
                        // one. Only a rejected token is no answer. If the fetch left no token, this process
                        // releases the lock and fetches without it: the processes behind it would queue in
                        // vain.
                        drop(guard);
                        let is_best = |held: &LiveToken| match want.is_rejected {
                            true => want.is_candidate(held),
                            false => held.validity.is_some_and(Validity::usable),
                        };
                        let best = self.entry.read(want.bearer, self.host).filter(is_best);
                        return best.map_or_else(|| self.fetch(want, deadline, budget, fetch), Ok);
                    }
                    let answer = self.fetch(want, deadline, budget, fetch);
                    self.release(guard, budget);
                    return answer;
                }
                Waited::Nothing => {
                    self.host.note(|| format!("lock: another process has held the {turn} lock for too long"))
                }
            }
        }
        self.fetch(want, deadline, budget, fetch)
    }

    /// Releases a lock after a fetch, and creates the file of the marks in the folder of the lock.
    fn release(&self, guard: Guard<'_>, budget: Budget) {
        // A refresh has only a short time limit. Its failure does not show that a full fetch would also fail.
        if budget == Budget::Full {
            guard.mark_use(self.host.now());
        }
        // If the folder of the locks is missing or did not answer in time, it is not opened a second time.
        if guard.has_place() {
            Caller::prepare(self.host);
        }
    }

    fn deadline(&self, budget: Budget) -> Deadline {
        Deadline::after(match budget {
            Budget::Full => self.timeout,
            Budget::Refresh => self.timeout.min(REFRESH_BUDGET),
        })
    }

    /// Returns what another process has found out since `call_start`.
    ///
    /// This is a token that meets the requirements, or a failure that this process would also meet.
    fn news(&self, call_start: Moment, want: &ResolvedRequirements) -> Option<Result<LiveToken>> {
        let waited = self.host.now().since(call_start, || true).unwrap_or_default();
        if let Some(held) = self.entry.read(want.bearer, self.host).filter(|held| want.accepts(held)) {
            self.host.note(|| "cache: another process has fetched a token".to_owned());
            return Some(Ok(held));
        }
        let failure = self.entry.failure(self.host)?;
        // A failure of a secret source is not shared, because another process may have another environment. A
        // refusal by the server is shared only by processes with the same secret, and this process has not
        // read its secret yet. A failure of a refresh is not shared: the server had less time than it has in
        // a full fetch.
        let is_news = failure.age <= waited && !failure.was_brief;
        let is_shared = failure.error.kind == Kind::Unreachable && (is_news || failure.age < failure.retry_after);
        is_shared.then(|| {
            self.host.note(|| {
                let rest = failure.retry_after.saturating_sub(failure.age).as_secs();
                format!("failure: reused from another process; Retry-After has {rest} s left, no request was sent")
            });
            Err(failure.error)
        })
    }

    /// Reads the secret, sends the request, and stores the token or the failure.
    fn fetch(
        &self,
        want: &ResolvedRequirements,
        deadline: Deadline,
        budget: Budget,
        fetch: &mut Fetch<'_>,
    ) -> Result<LiveToken> {
        let (mut secret, deadline) = (fetch.secret)(budget, deadline).inspect_err(|error| {
            // A failed secret source pauses refreshes. But it must not replace the record of a recent
            // refusal: processes with the refused secret would send it again.
            let refusal = self.entry.failure(self.host).filter(|failure| failure.error.kind == Kind::Denied);
            if !refusal.is_some_and(|failure| failure.is_recent()) {
                self.entry.fail(error, None, budget == Budget::Refresh, Duration::ZERO, self.host);
            }
        })?;
        if let Some(refusal) = self.remembered_refusal(&secret) {
            return Err(refusal);
        }
        let mut answer = (fetch.request)(&secret, deadline);
        if matches!(&answer, Err(failed) if failed.error.kind == Kind::Denied)
            && let Ok((current, _)) = (fetch.secret)(budget, deadline)
            && current != secret
        {
            // The secret was rotated after this process read it and before the server checked it.
            self.host.note(|| "secret: the source has a new one; trying it".to_owned());
            secret = current;
            answer = (fetch.request)(&secret, deadline);
        }
        let grant = answer.map_err(|failed| {
            let FailedRequest { error, retry_after } = failed;
            self.entry.fail(&error, Some(&secret), budget == Budget::Refresh, retry_after, self.host);
            error
        })?;
        self.entry.store(&grant, self.host);
        self.entry.sweep(self.host);
        if grant.access.lifetime.is_none() {
            self.host.note(|| "token: its lifetime is unknown, so it is used once and not stored".to_owned());
        }
        want.pick(&grant, self.host.now())
    }

    /// Returns a recent refusal of exactly this secret.
    ///
    /// A refusal is recent for 30 s, or for its `Retry-After` if that is longer. A client that retries five
    /// times in a row, as kubectl does, then causes one request. A changed secret is tried at once.
    fn remembered_refusal(&self, secret: &Secret) -> Option<Error> {
        let failure = self.entry.failure(self.host)?;
        let is_same = failure.error.kind == Kind::Denied && failure.is_recent() && failure.was_with(secret);
        is_same.then(|| {
            self.host.note(|| "refusal: the server refused this secret recently; no request was sent".to_owned());
            failure.error
        })
    }
}

impl CachedFailure {
    /// Whether the pause after this failure still lasts: [`PAUSE`], or `Retry-After` if that is longer.
    fn is_recent(&self) -> bool {
        self.age < PAUSE.max(self.retry_after)
    }
}

/// [`TokenRequirements`] in which the excluded token is known.
struct ResolvedRequirements {
    bearer: Bearer,
    preferred_validity: Duration,
    min_validity: Option<Duration>,
    exclude: Option<Token>,
    is_rejected: bool,
}

impl TokenRequirements {
    fn resolve(&self, cached: Option<&LiveToken>) -> ResolvedRequirements {
        let exclude = match &self.exclude {
            Some(Exclude::Cached) => cached.map(|held| held.token.clone()),
            Some(Exclude::This(token)) => Some(token.clone()),
            None => None,
        };
        let is_rejected = matches!(self.exclude, Some(Exclude::This(_)));
        ResolvedRequirements {
            bearer: self.bearer,
            preferred_validity: self.preferred_validity,
            min_validity: self.min_validity,
            exclude,
            is_rejected,
        }
    }
}

impl ResolvedRequirements {
    /// Whether this token meets the requirements.
    fn accepts(&self, held: &LiveToken) -> bool {
        let lives = |least| held.validity.is_some_and(|life| life.left() >= least);
        self.is_candidate(held) && self.min_validity.is_none_or(lives)
    }

    /// Whether this token meets the requirements apart from `min_validity`.
    fn is_candidate(&self, held: &LiveToken) -> bool {
        held.validity.is_some_and(Validity::usable) && self.exclude.as_ref() != Some(&held.token)
    }

    /// Returns the required token of a grant.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] if the server's answer has no ID token and the caller requires one.
    fn pick(&self, grant: &Grant, now: Moment) -> Result<LiveToken> {
        let issued = grant.issued(self.bearer).ok_or_else(|| {
            Error::unreachable(
                "the server's answer has no id_token",
                "add openid to the scope if the endpoint gives ID tokens, or set bearer to access_token",
            )
        })?;
        // The request itself has taken some of the token's lifetime.
        let age = now.since(grant.obtained, || true).unwrap_or_default();
        let validity = issued.lifetime.map(|lifetime| Validity { lifetime, age });
        Ok(LiveToken { token: issued.token.clone(), validity, now, is_new: true })
    }

    /// Returns the token if its remaining lifetime is long enough.
    ///
    /// # Errors
    /// [`Kind::TooShort`] if it is not, or if the lifetime is unknown.
    fn check(&self, held: LiveToken) -> Result<LiveToken> {
        let Some(least) = self.min_validity else { return Ok(held) };
        match held.validity {
            Some(life) if life.left() >= least => Ok(held),
            Some(life) => Err(Error::new(
                Kind::TooShort,
                format!(
                    "the server's tokens live for {} s, which is less than the {} s asked for",
                    life.lifetime.as_secs(),
                    least.as_secs()
                ),
                "ask for less with --min-validity, or have the token lifetime raised on the server",
            )),
            None => Err(Error::new(
                Kind::TooShort,
                "the server does not say how long its token lives",
                "leave out --min-validity",
            )),
        }
    }
}
