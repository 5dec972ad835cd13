//! Settings: what a function reads from its environment, as types.
//!
//! A function names what it needs in its handler's signature, as a tuple of adapters and settings; each knows the variables
//! that it is made from. A start that fails names every variable that is missing or not valid, at once.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    env, fmt,
    num::NonZero,
};

use futures::future::{FutureExt as _, LocalBoxFuture, join_all};
use secrecy::SecretString;
use tocsin_domain::{
    access_token::{TokenSigner, TokenVerifier},
    audience::Sizes,
    moderation::FlagsToWithhold,
};

/// Something that is read from the environment.
pub trait Setting: Sized {
    /// Reads it, or notes why it cannot be.
    fn read(environment: &mut Environment<'_>) -> Option<Self>;
}

/// The environment, and what was found wrong with it.
pub struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
    shared: HashMap<TypeId, Box<dyn Any>>,
    ahead: Vec<LocalBoxFuture<'static, ()>>,
}

/// Why a function cannot start: every variable that is missing or not valid.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsError(Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for SettingsError {}

/// Reads settings from the process's environment; and answers what they do ahead of the first invocation.
pub fn read<S: Setting>() -> Result<(S, impl Future<Output = ()>), SettingsError> {
    read_from(&|name| env::var(name).ok())
}

/// Reads settings from anywhere.
pub fn read_from<S: Setting>(
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<(S, impl Future<Output = ()> + use<S>), SettingsError> {
    let mut environment =
        Environment { get, problems: Vec::new(), shared: HashMap::new(), ahead: Vec::new() };
    let settings = S::read(&mut environment);
    let Environment { problems, ahead, .. } = environment;
    let settings = settings.filter(|_| problems.is_empty()).ok_or(SettingsError(problems))?;
    Ok((settings, join_all(ahead).map(drop)))
}

impl Environment<'_> {
    /// A variable that must be there, and not be empty.
    pub fn required(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.refuse(name, "is missing");
        }
        value
    }

    /// A variable that may be missing; an empty one is.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Something that several settings are made from: the same one each time.
    pub fn shared<T: Clone + 'static>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(shared) =
            self.shared.get(&TypeId::of::<T>()).and_then(|shared| shared.downcast_ref::<T>())
        {
            return shared.clone();
        }
        let shared = make(self);
        self.shared.insert(TypeId::of::<T>(), Box::new(shared.clone()));
        shared
    }

    /// Does something while the first invocation is waited for, as far as it comes: connections take the longest of a
    /// cold start, and are made at the same time.
    pub fn ahead(&mut self, work: impl Future<Output = ()> + 'static) {
        self.ahead.push(work.boxed_local());
    }

    /// Notes that a variable is not valid. Its value is not told: it may be a secret.
    pub fn refuse(&mut self, name: &str, reason: impl fmt::Display) {
        let problem = format!("{name} {reason}");
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("problems", &self.problems).finish_non_exhaustive()
    }
}

/// The public keys of access tokens, as they are published: a JWKS (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenJwks(pub String);

impl Setting for AccessTokenJwks {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        environment.required(JWKS).map(Self)
    }
}

impl Setting for TokenVerifier {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let jwks = environment.required(JWKS);
        let issuer = environment.required(ISSUER);
        let verifier = Self::new(&jwks?, &issuer?);
        verifier.map_err(|error| environment.refuse(JWKS, format_args!("cannot be used: {error}"))).ok()
    }
}

impl Setting for TokenSigner {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let key = environment.required(PRIVATE_KEY).map(SecretString::from);
        let jwks = environment.required(JWKS);
        let issuer = environment.required(ISSUER);
        let signer = Self::new(&key?, &jwks?, &issuer?);
        signer.map_err(|error| environment.refuse(PRIVATE_KEY, format_args!("cannot be used: {error}"))).ok()
    }
}

impl Setting for Sizes {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let large_key = environment.required(LARGE_AUDIENCE)?.parse();
        let large_key = large_key.map_err(|_| environment.refuse(LARGE_AUDIENCE, "is no number")).ok()?;
        let part =
            environment.optional(AUDIENCE_PART).map_or(Ok(Self::PART), |text| text.parse().map(NonZero::get));
        let part =
            part.map_err(|_| environment.refuse(AUDIENCE_PART, "is no whole number from 1 on")).ok()?;
        Some(Self { large_key, part })
    }
}

impl Setting for FlagsToWithhold {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let flags = environment.required(FLAGS_TO_WITHHOLD)?.parse();
        let refuse = |_| environment.refuse(FLAGS_TO_WITHHOLD, "is no whole number from 1 on");
        flags.map_err(refuse).ok().map(Self)
    }
}

const FLAGS_TO_WITHHOLD: &str = "FLAGS_TO_WITHHOLD";
const LARGE_AUDIENCE: &str = "LARGE_AUDIENCE";
/// How many entries a part of an audience has, where it is not [`Sizes::PART`]: tests make it small, so that few people are
/// many steps.
const AUDIENCE_PART: &str = "AUDIENCE_PART";
const ISSUER: &str = "ACCESS_TOKEN_ISSUER";
const JWKS: &str = "ACCESS_TOKEN_JWKS";
const PRIVATE_KEY: &str = "ACCESS_TOKEN_PRIVATE_KEY";

impl Setting for () {
    fn read(_: &mut Environment<'_>) -> Option<Self> {
        Some(())
    }
}

macro_rules! tuple_settings {
    ($($name:ident)+) => {
        impl<$($name: Setting),+> Setting for ($($name,)+) {
            fn read(environment: &mut Environment<'_>) -> Option<Self> {
                // Each is read before the first that is missing ends it.
                let read = ($($name::read(environment),)+);
                #[expect(non_snake_case, reason = "the names are those of the types")]
                let ($($name,)+) = read;
                Some(($($name?,)+))
            }
        }
    };
}

tuple_settings!(A);
tuple_settings!(A B);
tuple_settings!(A B C);
tuple_settings!(A B C D);
tuple_settings!(A B C D E);
tuple_settings!(A B C D E F);
tuple_settings!(A B C D E F G);
tuple_settings!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use super::*;

    fn read<S: Setting>(variables: &[(&str, &str)]) -> Result<S, SettingsError> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read_from(&get).map(|(settings, _)| settings)
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let variables = [("ACCESS_TOKEN_ISSUER", " "), ("ACCESS_TOKEN_PRIVATE_KEY", "secret")];
        let error = read::<(TokenSigner, TokenVerifier)>(&variables).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "ACCESS_TOKEN_JWKS is missing; ACCESS_TOKEN_ISSUER is missing");
        let variables = [
            ("ACCESS_TOKEN_ISSUER", "i"),
            ("ACCESS_TOKEN_JWKS", "{"),
            ("ACCESS_TOKEN_PRIVATE_KEY", "secret"),
        ];
        let error = read::<(TokenSigner, TokenVerifier)>(&variables).map(drop).unwrap_err().to_string();
        assert!(error.contains("ACCESS_TOKEN_PRIVATE_KEY cannot be used"), "{error}");
        assert!(error.contains("ACCESS_TOKEN_JWKS cannot be used") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_is_there_is_read() {
        let (jwks, ()) = read::<(AccessTokenJwks, ())>(&[("ACCESS_TOKEN_JWKS", " {} ")]).unwrap();
        assert_eq!(jwks.0, "{}");
    }

    #[test]
    fn a_part_of_an_audience_is_as_large_as_is_said_or_as_usual() {
        let sizes = |part| read::<Sizes>(&[("LARGE_AUDIENCE", "10"), ("AUDIENCE_PART", part)]);
        assert_eq!(sizes("").unwrap(), Sizes { large_key: 10, part: Sizes::PART });
        assert_eq!(sizes("2").unwrap().part, 2);
        let error = sizes("0").unwrap_err();
        assert_eq!(error.to_string(), "AUDIENCE_PART is no whole number from 1 on");
    }
}
