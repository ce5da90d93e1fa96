//! The one policy: when a cached token will do, when another is fetched, by whom, and what happens if that fails.
//!
//! A hit reads one file. Everything that a fetch needs — secret, TLS, network — comes in as a [`Fetch`], which a hit
//! never calls; so what a hit cannot touch is plain from the types.

mod rejection;

use std::time::Duration;

use crate::cache::lock::{Guard, Waited};
use crate::cache::{CachedFailure, Entry, fingerprint};
use crate::error::{Error, FailedRequest, Kind, Result};
use crate::host::{Deadline, Host, Moment};
use crate::secret::Secret;
use crate::token::{Bearer, Grant, LiveToken, Token, Validity};
use rejection::Caller;

/// What a caller wants.
#[derive(Clone, Debug)]
pub struct TokenRequirements {
    /// Which token.
    pub bearer: Bearer,
    /// Time to be left: tried for, not insisted upon.
    pub preferred_validity: Duration,
    /// Time that must be left, or the call fails.
    pub min_validity: Option<Duration>,
    /// A token that will not do, because somebody refused it.
    pub exclude: Option<Exclude>,
    /// Whether a caller that comes back before the expiry that it was told does so because its token was refused.
    pub detect_rejection: bool,
}

/// Which token will not do.
#[derive(Clone, Debug)]
pub enum Exclude {
    /// The one that is in the cache when the call starts, whatever it is.
    Cached,
    /// This one.
    This(Token),
}

/// How a token is got when there is none.
pub struct Fetch<'a> {
    /// Where the client's proof comes from. Asked once, and once more if the server denies the client. Beside the proof comes
    /// the deadline for what follows: a person who unlocks a keyring takes nothing of the server's time.
    pub secret: &'a mut dyn FnMut(Budget, Deadline) -> Result<(Secret, Deadline)>,
    /// Sends the request, retries included.
    pub request: &'a mut dyn FnMut(&Secret, Deadline) -> Result<Grant, FailedRequest>,
}

/// How long one process may try to refresh while the others go on with the token that is still good.
const REFRESH_BUDGET: Duration = Duration::from_secs(2);

/// How long nobody tries again after a refresh that failed or a client that was denied.
const PAUSE: Duration = Duration::from_secs(30);

/// How much time a fetch has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The whole: without a token there is no answer.
    Full,
    /// The little that somebody with a good token may spend on a better one.
    Refresh,
}

/// Obtains tokens of one identity.
pub struct Broker<'a> {
    /// Its place in the cache.
    pub entry: Entry<'a>,
    /// The world.
    pub host: &'a dyn Host,
    /// Bounds a whole fetch: waiting for others, secret, retries.
    pub timeout: Duration,
}

impl Broker<'_> {
    /// A token that does: from the cache if it can be, else fetched by one process for all.
    ///
    /// # Errors
    /// Of the secret source, of the server, or [`Kind::TooShort`].
    pub fn obtain(&self, want: &TokenRequirements, fetch: &mut Fetch<'_>) -> Result<LiveToken> {
        let asked = self.host.now();
        let cached = self.entry.read(want.bearer, self.host);
        let caller = self.caller(want);
        let wanted = want.resolve(cached.as_ref());
        let good = cached.filter(|held| wanted.accepts(held));
        let rejected = good.as_ref().zip(caller.as_ref()).is_some_and(|(held, caller)| caller.was_rejected(held));
        let held = match good {
            Some(held) if rejected => self.replace_rejected(held, asked, wanted, fetch),
            Some(held) if self.is_due(&held, &wanted) => self.refresh(held, &wanted, fetch),
            Some(held) => {
                self.host.note(|| "cache: hit".to_owned());
                held
            }
            None => wanted.check(self.replace(asked, &wanted, fetch)?)?,
        };
        // A fetch has made the place for marks, if there was none before.
        if let Some(caller) = caller.or_else(|| self.caller(want)) {
            caller.mark(&held, rejected);
        }
        Ok(held)
    }

    /// The caller, if a return of it would mean something.
    fn caller(&self, want: &TokenRequirements) -> Option<Caller> {
        let detect_rejection = want.detect_rejection && self.entry.is_kept();
        detect_rejection.then(|| Caller::recognise(self.entry.name(), self.host)).flatten()
    }

    /// Whether another token would be better, though this one may be the answer.
    fn is_due(&self, held: &LiveToken, want: &ResolvedRequirements) -> bool {
        // The host's name is asked for only where its share of the window matters.
        let jitter = || fingerprint(self.host.name().as_bytes());
        held.validity.is_some_and(|life| {
            (life.refresh_due(0) && life.refresh_due(jitter())) || !life.covers(want.preferred_validity)
        })
    }

    /// The caller was told of this token and is back too early: its server rejected it, or it likes its tokens young, as the
    /// Python client does. Another one is fetched, within the limits of a refresh; if that cannot be, this one is still the
    /// best there is.
    fn replace_rejected(
        &self,
        held: LiveToken,
        asked: Moment,
        want: ResolvedRequirements,
        fetch: &mut Fetch<'_>,
    ) -> LiveToken {
        self.host
            .note(|| "cache: the caller is back before the expiry it was told, so its token was rejected".to_owned());
        if self.is_paused() {
            return held;
        }
        let want = ResolvedRequirements { exclude: Some(held.token.clone()), ..want };
        self.in_turn(asked, &want, Budget::Refresh, fetch).unwrap_or_else(|error| {
            self.host.note(|| format!("refetch: {}; the cached token stays for now", error.what));
            held
        })
    }

    /// Whether a refresh failed a moment ago, so that nobody tries another one yet.
    fn is_paused(&self) -> bool {
        let paused = self.entry.failure(self.host).is_some_and(|failure| failure.is_recent());
        if paused {
            self.host.note(|| "refresh: a moment ago it failed, so the cached token stays for now".to_owned());
        }
        paused
    }

    /// The token is good but getting old: one process fetches the next one, briefly, and the others do not notice.
    fn refresh(&self, held: LiveToken, want: &ResolvedRequirements, fetch: &mut Fetch<'_>) -> LiveToken {
        let deadline = self.deadline(Budget::Refresh);
        if self.is_paused() {
            return held;
        }
        let lock = self.entry.lock("first", self.host);
        let Some(guard) = lock.try_take() else {
            self.host.note(|| "refresh: another process is at it".to_owned());
            return held;
        };
        // Somebody may have been faster while we came here.
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
        self.leave(guard, Budget::Refresh);
        match answer {
            Ok(newer) => newer,
            Err(error) => {
                self.host.note(|| format!("refresh: {}; the cached token stays for now", error.what));
                held
            }
        }
    }

    /// There is no token that will do: one process fetches it, the others wait and share its token or its failure.
    fn replace(&self, asked: Moment, want: &ResolvedRequirements, fetch: &mut Fetch<'_>) -> Result<LiveToken> {
        let answer = self.in_turn(asked, want, Budget::Full, fetch).or_else(|error| {
            // Somebody else may have had more luck meanwhile.
            self.entry.read(want.bearer, self.host).filter(|held| want.accepts(held)).ok_or(error)
        });
        if want.is_rejected {
            // Compare and forget: where no other token could be had, or kept, nobody is handed this one again.
            self.entry.forget(want.bearer, want.exclude.as_ref(), self.host);
        }
        answer
    }

    /// Fetches when it is our turn, if that is still needed then.
    fn in_turn(
        &self,
        asked: Moment,
        want: &ResolvedRequirements,
        budget: Budget,
        fetch: &mut Fetch<'_>,
    ) -> Result<LiveToken> {
        let deadline = self.deadline(budget);
        if !self.entry.is_kept() {
            return self.fetch(want, deadline, budget, fetch);
        }
        let all = deadline.left();
        // Whoever holds the first lock for half of our time is slow or stuck. The second one keeps all those who lose
        // patience with it from going at once; the last eighth is for going without any.
        for (turn, kept_back) in [("first", all / 2), ("second", all / 8)] {
            let lock = self.entry.lock(turn, self.host);
            let patience = deadline.at_most(deadline.left().saturating_sub(kept_back));
            match lock.wait(patience, || self.news(asked, want)) {
                Waited::News(answer) => return answer,
                Waited::Taken(guard) => {
                    // Look again: we may have waited for just this.
                    if let Some(answer) = self.news(asked, want) {
                        return answer;
                    }
                    if guard.was_used_since(asked, self.host.now()) {
                        // A fetch has ended since we asked. What it brought is the best there is, even if it is not
                        // good enough, or the same again (but for a token that was rejected); if it brought nothing to
                        // share, those behind us would queue for nothing.
                        drop(guard);
                        let is_best = |held: &LiveToken| match want.is_rejected {
                            true => want.could_take(held),
                            false => held.validity.is_some_and(Validity::usable),
                        };
                        let best = self.entry.read(want.bearer, self.host).filter(is_best);
                        return best.map_or_else(|| self.fetch(want, deadline, budget, fetch), Ok);
                    }
                    let answer = self.fetch(want, deadline, budget, fetch);
                    self.leave(guard, budget);
                    return answer;
                }
                Waited::Nothing => {
                    self.host.note(|| format!("lock: another process has had the {turn} one for too long"))
                }
            }
        }
        self.fetch(want, deadline, budget, fetch)
    }

    /// Gives a lock back after a fetch, and leaves its place ready for the marks of callers.
    fn leave(&self, guard: Guard<'_>, budget: Budget) {
        // Who had only the short time of a refresh is no witness that nothing better is to be had.
        if budget == Budget::Full {
            guard.mark_use(self.host.now());
        }
        // Where the place did not answer in time, or there is none, nothing is asked of it again.
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

    /// What others have found out since `asked`: a token that will do, or a failure that would be ours as well.
    fn news(&self, asked: Moment, want: &ResolvedRequirements) -> Option<Result<LiveToken>> {
        let waited = self.host.now().since(asked, || true).unwrap_or_default();
        if let Some(held) = self.entry.read(want.bearer, self.host).filter(|held| want.accepts(held)) {
            self.host.note(|| "cache: another process has fetched a token".to_owned());
            return Some(Ok(held));
        }
        let failure = self.entry.failure(self.host)?;
        // Failures of a secret source are not shared, since another process may have another environment; refusals
        // are shared with those who come with the same secret, which has yet to be read.
        // Who had only the short time of a refresh says nothing about what the whole time would have brought.
        let is_news = failure.age <= waited && !failure.was_brief;
        let shared = failure.error.kind == Kind::Unreachable && (is_news || failure.age < failure.retry_after);
        shared.then(|| {
            self.host.note(|| {
                let rest = failure.retry_after.saturating_sub(failure.age).as_secs();
                format!(
                    "failure: shared with another process, the server was not asked; it wants {rest} s more of peace"
                )
            });
            Err(failure.error)
        })
    }

    /// Reads the secret, asks the server, keeps what comes of it.
    fn fetch(
        &self,
        want: &ResolvedRequirements,
        deadline: Deadline,
        budget: Budget,
        fetch: &mut Fetch<'_>,
    ) -> Result<LiveToken> {
        let (mut secret, deadline) = (fetch.secret)(budget, deadline).inspect_err(|error| {
            // It pauses refreshes, but does not make anybody forget that the server refused a secret.
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
            && let Ok((again, _)) = (fetch.secret)(budget, deadline)
            && again != secret
        {
            // A secret that was rotated between our reading it and the server's.
            self.host.note(|| "secret: it has changed meanwhile; trying the new one".to_owned());
            secret = again;
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
            self.host.note(|| "token: nobody says how long it lives, so it is used once and not kept".to_owned());
        }
        want.pick(&grant, self.host.now())
    }

    /// The refusal that this very secret met within the last half minute. A client that retries five times in a row,
    /// as kubectl does, then causes one request; a changed secret is tried at once.
    fn remembered_refusal(&self, secret: &Secret) -> Option<Error> {
        let failure = self.entry.failure(self.host)?;
        let same = failure.error.kind == Kind::Denied && failure.is_recent() && failure.was_with(secret);
        same.then(|| {
            self.host.note(|| "refusal: remembered, the server was not asked".to_owned());
            failure.error
        })
    }
}

impl CachedFailure {
    /// Whether it is too early to try again unasked.
    fn is_recent(&self) -> bool {
        self.age < PAUSE.max(self.retry_after)
    }
}

/// A [`TokenRequirements`] whose unwanted token is known.
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
    /// Whether this token may be the answer.
    fn accepts(&self, held: &LiveToken) -> bool {
        let lives = |least| held.validity.is_some_and(|life| life.left() >= least);
        self.could_take(held) && self.min_validity.is_none_or(lives)
    }

    /// Whether it could be, but for the time that it has left.
    fn could_take(&self, held: &LiveToken) -> bool {
        held.validity.is_some_and(Validity::usable) && self.exclude.as_ref() != Some(&held.token)
    }

    /// The wanted token of a grant.
    fn pick(&self, grant: &Grant, now: Moment) -> Result<LiveToken> {
        let issued = grant.issued(self.bearer).ok_or_else(|| {
            Error::unreachable(
                "the server's answer has no id_token",
                "add openid to the scope if the endpoint gives ID tokens, or set bearer to access_token",
            )
        })?;
        // The request itself took some of the token's time.
        let age = now.since(grant.obtained, || true).unwrap_or_default();
        let validity = issued.lifetime.map(|lifetime| Validity { lifetime, age });
        Ok(LiveToken { token: issued.token.clone(), validity, now, is_new: true })
    }

    /// Refuses a token that does not live as long as it must.
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
