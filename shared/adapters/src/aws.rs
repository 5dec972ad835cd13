//! The AWS SDK, set up for functions that start in milliseconds.
//!
//! The SDK's own loader reads files, parses the 150 root certificates of the system, and can ask the network for
//! credentials. In a function all that matters is in the environment, and the roots that matter are Amazon's five; even
//! those are parsed only when a first https request is made, so that a function that talks to a local endpoint, or only
//! reads a cache, never does.

use std::{sync::OnceLock, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_dynamodb::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::HttpRequest,
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
pub use aws_types::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use tocsin_domain::Error;

/// How long it may take to connect, within one attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take with its retries: less than any function's own time limit.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// Credentials, region and endpoints from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
/// `AWS_ENDPOINT_URL_DYNAMODB` …), and from nowhere else.
#[must_use]
pub fn config() -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentCredentials))
        // To read the environment again is cheaper than a cache with its locks.
        .identity_cache(IdentityCache::no_cache())
        .http_client(LazyTls::default())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(OPERATION_TIMEOUT)
                .build(),
        )
        // Our bodies are small, and each attempt has its time limit.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .service_config(EnvironmentSettings)
        .build()
}

/// A client of DynamoDB, for the tables.
#[must_use]
pub fn dynamodb(config: &SdkConfig) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(config)
}

/// The domain's error for a failed request, with its causes: the SDK's own words are only `service error`.
pub(crate) fn failed<E: std::error::Error>(service: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::unavailable(service, with_causes(&error))
}

/// What an error says, and why, down to the first cause.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some errors repeat their cause, and others only pass it on.
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Where a service is that is not AWS's own, by its name in the variables.
pub(crate) fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let named = variable(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| variable("AWS_ENDPOINT_URL"));
    config.endpoint_url().map(str::to_owned).or(named)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[derive(Debug)]
struct EnvironmentCredentials;

impl ProvideCredentials for EnvironmentCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let keys = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        let credentials = keys.map(|(id, secret)| {
            Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment")
        });
        future::ProvideCredentials::ready(credentials.ok_or_else(|| {
            CredentialsError::not_loaded(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not in the environment",
            )
        }))
    }
}

/// `AWS_ENDPOINT_URL_SNS` and its like, as the SDKs' reference guide has them: the service's id in capitals.
#[derive(Debug)]
struct EnvironmentSettings;

impl LoadServiceConfig for EnvironmentSettings {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace([' ', '-'], "_");
        variable(&format!("{}_{service}", key.env())).or_else(|| variable(key.env()))
    }
}

/// An HTTP client that has no TLS until it meets an https address.
#[derive(Clone, Debug, Default)]
struct LazyTls {
    connectors: std::sync::Arc<Connectors>,
}

#[derive(Debug, Default)]
struct Connectors {
    plain: OnceLock<Connector>,
    tls: OnceLock<Result<Connector, String>>,
}

impl HttpClient for LazyTls {
    // The settings are the timeouts of `config`, which every client of it shares.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

impl HttpConnector for LazyTls {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let settings = || HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        if !request.uri().starts_with("https:") {
            let plain = || Connector::builder().connector_settings(settings()).build_http();
            return self.connectors.plain.get_or_init(plain).call(request);
        }
        let tls = || {
            let context = TlsContext::builder().with_trust_store(trust_store()?).build();
            Ok(Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(context.map_err(|error| error.to_string())?)
                .connector_settings(settings())
                .build())
        };
        match self.connectors.tls.get_or_init(tls) {
            Ok(connector) => connector.call(request),
            Err(cause) => HttpConnectorFuture::ready(Err(ConnectorError::user(cause.clone().into()))),
        }
    }
}

/// Amazon's roots (<https://www.amazontrust.com/repository/>), and those of `AWS_CA_BUNDLE`, if it is set.
fn trust_store() -> Result<TrustStore, String> {
    let amazon = TrustStore::empty().with_pem_certificate(include_bytes!("amazon_roots.pem").as_slice());
    let Some(path) = variable("AWS_CA_BUNDLE") else { return Ok(amazon) };
    let bundle = std::fs::read(&path).map_err(|error| format!("AWS_CA_BUNDLE {path}: {error}"))?;
    Ok(amazon.with_pem_certificate(bundle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_roots_can_be_read() {
        let context = TlsContext::builder().with_trust_store(trust_store().unwrap()).build().unwrap();
        // Panics where a certificate cannot be parsed.
        Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build();
    }
}
