//! Counts.

use std::time::Duration;

use tocsin_domain::rate_limit::{AccountBar, Counted, RateLimit, RateLimiter};

use crate::fixtures::user;

/// So many pass, and then none until the window ends; nobody pays for another. Of an account that is barred none does.
pub async fn rate_limits(limiter: &(impl RateLimiter + AccountBar)) {
    let limit = RateLimit { name: "conformance", most: 3, window: Duration::from_millis(300) };
    let (ada, eve) = (user().to_string(), user().to_string());
    let count = async |who: &str| limiter.count(limit, who, None).await.unwrap();
    for _ in 0..3 {
        assert_eq!(count(&ada).await, Counted::Within);
    }
    let Counted::TooMany(wait) = count(&ada).await else { panic!("it is one too many") };
    assert!(wait > Duration::ZERO && wait <= limit.window, "{wait:?}");
    assert_eq!(count(&eve).await, Counted::Within);
    std::thread::sleep(limit.window);
    assert_eq!(count(&ada).await, Counted::Within);

    let (leaver, other) = (user(), user());
    let by = async |account| limiter.count(limit, "who", Some(account)).await.unwrap();
    assert_eq!(by(leaver).await, Counted::Within);
    limiter.bar(leaver).await.unwrap();
    assert_eq!((by(leaver).await, by(other).await), (Counted::Barred, Counted::Within));
}
