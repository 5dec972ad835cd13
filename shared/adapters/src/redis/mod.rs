//! What is kept in Redis: timelines, posts at hand, and counts.
//!
//! Nothing here is the only copy, so nothing waits long: a function starts without Redis, learns within half a second
//! that it is away, and does not ask again for a second. Each operation is one round trip: what takes several commands
//! is a Lua script, which Redis runs as one step.
//!
//! A frozen function wakes up with connections that died meanwhile. So a request that breaks on a connection of
//! before is sent once more on a new one; every request here may be sent twice.

mod hidden;
mod post_cache;
mod push_share;
mod rate_limits;
mod timelines;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult, Script,
    ScriptInvocation, aio::MultiplexedConnection,
};
use secrecy::{ExposeSecret as _, SecretString};
use tocsin_domain::{Error, Result};
use tokio::sync::Mutex;

pub use self::{
    hidden::RedisHiddenCache, post_cache::RedisPostCache, push_share::RedisPushShare,
    rate_limits::RedisRateLimiter, timelines::RedisTimelines,
};

/// A Redis, connected when it is first needed.
#[derive(Clone, Debug)]
pub struct Redis {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Which connection it is, counted from the first: tells whether another request has made a new one already.
    made: u64,
    failed_at: Option<Instant>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a request waits that somebody waits for.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long one waits that writes much: some megabytes.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a Redis that could not be reached is not asked again.
const COOLDOWN: Duration = Duration::from_secs(1);

impl Redis {
    /// The Redis at a URL: `redis://`, or `rediss://` for TLS.
    pub fn open(url: &SecretString) -> Result<Self> {
        crate::tls::use_ring();
        // The cause is not passed on: it may quote the URL with its password.
        let client = Client::open(url.expose_secret()).map_err(|_| {
            Error::unreadable("the URL of Redis", "it is not like rediss://:password@host:port")
        })?;
        Ok(Self { inner: Arc::new(Inner { client, state: Mutex::default() }) })
    }

    /// Connects, so that what is asked first need not wait for that. What fails is told by what is asked.
    pub async fn warm(&self) {
        self.connection(None).await.ok();
    }

    async fn run<T: FromRedisValue>(&self, service: &'static str, request: Request<'_>) -> Result<T> {
        self.run_within(RESPONSE_TIMEOUT, service, request).await
    }

    async fn run_within<T: FromRedisValue>(
        &self,
        limit: Duration,
        service: &'static str,
        request: Request<'_>,
    ) -> Result<T> {
        let failed = |error: RedisError| Error::unavailable(service, error);
        let (connection, made, is_new) = self.connection(None).await.map_err(failed)?;
        match request.send_within(limit, connection).await {
            Err(error) if is_broken(&error) && !is_new => {
                let (connection, made, _) = self.connection(Some(made)).await.map_err(failed)?;
                let answer = request.send_within(limit, connection).await;
                self.settle(made, answer).await.map_err(failed)
            }
            answer => self.settle(made, answer).await.map_err(failed),
        }
    }

    /// The connection, its number, and whether it was made just now. It is made anew where there is none, or only one
    /// that broke.
    async fn connection(&self, broken: Option<u64>) -> RedisResult<(MultiplexedConnection, u64, bool)> {
        // Held while connecting, so that many requests at once make one connection.
        let mut state = self.inner.state.lock().await;
        if let Some(connection) = state.connection.clone().filter(|_| broken != Some(state.made)) {
            return Ok((connection, state.made, false));
        }
        state.connection = None;
        if state.failed_at.is_some_and(|at| at.elapsed() < COOLDOWN) {
            return Err(RedisError::from(std::io::Error::other("it could not be reached a moment ago")));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(LOAD_TIMEOUT));
        match self.inner.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.made += 1;
                state.failed_at = None;
                Ok((connection, state.made, true))
            }
            Err(error) => {
                state.failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Forgets a connection that broke.
    async fn settle<T>(&self, made: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(is_broken) {
            let mut state = self.inner.state.lock().await;
            if state.made == made {
                state.connection = None;
            }
        }
        answer
    }
}

/// What is one round trip.
enum Request<'a> {
    Script(&'a ScriptInvocation<'a>),
    Commands(&'a Pipeline),
    /// Commands of which some call a script: two more where Redis does not know it yet.
    Calls(&'a Script, &'a Pipeline),
}

impl Request<'_> {
    async fn send_within<T: FromRedisValue>(
        &self,
        limit: Duration,
        connection: MultiplexedConnection,
    ) -> RedisResult<T> {
        let answer = tokio::time::timeout(limit, self.send(connection)).await;
        answer.unwrap_or_else(|_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))))
    }

    async fn send<T: FromRedisValue>(&self, mut connection: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::Script(script) => script.invoke_async(&mut connection).await,
            Self::Commands(pipeline) => pipeline.query_async(&mut connection).await,
            Self::Calls(script, pipeline) => match pipeline.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    script.load_async(&mut connection).await?;
                    pipeline.query_async(&mut connection).await
                }
                answer => answer,
            },
        }
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_redis_over_tls_that_cannot_be_reached_is_an_error() {
        let address = crate::tls::no_tls().await;
        let redis = Redis::open(&format!("rediss://:secret@{address}").into()).unwrap();
        redis.warm().await;
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        let again = Redis::open(&format!("rediss://:secret@{address}").into()).unwrap();
        let error = again.run::<()>("a cache", Request::Commands(&ping)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { .. }) && !error.to_string().contains("secret"),
            "{error}"
        );
    }
}
