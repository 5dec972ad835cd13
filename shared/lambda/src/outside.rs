//! Issuers of identities as settings: those that people may sign in with, each only if it is set up, and those whose access
//! tokens are trusted.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tocsin_adapters::{
    feed_source::HttpFeedSource,
    http::Http,
    openid::{AppTokens, Provider, TrustedIssuers, WebClient},
};
use tocsin_domain::{
    Refusal,
    error::Invalid,
    input::bounded,
    outside_sign_in::{WebAnswer, WebOutcome, not_set_up},
};

use crate::{
    query::Query,
    response::Cookie,
    settings::{Environment, Setting},
};

/// The path that Google sends browsers back to: that of `complete-google-sign-in`.
const GOOGLE_CALLBACK: &str = "/v1/auth/social/web/google/callback";
/// How old an identity token of Apple may be. The app gets a new one at each sign-in, and brings it at once.
const APPLE_MAX_AGE: Duration = Duration::from_mins(10);

impl Setting for Http {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Some(environment.shared(|environment| Self::new(allowed_hosts(environment))))
    }
}

impl Setting for HttpFeedSource {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Http::read(environment).map(|http| Self::new(&http))
    }
}

fn allowed_hosts(environment: &Environment<'_>) -> Vec<String> {
    list(&environment.optional("OUTGOING_ALLOWED_HOSTS").unwrap_or_default())
}

/// The parts of a text with commas between.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Google, if people may sign in with it.
#[derive(Debug)]
pub struct Google(Option<WebClient>);

impl Google {
    /// The client, or why there is none.
    pub fn client(&self) -> Result<&WebClient, Refusal> {
        self.0.as_ref().ok_or_else(|| not_set_up("Google"))
    }
}

impl Setting for Google {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let Some(client_id) = environment.optional("GOOGLE_CLIENT_ID") else { return Some(Self(None)) };
        let provider = issuer(environment, "GOOGLE_ISSUER");
        let secret = environment.required("GOOGLE_CLIENT_SECRET").map(SecretString::from);
        let here = environment.required("PUBLIC_URL");
        let (provider, secret, here) = (provider?, secret?, here?);
        let callback = format!("{}{GOOGLE_CALLBACK}", here.trim_end_matches('/'));
        let client = WebClient::new(provider, &client_id, &secret, &callback);
        client.map_err(|error| environment.refuse("PUBLIC_URL", error)).ok().map(|client| Self(Some(client)))
    }
}

/// The cookie that binds Google's answer to the browser that was sent there.
pub const COOKIE: &str = "__Host-tocsin-google";
/// How long somebody may take to sign in there, in seconds: 10 minutes.
const ATTEMPT_SECONDS: u32 = 600;

/// That cookie, with its value.
#[must_use]
pub const fn kept(value: &str) -> Cookie<'_> {
    Cookie { name: COOKIE, value, max_age: ATTEMPT_SECONDS }
}

/// That cookie, to be forgotten.
#[must_use]
pub const fn forgotten() -> Cookie<'static> {
    Cookie { name: COOKIE, value: "", max_age: 0 }
}

/// What a browser comes back from an issuer with.
pub fn web_answer(mut query: Query, issuer: &str) -> Result<WebAnswer, Refusal> {
    let state = query.required("state", |text| bounded(text, 1, MOST_OF_CODE).map(str::to_owned));
    let error = query.optional("error", |text| Ok(text.to_owned()));
    if let (Some(state), Some(error)) = (&state, error) {
        return Ok(WebAnswer { state: state.clone(), outcome: WebOutcome::Error(error) });
    }
    // The answer of another issuer that was sent here instead (RFC 9207).
    let is_its = |text: &str| {
        let other = || Invalid::new("not_in_list", format!("must be {issuer}"));
        (text == issuer).then_some(()).ok_or_else(other)
    };
    query.optional("iss", is_its);
    let code = query.required("code", |text| bounded(text, 1, MOST_OF_CODE).map(str::to_owned));
    let (Some(code), Some(state)) = (code, state) else { return Err(query.refusal_with_others()) };
    query.finish_with_others()?;
    Ok(WebAnswer { state, outcome: WebOutcome::Code(code) })
}

/// The most characters of a code: Google's has some 80, and says that it may have 256 bytes.
const MOST_OF_CODE: usize = 1_000;

/// Apple, if people may sign in with it.
#[derive(Debug)]
pub struct Apple(Option<AppTokens>);

impl Apple {
    /// What verifies its tokens, or why there is nothing.
    pub fn tokens(&self) -> Result<&AppTokens, Refusal> {
        self.0.as_ref().ok_or_else(|| not_set_up("Apple"))
    }
}

impl Setting for Apple {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let client_ids = list(&environment.optional("APPLE_CLIENT_IDS").unwrap_or_default());
        if client_ids.is_empty() {
            return Some(Self(None));
        }
        let provider = issuer(environment, "APPLE_ISSUER")?;
        let client_ids = client_ids.iter().map(String::as_str);
        Some(Self(Some(AppTokens::new(provider, client_ids, APPLE_MAX_AGE))))
    }
}

fn issuer(environment: &mut Environment<'_>, name: &str) -> Option<Provider> {
    let issuer = environment.required(name)?;
    provider(environment, name, &issuer)
}

/// An issuer, which is asked over TLS, or is allowed besides.
fn provider(environment: &mut Environment<'_>, name: &str, issuer: &str) -> Option<Provider> {
    let http = Http::read(environment)?;
    let provider = match Provider::new(issuer, &http) {
        Ok(provider) => provider,
        Err(error) => {
            environment.refuse(name, error);
            return None;
        }
    };
    if provider.is_safe() || provider.host().is_some_and(|host| allowed_hosts(environment).contains(&host)) {
        return Some(provider);
    }
    environment.refuse(name, "must begin with https://");
    None
}

/// One entry of `TRUSTED_ISSUERS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trusted {
    issuer: String,
    audiences: Vec<String>,
}

impl Setting for TrustedIssuers {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let Some(text) = environment.optional(TRUSTED_ISSUERS) else { return Some(Self::default()) };
        let listed: Vec<Trusted> = match serde_json::from_str(&text) {
            Ok(listed) => listed,
            Err(error) => {
                environment.refuse(TRUSTED_ISSUERS, format_args!("must be a list of issuers: {error}"));
                return None;
            }
        };
        let mut issuers = Self::default();
        for Trusted { issuer, audiences } in listed {
            if audiences.is_empty() {
                // A token that is for nobody in particular is for whoever steals it.
                environment.refuse(TRUSTED_ISSUERS, "must name the audiences of each issuer");
                return None;
            }
            issuers = issuers.with(provider(environment, TRUSTED_ISSUERS, &issuer)?, audiences);
        }
        Some(issuers)
    }
}

const TRUSTED_ISSUERS: &str = "TRUSTED_ISSUERS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsError, read_from};

    fn read<S: Setting>(variables: &[(&str, &str)]) -> Result<S, SettingsError> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read_from(&get).map(|(settings, _)| settings)
    }

    #[test]
    fn what_is_not_set_up_needs_no_settings() {
        let (google, apple, trusted) = read::<(Google, Apple, TrustedIssuers)>(&[]).unwrap();
        assert_eq!(google.client().unwrap_err().code, "sign_in_not_set_up");
        assert_eq!(apple.tokens().unwrap_err().code, "sign_in_not_set_up");
        assert!(trusted.is_empty());
    }

    #[test]
    fn what_is_half_set_up_is_named() {
        let variables = [
            ("GOOGLE_CLIENT_ID", "g"),
            ("GOOGLE_CLIENT_SECRET", "hunter2"),
            ("APPLE_CLIENT_IDS", "dev.tocsin.app, dev.tocsin.web"),
            ("APPLE_ISSUER", "http://appleid.apple.com"),
        ];
        let error = read::<(Google, Apple)>(&variables).map(drop).unwrap_err().to_string();
        for problem in
            ["GOOGLE_ISSUER is missing", "PUBLIC_URL is missing", "APPLE_ISSUER must begin with https://"]
        {
            assert!(error.contains(problem), "{problem}: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_trusted_issuer_has_a_safe_address_and_audiences() {
        let refused = |text: &str| {
            let read = read::<TrustedIssuers>(&[(TRUSTED_ISSUERS, text)]);
            read.map(drop).unwrap_err().to_string()
        };
        assert!(refused("x").contains("must be a list"));
        assert!(refused(r#"[{"issuer": "https://a.example", "audiences": []}]"#).contains("audiences"));
        assert!(refused(r#"[{"issuer": "http://a.example", "audiences": ["t"]}]"#).contains("https://"));
        assert!(refused(r#"[{"issuer": "a", "audiences": ["t"]}]"#).contains(TRUSTED_ISSUERS));
        let text = r#"[{"issuer": "https://a.example/pool", "audiences": ["t"]}, {"issuer": "http://127.0.0.1:9", "audiences": ["t"]}]"#;
        let variables = [(TRUSTED_ISSUERS, text), ("OUTGOING_ALLOWED_HOSTS", "127.0.0.1")];
        assert!(!read::<TrustedIssuers>(&variables).unwrap().is_empty());
    }
}
