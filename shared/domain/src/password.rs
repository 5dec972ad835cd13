//! Passwords: argon2id at OWASP's strength (m = 19 MiB, t = 2, p = 1), 12 to 128 characters, no rules of composition
//! (NIST SP 800-63B, 3.1.1.2), common ones refused.

use std::{fmt, sync::LazyLock};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash as Phc, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::{SaltString, rand_core::OsRng},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, account::Account, error::Invalid, input, mail::EmailAddress};

/// A password that somebody sent: not necessarily a good one.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// A stored password: a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// What tells it from every other, and tells nothing of it: each hash has a salt of its own.
    #[must_use]
    pub fn mark(&self) -> PasswordMark {
        PasswordMark(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&self.0)))
    }
}

/// Which password was an account's, for what ends when it changes: sessions, and the tokens of mails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordMark(String);

/// Memory in KiB: 19 MiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static ARGON2: LazyLock<Argon2<'static>> = LazyLock::new(|| {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
});

/// What is verified for an account that does not exist, so that it takes the same time, also the first time: random
/// bytes where others have a salt and a hash.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$X71IWJ3xlXEo1XPBUcx3Xw$PZ+1LIWXcPmh+Xb3TlWAHPIiQFBs1JxnQn+o4Nxr4UA";

impl Password {
    /// Reads a password to sign in with: any text that could be one.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let text = input::string(value)?;
        let length = text.chars().count();
        if length == 0 {
            return Err(Invalid::new("too_short", "must have at least 1 character"));
        }
        if length > 128 {
            return Err(Invalid::new("too_long", "must have at most 128 characters"));
        }
        Ok(Self(text.into()))
    }

    /// Reads a new password: of 12 to 128 characters.
    pub fn read_new(value: &Value) -> Result<Self, Invalid> {
        let text = input::string(value)?;
        match text.chars().count() {
            0..12 => Err(Invalid::new("too_short", "must have at least 12 characters")),
            12..=128 => Ok(Self(text.into())),
            _ => Err(Invalid::new("too_long", "must have at most 128 characters")),
        }
    }

    /// Refuses a password that is guessed early: a common one, a keyboard's row, the person's own name.
    pub fn must_not_be_common(&self, about: &[&str]) -> Result<(), Invalid> {
        // 0 to 4: below 2 it takes fewer than a million guesses.
        if u8::from(zxcvbn::zxcvbn(self.0.expose_secret(), about).score()) < 2 {
            let detail = "is one of those that are tried first; choose another, such as four words at random";
            return Err(Invalid::new("password_too_common", detail));
        }
        Ok(())
    }

    /// Refuses a password that is guessed early by who knows the account.
    pub fn must_not_be_common_of(&self, account: &Account) -> Result<(), Invalid> {
        let (username, email) = (account.username.to_string(), account.email.as_ref());
        self.must_not_be_common(&[email.map_or("", EmailAddress::as_str), &username, "tocsin"])
    }

    /// What is stored of it. Takes some 20 ms and 19 MiB, by design.
    pub fn hash(&self) -> Result<PasswordHash> {
        let salt = SaltString::generate(&mut OsRng);
        ARGON2
            .hash_password(self.0.expose_secret().as_bytes(), &salt)
            .map(|phc| PasswordHash(phc.to_string()))
            .map_err(|cause| Error::unavailable("argon2", cause.to_string()))
    }

    /// Whether it is the one of this hash; for no hash, no, in the same time.
    #[must_use]
    pub fn is(&self, hash: Option<&PasswordHash>) -> bool {
        let matches = Phc::new(hash.map_or(NOBODY, |PasswordHash(phc)| phc))
            .is_ok_and(|phc| ARGON2.verify_password(self.0.expose_secret().as_bytes(), &phc).is_ok());
        matches && hash.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_it() {
        let password = Password("correct horse battery staple".into());
        let hash = password.hash().unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(password.is(Some(&hash)));
        assert!(!Password("correct horse battery stable".into()).is(Some(&hash)));
        assert!(!password.is(None));
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    #[test]
    fn nobodys_password_costs_what_others_do() {
        let password = Password("correct horse battery staple".into()).hash().unwrap();
        let (nobody, somebody) = (Phc::new(NOBODY).unwrap(), Phc::new(&password.0).unwrap());
        assert_eq!(nobody.algorithm, somebody.algorithm);
        assert_eq!(nobody.params.to_string(), somebody.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), somebody.hash.unwrap().len());
        assert_eq!(nobody.salt.unwrap().len(), somebody.salt.unwrap().len());
    }

    #[test]
    fn common_passwords_are_refused() {
        for common in ["password1234", "qwertyuiop12", "123456789012", "aaaaaaaaaaaaaaaa"] {
            assert!(Password(common.into()).must_not_be_common(&[]).is_err(), "{common}");
        }
        assert!(Password("harbour lantern eleven".into()).must_not_be_common(&[]).is_ok());
    }
}
