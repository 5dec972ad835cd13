//! The ports of `tocsin-domain` over real services, and in memory.
//!
//! One module for each technology, and in it one type for each aggregate, which implements the ports of that aggregate.
//! To make one opens no connection and can hardly fail, so a function starts at once, and starts also when a service
//! is away: connections are made when they are first needed, and made again after they broke.
//!
//! ```no_run
//! use tocsin_adapters::{aws, dynamodb::PostsTable};
//!
//! let dynamodb = aws::dynamodb(&aws::config());
//! let posts = PostsTable::new(&dynamodb, "tocsin-posts");
//! ```

pub mod aws;
pub mod dynamodb;
pub mod feed_source;
pub mod http;
pub mod kafka;
pub mod memory;
pub mod openid;
pub mod redis;
pub mod s3;
pub mod ses;
pub mod sns;
pub mod sqs;
pub mod tls;
