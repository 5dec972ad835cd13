//! Who calls: by an access token of ours, which is verified with what is in the environment, and nothing is asked of
//! anybody.

use tocsin_domain::{
    Result,
    access_token::{Caller, TokenVerifier},
};

use crate::settings::{Environment, Setting};

/// Tells callers by their access tokens.
#[derive(Debug)]
pub struct Callers {
    ours: TokenVerifier,
}

impl Callers {
    /// Whose token it is. Whatever is wrong with it, the answer is the same.
    pub async fn of_token(&self, token: &str) -> Result<Caller> {
        Ok(self.ours.verify(token)?)
    }
}

impl Setting for Callers {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Some(Self { ours: TokenVerifier::read(environment)? })
    }
}
