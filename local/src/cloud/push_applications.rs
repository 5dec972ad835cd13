//! The platform applications of SNS mobile push. Their names are fixed, since template.yaml makes their ARNs of them.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aws_sdk_sns::Client;

use super::{CloudArgs, Report, secret_in};
use crate::provision::explained;

/// An application on a platform.
pub(super) struct Application {
    platform: &'static str,
    name: String,
    /// <https://docs.aws.amazon.com/sns/latest/api/API_SetPlatformApplicationAttributes.html>
    attributes: HashMap<String, String>,
}

/// Those whose keys are given.
pub(super) fn of(args: &CloudArgs) -> Result<Vec<Application>> {
    let application = |platform, attributes: Vec<(&str, &str)>| Application {
        platform,
        name: format!("tocsin-{}", args.stage),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let mut applications = Vec::new();
    if let Some(file) = &args.apns_key_file {
        let given = |option: &'static str, value: &Option<String>| value.clone().with_context(|| option);
        let attributes = [
            ("PlatformCredential", secret_in(file)?),
            ("PlatformPrincipal", given("--apns-key-id is missing", &args.apns_key_id)?),
            ("ApplePlatformTeamID", given("--apns-team-id is missing", &args.apns_team_id)?),
            ("ApplePlatformBundleID", given("--apns-bundle-id is missing", &args.apns_bundle_id)?),
        ];
        let platform = if args.apns_sandbox { "APNS_SANDBOX" } else { "APNS" };
        applications.push(application(
            platform,
            attributes.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        ));
    }
    if let Some(file) = &args.fcm_service_account_file {
        applications.push(application("GCM", vec![("PlatformCredential", &secret_in(file)?)]));
    }
    Ok(applications)
}

impl Application {
    /// Makes it, or finds it; `renew` gives the one that is there the key too.
    pub(super) async fn make(self, sns: &Client, renew: bool, report: &mut Report<'_>) -> Result<()> {
        let Self { platform, name, attributes } = self;
        match find(sns, platform, &name).await? {
            None => {
                let make = async {
                    let request = sns.create_platform_application().platform(platform).name(&name);
                    request.set_attributes(Some(attributes)).send().await.map_err(explained)?;
                    Ok(())
                };
                report.change(format_args!("made the platform application {platform}/{name}"), make).await
            }
            Some(arn) if renew => {
                let set = async {
                    let request = sns.set_platform_application_attributes().platform_application_arn(&arn);
                    request.set_attributes(Some(attributes)).send().await.map_err(explained)?;
                    Ok(())
                };
                report.change(format_args!("renewed the key of {arn}"), set).await
            }
            Some(arn) => report.say(format_args!("found {arn}")),
        }
    }
}

async fn find(sns: &Client, platform: &str, name: &str) -> Result<Option<String>> {
    let end = format!(":app/{platform}/{name}");
    let mut pages = sns.list_platform_applications().into_paginator().items().send();
    while let Some(application) = pages.next().await {
        let arn = application.map_err(explained)?.platform_application_arn;
        if let Some(arn) = arn.filter(|arn| arn.ends_with(&end)) {
            return Ok(Some(arn));
        }
    }
    Ok(None)
}
