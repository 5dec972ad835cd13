//! Profile images in S3: forms to upload them by, a look at what was uploaded, and what S3 says of it.

use std::{collections::BTreeMap, time::SystemTime};

use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sdk_s3::{
    Client,
    config::ResponseChecksumValidation,
    error::{ProvideErrorMetadata as _, SdkError},
};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;
use tocsin_domain::{
    Error, Result,
    ids::{ImageId, UserId},
    person::image_key,
    profile_image::{ImageStore, ImageType, ImageUploads, MOST_BYTES, StoredImage, UPLOAD_SECONDS, Upload},
    time::{self, Timestamp},
};

use crate::aws::{self, SdkConfig, failed};

const SERVICE: &str = "the profile images";

/// How long browsers and what lies between may keep an image, in seconds: a day, since one may be removed. Another image
/// has another address, and is seen at once.
const CACHE_SECONDS: u32 = 24 * 60 * 60;

/// Allows to upload images, by forms that we sign (S3's "browser-based uploads using POST"). Nothing is asked of S3.
#[derive(Clone, Debug)]
pub struct S3ImageUploads {
    config: SdkConfig,
    bucket: String,
}

impl S3ImageUploads {
    /// To a bucket.
    #[must_use]
    pub fn new(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        Self { config: config.clone(), bucket: bucket.into() }
    }

    async fn credentials(&self) -> Result<Credentials> {
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| Error::unavailable(SERVICE, "no credentials to sign with"))?;
        provider.provide_credentials().await.map_err(failed(SERVICE))
    }
}

impl ImageUploads for S3ImageUploads {
    async fn allow(&self, owner: UserId, image: ImageId, kind: ImageType, now: Timestamp) -> Result<Upload> {
        let credentials = self.credentials().await?;
        let region = self.config.region().map(AsRef::as_ref);
        let region = region.ok_or_else(|| Error::unavailable(SERVICE, "no region to sign for"))?;
        let day = now.strftime("%Y%m%d").to_string();
        let scope = format!("{}/{day}/{region}/s3/aws4_request", credentials.access_key_id());
        let mut fields = BTreeMap::from([
            ("key".to_owned(), image_key(owner, image)),
            ("Content-Type".to_owned(), kind.to_string()),
            ("Cache-Control".to_owned(), format!("public, max-age={CACHE_SECONDS}")),
            ("x-amz-algorithm".to_owned(), "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential".to_owned(), scope),
            ("x-amz-date".to_owned(), now.strftime("%Y%m%dT%H%M%SZ").to_string()),
        ]);
        if let Some(token) = credentials.session_token() {
            fields.insert("x-amz-security-token".to_owned(), token.to_owned());
        }
        // Each field must be as it is here, and no other may be added.
        let mut conditions: Vec<_> =
            fields.iter().map(|(name, value)| json!(["eq", format!("${name}"), value])).collect();
        conditions.push(json!({ "bucket": self.bucket }));
        conditions.push(json!(["content-length-range", 1, MOST_BYTES]));
        let expiration = time::after(now, UPLOAD_SECONDS).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        let policy = json!({ "expiration": expiration, "conditions": conditions }).to_string();
        let policy = BASE64_STANDARD.encode(policy);
        let signature = sign(credentials.secret_access_key(), now, region, &policy);
        fields.insert("x-amz-signature".to_owned(), signature);
        fields.insert("policy".to_owned(), policy);
        let upload_url = match aws::endpoint(&self.config, "S3") {
            // Where S3 is somewhere else, buckets have no names of their own there.
            Some(endpoint) => format!("{}/{}", endpoint.trim_end_matches('/'), self.bucket),
            None => format!("https://{}.s3.{region}.amazonaws.com", self.bucket),
        };
        Ok(Upload { upload_url, fields, expires_in: UPLOAD_SECONDS })
    }
}

/// The signature of a policy: of its base64 (S3's API reference, "Calculating a Signature: POST policy").
fn sign(secret: &str, now: Timestamp, region: &str, policy: &str) -> String {
    let key = generate_signing_key(secret, SystemTime::from(now), region, "s3");
    calculate_signature(key, policy.as_bytes())
}

/// The images of a bucket.
#[derive(Clone, Debug)]
pub struct S3ImageStore {
    client: Client,
    bucket: String,
}

impl S3ImageStore {
    /// Those of a bucket.
    #[must_use]
    pub fn new(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        let settings = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(aws::endpoint(config, "S3").is_some())
            // Of a few bytes in the middle of an object there is none.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { client: Client::from_conf(settings), bucket: bucket.into() }
    }
}

impl ImageStore for S3ImageStore {
    async fn look(&self, owner: UserId, image: ImageId) -> Result<Option<StoredImage>> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(image_key(owner, image))
            .range(format!("bytes=0-{}", ImageType::TELLING_BYTES - 1));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            // Nothing has no first byte (RFC 9110, 15.5.17).
            Err(error) if is_empty(&error) => {
                return Ok(Some(StoredImage { content_type: String::new(), size: 0, beginning: Vec::new() }));
            }
            Err(error) => return Err(failed(SERVICE)(error)),
        };
        let content_type = answer.content_type.unwrap_or_default();
        // `bytes 0-11/4711`.
        let size = answer.content_range.as_deref().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let size = size.ok_or_else(|| Error::unavailable(SERVICE, "S3 does not say how large it is"))?;
        let beginning = answer.body.collect().await.map_err(failed(SERVICE))?.to_vec();
        Ok(Some(StoredImage { content_type, size, beginning }))
    }

    async fn of(&self, owner: UserId) -> Result<Vec<ImageId>> {
        let prefix = format!("{FOLDER}/{owner}/");
        let mut images = Vec::new();
        let mut next = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&prefix);
            let answer = request.set_continuation_token(next).send().await.map_err(failed(SERVICE))?;
            let keys = answer.contents().iter().filter_map(aws_sdk_s3::types::Object::key);
            images.extend(keys.filter_map(parse_key).map(|(_, image)| image));
            next = answer.next_continuation_token;
            if next.is_none() {
                return Ok(images);
            }
        }
    }

    async fn remove(&self, owner: UserId, image: ImageId) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(image_key(owner, image));
        request.send().await.map_err(failed(SERVICE))?;
        Ok(())
    }
}

fn is_empty<E>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 416)
}

const FOLDER: &str = "profile-images";

/// Whose image a key is, and which.
fn parse_key(key: &str) -> Option<(UserId, ImageId)> {
    let (owner, image) = key.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
    Some((owner.parse().ok()?, image.parse().ok()?))
}

/// What S3 says when objects were made, in a message of a queue. The message with which it tries out a queue has no
/// records.
#[derive(Clone, Debug, Deserialize)]
pub struct S3Notification {
    #[serde(rename = "Records", default)]
    records: Vec<NotificationRecord>,
}

#[derive(Clone, Debug, Deserialize)]
struct NotificationRecord {
    s3: NotificationEntity,
}

#[derive(Clone, Debug, Deserialize)]
struct NotificationEntity {
    object: NotificationObject,
}

#[derive(Clone, Debug, Deserialize)]
struct NotificationObject {
    key: String,
}

impl S3Notification {
    /// The images that were uploaded, and whose they are. Other objects are nothing to us.
    #[must_use]
    pub fn images(&self) -> Vec<(UserId, ImageId)> {
        // S3 percent-encodes keys here. In ours, the slashes are all that some encode.
        let key = |record: &NotificationRecord| parse_key(&record.s3.object.key.replace("%2F", "/"));
        self.records.iter().filter_map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_signed_as_in_the_example_of_s3() {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html
        let policy = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7\
            ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwN\
            CiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhh\
            bXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRD\
            b250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7Ingt\
            YW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWci\
            LCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3Mz\
            L2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRh\
            dGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
        let now = time::parse("2015-12-29T00:00:00Z").unwrap();
        let signature = sign("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now, "us-east-1", policy);
        assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
    }

    #[test]
    fn a_notification_names_images() {
        let now = time::now();
        let (owner, image) = (UserId::new(now), ImageId::new(now));
        let keys = [
            image_key(owner, image),
            image_key(owner, image).replace('/', "%2F"),
            "other".to_owned(),
            format!("profile-images/{owner}/x"),
        ];
        let records: Vec<_> = keys.iter().map(|key| json!({"s3": {"object": {"key": key}}})).collect();
        let notification: S3Notification = serde_json::from_value(json!({ "Records": records })).unwrap();
        assert_eq!(notification.images(), [(owner, image), (owner, image)]);
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent"});
        assert_eq!(serde_json::from_value::<S3Notification>(test).unwrap().images(), []);
    }
}
