//! Secrets that we hand out once and keep only as a hash: a mail's token, a session's token.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// 256 random bits.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one, from the operating system's generator.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|cause| Error::unavailable("random numbers", cause.to_string()))?;
        Ok(Self(bytes))
    }

    /// The one that follows this, for those who know the salt: HMAC-SHA-256 of it. Neither the salt without this secret,
    /// nor this secret without the salt, tells what it is.
    #[must_use]
    pub fn successor(&self, salt: &Salt) -> Self {
        // HMAC takes a key of any length: `ok` cannot fail, and an unkeyed digest would be told apart by no one.
        let mac = Hmac::<Sha256>::new_from_slice(&salt.0)
            .map(|mac| mac.chain_update(self.0).finalize().into_bytes());
        Self(mac.map_or([0; 32], Into::into))
    }

    /// Another secret for one use of this, whose name tells it from those for others: HMAC-SHA-256. None tells another, or
    /// this one.
    #[must_use]
    pub fn derived(&self, use_of_it: &str) -> Self {
        // HMAC takes a key of any length: `ok` cannot fail, and an unkeyed digest would be told apart by no one.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map(|mac| mac.chain_update(use_of_it).finalize().into_bytes());
        Self(mac.map_or([0; 32], Into::into))
    }

    /// What is stored of it. A random 256-bit secret needs no slow hash.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }

    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From text.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Debug)]
pub struct SecretHash([u8; 32]);

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl SecretHash {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From text.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        Secret::decode(text).map(|Secret(bytes)| Self(bytes))
    }
}

/// The salt of a session, with which each token's successor is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(…)")
    }
}

impl Salt {
    /// A new one.
    pub fn random() -> Result<Self> {
        Secret::random().map(|Secret(bytes)| Self(bytes))
    }

    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From text.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        Secret::decode(text).map(|Secret(bytes)| Self(bytes))
    }
}
