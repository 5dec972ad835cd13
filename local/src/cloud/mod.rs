//! `provision`: does in the cloud what CloudFormation cannot. Each step looks first, and leaves what is there as it is, so
//! that the command can be given again.
//!
//! Credentials and the region are those of the environment. Secrets come from files or the standard input, never from the
//! command line, which other people of a machine can see, and none is printed.

mod push_applications;
mod redrive;
mod secrets;
mod signing_keys;
mod topic;

use std::{
    fmt::Display,
    fs,
    io::{Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tocsin_adapters::{
    aws,
    dynamodb::{CategoriesTable, UsersTable},
};
use tocsin_domain::category::CategoryEditor as _;

use crate::installation;

/// What `provision` is told.
#[derive(Args, Clone, Debug)]
pub struct CloudArgs {
    /// The steps to take; without any, the first seven, as far as their options are given
    #[arg(value_enum)]
    pub steps: Vec<Step>,
    /// The stage that things are made for, as in template.yaml
    #[arg(long)]
    pub stage: String,
    /// Says what would be done, and does nothing
    #[arg(long)]
    pub dry_run: bool,

    /// A file with the URL of the Redis (rediss://…); - is the standard input
    #[arg(long, value_name = "FILE", help_heading = "redis-url")]
    pub redis_url_file: Option<PathBuf>,

    /// A file with the secret of the OAuth client that people sign in with Google by; - is the standard input
    #[arg(long, value_name = "FILE", help_heading = "google-client-secret")]
    pub google_client_secret_file: Option<PathBuf>,

    /// The APNs signing key (.p8); - is the standard input
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["apns_key_id", "apns_team_id", "apns_bundle_id"],
        help_heading = "push-applications"
    )]
    pub apns_key_file: Option<PathBuf>,
    /// The id of that key
    #[arg(long, value_name = "ID", help_heading = "push-applications")]
    pub apns_key_id: Option<String>,
    /// The id of the Apple developer team
    #[arg(long, value_name = "ID", help_heading = "push-applications")]
    pub apns_team_id: Option<String>,
    /// The bundle id of the app
    #[arg(long, value_name = "ID", help_heading = "push-applications")]
    pub apns_bundle_id: Option<String>,
    /// Pushes to apps that Xcode installed: template.yaml's `ApnsPlatform` is then `APNS_SANDBOX`
    #[arg(long, help_heading = "push-applications")]
    pub apns_sandbox: bool,
    /// The JSON key of a Firebase service account; - is the standard input
    #[arg(long, value_name = "FILE", help_heading = "push-applications")]
    pub fcm_service_account_file: Option<PathBuf>,
    /// Gives applications that are there these keys too: SNS does not tell which they have
    #[arg(long, help_heading = "push-applications")]
    pub renew_push_keys: bool,

    /// The brokers, as host:port with commas between
    #[arg(long, value_name = "SERVERS", help_heading = "topic")]
    pub kafka_bootstrap_servers: Option<String>,
    /// How to sign in to them: iam with the credentials of the environment
    #[arg(long, value_enum, default_value = "iam", help_heading = "topic")]
    pub kafka_auth: topic::Auth,
    /// The name to sign in with (scram, plain)
    #[arg(long, value_name = "NAME", help_heading = "topic")]
    pub kafka_username: Option<String>,
    /// A file with the password to sign in with (scram, plain); - is the standard input
    #[arg(long, value_name = "FILE", help_heading = "topic")]
    pub kafka_password_file: Option<PathBuf>,
    /// The topic
    #[arg(long, value_name = "NAME", default_value = "posts", help_heading = "topic")]
    pub posts_topic: String,
    /// Its partitions: at most so many batches are handled at once
    #[arg(long, value_name = "NUMBER", default_value_t = 6, help_heading = "topic")]
    pub partitions: i32,
    /// On how many brokers each record is
    #[arg(long, value_name = "NUMBER", default_value_t = 3, help_heading = "topic")]
    pub replication_factor: i16,
    /// On how many a record must be before it counts as kept; the brokers' own setting, if not given
    #[arg(long, value_name = "NUMBER", help_heading = "topic")]
    pub min_insync_replicas: Option<u16>,

    /// The table of categories: `CategoriesTableName` of the stack's outputs
    #[arg(long, value_name = "NAME", help_heading = "categories")]
    pub categories_table: Option<String>,

    /// The table of users: `UsersTableName` of the stack's outputs
    #[arg(long, value_name = "NAME", help_heading = "admin")]
    pub users_table: Option<String>,
    /// The mail address of a person who has registered
    #[arg(long, value_name = "EMAIL", requires = "users_table", help_heading = "admin")]
    pub admin_email: Option<String>,

    /// The URL of a dead-letter queue, of the stack's outputs
    #[arg(long, value_name = "URL", help_heading = "redrive")]
    pub dead_letters: Option<String>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// The key that access tokens are signed with, and its public half
    SigningKey,
    /// The secret with the URL of the Redis
    RedisUrl,
    /// The secret with which Google knows us; without it, nobody signs in with Google
    GoogleClientSecret,
    /// The platform applications of SNS mobile push
    PushApplications,
    /// The topic of posts
    Topic,
    /// The first categories (after the first deployment)
    Categories,
    /// The first admin (after the first deployment)
    Admin,
    /// Rotation, 1: makes the next signing key, and publishes its public half
    AnnounceNextKey,
    /// Rotation, 2: signs with the next key
    UseNextKey,
    /// Rotation, 3: publishes the public halves of old keys no longer
    RetireOldKeys,
    /// Brings back what lies in a dead-letter queue; for one of records, with the options of the topic
    Redrive,
}

impl Step {
    const FIRST: [Self; 7] = [
        Self::SigningKey,
        Self::RedisUrl,
        Self::GoogleClientSecret,
        Self::PushApplications,
        Self::Topic,
        Self::Categories,
        Self::Admin,
    ];

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The services that things are made in.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Of Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Of SNS.
    pub sns: aws_sdk_sns::Client,
    /// Of SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// Of DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
}

impl Clients {
    /// With the credentials and the region of the environment.
    pub fn from_environment() -> Result<Self> {
        let config = aws::config();
        if config.region().is_none() {
            bail!("AWS_REGION is not set");
        }
        if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
            bail!("there are no credentials: eval \"$(aws configure export-credentials --format env)\"");
        }
        Ok(Self {
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws::dynamodb(&config),
        })
    }
}

/// Takes the steps, in the account of the environment.
pub async fn run(args: CloudArgs, out: &mut impl Write) -> Result<()> {
    provision(&args, &Clients::from_environment()?, out).await
}

/// Takes the steps, and says of each what it did or found.
pub async fn provision(args: &CloudArgs, clients: &Clients, out: &mut impl Write) -> Result<()> {
    let are_named = !args.steps.is_empty();
    let steps = if are_named { args.steps.as_slice() } else { &Step::FIRST };
    for &step in steps {
        let mut report = Report { out, step, dry_run: args.dry_run };
        let taken = take(step, args, clients, &mut report).await;
        if let Taken::Without(option) = taken.with_context(|| format!("the step {}", step.name()))? {
            if are_named {
                bail!("the step {} needs {option}", step.name());
            }
            report.say(format_args!("skipped: {option} is not given"))?;
        }
    }
    Ok(())
}

/// Whether a step was taken.
enum Taken {
    Yes,
    /// Not without this option.
    Without(&'static str),
}

async fn take(step: Step, args: &CloudArgs, clients: &Clients, report: &mut Report<'_>) -> Result<Taken> {
    match step {
        Step::SigningKey => signing_keys::make(&clients.secrets, &args.stage, report).await?,
        Step::AnnounceNextKey => signing_keys::announce_next(&clients.secrets, &args.stage, report).await?,
        Step::UseNextKey => signing_keys::use_next(&clients.secrets, &args.stage, report).await?,
        Step::RetireOldKeys => signing_keys::retire_old(&clients.secrets, &args.stage, report).await?,
        Step::RedisUrl => {
            let Some(file) = &args.redis_url_file else { return Ok(Taken::Without("--redis-url-file")) };
            let url = secret_in(file)?;
            if !url.starts_with("redis://") && !url.starts_with("rediss://") {
                bail!("{} holds no URL that begins with rediss://", file.display());
            }
            let name = format!("tocsin/{}/redis-url", args.stage);
            secrets::keep(&clients.secrets, &name, &url, report).await?;
        }
        Step::GoogleClientSecret => {
            let Some(file) = &args.google_client_secret_file else {
                return Ok(Taken::Without("--google-client-secret-file"));
            };
            let name = format!("tocsin/{}/google-client-secret", args.stage);
            secrets::keep(&clients.secrets, &name, &secret_in(file)?, report).await?;
        }
        Step::PushApplications => {
            let applications = push_applications::of(args)?;
            if applications.is_empty() {
                return Ok(Taken::Without("--apns-key-file or --fcm-service-account-file"));
            }
            for application in applications {
                application.make(&clients.sns, args.renew_push_keys, report).await?;
            }
        }
        Step::Topic => {
            let Some(servers) = &args.kafka_bootstrap_servers else {
                return Ok(Taken::Without("--kafka-bootstrap-servers"));
            };
            topic::make(servers, args, report).await?;
        }
        Step::Categories => {
            let Some(table) = &args.categories_table else { return Ok(Taken::Without("--categories-table")) };
            categories(&CategoriesTable::new(&clients.dynamodb, table), report).await?;
        }
        Step::Admin => {
            let Some((table, email)) = args.users_table.as_ref().zip(args.admin_email.as_deref()) else {
                return Ok(Taken::Without("--admin-email with --users-table"));
            };
            admin(&UsersTable::new(&clients.dynamodb, table), email, report).await?;
        }
        Step::Redrive => {
            let Some(url) = &args.dead_letters else { return Ok(Taken::Without("--dead-letters")) };
            redrive::bring_back(&clients.sqs, url, args, report).await?;
        }
    }
    Ok(Taken::Yes)
}

async fn categories(table: &CategoriesTable, report: &mut Report<'_>) -> Result<()> {
    let missing = installation::missing_categories(table).await?;
    if missing.is_empty() {
        return report.say("found all first categories");
    }
    let names: Vec<&str> = missing.iter().map(|category| category.category.as_str()).collect();
    let add = async {
        for category in &missing {
            table.put(category).await?;
        }
        Ok(())
    };
    report.change(format_args!("added {}", names.join(", ")), add).await
}

async fn admin(users: &UsersTable, email: &str, report: &mut Report<'_>) -> Result<()> {
    let account = installation::verified_account(users, email).await?;
    if installation::is_admin(&account) {
        return report.say(format_args!("found that {email} is an admin"));
    }
    let grant = async { installation::grant_admin(users, email).await.map(drop) };
    report.change(format_args!("made {email} an admin, from their next session renewal on"), grant).await
}

/// Tells what is done.
struct Report<'a> {
    out: &'a mut dyn Write,
    step: Step,
    dry_run: bool,
}

impl Report<'_> {
    fn say(&mut self, what: impl Display) -> Result<()> {
        writeln!(self.out, "{:<20} {what}", self.step.name())?;
        Ok(())
    }

    /// Makes a change; in a dry run, only says that it would.
    async fn change(&mut self, what: impl Display, change: impl Future<Output = Result<()>>) -> Result<()> {
        if self.dry_run {
            return self.say(format_args!("would have {what}"));
        }
        change.await?;
        self.say(what)
    }
}

/// The secret in a file; `-` is the standard input.
fn secret_in(file: &Path) -> Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("the standard input")?;
    } else {
        text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    }
    let text = text.trim();
    if text.is_empty() {
        bail!(
            "{} is empty",
            if file == Path::new("-") { "the standard input".into() } else { file.to_string_lossy() }
        );
    }
    Ok(text.to_owned())
}
