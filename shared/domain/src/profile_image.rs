//! Profile images: uploaded by browsers and apps to the bucket, past us, and taken once they are seen to be images.
//!
//! An upload is allowed by a form that says which object may be made, of which type, and how large (`upload`). That an
//! object was made comes back through a queue, and then it is looked at (`accept`): whatever is not what it claims to be
//! is removed, and else it becomes its owner's image, and those before it are removed. Both can be done again, at any
//! time, in any order: an image is never replaced by an older one, and what nobody refers to is removed by whoever meets
//! it.

use std::{collections::BTreeMap, fmt, future::Future, str::FromStr};

use serde::Serialize;
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    error::Invalid,
    ids::{ImageId, UserId},
    input::{Fields, parsed},
    person::{Profile, Profiles},
    time::Timestamp,
};

/// The most bytes of an image: 5 MiB, which is a large photograph.
pub const MOST_BYTES: u64 = 5 * 1024 * 1024;
/// How long an upload is allowed, in seconds: ten minutes, for a slow line.
pub const UPLOAD_SECONDS: u64 = 10 * 60;

/// What kinds of images there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageType {
    /// `image/jpeg`.
    Jpeg,
    /// `image/png`.
    Png,
    /// `image/webp`.
    Webp,
}

impl ImageType {
    /// How many bytes of a file tell what it is.
    pub const TELLING_BYTES: u64 = 12;

    /// What its first bytes say that a file is.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            // ITU T.81, B.1.1.3: the start of an image, and of the next marker.
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            // W3C PNG, 5.2.
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            // RFC 9649, 2.4.
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

impl FromStr for ImageType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "image/jpeg" => Ok(Self::Jpeg),
            "image/png" => Ok(Self::Png),
            "image/webp" => Ok(Self::Webp),
            _ => Err(Invalid::new("not_in_list", "must be image/jpeg, image/png or image/webp")),
        }
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        })
    }
}

/// Reads the body of `create-profile-image-upload`.
pub fn type_from_json(body: &Value) -> Result<ImageType, Refusal> {
    let mut fields = Fields::of(body)?;
    let kind = fields.required("content_type", parsed(str::parse));
    let Some(kind) = kind else { return Err(fields.refusal()) };
    fields.finish()?;
    Ok(kind)
}

/// The right to upload one image: an HTML form, whose last field is the file (`file`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upload {
    /// Where the form is posted to.
    pub upload_url: String,
    /// Its fields before the file, in any order.
    pub fields: BTreeMap<String, String>,
    /// How long it may be posted, in seconds.
    pub expires_in: u64,
}

/// Allows uploads.
pub trait ImageUploads: Sync {
    /// Allows to make one object, of this type and of at most [`MOST_BYTES`], for [`UPLOAD_SECONDS`].
    fn allow(
        &self,
        owner: UserId,
        image: ImageId,
        kind: ImageType,
        now: Timestamp,
    ) -> impl Future<Output = Result<Upload>> + Send;
}

/// An object of the bucket, as far as it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// What it is served as.
    pub content_type: String,
    /// How many bytes it has.
    pub size: u64,
    /// Its first bytes, [`ImageType::TELLING_BYTES`] at the most.
    pub beginning: Vec<u8>,
}

impl StoredImage {
    /// Whether it is an image of the type that it is served as, and not too large.
    fn is_what_it_claims(&self) -> bool {
        let claimed: Option<ImageType> = self.content_type.parse().ok();
        claimed.is_some() && ImageType::of(&self.beginning) == claimed && self.size <= MOST_BYTES
    }
}

/// Looks at images, and removes them.
pub trait ImageStore: Sync {
    /// An image, if it is there.
    fn look(&self, owner: UserId, image: ImageId)
    -> impl Future<Output = Result<Option<StoredImage>>> + Send;
    /// All images of a person.
    fn of(&self, owner: UserId) -> impl Future<Output = Result<Vec<ImageId>>> + Send;
    /// Removes an image, if it is there.
    fn remove(&self, owner: UserId, image: ImageId) -> impl Future<Output = Result<()>> + Send;
}

/// Changes people's images.
pub trait ImageEditor: Profiles {
    /// Gives a person another image, or none, if they are still as they were; answers whether they were.
    fn set_image(&self, old: &Profile, image: Option<ImageId>) -> impl Future<Output = Result<bool>> + Send;
}

/// What became of an image that was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is its owner's image.
    Taken,
    /// It was not what it claims to be, and is removed.
    Refused,
    /// It is older than its owner's image, or its owner is gone: it is removed. Or it is not there any more.
    TooLate,
}

/// How often a change is tried again that another one came in the way of.
const ROUNDS: usize = 5;

/// Takes an image that was uploaded, and removes those before it.
pub async fn accept(
    images: &impl ImageStore,
    editor: &impl ImageEditor,
    owner: UserId,
    image: ImageId,
) -> Result<Accepted> {
    let Some(stored) = images.look(owner, image).await? else {
        take_off(editor, owner, image).await?;
        return Ok(Accepted::TooLate);
    };
    if !stored.is_what_it_claims() {
        let StoredImage { content_type, size, .. } = &stored;
        tracing::warn!(user_id = %owner, %image, content_type, size, "what was uploaded is no such image: it is removed");
        // A form can be posted twice: what came first may have been taken. It is taken off before it is removed, since who
        // is told again where it is gone has only its name.
        take_off(editor, owner, image).await?;
        images.remove(owner, image).await?;
        return Ok(Accepted::Refused);
    }
    let taken = change(editor, owner, |profile| profile.image.max(Some(image))).await?;
    if taken.and_then(|profile| profile.image) == Some(image) {
        // Somebody else may have refused what was posted after it, and have removed it before it was taken.
        if images.look(owner, image).await?.is_none() {
            take_off(editor, owner, image).await?;
            return Ok(Accepted::TooLate);
        }
        // Also where it was the image already: a try before may have been cut off here.
        remove_before(images, owner, image).await?;
        Ok(Accepted::Taken)
    } else {
        images.remove(owner, image).await?;
        Ok(Accepted::TooLate)
    }
}

/// Removes the caller's image, and all that they have uploaded until now.
pub async fn remove(
    images: &impl ImageStore,
    editor: &impl ImageEditor,
    owner: UserId,
    now: Timestamp,
) -> Result<()> {
    let profile = change(editor, owner, |_| None).await?;
    profile.ok_or_else(crate::friendship::no_such_person)?;
    remove_before(images, owner, ImageId::new(now)).await
}

/// Removes all images of a person who has left.
pub async fn remove_all(images: &impl ImageStore, owner: UserId) -> Result<()> {
    for image in images.of(owner).await? {
        images.remove(owner, image).await?;
    }
    Ok(())
}

/// Leaves a person without an image, if it is this one.
async fn take_off(editor: &impl ImageEditor, owner: UserId, image: ImageId) -> Result<()> {
    change(editor, owner, |profile| profile.image.filter(|current| *current != image)).await.map(drop)
}

async fn remove_before(images: &impl ImageStore, owner: UserId, image: ImageId) -> Result<()> {
    for before in images.of(owner).await?.into_iter().filter(|other| *other < image) {
        images.remove(owner, before).await?;
    }
    Ok(())
}

/// Gives a person the image that `choose` tells; answers them as they are then, if they are there.
async fn change(
    editor: &impl ImageEditor,
    owner: UserId,
    choose: impl Fn(&Profile) -> Option<ImageId>,
) -> Result<Option<Profile>> {
    for _ in 0..ROUNDS {
        let Some(old) = editor.get(&[owner]).await?.pop() else { return Ok(None) };
        let image = choose(&old);
        if image == old.image {
            return Ok(Some(old));
        }
        if editor.set_image(&old, image).await? {
            return Ok(Some(Profile { image, revision: old.revision + 1, ..old }));
        }
    }
    Err(Error::unavailable("people", "a profile is changed by many at once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_its_first_bytes_say() {
        let stored = |content_type: &str, beginning: &[u8], size| {
            let (content_type, beginning) = (content_type.to_owned(), beginning.to_vec());
            StoredImage { content_type, size, beginning }.is_what_it_claims()
        };
        let (jpeg, png) = (b"\xFF\xD8\xFF\xE0", b"\x89PNG\r\n\x1A\n\0\0\0\r");
        assert!(stored("image/jpeg", jpeg, MOST_BYTES) && stored("image/png", png, 100));
        assert!(stored("image/webp", b"RIFF\x10\0\0\0WEBP", 100));
        for (content_type, beginning, size) in [
            ("image/png", jpeg.as_slice(), 100),
            ("image/jpeg", b"<html><scrip", 100),
            ("text/html", jpeg, 100),
            ("image/jpeg", b"", 0),
            ("image/webp", b"RIFF\x10\0\0\0WAVE", 100),
            ("image/jpeg", jpeg, MOST_BYTES + 1),
        ] {
            assert!(!stored(content_type, beginning, size), "{content_type} {beginning:?} {size}");
        }
    }
}
