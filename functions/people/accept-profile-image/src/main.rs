//! Looks at each image that S3 says was uploaded: gives it to its owner, or removes it where it is not what it claims to
//! be.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::PeopleTable,
    s3::{S3ImageStore, S3Notification},
};
use tocsin_domain::{Result, profile_image};
use tocsin_lambda::start;

type Ports = (S3ImageStore, PeopleTable);

fn main() -> ExitCode {
    start::messages(accept_profile_image)
}

async fn accept_profile_image((images, people): &Ports, uploaded: S3Notification) -> Result<()> {
    for (owner, image) in uploaded.images() {
        let outcome = profile_image::accept(images, people, owner, image).await?;
        tracing::info!(user_id = %owner, %image, ?outcome, "an image was uploaded");
    }
    Ok(())
}
