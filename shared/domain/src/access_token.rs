//! Access tokens: JWTs of an hour, signed with Ed25519, that every function verifies by itself.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::JwkSet};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Refusal, Result,
    error::Kind,
    ids::{SessionId, UserId},
    time::{self, Timestamp},
};

/// How long an access token is good for, in seconds.
pub const LIFETIME_SECONDS: u64 = 60 * 60;
/// Whom the tokens are for: the `aud` of RFC 7519, 4.1.3.
const AUDIENCE: &str = "tocsin";
/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Who calls, as their access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their id.
    pub user_id: UserId,
    /// Their name, when the token was made.
    pub username: String,
    /// The session that the token belongs to, if it is one of ours.
    pub session_id: Option<SessionId>,
    /// What they may do.
    pub roles: Vec<Role>,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What everybody may.
    User,
    /// Keep posts, categories and feeds in order.
    Moderator,
    /// Let others in.
    Admin,
}

impl Caller {
    /// Whether they are a moderator.
    #[must_use]
    pub fn is_moderator(&self) -> bool {
        self.roles.contains(&Role::Moderator)
    }

    /// Refuses who is no moderator.
    pub fn must_moderate(&self) -> Result<(), Refusal> {
        if self.is_moderator() {
            Ok(())
        } else {
            Err(Refusal::new(Kind::Forbidden, "forbidden", "only moderators may do this"))
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: Option<SessionId>,
    preferred_username: String,
    roles: Vec<Role>,
    iat: i64,
    exp: i64,
}

/// Makes access tokens.
pub struct TokenSigner {
    key: EncodingKey,
    key_id: String,
    issuer: String,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Signs with an Ed25519 key in PKCS #8 PEM. Its public half must be the first key of the JWKS.
    pub fn new(private_key: &SecretString, jwks: &str, issuer: &str) -> Result<Self> {
        let unreadable = |cause: String| Error::unreadable("the signing key", cause);
        let key = EncodingKey::from_ed_pem(private_key.expose_secret().as_bytes())
            .map_err(|cause| unreadable(cause.to_string()))?;
        let key_id = parse_jwks(jwks)?
            .keys
            .into_iter()
            .find_map(|key| key.common.key_id)
            .ok_or_else(|| unreadable("no key of the JWKS has a `kid`".to_owned()))?;
        let signer = Self { key, key_id, issuer: issuer.to_owned() };
        if !signer.is_verified_by(&TokenVerifier::new(jwks, issuer)?)? {
            return Err(unreadable("it does not belong to the first key of the JWKS".to_owned()));
        }
        Ok(signer)
    }

    /// Whether tokens of this signer are good: a deployment with keys that do not belong together fails at its start, and
    /// not with everybody's first request.
    fn is_verified_by(&self, verifier: &TokenVerifier) -> Result<bool> {
        let now = time::now();
        let (user_id, session_id) = (UserId::new(now), SessionId::new(now));
        let nobody =
            Caller { user_id, username: String::new(), session_id: Some(session_id), roles: Vec::new() };
        Ok(verifier.verify(&self.sign(&nobody, now)?) == Ok(nobody))
    }

    /// A token for a caller.
    pub fn sign(&self, caller: &Caller, now: Timestamp) -> Result<String> {
        let iat = now.as_second();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: caller.user_id,
            sid: caller.session_id,
            preferred_username: caller.username.clone(),
            roles: caller.roles.clone(),
            iat,
            exp: iat.saturating_add_unsigned(LIFETIME_SECONDS),
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|cause| Error::unavailable("the token signer", cause))
    }
}

/// Verifies access tokens.
pub struct TokenVerifier {
    keys: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// Accepts tokens of an issuer that are signed with one of the keys of a JWKS (RFC 7517), and only with EdDSA.
    pub fn new(jwks: &str, issuer: &str) -> Result<Self> {
        let keys = parse_jwks(jwks)?.keys.into_iter().filter_map(|jwk| {
            let key = DecodingKey::from_jwk(&jwk).ok()?;
            Some((jwk.common.key_id?, key))
        });
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        Ok(Self { keys: keys.collect(), validation })
    }

    /// Whose token it is. Whatever is wrong with it, the answer is the same.
    pub fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let kid = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid);
        let key = kid.and_then(|kid| self.keys.iter().find(|(id, _)| *id == kid)).map(|(_, key)| key);
        let claims = key.and_then(|key| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok());
        let Claims { sub, sid, preferred_username, roles, .. } = claims.ok_or_else(invalid)?.claims;
        Ok(Caller { user_id: sub, username: preferred_username, session_id: sid, roles })
    }
}

/// The refusal of a request without an access token.
#[must_use]
pub fn missing() -> Refusal {
    Refusal::new(Kind::Unauthenticated, "token_missing", "send an access token: Authorization: Bearer …")
}

fn invalid() -> Refusal {
    Refusal::new(Kind::Unauthenticated, "token_invalid", "the access token is not valid, or no longer")
}

fn parse_jwks(jwks: &str) -> Result<JwkSet> {
    serde_json::from_str(jwks).map_err(|cause| Error::unreadable("the JWKS", cause))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::session::SessionToken;

    /// A key for these tests alone: 32 zeros.
    const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
                               MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\
                               -----END PRIVATE KEY-----\n";
    const PUBLIC_KEY: &str = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik";
    /// Another: 32 ones.
    const ANOTHER_PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
                                       MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
                                       -----END PRIVATE KEY-----\n";
    const ANOTHER_PUBLIC_KEY: &str = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";
    const ISSUER: &str = "tocsin.example";

    /// A JWKS whose keys are called by their numbers.
    fn jwks(public_keys: [&str; 2]) -> String {
        let jwk = |(i, x): (usize, &str)| json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": i.to_string(), "x": x});
        let keys: Vec<_> = public_keys.into_iter().enumerate().map(jwk).collect();
        json!({"keys": keys}).to_string()
    }

    fn signer(public_keys: [&str; 2]) -> Result<TokenSigner> {
        TokenSigner::new(&PRIVATE_KEY.into(), &jwks(public_keys), ISSUER)
    }

    #[test]
    fn a_signer_is_made_only_of_keys_that_belong_together() {
        signer([PUBLIC_KEY, ANOTHER_PUBLIC_KEY]).unwrap();
        let error = signer([ANOTHER_PUBLIC_KEY, PUBLIC_KEY]).unwrap_err().to_string();
        assert!(error.contains("first key of the JWKS"), "{error}");
    }

    #[test]
    fn only_what_we_made_for_calling_is_an_access_token() {
        let verifier = TokenVerifier::new(&jwks([PUBLIC_KEY, ANOTHER_PUBLIC_KEY]), ISSUER).unwrap();
        let now = time::now();
        let caller = Caller {
            user_id: UserId::new(now),
            username: "ada".to_owned(),
            session_id: Some(SessionId::new(now)),
            roles: vec![Role::User],
        };
        let signed = signer([PUBLIC_KEY, ANOTHER_PUBLIC_KEY]).unwrap().sign(&caller, now).unwrap();
        assert_eq!(verifier.verify(&signed).unwrap(), caller);

        let in_seconds = |seconds: i64| json!(now.as_second() + seconds);
        let usual = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": caller.user_id, "sid": caller.session_id,
            "preferred_username": "ada", "roles": ["user"], "iat": in_seconds(0), "exp": in_seconds(3_600),
        });
        let changed = |claim: &str, value: Value| {
            let mut claims = usual.clone();
            claims[claim] = value;
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            claims
        };
        let (ours, others) = [PRIVATE_KEY, ANOTHER_PRIVATE_KEY]
            .map(|key| EncodingKey::from_ed_pem(key.as_bytes()).unwrap())
            .into();
        let token = |algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey| {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
            jsonwebtoken::encode(&header, claims, key).unwrap()
        };
        let of_ours = |claims: &Value| token(Algorithm::EdDSA, Some("0"), claims, &ours);
        for (what, good) in [
            ("the usual one", of_ours(&usual)),
            ("with the next key", token(Algorithm::EdDSA, Some("1"), &usual, &others)),
            ("expired a moment ago, by another clock", of_ours(&changed("exp", in_seconds(-15)))),
        ] {
            assert_eq!(verifier.verify(&good).as_ref(), Ok(&caller), "{what}");
        }

        let public_key = BASE64_URL_SAFE_NO_PAD.decode(PUBLIC_KEY).unwrap();
        let shared_secrets = [public_key.as_slice(), PUBLIC_KEY.as_bytes()].map(EncodingKey::from_secret);
        let [hmac_of_bytes, hmac_of_text] =
            shared_secrets.map(|secret| token(Algorithm::HS256, Some("0"), &usual, &secret));
        let usual_token = of_ours(&usual);
        let (signed_part, signature) = usual_token.rsplit_once('.').unwrap();
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let none_header = part(&json!({"alg": "none", "typ": "JWT", "kid": "0"}));
        let session_token = BASE64_URL_SAFE_NO_PAD.encode([7; 64]);
        SessionToken::decode(&session_token).unwrap();
        for (what, bad) in [
            ("wrong issuer", of_ours(&changed("iss", json!("another.example")))),
            ("no issuer", of_ours(&changed("iss", Value::Null))),
            ("wrong audience", of_ours(&changed("aud", json!("another")))),
            ("no audience", of_ours(&changed("aud", Value::Null))),
            ("expired", of_ours(&changed("exp", in_seconds(-45)))),
            ("never expires", of_ours(&changed("exp", Value::Null))),
            ("nobody's", of_ours(&changed("sub", Value::Null))),
            ("unknown key", token(Algorithm::EdDSA, Some("2"), &usual, &ours)),
            ("no key", token(Algorithm::EdDSA, None, &usual, &ours)),
            ("another key's signature", token(Algorithm::EdDSA, Some("0"), &usual, &others)),
            ("another token's signature", format!("{none_header}.{}.{signature}", part(&usual))),
            ("no signature", format!("{signed_part}.")),
            ("none", format!("{none_header}.{}.", part(&usual))),
            ("the public key as a shared secret", hmac_of_bytes),
            ("its text as a shared secret", hmac_of_text),
            ("a session token", session_token),
            ("nothing", String::new()),
        ] {
            assert_eq!(verifier.verify(&bad), Err(invalid()), "{what}");
        }
    }
}
