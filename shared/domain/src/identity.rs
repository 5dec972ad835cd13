//! Outside identities: who a person is to an issuer of OpenID Connect that we trust, and the account that is theirs here.
//!
//! An issuer's subject is one person for good (OpenID Connect Core 1.0, 2), and so an identity is one account's. An
//! account may have several: each proves as much as its password, if it has one at all.
//!
//! Where an account is closed, its identities are marked as left for [`LEFT_SECONDS`]. Who signs in after that begins anew; but
//! an access token of a sign-in before is of the account that they closed, and must not make another, however often an
//! app has it refreshed.

use std::future::Future;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{
    Result, account::Account, error::Invalid, outside_sign_in::MOST_OF_TOKEN_AGE_SECONDS, person::Profile,
    time::Timestamp,
};

/// How long an app may have its access tokens refreshed without a sign-in, in seconds: 30 days, as Amazon Cognito has it where
/// nobody sets anything else.
/// <https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-refresh-token.html>
const REFRESH_SECONDS: u64 = 30 * 24 * 60 * 60;

/// How long it is kept that somebody has left, in seconds: until no access token of a sign-in before is good, of those that are
/// refreshed too, and an hour for clocks that differ.
pub const LEFT_SECONDS: u64 = REFRESH_SECONDS + MOST_OF_TOKEN_AGE_SECONDS + 60 * 60;

/// Somebody, as an issuer knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    issuer: String,
    subject: String,
}

impl Identity {
    /// The person whom an issuer calls `subject`: text of at most 255 characters, as OpenID Connect Core 1.0, 2 has it.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Result<Self, Invalid> {
        let (issuer, subject) = (issuer.into(), subject.into());
        let is_text = |text: &str, most: usize| {
            !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
        };
        // The length of an issuer's address is nowhere bounded: this is what browsers take.
        if is_text(&issuer, 2_048) && is_text(&subject, 255) {
            Ok(Self { issuer, subject })
        } else {
            Err(Invalid::new("invalid_identity", "must be an issuer, and a subject of 1 to 255 characters"))
        }
    }

    /// Who says so: the `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it calls the person: their `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What tells two identities apart, of one length whatever they are. Neither part has a NUL, so no two are the same.
    #[must_use]
    pub fn key(&self) -> String {
        let digest = Sha256::new().chain_update(&self.issuer).chain_update([0]).chain_update(&self.subject);
        BASE64_URL_SAFE_NO_PAD.encode(digest.finalize())
    }
}

/// Whose an identity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody's.
    Nobody,
    /// An account's.
    Account(Account),
    /// Nobody's since the account was closed whose it was. It is kept for [`LEFT_SECONDS`], and may be found a little longer:
    /// no token of a sign-in before is good then.
    Left(Timestamp),
}

impl Holder {
    /// Since when it is left, if it is.
    #[must_use]
    pub const fn left_at(&self) -> Option<Timestamp> {
        match self {
            Self::Left(at) => Some(*at),
            Self::Nobody | Self::Account(_) => None,
        }
    }
}

/// Finds and makes accounts by an identity.
pub trait Identities: Sync {
    /// Whose an identity is, read consistently.
    fn find(&self, identity: &Identity) -> impl Future<Output = Result<Holder>> + Send;

    /// Gives an account another identity, in one transaction: only while it is there, and has the address that it has in
    /// `account`, since that may be why it is given.
    fn link(&self, identity: &Identity, account: &Account) -> impl Future<Output = Result<Linked>> + Send;

    /// Makes an account, its profile and its first identity, in one transaction: only while the identity is nobody's, and
    /// is left since when it was found to be, if it was. An address of the account is one that the issuer has verified:
    /// registrations of it that wait for their mail are void then.
    fn register(
        &self,
        account: &Account,
        identity: &Identity,
        left_at: Option<Timestamp>,
        profile: &Profile,
    ) -> impl Future<Output = Result<NewIdentity>> + Send;
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The identity is the account's, now or since before.
    Done,
    /// It is another account's.
    Taken,
    /// The account is gone, or has another address.
    Superseded,
}

/// What became of a registration by an identity. Nothing is stored unless it is [`Self::Stored`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewIdentity {
    /// It is stored.
    Stored,
    /// The identity is not as it was found: it is an account's by now, or was left. By another request of the same person,
    /// most likely.
    Taken,
    /// Somebody has shown that the address is theirs.
    EmailTaken,
    /// Somebody has this name, or it is reserved for another address, or for who had it before.
    UsernameTaken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_told_from_every_other() {
        let google = Identity::new("https://accounts.google.com", "117").unwrap();
        assert_eq!(google.key().len(), 43);
        for (issuer, subject) in [
            ("https://accounts.google.com", "1171"),
            ("https://accounts.google.com1", "17"),
            ("https://appleid.apple.com", "117"),
        ] {
            assert_ne!(Identity::new(issuer, subject).unwrap().key(), google.key());
        }
        let long = "x".repeat(256);
        for (issuer, subject) in
            [("", "117"), ("https://a.example", ""), ("a", "1\0"), ("a\0", "1"), ("a", &long)]
        {
            assert!(Identity::new(issuer, subject).is_err(), "{issuer:?} {subject:?}");
        }
    }
}
