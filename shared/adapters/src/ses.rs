//! Mail through SES v2.

use aws_sdk_sesv2::{
    Client,
    types::{Body, Content, Destination, EmailContent, Message},
};
use tocsin_domain::{
    Result,
    mail::{Mail, Mailer},
};

use crate::aws::{SdkConfig, failed};

/// Sends plain text.
#[derive(Clone, Debug)]
pub struct SesMailer {
    client: Client,
    from: String,
}

const SERVICE: &str = "mail";

impl SesMailer {
    /// Sends from an address that SES knows: `Tocsin <noreply@example.org>`.
    #[must_use]
    pub fn new(config: &SdkConfig, from: impl Into<String>) -> Self {
        Self { client: Client::new(config), from: from.into() }
    }
}

impl Mailer for SesMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        let content =
            |data: &str| Content::builder().data(data).charset("UTF-8").build().map_err(failed(SERVICE));
        let body = Body::builder().text(content(&mail.body)?).build();
        let message = Message::builder().subject(content(&mail.subject)?).body(body).build();
        let request = self
            .client
            .send_email()
            .from_email_address(&self.from)
            .destination(Destination::builder().to_addresses(mail.to.as_str()).build())
            .content(EmailContent::builder().simple(message).build());
        request.send().await.map_err(failed(SERVICE))?;
        Ok(())
    }
}
