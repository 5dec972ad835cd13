//! Access tokens of trusted issuers, which are taken as our own are.
//!
//! Their identity tokens are not, though they have the same signatures, and an audience that may be one of ours: those tell an
//! app who somebody is, and apps hand them about more freely. Amazon Cognito says in each token what it is for
//! (`token_use`). Of others a token is none for calling where it has what an identity token alone has ([`TrustedIssuer`]'s
//! `is_meant`), unless its header says that it is (RFC 9068, 2.1). An identity token need have none of that: so the
//! audiences of an issuer without `token_use` must be those of its access tokens alone, and no client's id.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, TokenData, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use openidconnect::core::CoreJsonWebKey;
use serde::{Deserialize, de::IgnoredAny};
use tocsin_domain::{
    Result,
    identity::Identity,
    outside_sign_in::{MOST_OF_TOKEN_AGE_SECONDS, OutsideTokens, PersonName, Vouched},
    time::Timestamp,
};

use super::{LEEWAY_SECONDS, Provider, made_lately, provider::Known};

/// Until when it matters who has left.
const MOST_OF_AGE: Duration = Duration::from_secs(MOST_OF_TOKEN_AGE_SECONDS);

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
pub(super) struct AccessTokenKey {
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
    pub(super) fn of(key: &CoreJsonWebKey) -> Option<Self> {
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
    /// When it was made, in seconds of the epoch, and parts of one (RFC 7519, 2 and 4.1.6).
    iat: f64,
    /// When its owner signed in, as `iat`: also where the token is one of a refresh (OpenID Connect Core 1.0, 2).
    auth_time: Option<f64>,
    /// Whom it is for. Whether it is one of ours is for the verifier.
    aud: Option<Audience>,
    /// Whom it is for, where Cognito leaves `aud` out.
    client_id: Option<String>,
    /// What it is for: Cognito signs identity tokens with the same keys, which are not for calling.
    token_use: Option<String>,
    /// What it is, to Keycloak.
    typ: Option<String>,
    /// What an identity token alone has (OpenID Connect Core 1.0, 2 and 3.3.2.11).
    nonce: Option<IgnoredAny>,
    at_hash: Option<IgnoredAny>,
    c_hash: Option<IgnoredAny>,
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

/// Whether it tells an app who somebody is.
fn is_identity_token(header: &Header, claims: &AccessTokenClaims) -> bool {
    let is_called_so = claims.typ.as_ref().is_some_and(|typ| typ.eq_ignore_ascii_case("ID"));
    let alone = [&claims.nonce, &claims.at_hash, &claims.c_hash];
    is_called_so || is_called(header, &["ID"]) || alone.into_iter().any(Option::is_some)
}

/// Whether a token's header calls it one of these. `at+jwt` is RFC 9068's name for what is for calling, in either form (4).
fn is_called(header: &Header, names: &[&str]) -> bool {
    header.typ.as_ref().is_some_and(|typ| names.iter().any(|name| typ.eq_ignore_ascii_case(name)))
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
    async fn verify(&self, token: &str, now: Timestamp) -> Result<Option<Vouched>> {
        // Not verified: it only tells whose keys to look at, of those that we trust.
        let Ok(Issued { iss }) = jsonwebtoken::dangerous::insecure_decode_claims(token) else {
            return Ok(None);
        };
        let mut issuers = self.issuers.iter();
        match issuers.find(|trusted| trusted.provider.issuer.as_str() == iss) {
            Some(issuer) => issuer.verify(token, now).await,
            None => Ok(None),
        }
    }
}

impl TrustedIssuer {
    async fn verify(&self, token: &str, now: Timestamp) -> Result<Option<Vouched>> {
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
        Ok(keys.find_map(|key| self.claims(token, key)).and_then(|claims| self.vouched(claims, now)))
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
        let TokenData { header, claims, .. } = claims.ok()?;
        self.is_meant(&header, &claims).then_some(claims)
    }

    /// Whether a token is for us, and for calling. Where it has an `aud`, the verifier has looked at it.
    fn is_meant(&self, header: &Header, claims: &AccessTokenClaims) -> bool {
        let for_calling = match &claims.token_use {
            Some(used) => used == "access",
            None => {
                is_called(header, &["at+jwt", "application/at+jwt"]) || !is_identity_token(header, claims)
            }
        };
        let client = claims.client_id.as_ref().filter(|_| claims.token_use.is_some());
        for_calling && (claims.aud.is_some() || client.is_some_and(|client| self.audiences.contains(client)))
    }

    fn vouched(&self, claims: AccessTokenClaims, now: Timestamp) -> Option<Vouched> {
        let time = |seconds| {
            let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
            Timestamp::UNIX_EPOCH.checked_add(since_epoch).ok()
        };
        let issued_at = time(claims.iat)?;
        if let Err(error) = made_lately(issued_at.as_second(), Some(MOST_OF_AGE), now) {
            tracing::debug!(issuer = self.provider.issuer.as_str(), error, "an access token is refused");
            return None;
        }
        Some(Vouched {
            identity: Identity::new(self.provider.issuer.as_str(), claims.sub).ok()?,
            signed_in_at: time(claims.auth_time.unwrap_or(claims.iat))?,
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
    use serde_json::{Value, json};

    use super::*;
    use crate::http::Http;

    #[test]
    fn an_identity_token_is_not_for_calling() {
        let provider = Provider::new("https://issuer.example", &Http::new([""; 0])).unwrap();
        let issuer = TrustedIssuer { provider, audiences: vec!["ours".to_owned()] };
        let is_meant = |typ: &str, more: Value| {
            let mut claims = json!({"sub": "1", "iat": 1, "aud": "ours"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let header = Header { typ: Some(typ.to_owned()), ..Header::new(Algorithm::RS256) };
            issuer.is_meant(&header, &serde_json::from_value(claims).unwrap())
        };
        for good in [
            json!({}),
            json!({"typ": "Bearer"}),
            json!({"nonce": null}),
            json!({"token_use": "access"}),
            json!({"token_use": "access", "aud": null, "client_id": "ours"}),
        ] {
            assert!(is_meant("JWT", good.clone()) && is_meant("at+jwt", good.clone()), "{good}");
        }
        for of_identity in
            [json!({"nonce": "n"}), json!({"at_hash": "h"}), json!({"c_hash": "h"}), json!({"typ": "ID"})]
        {
            assert!(!is_meant("JWT", of_identity.clone()), "{of_identity}");
            assert!(is_meant("application/AT+JWT", of_identity), "its header says what it is");
        }
        assert!(!is_meant("ID", json!({})));
        for bad in [
            json!({"token_use": "id"}),
            json!({"aud": null}),
            json!({"aud": null, "client_id": "ours"}),
            json!({"token_use": "access", "aud": null, "client_id": "another"}),
        ] {
            assert!(!is_meant("JWT", bad.clone()) && !is_meant("at+jwt", bad.clone()), "{bad}");
        }
    }
}
