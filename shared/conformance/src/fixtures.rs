//! People, posts and wishes to test with.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tocsin_domain::{
    access_token::{Caller, Role, TokenSigner, TokenVerifier},
    area::{Area, Polygon},
    audience::{self, Audience, Recipient, Sizes, Walk},
    category::CategoryName,
    ids::{PostId, SubscriptionId, UserId},
    large_audience::LargeKeys,
    place::{Circle, Point},
    post::{Author, Post, PostKind, PostStatus, Severity, Tag, Tags},
    push::{News, PushJob, PushRecipient},
    subscription::{Subscription, TagMatch, Wish},
    time::{self, Timestamp},
};

/// A new user.
#[must_use]
pub fn user() -> UserId {
    UserId::new(time::now())
}

/// A key for tests alone: 32 zeros.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END PRIVATE KEY-----
";
const JWKS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "test",
    "x": "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}]}"#;
const ISSUER: &str = "https://tocsin.example";

/// What makes access tokens.
#[must_use]
pub fn token_signer() -> TokenSigner {
    TokenSigner::new(&PRIVATE_KEY.into(), JWKS, ISSUER).unwrap()
}

/// What verifies them.
#[must_use]
pub fn token_verifier() -> TokenVerifier {
    TokenVerifier::new(JWKS, ISSUER).unwrap()
}

/// A category.
#[must_use]
pub fn category(name: &str) -> CategoryName {
    name.parse().unwrap()
}

/// Some tags.
#[must_use]
pub fn tags(words: &[&str]) -> Tags {
    Tags::new(words.iter().map(|word| word.parse::<Tag>().unwrap()))
}

/// A point.
#[must_use]
pub fn point(lat: f64, lon: f64) -> Point {
    Point::new(lat, lon).unwrap()
}

/// Somebody without a session, and with nobody's rights but everybody's.
#[must_use]
pub fn caller(user_id: UserId) -> Caller {
    Caller { user_id, username: "someone".to_owned(), session_id: None, roles: vec![Role::User] }
}

/// Small parts, and no key that is large.
pub const SIZES: Sizes = Sizes { large_key: usize::MAX, part: 4 };

/// The whole audience of a post, each user once, in the order of their ids.
pub async fn audience_of(audience: &(impl Audience + LargeKeys), post: &Post) -> Vec<Recipient> {
    let (mut walk, mut all) = (Walk::over(post), BTreeMap::new());
    while !walk.is_over() {
        let part = walk.next(audience, audience, post, post.created_at, SIZES).await.unwrap();
        for one in part {
            let known = all.entry(one.user_id).or_insert(one);
            known.push_because = known.push_because.into_iter().chain(one.push_because).min();
        }
    }
    all.into_values().collect()
}

/// The job that tells these of a new post.
#[must_use]
pub fn job(post: &Post, recipients: Vec<PushRecipient>) -> PushJob {
    PushJob { post_id: post.post_id, news: News::Posted, told_at: post.created_at, recipients }
}

/// A post of now: smoke at the harbour of Bergen.
#[must_use]
pub fn post() -> Post {
    post_at(point(60.3991, 5.3206))
}

/// A post of now, at a place.
#[must_use]
pub fn post_at(location: Point) -> Post {
    let now = time::now();
    Post {
        post_id: PostId::new(now),
        kind: PostKind::Report,
        status: PostStatus::Active,
        title: "Røyk over havna".to_owned(),
        body: Some("Smoke over the harbour ❗".to_owned()),
        category: category("fire"),
        tags: tags(&["smoke", "harbour"]),
        severity: Severity::Severe,
        location: Some(location),
        area: None,
        author: Some(Author { user_id: user(), username: "ada".to_owned() }),
        source: None,
        created_at: now,
        updated_at: now,
        starts_at: None,
        ends_at: None,
        expires_at: Some(time::after(now, 3_600)),
        min_price: None,
        max_price: None,
        link: None,
        confirmations: 0,
        withheld: false,
        quiet: false,
        revision: 0,
    }
}

/// A wish for all posts of a category, anywhere.
#[must_use]
pub fn wish(name: &str) -> Wish {
    Wish {
        category: category(name),
        tags: Tags::default(),
        tag_match: TagMatch::Any,
        area: None,
        min_severity: None,
        push: true,
    }
}

/// A subscription of now.
#[must_use]
pub fn subscription(wish: Wish) -> Subscription {
    let now = time::now();
    Subscription { subscription_id: SubscriptionId::new(now), wish, created_at: now, updated_at: now }
}

/// The keys under which a subscription is stored.
#[must_use]
pub fn keys(subscription: &Subscription) -> Vec<audience::AudienceKey> {
    audience::keys_of(&subscription.wish)
}

/// The post id of a millisecond, with so much after it: ids of one millisecond are in the order of the rest.
#[must_use]
pub fn post_id(millis: u64, rest: u8) -> PostId {
    let mut bytes = [rest; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    PostId::from_bytes(bytes)
}

/// Any point, and more often than by chance one of a few near each other.
pub fn any_point() -> impl Strategy<Value = Point> {
    prop_oneof![
        3 => (60.38..60.41f64, 5.30..5.34f64),
        2 => (59.0..61.5f64, 4.0..7.0f64),
        1 => (-90.0..=90.0f64, -180.0..=180.0f64),
    ]
    .prop_map(|(lat, lon)| point(lat, lon))
}

/// Tags: mostly few of four, and otherwise as many as there can be, of twelve. A wish for many in a large area has more
/// keys than it may, so that its tags are left out of them.
pub fn any_tags() -> impl Strategy<Value = Tags> {
    const WORDS: [&str; 12] =
        ["smoke", "harbour", "tunnel", "same:006085", "a", "b", "c", "d", "e", "f", "g", "h"];
    prop_oneof![
        3 => prop::sample::subsequence(WORDS[..4].to_vec(), 0..=4),
        1 => prop::sample::subsequence(WORDS.to_vec(), 0..=Tags::MOST),
    ]
    .prop_map(|words| tags(&words))
}

/// Tags of a post: now and then more than a person names.
fn any_tags_of_a_feed() -> impl Strategy<Value = Tags> {
    let many = (any_tags(), 100..=185).prop_map(|(tags, count)| {
        let codes = (0..count).map(|code| format!("same:{code:06}").parse().unwrap());
        Tags::new(tags.iter().cloned().chain(codes))
    });
    prop_oneof![4 => any_tags(), 1 => many]
}

fn any_severity() -> impl Strategy<Value = Severity> {
    use Severity::{Extreme, Minor, Moderate, Severe, Unknown};
    prop::sample::select(vec![Unknown, Minor, Moderate, Severe, Extreme])
}

/// Any time that the storage keeps, to the millisecond.
pub fn any_time() -> impl Strategy<Value = Timestamp> {
    (0i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap())
}

/// Any post.
pub fn any_post() -> impl Strategy<Value = Post> {
    let text = ("\\PC{1,40}", prop::option::of("(\\PC|\n){0,80}"));
    let place = any_point()
        .prop_flat_map(|location| (Just(location), prop::option::weighted(0.3, any_area(location))));
    let place = prop::option::weighted(0.9, place);
    let what = (prop::sample::select(vec!["fire", "flood"]), any_tags_of_a_feed(), any_severity(), place);
    let times = (any_time(), prop::option::of(any_time()), prop::option::of(any_time()));
    let who = (any::<[u8; 10]>(), prop::option::of("[a-z.]{1,30}"), any::<u32>());
    (text, what, times, who).prop_map(|(text, what, times, (random, source, confirmations))| {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&times.0.as_millisecond().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        // Version 7, and the variant of RFC 9562.
        bytes[6] = 0x70 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        Post {
            post_id: PostId::from_bytes(bytes),
            kind: if times.1.is_some() { PostKind::Event } else { PostKind::Alert },
            status: PostStatus::Active,
            title: text.0,
            body: text.1,
            category: category(what.0),
            tags: what.1,
            severity: what.2,
            location: what.3.as_ref().map(|place| place.0),
            area: what.3.and_then(|place| place.1),
            author: None,
            source,
            created_at: times.0,
            updated_at: times.0,
            starts_at: times.1,
            ends_at: None,
            expires_at: times.2,
            min_price: None,
            max_price: None,
            link: None,
            confirmations,
            withheld: false,
            quiet: false,
            revision: confirmations / 2,
        }
    })
}

/// Any area of some circles and polygons around a point.
pub fn any_area(around: Point) -> impl Strategy<Value = Area> {
    let near = move || {
        let size = (-4.0..0.0f64).prop_map(|exponent| 10f64.powf(exponent));
        (-1.0..=1.0f64, -1.0..=1.0f64, size).prop_map(move |(north, east, degrees)| {
            let east = around.lon() + 2.0 * east * degrees;
            let lat = north.mul_add(degrees, around.lat()).clamp(-90.0, 90.0);
            point(lat, (east + 540.0).rem_euclid(360.0) - 180.0)
        })
    };
    let circle = (near(), 50f64.ln()..=50_000f64.ln());
    let circle = circle.prop_map(|(centre, ln)| Circle::new(centre, ln.exp().max(50.0)).unwrap());
    let polygon = prop::collection::vec(near(), 3..8).prop_map(|points| Polygon::new(points).unwrap());
    let shapes = (prop::collection::vec(circle, 0..3), prop::collection::vec(polygon, 0..3));
    shapes.prop_filter_map("some shape", |(circles, polygons)| Area::new(circles, polygons).ok())
}

/// Any wish.
pub fn any_wish() -> impl Strategy<Value = Wish> {
    let area = prop::option::weighted(0.8, (any_point(), 50f64.ln()..=100_000f64.ln()));
    let tag_match = prop::sample::select(vec![TagMatch::Any, TagMatch::All]);
    let name = prop::sample::select(vec!["fire", "flood"]);
    let severity = prop::option::of(any_severity());
    (name, any_tags(), tag_match, area, severity, any::<bool>()).prop_map(
        |(name, tags, tag_match, area, min_severity, push)| Wish {
            category: category(name),
            tags,
            tag_match,
            area: area.map(|(centre, ln)| Circle::new(centre, ln.exp().clamp(50.0, 100_000.0)).unwrap()),
            min_severity,
            push,
        },
    )
}
