//! The services that functions lean on: started here, or real ones named by the standard variables, which win.

mod process;
mod redis;
mod storage;

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use aws_credential_types::Credentials;
use aws_smithy_http_client::tls;
use aws_types::{SdkConfig, region::Region};
use tokio::{process::Command, sync::mpsc, sync::oneshot};

pub use process::Death;
use process::{ServiceProcess, announced_port};
pub use storage::Storage;

use crate::runtime::Logs;

/// moto's account, which is in the ARNs that it makes.
pub const ACCOUNT: &str = "123456789012";

/// The region, if the environment names none.
const REGION: &str = "eu-north-1";

/// What moto serves here, as the SDKs' variables name it.
const MOTO_SERVES: [&str; 5] = ["S3", "SESV2", "SNS", "SQS", "SSM"];

/// Where the programs of the services are. They may still be built or installed when the start begins.
#[derive(Debug)]
pub struct Programs {
    /// The embedded broker.
    pub broker: oneshot::Receiver<PathBuf>,
    /// The virtual environment's `python` and `redis-server`.
    pub tools: oneshot::Receiver<ToolPrograms>,
}

/// Programs that are installed, not built.
#[derive(Clone, Debug)]
pub struct ToolPrograms {
    /// A Python that has moto.
    pub python: PathBuf,
    /// A Redis, for machines that have none on PATH.
    pub redis_server: PathBuf,
}

/// The running services, and how to reach them.
#[derive(Debug)]
pub struct Services {
    storage: Option<Storage>,
    moto: Option<ServiceProcess>,
    redis: Option<Owned>,
    broker: Option<Owned>,
    endpoints: Endpoints,
    logs: Logs,
    deaths: mpsc::UnboundedSender<Death>,
}

/// Where the services are.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// `AWS_ENDPOINT_URL_<service>`, for each service that functions or `local` use.
    pub aws: BTreeMap<String, String>,
    /// `AWS_REGION`.
    pub region: String,
    /// Whether requests are signed with the person's own credentials, since some AWS service is a real one.
    pub real_aws: bool,
    /// The address of moto, where it runs.
    pub moto: Option<String>,
    /// `REDIS_URL`.
    pub redis_url: String,
    /// `KAFKA_BOOTSTRAP_SERVERS`.
    pub bootstrap_servers: String,
    /// Whether the log is the embedded broker.
    pub embedded_broker: bool,
    /// What was started here, where it is, and how long it took.
    pub started: Vec<Started>,
}

/// One line of the start-up.
#[derive(Clone, Debug)]
pub struct Started {
    /// The service.
    pub service: &'static str,
    /// Its address.
    pub address: String,
    /// From the moment that its program was there.
    pub took: Duration,
}

/// A service that can be stopped and started again on its port.
#[derive(Debug)]
struct Owned {
    program: PathBuf,
    port: u16,
    process: Option<ServiceProcess>,
}

impl Services {
    /// Starts what is not given. Deaths are sent to `deaths`; `data` is the storage's file, or else it is in memory.
    pub async fn start(
        programs: Programs,
        given: Given,
        data: Option<PathBuf>,
        logs: &Logs,
        deaths: mpsc::UnboundedSender<Death>,
    ) -> Result<Self> {
        let Programs { broker, tools } = programs;
        let storage = async {
            if given.endpoint("DYNAMODB").is_some() {
                return Ok(None);
            }
            let began = Instant::now();
            let storage = Storage::start(data.as_deref()).await?;
            anyhow::Ok(Some((storage, began.elapsed())))
        };
        let broker = async {
            if given.bootstrap_servers.is_some() {
                return Ok(None);
            }
            let Ok(program) = broker.await else { bail!("the embedded broker could not be built") };
            let began = Instant::now();
            let command = Command::new(&program);
            let (process, port) =
                ServiceProcess::announced("broker", command, announced_port, logs, &deaths).await?;
            anyhow::Ok(Some((Owned { program, port, process: Some(process) }, began.elapsed())))
        };
        let of_tools = async {
            let redis_on_path = redis::on_path();
            let needs_moto = MOTO_SERVES.iter().any(|service| given.endpoint(service).is_none());
            let needs_tools = needs_moto || (given.redis_url.is_none() && redis_on_path.is_none());
            let tools = if needs_tools { tools.await.ok() } else { None };
            if needs_tools && tools.is_none() {
                bail!("the tools could not be installed");
            }
            let redis = async {
                let program = match (&given.redis_url, redis_on_path, &tools) {
                    (None, Some(program), _) => program,
                    (None, None, Some(tools)) => tools.redis_server.clone(),
                    _ => return Ok(None),
                };
                let began = Instant::now();
                let (process, port) = redis::start(&program, None, logs, &deaths).await?;
                anyhow::Ok(Some((Owned { program, port, process: Some(process) }, began.elapsed())))
            };
            let moto = async {
                let (true, Some(tools)) = (needs_moto, &tools) else { return Ok(None) };
                let began = Instant::now();
                let mut command = Command::new(&tools.python);
                command.args(["-I", "-c", include_str!("aws.py")]);
                let (process, port) =
                    ServiceProcess::announced("moto", command, announced_port, logs, &deaths).await?;
                anyhow::Ok(Some((process, port, began.elapsed())))
            };
            tokio::try_join!(redis, moto)
        };
        let (storage, broker, (redis, moto)) = tokio::try_join!(storage, broker, of_tools)?;

        let mut started = Vec::new();
        let mut note = |service, address: String, took| started.push(Started { service, address, took });
        let of_aws = ["DYNAMODB"].iter().chain(&MOTO_SERVES);
        let mut aws: BTreeMap<String, String> =
            of_aws.filter_map(|service| Some(((*service).to_owned(), given.endpoint(service)?))).collect();
        let storage = storage.map(|(storage, took)| {
            note("DynamoDB", storage.url(), took);
            aws.insert("DYNAMODB".to_owned(), storage.url());
            storage
        });
        let broker = broker.map(|(owned, took)| {
            note("Kafka", format!("127.0.0.1:{}", owned.port), took);
            owned
        });
        let redis = redis.map(|(owned, took)| {
            note("Redis", format!("redis://127.0.0.1:{}", owned.port), took);
            owned
        });
        let mut moto_url = None;
        let moto = moto.map(|(process, port, took)| {
            let url = format!("http://127.0.0.1:{port}");
            note("SQS, SNS, SES", url.clone(), took);
            for service in MOTO_SERVES {
                aws.entry(service.to_owned()).or_insert_with(|| url.clone());
            }
            moto_url = Some(url);
            process
        });
        let endpoints = Endpoints {
            aws,
            region: given.region.clone(),
            real_aws: given.real_aws,
            moto: moto_url,
            redis_url: redis.as_ref().map_or_else(
                || given.redis_url.clone().unwrap_or_default(),
                |owned| format!("redis://127.0.0.1:{}", owned.port),
            ),
            bootstrap_servers: broker.as_ref().map_or_else(
                || given.bootstrap_servers.clone().unwrap_or_default(),
                |owned| format!("127.0.0.1:{}", owned.port),
            ),
            embedded_broker: broker.is_some(),
            started,
        };
        Ok(Self { storage, moto, redis, broker, endpoints, logs: logs.clone(), deaths })
    }

    /// Where the services are.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Ends our Redis, as if it had crashed; nothing, if it is not ours.
    pub async fn stop_redis(&mut self) {
        if let Some(process) = self.redis.as_mut().and_then(|owned| owned.process.take()) {
            process.stop().await;
        }
    }

    /// Starts our Redis again on its port, empty.
    pub async fn start_redis(&mut self) -> Result<()> {
        if let Some(owned) = self.redis.as_mut().filter(|owned| owned.process.is_none()) {
            let (process, _) =
                redis::start(&owned.program, Some(owned.port), &self.logs, &self.deaths).await?;
            owned.process = Some(process);
        }
        Ok(())
    }

    /// Ends our broker, as if it had crashed. Its log is in memory, and gone.
    pub async fn stop_broker(&mut self) {
        if let Some(process) = self.broker.as_mut().and_then(|owned| owned.process.take()) {
            process.stop().await;
        }
    }

    /// Starts our broker again on its port. It has no topics.
    pub async fn start_broker(&mut self) -> Result<()> {
        if let Some(owned) = self.broker.as_mut().filter(|owned| owned.process.is_none()) {
            let mut command = Command::new(&owned.program);
            command.arg(owned.port.to_string());
            let (process, _) =
                ServiceProcess::announced("broker", command, announced_port, &self.logs, &self.deaths)
                    .await?;
            owned.process = Some(process);
        }
        Ok(())
    }

    /// The embedded storage, past its HTTP; `None` where DynamoDB is somewhere else.
    #[must_use]
    pub fn database(&self) -> Option<dynoxide::Database> {
        self.storage.as_ref().map(Storage::database)
    }

    /// The ids of the processes that were started here, by service.
    #[must_use]
    pub fn process_ids(&self) -> BTreeMap<&'static str, u32> {
        let owned = |owned: &Option<Owned>| owned.as_ref()?.process.as_ref().map(ServiceProcess::id);
        [
            ("redis", owned(&self.redis)),
            ("broker", owned(&self.broker)),
            ("moto", self.moto.as_ref().map(ServiceProcess::id)),
        ]
        .into_iter()
        .filter_map(|(name, id)| id.map(|id| (name, id)))
        .collect()
    }

    /// Ends everything that was started here.
    pub async fn shutdown(mut self) {
        let moto = self.moto.take();
        let redis = self.redis.take().and_then(|owned| owned.process);
        let broker = self.broker.take().and_then(|owned| owned.process);
        let stop = |process: Option<ServiceProcess>| async {
            if let Some(process) = process {
                process.stop().await;
            }
        };
        tokio::join!(stop(moto), stop(redis), stop(broker));
        let storage = self.storage.take();
        // Its thread is joined, which would hold up this one.
        let _ = tokio::task::spawn_blocking(move || drop(storage)).await;
    }
}

impl Endpoints {
    /// The variables by which functions find the services; those of the template are not among them.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = self
            .aws
            .iter()
            .map(|(service, url)| (format!("AWS_ENDPOINT_URL_{service}"), url.clone()))
            .collect();
        variables.insert("AWS_REGION".to_owned(), self.region.clone());
        let credentials = self.credentials();
        variables.insert("AWS_ACCESS_KEY_ID".to_owned(), credentials.access_key_id().to_owned());
        variables.insert("AWS_SECRET_ACCESS_KEY".to_owned(), credentials.secret_access_key().to_owned());
        if let Some(token) = credentials.session_token() {
            variables.insert("AWS_SESSION_TOKEN".to_owned(), token.to_owned());
        }
        variables
    }

    /// The settings of a client of one service, named as in its variable: `SQS`, `SESV2`.
    #[must_use]
    pub fn sdk_config(&self, service: &str) -> SdkConfig {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let mut config = SdkConfig::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
                self.credentials(),
            ))
            .http_client(http);
        config.set_endpoint_url(self.aws.get(service).cloned());
        config.build()
    }

    fn credentials(&self) -> Credentials {
        let own = self
            .real_aws
            .then(|| variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")))
            .flatten();
        match own {
            Some((id, secret)) => {
                Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment")
            }
            None => Credentials::new("local", "local", None, None, "local"),
        }
    }
}

/// The services that are there already.
#[derive(Clone, Debug)]
pub struct Given {
    region: String,
    aws: BTreeMap<String, String>,
    aws_default: Option<String>,
    real_aws: bool,
    redis_url: Option<String>,
    bootstrap_servers: Option<String>,
}

impl Given {
    /// Those that the environment names.
    #[must_use]
    pub fn from_environment() -> Self {
        let aws = ["DYNAMODB"].iter().chain(&MOTO_SERVES).filter_map(|service| {
            variable(&format!("AWS_ENDPOINT_URL_{service}")).map(|url| ((*service).to_owned(), url))
        });
        let (aws, aws_default): (BTreeMap<_, _>, _) = (aws.collect(), variable("AWS_ENDPOINT_URL"));
        Self {
            real_aws: !aws.is_empty() || aws_default.is_some(),
            region: variable("AWS_REGION")
                .or_else(|| variable("AWS_DEFAULT_REGION"))
                .unwrap_or(REGION.to_owned()),
            aws,
            aws_default,
            redis_url: variable("REDIS_URL"),
            bootstrap_servers: variable("KAFKA_BOOTSTRAP_SERVERS"),
        }
    }

    /// For a stack that leaves nothing behind, and so must not touch what is somebody's.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            real_aws: false,
            region: REGION.to_owned(),
            aws: BTreeMap::new(),
            aws_default: None,
            redis_url: None,
            bootstrap_servers: None,
        }
    }

    fn endpoint(&self, service: &str) -> Option<String> {
        self.aws.get(service).or(self.aws_default.as_ref()).cloned()
    }

    /// These as well: services of AWS, by their names in `AWS_ENDPOINT_URL_<service>`, that are no real ones.
    #[must_use]
    pub fn with(mut self, elsewhere: BTreeMap<String, String>) -> Self {
        self.aws.extend(elsewhere);
        self
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
