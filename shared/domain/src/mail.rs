//! Mail: addresses, and what we write to them.

use std::{fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Result, error::Invalid, secret::Secret, time::Timestamp};

/// A mail address, with its domain in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What tells two people apart: the whole in lower case, since no provider of today lets `Ada@` and `ada@` be two.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl FromStr for EmailAddress {
    type Err = Invalid;

    /// The form that HTML's `input type=email` takes, up to 254 characters (RFC 5321, 4.5.3.1.3). Only the mail that
    /// arrives shows that an address is real.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("invalid_email", "must be a mail address");
        let (local, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
        let local_char = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        if text.len() <= 254
            && (1..=64).contains(&local.len())
            && local.chars().all(local_char)
            && dots
            && domain.contains('.')
            && domain.split('.').all(label)
        {
            Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase())))
        } else {
            Err(invalid())
        }
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mail to one person.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: EmailAddress,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

impl fmt::Debug for Mail {
    /// Without its text, which has the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("to", &self.to).field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Mail {
    /// Asks somebody to prove that an address is theirs. Others may have registered it as well, with passwords of their
    /// own, so the mail says which registration it is about.
    #[must_use]
    pub fn verification(to: EmailAddress, username: &str, token: &Secret, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\nwelcome to Tocsin. With this address the account \"{username}\" was registered on {}. \
             If that was you, confirm it with this code in the app:\n\n\
             {}\n\nThe code is good for 24 hours, and for this one registration: if you got several mails, use the code \
             of the one that has your name and your time. If you did not register, do nothing, and do not give the code \
             to anybody: the account will be removed.\n",
            now.strftime("%Y-%m-%d at %H:%M:%S UTC"),
            token.encode()
        );
        Self { to, subject: "Confirm your mail address".to_owned(), body }
    }
}

/// Sends mail.
pub trait Mailer: Sync {
    /// Returns once the mail is accepted for delivery.
    fn send(&self, mail: &Mail) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_mail_can_reach() {
        for good in ["ada@example.org", "a.b+c@Example.ORG", "o'hara@sub.example.co.uk"] {
            assert!(good.parse::<EmailAddress>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "a b@example.org",
            "ada@localhost",
            "a..b@example.org",
            "ada@-x.org",
        ] {
            assert!(bad.parse::<EmailAddress>().is_err(), "{bad}");
        }
        assert_eq!("Ada@Example.ORG".parse::<EmailAddress>().unwrap().as_str(), "Ada@example.org");
    }
}
