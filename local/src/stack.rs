//! The whole of it, running: services, what the template declares in them, functions, event sources, and the front door.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use krafka::Kafka;
use tocsin_adapters::dynamodb::{FriendshipsTable, PeopleTable, UsersTable};
use tokio::{
    net::TcpListener,
    sync::{Mutex, OnceCell, mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    builds::Builds,
    data::{self, DataFolder, Keep},
    event_sources::{self, Backoff, BrokerKind, EventSources, Mishaps},
    http_api::{HttpApi, Routes, Server},
    local_routes,
    metrics::Metrics,
    outbox::Outbox,
    provision::{self, Provisioned},
    runtime::{Fleet, FleetOptions, LogLevel, Logs, Program},
    services::{ACCOUNT, Death, Endpoints, Given, Programs, Services, ToolPrograms},
    signing_key::SigningKey,
    template::{
        Deployment, Template, Unprovisioned,
        model::{App, Event},
    },
    tools::{Set, Tools},
};

/// The stage that a stack of this machine is.
pub const STAGE: &str = "local";
/// The domain that its mails come from: reserved for examples (RFC 2606).
const MAIL_DOMAIN: &str = "tocsin.example";
/// How long the end of a stack waits for what was accepted to be done: the embedded log is in memory.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it waits before for requests in hand, and then for functions that still run and clients that close.
const GRACE: Duration = Duration::from_secs(2);

/// How a stack is started.
#[derive(Clone)]
pub struct Options {
    /// The workspace: where template.yaml is.
    pub root: PathBuf,
    /// Where the front door listens on 127.0.0.1; 0 is any free port.
    pub port: u16,
    /// What becomes of data.
    pub keep: Keep,
    /// The folder of data that is kept.
    pub data: PathBuf,
    /// Whether services that the environment names are taken, in the place of our own.
    pub given_services: bool,
    /// AWS services that are somewhere else, by their names in `AWS_ENDPOINT_URL_<service>`: nothing is started for them.
    pub elsewhere: BTreeMap<String, String>,
    /// The functions that there are, with what invokes them; all of the template's, where none are named.
    pub functions: &'static [&'static str],
    /// Values of the template's parameters, over those that a machine's stack has.
    pub parameters: BTreeMap<String, String>,
    /// Variables of the functions, over those by which they find the services.
    pub environment: BTreeMap<String, String>,
    /// What happens to the events of event sources.
    pub mishaps: Option<Mishaps>,
    /// Where the functions' lines go.
    pub logs: Logs,
    /// Is told what goes on.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("port", &self.port).field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Options {
    /// For a test: in memory, on any free port, with the functions' warnings and errors at the standard error output.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            root: workspace(),
            port: 0,
            keep: Keep::Nothing,
            data: workspace().join(data::FOLDER),
            given_services: false,
            elsewhere: BTreeMap::new(),
            functions: &[],
            parameters: BTreeMap::new(),
            environment: BTreeMap::new(),
            mishaps: None,
            logs: Logs::to_stderr(LogLevel::Error),
            say: Arc::new(|_| {}),
        }
    }
}

/// The workspace that this program was built from.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// The services with all that the template declares in them, and no functions: what `cargo lambda watch` leans on.
#[derive(Debug)]
pub struct Foundation {
    /// The template, resolved.
    pub app: App,
    services: Mutex<Services>,
    endpoints: Endpoints,
    provisioned: Provisioned,
    kafka: Kafka,
    deaths: Mutex<mpsc::UnboundedReceiver<Death>>,
    builds: Builds,
    root: PathBuf,
    // Last, so that the data is let go after the storage has closed it.
    _data: Option<DataFolder>,
}

/// A running stack.
pub struct Stack {
    foundation: Foundation,
    base_url: String,
    fleet: Fleet,
    metrics: Metrics,
    sources: Arc<EventSources>,
    outbox: Option<Arc<Outbox>>,
    server: Server,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Foundation {
    /// Builds and installs what is not there yet, starts the services and makes everything in them. `base_url` is where
    /// the API will be.
    pub async fn lay(options: &Options, base_url: &str, functions: bool) -> Result<Self> {
        let template = Template::read(&options.root.join("template.yaml"))?;
        let data = DataFolder::take(&options.data, options.keep)?;
        let key = match &data {
            Some(data) => SigningKey::kept_in(&data.signing_key())?,
            None => SigningKey::generate()?,
        };
        let builds = Builds::new(&options.root)?;
        let (tell, deaths) = mpsc::unbounded_channel();
        let (broker_built, broker) = oneshot::channel();
        let (installed, tools) = oneshot::channel();
        let service_logs = Logs::quiet();
        let storage_file = data.as_ref().map(DataFolder::storage);
        let programs = Programs { broker, tools };
        let given = if options.given_services { Given::from_environment() } else { Given::nothing() };
        let given = given.with(options.elsewhere.clone());
        let services = Services::start(programs, given, storage_file, &service_logs, tell);
        let functions = functions.then_some(options.functions);
        let ((), (), services) = tokio::try_join!(
            build(builds.clone(), functions, broker_built, Arc::clone(&options.say)),
            install(&options.root, installed, Arc::clone(&options.say)),
            services,
        )?;
        let endpoints = services.endpoints().clone();
        let deployment = deployment(&template, options, base_url, &endpoints);
        let declared = template.app(&deployment, &Unprovisioned)?;
        let kafka = provision::kafka(&endpoints).await?;
        let provisioned =
            provision::provision(&declared, &deployment, &endpoints, &kafka, &key, STAGE, MAIL_DOMAIN)
                .await?;
        let mut app = template.app(&deployment, &provisioned)?;
        let named = options.functions;
        app.functions.retain(|function| named.is_empty() || named.contains(&function.name.as_str()));
        Ok(Self {
            app,
            services: Mutex::new(services),
            endpoints,
            provisioned,
            kafka,
            deaths: Mutex::new(deaths),
            builds,
            root: options.root.clone(),
            _data: data,
        })
    }

    /// Where the services are.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Every variable that any function has: `cargo lambda watch` gives all of them the same.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let functions = self.app.functions.iter().flat_map(|function| function.environment.clone());
        functions.chain(self.endpoints.environment()).collect()
    }

    /// The table of accounts: the one that functions know as `USERS_TABLE`.
    #[must_use]
    pub fn users_table(&self) -> Option<UsersTable> {
        let (client, name) = self.table("USERS_TABLE")?;
        Some(UsersTable::new(&client, name))
    }

    /// The tables of people and of their friendships.
    #[must_use]
    pub fn people_tables(&self) -> Option<(PeopleTable, FriendshipsTable)> {
        let (client, people) = self.table("PEOPLE_TABLE")?;
        let (_, friendships) = self.table("FRIENDSHIPS_TABLE")?;
        Some((PeopleTable::new(&client, people), FriendshipsTable::new(&client, friendships)))
    }

    /// The table that functions know by a variable, and a client to reach it with.
    #[must_use]
    pub fn table(&self, variable: &str) -> Option<(aws_sdk_dynamodb::Client, &str)> {
        let name = self.app.functions.iter().find_map(|function| function.environment.get(variable))?;
        Some((aws_sdk_dynamodb::Client::new(&self.endpoints.sdk_config("DYNAMODB")), name))
    }

    /// Waits until a service ends that was not asked to.
    pub async fn death(&self) -> Death {
        match self.deaths.lock().await.recv().await {
            Some(death) => death,
            // The services are ours, so somebody can always tell.
            None => std::future::pending().await,
        }
    }

    /// The embedded storage, past its HTTP; `None` where DynamoDB is somewhere else.
    pub async fn database(&self) -> Option<dynoxide::Database> {
        self.services.lock().await.database()
    }

    /// What was pushed and mailed; `None` where these services are real ones.
    #[must_use]
    pub fn outbox(&self) -> Option<Arc<Outbox>> {
        self.endpoints.moto.as_deref().map(|moto| Arc::new(Outbox::new(moto)))
    }

    /// Serves what `local` serves besides the functions: they run elsewhere.
    pub fn serve(&self, listener: TcpListener) -> Result<Server> {
        let none = FleetOptions::default();
        let metrics = Metrics::default();
        let http_api = HttpApi {
            routes: Routes::new([])?,
            cors: None,
            fleet: Fleet::new([], BTreeMap::new(), none, &Logs::quiet(), &metrics),
            local: vec![
                local_routes::outbox(self.outbox()),
                local_routes::metrics(None, metrics),
                local_routes::admins(self.users_table()),
            ],
        };
        Ok(http_api.serve(listener)?)
    }

    /// Ends the services.
    pub async fn shutdown(self) {
        match timeout(GRACE, self.kafka.admin().close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "Kafka was gone already"),
            Err(_) => tracing::debug!("Kafka's client did not close in time"),
        }
        self.services.into_inner().shutdown().await;
    }
}

impl Stack {
    /// Starts everything, and returns when the front door serves.
    pub async fn start(options: Options) -> Result<Self> {
        // First, so that a taken port is told before anything is built.
        let listener = listen(options.port).await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let foundation = Foundation::lay(&options, &base_url, true).await?;
        let metrics = Metrics::default();
        let fleet = fleet(&foundation, &options, &metrics);
        let app = &foundation.app;
        let source_services = event_sources::Services {
            broker: Some(event_sources::Broker {
                kafka: foundation.kafka.clone(),
                bootstrap_servers: foundation.endpoints.bootstrap_servers.clone(),
                kind: if foundation.endpoints.embedded_broker {
                    BrokerKind::Embedded
                } else {
                    BrokerKind::Kafka
                },
            }),
            sqs: aws_sdk_sqs::Client::new(&foundation.endpoints.sdk_config("SQS")),
            queues: foundation.provisioned.queues.clone(),
        };
        let sources =
            EventSources::start(app, &fleet, source_services, Backoff::default(), options.mishaps, &metrics)
                .await?;
        let sources = Arc::new(sources);
        let outbox = foundation.outbox();
        let http_api = HttpApi {
            routes: routes(app)?,
            cors: app.cors.clone(),
            fleet: fleet.clone(),
            local: vec![
                local_routes::outbox(outbox.clone()),
                local_routes::metrics(Some(Arc::clone(&sources)), metrics.clone()),
                local_routes::redrive(Arc::clone(&sources)),
                local_routes::admins(foundation.users_table()),
            ],
        };
        let server = http_api.serve(listener)?;
        Ok(Self { foundation, base_url, fleet, metrics, sources, outbox, server })
    }

    /// The API: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The functions.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What functions and event sources count.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The template, resolved.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.foundation.app
    }

    /// Where the services are.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.foundation.endpoints
    }

    /// The URLs and ARNs of the template's queues, by logical id.
    #[must_use]
    pub const fn queues(&self) -> &BTreeMap<String, event_sources::QueueAddress> {
        &self.foundation.provisioned.queues
    }

    /// The services with all that the template declares in them.
    #[must_use]
    pub const fn foundation(&self) -> &Foundation {
        &self.foundation
    }

    /// The cluster that holds the log.
    #[must_use]
    pub const fn kafka(&self) -> &Kafka {
        &self.foundation.kafka
    }

    /// The event sources.
    #[must_use]
    pub fn event_sources(&self) -> &EventSources {
        &self.sources
    }

    /// What was pushed and mailed; `None` where these services are real ones.
    #[must_use]
    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_deref()
    }

    /// The workspace: where template.yaml is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.foundation.root
    }

    /// The folder of the functions' binaries.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        self.foundation.builds.folder()
    }

    /// Waits until every record and message is done, and says whether that is so within `patience`.
    pub async fn settle(&self, patience: Duration) -> bool {
        self.sources.drain(tokio::time::Instant::now() + patience).await
    }

    /// Ends our Redis, as if it had crashed.
    pub async fn stop_redis(&self) {
        self.foundation.services.lock().await.stop_redis().await;
    }

    /// Starts our Redis again, empty.
    pub async fn start_redis(&self) -> Result<()> {
        self.foundation.services.lock().await.start_redis().await
    }

    /// Ends our broker, as if it had crashed.
    pub async fn stop_broker(&self) {
        self.foundation.services.lock().await.stop_broker().await;
    }

    /// Starts our broker again, with empty topics.
    pub async fn start_broker(&self) -> Result<()> {
        self.foundation.services.lock().await.start_broker().await?;
        provision::topics(&self.foundation.app, &self.foundation.kafka).await
    }

    /// The ids of the services' processes.
    pub async fn service_process_ids(&self) -> BTreeMap<&'static str, u32> {
        self.foundation.services.lock().await.process_ids()
    }

    /// Waits until a service ends that was not asked to. A function's process that ends is started again instead.
    pub async fn death(&self) -> Death {
        self.foundation.death().await
    }

    /// Ends everything in order: new requests are refused, those in hand are answered, what was accepted is done, then
    /// the services end.
    pub async fn shutdown(self) {
        let Self { foundation, fleet, sources, server, .. } = self;
        server.close(GRACE).await;
        if !sources.drain(tokio::time::Instant::now() + DRAIN).await {
            tracing::warn!("not everything that was accepted was done after {DRAIN:?}");
        }
        // At once: a source waits for its functions in hand, which may never end by themselves.
        tokio::join!(sources.shutdown(), fleet.shutdown(GRACE));
        foundation.shutdown().await;
    }
}

/// Binds the front door.
pub async fn listen(port: u16) -> Result<TcpListener> {
    match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("port {port} of 127.0.0.1 is taken: end what listens there, or choose another with --port")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on port {port} of 127.0.0.1")),
    }
}

async fn build(
    builds: Builds,
    functions: Option<&'static [&'static str]>,
    broker_built: oneshot::Sender<PathBuf>,
    say: Arc<dyn Fn(&str) + Send + Sync>,
) -> Result<()> {
    /// Many stacks run in one test process, and nothing changes between them.
    static FUNCTIONS: OnceCell<()> = OnceCell::const_new();
    let for_broker = builds.clone();
    let program = spawn_blocking(move || for_broker.broker(|line| say(line))).await??;
    // If nobody listens, the services failed, and say why.
    let _ = broker_built.send(program);
    if let Some(named) = functions {
        let all = async || spawn_blocking(move || builds.functions(named)).await?;
        if named.is_empty() {
            FUNCTIONS.get_or_try_init(all).await?;
        } else {
            all().await?;
        }
    }
    Ok(())
}

async fn install(
    root: &Path,
    installed: oneshot::Sender<ToolPrograms>,
    say: Arc<dyn Fn(&str) + Send + Sync>,
) -> Result<()> {
    let tools = Tools::installed(root, Set::Run, say).await?;
    let programs =
        ToolPrograms { python: tools.program("python"), redis_server: tools.program("redis-server") };
    let _ = installed.send(programs);
    Ok(())
}

/// Where moto has the bucket of profile images; nothing where S3 is a real one, and names it itself.
fn profile_images_url(endpoints: &Endpoints) -> String {
    let bucket = |s3: &String| format!("{}/tocsin-{STAGE}-profileimagesbucket", s3.trim_end_matches('/'));
    endpoints.aws.get("S3").map(bucket).unwrap_or_default()
}

fn deployment(template: &Template, options: &Options, base_url: &str, endpoints: &Endpoints) -> Deployment {
    let region = &endpoints.region;
    let known = template.parameters();
    let mut parameters: BTreeMap<String, String> = [
        ("Stage", STAGE.to_owned()),
        ("KafkaClusterArn", format!("arn:aws:kafka:{region}:{ACCOUNT}:cluster/{STAGE}/00000000")),
        ("KafkaClusterName", STAGE.to_owned()),
        ("KafkaBootstrapServers", endpoints.bootstrap_servers.clone()),
        ("KafkaAuth", "none".to_owned()),
        ("MailFrom", format!("bell@{MAIL_DOMAIN}")),
        ("MailIdentity", MAIL_DOMAIN.to_owned()),
        ("AccessTokenIssuer", base_url.to_owned()),
        // Issuers that are tried with, and feeds, may be on this machine.
        ("OutgoingAllowedHosts", "127.0.0.1".to_owned()),
        ("ProfileImagesUrl", profile_images_url(endpoints)),
    ]
    .into_iter()
    .filter(|(name, _)| known.contains(name))
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    parameters.extend(options.parameters.clone());
    Deployment {
        stack_name: format!("tocsin-{STAGE}"),
        region: region.clone(),
        account: ACCOUNT.to_owned(),
        parameters,
    }
}

fn fleet(foundation: &Foundation, options: &Options, metrics: &Metrics) -> Fleet {
    let fleet_options = FleetOptions {
        region: foundation.endpoints.region.clone(),
        account: ACCOUNT.to_owned(),
        ..FleetOptions::default()
    };
    let functions = foundation
        .app
        .functions
        .iter()
        .map(|function| (function.clone(), Program::from(foundation.builds.function(&function.name))));
    let mut environment = foundation.endpoints.environment();
    environment.extend(options.environment.clone());
    Fleet::new(functions, environment, fleet_options, &options.logs, metrics)
}

fn routes(app: &App) -> Result<Routes> {
    let routes = app.functions.iter().flat_map(|function| {
        function.events.iter().filter_map(|event| match event {
            Event::Http(route) => Some((route, function.name.as_str())),
            _ => None,
        })
    });
    Routes::new(routes).context("the routes of template.yaml")
}
