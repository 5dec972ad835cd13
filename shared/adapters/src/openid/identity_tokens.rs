//! Identity tokens: of who signs in on the web, or in an app of ours.

use std::time::{Duration, SystemTime};

use openidconnect::{
    AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, IdTokenVerifier, Nonce,
    NonceVerifier, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, TokenResponse as _,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreIdToken, CoreIdTokenClaims,
        CoreJwsSigningAlgorithm,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tocsin_domain::{
    Error, Result,
    identity::Identity,
    outside_sign_in::{
        IdentityTokens, PersonName, Vouched, WebAttempt, WebSignIn, code_invalid, identity_token_invalid,
    },
    time::Timestamp,
};

use super::{
    Provider, made_lately,
    provider::{Known, SERVICE},
};
use crate::aws::{failed, with_causes};

impl Provider {
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
        let signed_in_at = claims.auth_time().unwrap_or_else(|| claims.issue_time());
        Some(Vouched {
            identity: Identity::new(self.issuer.as_str(), claims.subject().as_str()).ok()?,
            signed_in_at: Timestamp::from_second(signed_in_at.timestamp()).ok()?,
            // An address that we cannot read is none.
            email: email.and_then(Result::ok),
            email_verified: claims.email_verified() == Some(true),
            preferred_username: claims.preferred_username().map(|name| name.as_str().to_owned()),
            name,
        })
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
