//! What an issuer publishes of itself, fetched when it is needed, and kept.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openidconnect::{
    AsyncHttpClient, HttpRequest, HttpResponse, IssuerUrl,
    core::{CoreJsonWebKeySet, CoreProviderMetadata},
};
use tocsin_domain::{Error, Result};
use tokio::{sync::Mutex, time::Instant};

use super::access_tokens::AccessTokenKey;
use crate::{
    aws::failed,
    http::{Http, HttpError, Limits},
};

/// What one answer of an issuer may cost. Three of them are asked for at a first sign-in, within a function's time. No
/// description, and no set of keys, is as large as this; and an issuer redirects nobody.
const LIMITS: Limits = Limits { time: Duration::from_secs(3), bytes: 256 * 1024, redirects: 0 };
/// How long keys are good without a look: a key that an issuer takes back is not trusted for longer.
const FRESH: Duration = Duration::from_hours(1);
/// How long they are good while the issuer does not answer.
const GOOD: Duration = Duration::from_hours(12);
/// How long after one look there is no other, whatever is not found: who makes up keys does not make us ask for them.
const COOLDOWN: Duration = Duration::from_secs(30);
/// How long after a look that failed, while nothing is known.
const RETRY: Duration = Duration::from_secs(2);
/// What is done about an issuer's keys when they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Those that are known are trusted.
    Trust,
    /// They are looked at again.
    Look,
    /// There are none to be trusted, and it is too early to look again.
    Wait,
}

/// What is done where what is known is so old, if anything is, and the last look was so long ago, if there was one.
fn next(age: Option<Duration>, asked: Option<Duration>, cooldown: Duration) -> Next {
    let asked_within = |time| asked.is_some_and(|asked| asked < time);
    match age {
        Some(age) if age < FRESH => Next::Trust,
        Some(age) if age < GOOD => {
            if asked_within(cooldown) {
                Next::Trust
            } else {
                Next::Look
            }
        }
        // What is older counts for nothing, however lately the issuer was asked in vain.
        Some(_) if asked_within(cooldown) => Next::Wait,
        None if asked_within(RETRY) => Next::Wait,
        _ => Next::Look,
    }
}

/// An issuer.
#[derive(Debug)]
pub struct Provider {
    pub(super) issuer: IssuerUrl,
    http: Http,
    cooldown: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Arc<Known>>,
    asked_at: Option<Instant>,
}

/// What an issuer publishes: its description with its keys, and those as they are for access tokens.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) metadata: CoreProviderMetadata,
    pub(super) keys: Vec<AccessTokenKey>,
    at: Instant,
}

impl Provider {
    /// The issuer of this name: an address, exactly as its tokens have it.
    pub fn new(issuer: &str, http: &Http) -> Result<Self> {
        let issuer = IssuerUrl::new(issuer.to_owned());
        let issuer = issuer.map_err(|cause| Error::unreadable("an issuer's address", cause))?;
        Ok(Self { issuer, http: http.clone(), cooldown: COOLDOWN, state: Mutex::default() })
    }

    /// With another time between two looks at its keys than half a minute.
    #[must_use]
    pub const fn with_cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.issuer.url().scheme() == "https"
    }

    /// Its host, as it stands in its address.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        self.issuer.url().host_str().map(str::to_owned)
    }

    /// What is known of the issuer; it is fetched where nothing is, or for long.
    ///
    /// Whoever comes while it is fetched waits, and asks for nothing: the lock is held meanwhile.
    pub(super) async fn known(&self) -> Result<Arc<Known>> {
        let mut state = self.state.lock().await;
        let age = state.known.as_ref().map(|known| known.at.elapsed());
        match (next(age, state.asked_at.map(|at| at.elapsed()), self.cooldown), &state.known) {
            (Next::Trust, Some(known)) => return Ok(Arc::clone(known)),
            (Next::Wait, _) => {
                let cause = format!("{} did not answer a moment ago", *self.issuer);
                return Err(Error::unavailable(SERVICE, cause));
            }
            (Next::Trust | Next::Look, _) => {}
        }
        let known = self.look(&mut state).await;
        match (known, &state.known) {
            (Err(error), Some(known)) if known.at.elapsed() < GOOD => {
                tracing::warn!(%error, issuer = self.issuer.as_str(), "an issuer's keys could not be renewed");
                Ok(Arc::clone(known))
            }
            (known, _) => known,
        }
    }

    /// What is known of the issuer after another look at its keys, since something was not found in `seen`; none, if it is
    /// too early to look again.
    pub(super) async fn newer(&self, seen: &Arc<Known>) -> Result<Option<Arc<Known>>> {
        let mut state = self.state.lock().await;
        match &state.known {
            Some(known) if !Arc::ptr_eq(known, seen) => Ok(Some(Arc::clone(known))),
            _ if state.asked_within(self.cooldown) => Ok(None),
            _ => self.look(&mut state).await.map(Some),
        }
    }

    async fn look(&self, state: &mut State) -> Result<Arc<Known>> {
        state.asked_at = Some(Instant::now());
        let metadata = match &state.known {
            // Where its keys are does not change; only they do.
            Some(known) if known.at.elapsed() < FRESH => {
                let keys = CoreJsonWebKeySet::fetch_async(known.metadata.jwks_uri(), self).await;
                keys.map(|keys| known.metadata.clone().set_jwks(keys))
            }
            _ => CoreProviderMetadata::discover_async(self.issuer.clone(), self).await,
        };
        let metadata = metadata.map_err(failed(SERVICE))?;
        let keys = metadata.jwks().keys().iter().filter_map(AccessTokenKey::of).collect();
        let known = Arc::new(Known { metadata, keys, at: Instant::now() });
        state.known = Some(Arc::clone(&known));
        Ok(known)
    }
}

impl<'c> AsyncHttpClient<'c> for Provider {
    type Error = HttpError;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            // What is described over https is not looked for over less.
            if request.uri().scheme_str() != Some(self.issuer.url().scheme()) {
                return Err(HttpError::Refused(format!("{} is not as safe as its issuer", request.uri())));
            }
            self.http.send(request, LIMITS).await
        })
    }
}

/// What an error calls them all.
pub(super) const SERVICE: &str = "an issuer of identities";

impl State {
    fn asked_within(&self, time: Duration) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_trusted_for_half_a_day_without_an_answer_and_no_longer() {
        let (just, long) = (Some(Duration::from_secs(1)), Some(Duration::from_mins(5)));
        for (age, asked, expected) in [
            (None, None, Next::Look),
            (None, just, Next::Wait),
            (None, long, Next::Look),
            (Some(Duration::ZERO), just, Next::Trust),
            (Some(Duration::from_mins(59)), long, Next::Trust),
            (Some(FRESH), long, Next::Look),
            (Some(FRESH), just, Next::Trust),
            (Some(Duration::from_hours(11)), just, Next::Trust),
            (Some(GOOD), just, Next::Wait),
            (Some(Duration::from_hours(24)), just, Next::Wait),
            (Some(GOOD), long, Next::Look),
        ] {
            assert_eq!(next(age, asked, COOLDOWN), expected, "{age:?} {asked:?}");
        }
    }
}
