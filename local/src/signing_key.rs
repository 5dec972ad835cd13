//! The key that access tokens of this machine are signed with: made once, and kept with the data.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};

/// The DER of a PKCS#8 Ed25519 key (RFC 8410, 7), up to its 32 bytes.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key, as functions get it.
#[derive(Clone)]
pub struct SigningKey {
    /// PKCS#8 in PEM.
    pub private_pem: String,
    /// The public half, as a JSON Web Key Set whose `kid` is the key's thumbprint (RFC 7638).
    pub jwks: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self> {
        let mut der = PKCS8_PREFIX.to_vec();
        der.extend(rand::random::<[u8; 32]>());
        Self::of(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        ))
    }

    /// The key in a file, which is made if it is not there.
    pub fn kept_in(file: &Path) -> Result<Self> {
        match fs::read_to_string(file) {
            Ok(pem) => Self::of(pem),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let key = Self::generate()?;
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
                file.write_all(key.private_pem.as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(error.into()),
        }
        .with_context(|| format!("the signing key {}", file.display()))
    }

    /// The key of a PKCS#8 PEM.
    pub fn of(private_pem: String) -> Result<Self> {
        let key = EncodingKey::from_ed_pem(private_pem.as_bytes())?;
        let mut public = Jwk::from_encoding_key(&key, Algorithm::EdDSA)?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let jwks = serde_json::to_string(&JwkSet { keys: vec![public] })?;
        Ok(Self { private_pem, jwks })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Header, Validation, decode, encode};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_it_signs_is_verified_by_its_jwks() {
        let key = SigningKey::generate().unwrap();
        let jwks: JwkSet = serde_json::from_str(&key.jwks).unwrap();
        let private = EncodingKey::from_ed_pem(key.private_pem.as_bytes()).unwrap();
        let token =
            encode(&Header::new(Algorithm::EdDSA), &json!({"exp": 4_000_000_000_u64}), &private).unwrap();
        let public = DecodingKey::from_jwk(&jwks.keys[0]).unwrap();
        decode::<Value>(token.as_bytes(), &public, &Validation::new(Algorithm::EdDSA)).unwrap();
        let kid = jwks.keys[0].common.key_id.clone().unwrap();
        assert_eq!(kid, jwks.keys[0].thumbprint(ThumbprintHash::SHA256).unwrap());
        assert!(!key.jwks.contains("\"d\""), "{}", key.jwks);
    }

    #[test]
    fn it_is_kept() {
        let folder = std::env::temp_dir().join(format!("tocsin-key-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("key.pem");
        let first = SigningKey::kept_in(&file).unwrap();
        assert_eq!(SigningKey::kept_in(&file).unwrap().jwks, first.jwks);
        fs::remove_dir_all(folder).unwrap();
    }
}
