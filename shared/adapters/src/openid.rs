//! Issuers of OpenID Connect, over HTTP: what each publishes of itself, and what its tokens say.
//!
//! An issuer's description and its keys are fetched when they are first needed, and kept in the process ([`Provider`]).
//! Identity tokens are verified by `openidconnect`, as its standard has it; access tokens, of which that standard says
//! nothing, by `jsonwebtoken`, as our own are. Both accept signatures of asymmetric keys alone: where a secret or nothing at
//! all will do, whoever knows the public key can sign.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use openidconnect::{
    AsyncHttpClient, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    HttpRequest, HttpResponse, IdTokenVerifier, IssuerUrl, Nonce, NonceVerifier, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, TokenResponse as _,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreIdToken, CoreIdTokenClaims,
        CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tocsin_domain::{
    Error, Result,
    identity::Identity,
    outside_sign_in::{
        IdentityTokens, OutsideTokens, PersonName, Vouched, WebAttempt, WebSignIn, code_invalid,
        identity_token_invalid,
    },
    time::Timestamp,
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    aws::{failed, with_causes},
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
/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: i64 = 30;

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
    issuer: IssuerUrl,
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
struct Known {
    metadata: CoreProviderMetadata,
    keys: Vec<AccessTokenKey>,
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
    async fn known(&self) -> Result<Arc<Known>> {
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
    async fn newer(&self, seen: &Arc<Known>) -> Result<Option<Arc<Known>>> {
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

    /// What the issuer says with an identity token of its own; `None` where it is not good, and the log says why.
    async fn hear(
        &self,
        token: &CoreIdToken,
        audiences: &[ClientId],
        nonce: Option<&Nonce>,
        max_age: Option<Duration>,
        now: Timestamp,
    ) -> Result<Option<Vouched>> {
        let known = self.known().await?;
        let mut heard = self.verified(&known, token, audiences, nonce, max_age, now);
        if matches!(
            heard,
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey))
        ) && let Some(known) = self.newer(&known).await?
        {
            heard = self.verified(&known, token, audiences, nonce, max_age, now);
        }
        match heard {
            Ok(claims) => Ok(self.vouched(claims)),
            Err(error) => {
                tracing::info!(
                    issuer = self.issuer.as_str(),
                    error = with_causes(&error),
                    "an identity token is refused"
                );
                Ok(None)
            }
        }
    }

    fn verified<'t>(
        &self,
        known: &Known,
        token: &'t CoreIdToken,
        audiences: &[ClientId],
        nonce: Option<&Nonce>,
        max_age: Option<Duration>,
        now: Timestamp,
    ) -> Result<&'t CoreIdTokenClaims, ClaimsVerificationError> {
        let mut refused = ClaimsVerificationError::InvalidAudience("there is none".to_owned());
        // The verifier knows one audience, and looks at it before the signature.
        for audience in audiences {
            let keys = known.metadata.jwks().clone();
            let verifier = IdTokenVerifier::new_public_client(audience.clone(), self.issuer.clone(), keys)
                .set_allowed_algs(IDENTITY_TOKEN_ALGORITHMS)
                .set_time_fn(move || SystemTime::from(now).into())
                .set_issue_time_verifier_fn(move |made| made_lately(made.timestamp(), max_age, now));
            match token.claims(&verifier, ThisNonce(nonce)) {
                Err(error @ ClaimsVerificationError::InvalidAudience(_)) => refused = error,
                heard => return heard,
            }
        }
        Err(refused)
    }

    fn vouched(&self, claims: &CoreIdTokenClaims) -> Option<Vouched> {
        let first = claims.given_name().and_then(|name| name.get(None)).map(|name| name.as_str());
        let last = claims.family_name().and_then(|name| name.get(None)).map(|name| name.as_str());
        let whole = claims.name().and_then(|name| name.get(None)).map(|name| name.as_str());
        let name = match (first, last, whole) {
            (None, None, Some(whole)) => PersonName::of(whole),
            (first, last, _) => PersonName::from_parts(first, last),
        };
        let email = claims.email().map(|email| email.parse());
        Some(Vouched {
            identity: Identity::new(self.issuer.as_str(), claims.subject().as_str()).ok()?,
            // An address that we cannot read is none.
            email: email.and_then(Result::ok),
            email_verified: claims.email_verified() == Some(true),
            preferred_username: claims.preferred_username().map(|name| name.as_str().to_owned()),
            name,
        })
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
const SERVICE: &str = "an issuer of identities";

impl State {
    fn asked_within(&self, time: Duration) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < time)
    }
}

/// How identity tokens may be signed.
const IDENTITY_TOKEN_ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// A nonce, where there is one to be.
struct ThisNonce<'a>(Option<&'a Nonce>);

impl NonceVerifier for ThisNonce<'_> {
    fn verify(self, nonce: Option<&Nonce>) -> Result<(), String> {
        self.0.map_or(Ok(()), |wanted| wanted.verify(nonce))
    }
}

fn made_lately(made: i64, max_age: Option<Duration>, now: Timestamp) -> Result<(), String> {
    let age = now.as_second().saturating_sub(made);
    let most = max_age.map_or(i64::MAX, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    if (-LEEWAY_SECONDS..=most).contains(&age) { Ok(()) } else { Err(format!("made {age} s ago")) }
}

/// Signs people in on the web with an issuer.
#[derive(Debug)]
pub struct WebClient {
    provider: Provider,
    client_id: ClientId,
    client_secret: ClientSecret,
    redirect_url: RedirectUrl,
}

impl WebClient {
    /// As the client that the issuer knows by this id and secret; browsers come back to `redirect_url`.
    pub fn new(
        provider: Provider,
        client_id: &str,
        client_secret: &SecretString,
        redirect_url: &str,
    ) -> Result<Self> {
        let redirect_url = RedirectUrl::new(redirect_url.to_owned());
        Ok(Self {
            provider,
            client_id: ClientId::new(client_id.to_owned()),
            client_secret: ClientSecret::new(client_secret.expose_secret().to_owned()),
            redirect_url: redirect_url.map_err(|cause| Error::unreadable("our own address", cause))?,
        })
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.provider.issuer.as_str()
    }
}

impl WebSignIn for WebClient {
    async fn authorization_url(&self, attempt: &WebAttempt) -> Result<String> {
        let known = self.provider.known().await?;
        let client = CoreClient::from_provider_metadata(known.metadata.clone(), self.client_id.clone(), None)
            .set_redirect_uri(self.redirect_url.clone());
        let (state, nonce) = (CsrfToken::new(attempt.state()), Nonce::new(attempt.nonce()));
        let verifier = PkceCodeVerifier::new(attempt.code_verifier());
        let request =
            client.authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce);
        let scopes = ["email", "profile"].map(|scope| Scope::new(scope.to_owned()));
        let (url, _, _) = request
            .add_scopes(scopes)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url.into())
    }

    async fn exchange(&self, code: &str, attempt: &WebAttempt, now: Timestamp) -> Result<Vouched> {
        let known = self.provider.known().await?;
        let secret = Some(self.client_secret.clone());
        let client =
            CoreClient::from_provider_metadata(known.metadata.clone(), self.client_id.clone(), secret)
                .set_redirect_uri(self.redirect_url.clone());
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let request = request.map_err(|cause| Error::unavailable(SERVICE, cause))?;
        let verifier = PkceCodeVerifier::new(attempt.code_verifier());
        let answer = match request.set_pkce_verifier(verifier).request_async(&self.provider).await {
            Ok(answer) => answer,
            Err(RequestTokenError::ServerResponse(answer))
                if matches!(
                    answer.error(),
                    CoreErrorResponseType::InvalidGrant | CoreErrorResponseType::InvalidRequest
                ) =>
            {
                tracing::info!(issuer = self.issuer(), %answer, "a code is refused");
                return Err(code_invalid().into());
            }
            Err(RequestTokenError::Parse(error, answer)) if has_identity_token(&answer) => {
                tracing::info!(issuer = self.issuer(), %error, "an identity token cannot be read");
                return Err(identity_token_invalid().into());
            }
            Err(error) => return Err(failed(SERVICE)(error)),
        };
        let Some(token) = answer.id_token() else {
            return Err(Error::unavailable(SERVICE, "an answer without an identity token"));
        };
        let nonce = Nonce::new(attempt.nonce());
        let audience = std::slice::from_ref(&self.client_id);
        let heard = self.provider.hear(token, audience, Some(&nonce), None, now).await?;
        Ok(heard.ok_or_else(identity_token_invalid)?)
    }
}

/// Whether it is for its token that an answer cannot be read: the library reads both at once.
fn has_identity_token(answer: &[u8]) -> bool {
    let answer: Option<serde_json::Value> = serde_json::from_slice(answer).ok();
    answer.is_some_and(|answer| answer["id_token"].is_string())
}

/// Verifies the identity tokens that an issuer gives to our apps.
#[derive(Debug)]
pub struct AppTokens {
    provider: Provider,
    client_ids: Vec<ClientId>,
    max_age: Duration,
}

impl AppTokens {
    /// Those that are for one of these clients, and no older than this.
    pub fn new<'a>(
        provider: Provider,
        client_ids: impl IntoIterator<Item = &'a str>,
        max_age: Duration,
    ) -> Self {
        let client_ids = client_ids.into_iter().map(|id| ClientId::new(id.to_owned())).collect();
        Self { provider, client_ids, max_age }
    }
}

impl IdentityTokens for AppTokens {
    async fn verify(&self, token: &str, now: Timestamp) -> Result<Vouched> {
        // Before anything is asked of anybody.
        let token: CoreIdToken = token.parse().map_err(|_| identity_token_invalid())?;
        let heard = self.provider.hear(&token, &self.client_ids, None, Some(self.max_age), now).await?;
        Ok(heard.ok_or_else(identity_token_invalid)?)
    }
}

/// Issuers whose access tokens are trusted as our own.
#[derive(Debug, Default)]
pub struct TrustedIssuers {
    issuers: Vec<TrustedIssuer>,
}

#[derive(Debug)]
struct TrustedIssuer {
    provider: Provider,
    audiences: Vec<String>,
}

/// A key that access tokens can be signed with, and how.
struct AccessTokenKey {
    id: String,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl std::fmt::Debug for AccessTokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AccessTokenKey {
    /// The key of a JWKS, if it is one of ours to use: public, for signatures, and with an id.
    fn of(key: &CoreJsonWebKey) -> Option<Self> {
        let key: Jwk = serde_json::from_value(serde_json::to_value(key).ok()?).ok()?;
        if key.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            return None;
        }
        let possible: &[Algorithm] = match &key.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                &[Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                &[Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
            // A shared secret is no key of an issuer's.
            _ => return None,
        };
        let declared = key.common.key_algorithm.as_ref().map(ToString::to_string);
        let is_declared = |algorithm: &&Algorithm| {
            declared.as_ref().is_none_or(|declared| *declared == format!("{algorithm:?}"))
        };
        let algorithms: Vec<_> = possible.iter().filter(is_declared).copied().collect();
        let decoding = DecodingKey::from_jwk(&key).ok()?;
        Some(Self { id: key.common.key_id?, key: decoding, algorithms })
            .filter(|key| !key.algorithms.is_empty())
    }
}

/// The claims of an access token, as far as they are looked at here: OpenID Connect's standard ones, and Amazon Cognito's
/// <https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html>.
#[derive(Deserialize)]
struct AccessTokenClaims {
    sub: String,
    /// Whom it is for. Whether it is one of ours is for the verifier.
    aud: Option<Audience>,
    /// Whom it is for, where Cognito leaves `aud` out.
    client_id: Option<String>,
    /// What it is for: Cognito signs identity tokens with the same keys, which are not for calling.
    token_use: Option<String>,
    preferred_username: Option<String>,
    username: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
}

/// The verifier takes what is neither for no audience at all; so it must be one of them.
#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only that it is there is looked at here")]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

impl TrustedIssuers {
    /// Trusts an issuer's tokens for some audiences besides.
    #[must_use]
    pub fn with(mut self, provider: Provider, audiences: Vec<String>) -> Self {
        self.issuers.push(TrustedIssuer { provider, audiences });
        self
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }
}

impl OutsideTokens for TrustedIssuers {
    async fn verify(&self, token: &str, _: Timestamp) -> Result<Option<Vouched>> {
        // Not verified: it only tells whose keys to look at, of those that we trust.
        let Ok(Issued { iss }) = jsonwebtoken::dangerous::insecure_decode_claims(token) else {
            return Ok(None);
        };
        let mut issuers = self.issuers.iter();
        match issuers.find(|trusted| trusted.provider.issuer.as_str() == iss) {
            Some(issuer) => issuer.verify(token).await,
            None => Ok(None),
        }
    }
}

impl TrustedIssuer {
    async fn verify(&self, token: &str) -> Result<Option<Vouched>> {
        // A token that names no algorithm that we know, or no key, is nobody's: nobody is asked about it.
        let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
        let Some(id) = header.kid else { return Ok(None) };
        let mut known = self.provider.known().await?;
        if !known.has_key(&id) {
            match self.provider.newer(&known).await? {
                Some(newer) => known = newer,
                None => return Ok(None),
            }
        }
        let mut keys = known.keys.iter().filter(|key| key.id == id);
        Ok(keys.find_map(|key| self.claims(token, key)).and_then(|claims| self.vouched(claims)))
    }

    fn claims(&self, token: &str, key: &AccessTokenKey) -> Option<AccessTokenClaims> {
        let mut validation = Validation::new(*key.algorithms.first()?);
        validation.algorithms.clone_from(&key.algorithms);
        validation.set_issuer(&[self.provider.issuer.as_str()]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS.unsigned_abs();
        let claims = jsonwebtoken::decode::<AccessTokenClaims>(token, &key.key, &validation);
        let claims = claims.inspect_err(|error| {
            tracing::debug!(issuer = self.provider.issuer.as_str(), %error, "an access token is refused");
        });
        Some(claims.ok()?.claims).filter(|claims| self.is_meant(claims))
    }

    /// Whether a token is for us, and for calling. Where it has an `aud`, the verifier has looked at it.
    fn is_meant(&self, claims: &AccessTokenClaims) -> bool {
        let for_calling = claims.token_use.as_ref().is_none_or(|used| used == "access");
        let client = claims.client_id.as_ref().filter(|_| claims.token_use.is_some());
        for_calling && (claims.aud.is_some() || client.is_some_and(|client| self.audiences.contains(client)))
    }

    fn vouched(&self, claims: AccessTokenClaims) -> Option<Vouched> {
        Some(Vouched {
            identity: Identity::new(self.provider.issuer.as_str(), claims.sub).ok()?,
            email: None,
            email_verified: false,
            preferred_username: claims.preferred_username.or(claims.username),
            name: PersonName::from_parts(claims.given_name.as_deref(), claims.family_name.as_deref()),
        })
    }
}

impl Known {
    fn has_key(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
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
