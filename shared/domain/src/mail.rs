//! Mail: addresses, and what we write to them.

use std::{fmt, future::Future, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    account::{Account, Username},
    error::Invalid,
    ids::UserId,
    input::{Fields, text},
    secret::{Secret, SecretHash},
    time::Timestamp,
};

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
    pub fn verification(to: EmailAddress, username: &Username, token: &Secret, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\nwelcome to Tocsin. With this address the account \"{username}\" was registered on {}. \
             If that was you, confirm it with this code in the app:\n\n\
             {}\n\nThe code is good for 24 hours, and for this one registration: if you got several mails, use the code \
             of the one that has your name and your time. If you did not register, do nothing, and do not give the code \
             to anybody: the account will be removed.\n",
            moment(now),
            token.encode()
        );
        Self { to, subject: "Confirm your mail address".to_owned(), body }
    }
}

impl Mail {
    /// Tells who has left that their account is closed.
    #[must_use]
    pub fn account_closed(to: EmailAddress, username: &Username, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\nyour account at Tocsin was closed on {}, and what is kept of you is being erased: this is \
             the last mail that comes from us. If it was not you who closed it, write to us: https://tocsin.dev\n",
            moment(now)
        );
        Self { to, subject: "Your account was closed".to_owned(), body }
    }

    /// Brings somebody the token to set another password with.
    #[must_use]
    pub fn password_reset(to: EmailAddress, username: &Username, token: &Secret) -> Self {
        let body = format!(
            "Hello {username},\n\nsomebody, probably you, wants to set another password for your account at Tocsin. Enter \
             this code in the app, with the new password:\n\n{}\n\nThe code is good for an hour, and once. It ends all \
             sessions. If that was not you, do nothing, and do not give the code to anybody: your password stays as it \
             is.\n",
            token.encode()
        );
        Self { to, subject: "Set another password".to_owned(), body }
    }

    /// Tells somebody that their password is another one.
    #[must_use]
    pub fn password_changed(to: EmailAddress, username: &Username, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\nthe password of your account at Tocsin was changed on {}, and other sessions were \
             ended. If that was not you, set another password in the app at once (\"forgotten password\").\n",
            moment(now)
        );
        Self { to, subject: "Your password was changed".to_owned(), body }
    }

    /// Asks somebody to prove that an address is theirs, before it takes the place of another one.
    #[must_use]
    pub fn email_change(to: EmailAddress, username: &Username, token: &Secret) -> Self {
        let body = format!(
            "Hello {username},\n\nthe account \"{username}\" at Tocsin is to have this mail address. If you asked for \
             that, confirm it with this code in the app, signed in to that account:\n\n{}\n\nThe code is good for 24 \
             hours. If you did not ask for it, do nothing, and do not give the code to anybody.\n",
            token.encode()
        );
        Self { to, subject: "Confirm your new mail address".to_owned(), body }
    }

    /// Tells the owner of an account that somebody else asked for its address.
    #[must_use]
    pub fn email_asked_for(to: EmailAddress, username: &Username, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\non {} somebody asked for another account at Tocsin to have this mail address. It is \
             that of your account \"{username}\", and stays so: nothing has changed. If that was you, give your account \
             another address first. If it was not, do nothing.\n",
            moment(now)
        );
        Self { to, subject: "Somebody asked for your mail address".to_owned(), body }
    }

    /// Tells the old address of an account that it has another one.
    #[must_use]
    pub fn email_changed(to: EmailAddress, username: &Username, now: Timestamp) -> Self {
        let body = format!(
            "Hello {username},\n\nyour account at Tocsin has had another mail address since {}: this is the last mail \
             about it that comes here. If that was not you, write to us: https://tocsin.dev\n",
            moment(now)
        );
        Self { to, subject: "Your mail address was changed".to_owned(), body }
    }
}

fn moment(time: Timestamp) -> impl fmt::Display {
    time.strftime("%Y-%m-%d at %H:%M:%S UTC")
}

/// Reads a body that has the token of a mail, and nothing else. What we never wrote into one is refused as a token that is not
/// valid any more: `invalid`.
pub(crate) fn token_from_json(
    body: &Value,
    invalid: impl FnOnce() -> Refusal,
) -> Result<SecretHash, Refusal> {
    let mut fields = Fields::of(body)?;
    let token = fields.required("token", text(1, 200));
    let Some(token) = token else { return Err(fields.refusal()) };
    fields.finish()?;
    Ok(Secret::decode(&token).ok_or_else(invalid)?.hash())
}

/// Tells the owner of an account what has been done, if it has an address. What has been done stays done where the mail is
/// not sent.
pub(crate) async fn tell(mailer: &impl Mailer, account: &Account, mail: impl FnOnce(EmailAddress) -> Mail) {
    let Some(email) = account.email.clone() else { return };
    if let Err(error) = mailer.send(&mail(email)).await {
        tracing::error!(%error, user_id = %account.user_id, "a mail that tells of a change was not sent");
    }
}

/// The refusal where a mail that is waited for was not sent.
pub(crate) fn not_sent(error: &Error, owner: UserId, detail: &str) -> Refusal {
    tracing::error!(%error, user_id = %owner, "a mail with a token was not sent");
    Refusal::unavailable("mail_unavailable", detail, Duration::from_secs(30))
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
