//! Counts.

use std::time::Duration;

use tocsin_domain::rate_limit::{RateLimit, RateLimiter};

use crate::fixtures::user;

/// So many pass, and then none until the window ends; nobody pays for another.
pub async fn rate_limits(limiter: &impl RateLimiter) {
    let limit = RateLimit { name: "conformance", most: 3, window: Duration::from_millis(300) };
    let (ada, eve) = (user().to_string(), user().to_string());
    let count = async |who: &str| limiter.count(limit, who).await.unwrap();
    for _ in 0..3 {
        assert_eq!(count(&ada).await, None);
    }
    let wait = count(&ada).await.unwrap();
    assert!(wait > Duration::ZERO && wait <= limit.window, "{wait:?}");
    assert_eq!(count(&eve).await, None);
    std::thread::sleep(limit.window);
    assert_eq!(count(&ada).await, None);
}
