//! What is posted, followed and handed over where no person does it.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use tocsin_domain::{
    audience::{self, AudienceKey},
    ids::{PostId, SubscriptionId},
    place::Point,
    post::{Post, PostKind, PostStatus, Severity, Tag, Tags},
    post_log::PostRecord,
    subscription::{Subscription, TagMatch, Wish},
    time::{self, Timestamp},
};

use crate::event_sources::{self, Record};

/// How many partitions an event's records are of.
const PARTITIONS: i32 = 6;

/// The harbour of Bergen.
pub(super) fn place() -> Result<Point> {
    Ok(Point::new(60.3972, 5.3238)?)
}

/// A severe fire of now, at a place.
pub(super) fn post(location: Point) -> Result<Post> {
    let now = time::now();
    let tags = ["smoke", "harbour"].into_iter().map(str::parse).collect::<Result<BTreeSet<Tag>, _>>()?;
    Ok(Post {
        post_id: PostId::new(now),
        kind: PostKind::Report,
        status: PostStatus::Active,
        title: "Smoke over the harbour".to_owned(),
        body: None,
        category: "fire".parse()?,
        tags: tags.try_into()?,
        severity: Severity::Severe,
        location: Some(location),
        area: None,
        author: None,
        source: Some("bench".to_owned()),
        created_at: now,
        updated_at: now,
        starts_at: None,
        ends_at: None,
        expires_at: None,
        min_price: None,
        max_price: None,
        link: None,
        confirmations: 0,
        withheld: false,
        quiet: false,
        revision: 0,
    })
}

/// A wish for all of a category, with pushes.
pub(super) fn wish(category: &str) -> Result<Wish> {
    Ok(Wish {
        category: category.parse()?,
        tags: Tags::default(),
        tag_match: TagMatch::Any,
        area: None,
        min_severity: None,
        push: true,
    })
}

/// A subscription since an instant, and the keys that it stands under.
pub(super) fn subscription(wish: Wish, since: Timestamp) -> (Subscription, Vec<AudienceKey>) {
    let keys = audience::keys_of(&wish);
    let id = SubscriptionId::new(since);
    (Subscription { subscription_id: id, wish, created_at: since, updated_at: since }, keys)
}

/// The event of an event source that read these posts in the log.
pub(super) fn event(posts: &[Post]) -> Result<Bytes> {
    let topic: Arc<str> = "posts".into();
    let record = |(offset, post): (i64, &Post)| {
        let record = PostRecord::created(post.clone());
        Ok(Record {
            topic: Arc::clone(&topic),
            partition: i32::try_from(offset).unwrap_or_default() % PARTITIONS,
            offset,
            timestamp: post.created_at.as_millisecond(),
            append_time: false,
            key: Some(record.key().into()),
            value: Some(record.to_json()?.into()),
            headers: Vec::new(),
        })
    };
    let records = (0..).zip(posts).map(record).collect::<Result<Vec<_>>>()?;
    Ok(event_sources::event(&records, "arn:aws:kafka:eu-north-1:123456789012:cluster/bench/0", "bench:9092")?)
}
