//! `cargo run -p local`: what it is told, and what it does.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    api_client::ApiClient,
    bench::{self, Bench, Report, Subject},
    checks,
    cloud::{self, CloudArgs},
    commands,
    data::{self, Keep},
    demo,
    env_file::EnvFile,
    event_sources::Redriven,
    installation, local_routes, replay,
    runtime::{LogLevel, Logs},
    services::{Death, Endpoints},
    stack::{self, Foundation, Options, Stack},
    tools::{Set, Tools},
};

/// How long whatever answers on a port has to say that it is `local`.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs template.yaml on this machine: the API with its functions, and every service that they need.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Clone, Debug)]
struct Settings {
    /// The port of the API, on 127.0.0.1
    #[arg(long, global = true, default_value_t = 9000)]
    port: u16,
    /// Begin with empty data
    #[arg(long, global = true, conflicts_with = "in_memory")]
    fresh: bool,
    /// Keep no data, and leave alone what is kept
    #[arg(long, global = true)]
    in_memory: bool,
    /// The folder of kept data; `services.env` is beside it
    #[arg(long, global = true, value_name = "FOLDER", hide = true)]
    data: Option<PathBuf>,
    /// A value of a parameter of template.yaml
    #[arg(long = "parameter", global = true, value_name = "NAME=VALUE", value_parser = name_and_value)]
    parameters: Vec<(String, String)>,
    /// From which level on the functions' lines are shown (and written): trace, debug, info, warn, error, quiet
    #[arg(long, global = true, default_value = "warn")]
    log_level: LogLevel,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start only the services, and write `.local/services.env` for `cargo lambda watch --env-file`. What was pushed and
    /// mailed is served on the port after --port
    Services,
    /// Send a sample event to its function, or play a scenario, and tell what came of it
    Replay {
        /// events/<function>.json, or events/scenarios/<scenario>.json
        file: PathBuf,
    },
    /// Play an evening in a town, print what each person got, and stay up
    Demo {
        /// The scenario to play
        #[arg(default_value = "events/scenarios/harbour-fire.json")]
        scenario: PathBuf,
        /// End when the table is printed
        #[arg(long)]
        once: bool,
    },
    /// Give a person the roles moderator and admin
    Admin {
        /// The verified mail address of their account
        email: String,
    },
    /// Bring back what lies in a dead-letter queue of the running stack
    Redrive {
        /// The queue's logical id in template.yaml
        queue: String,
    },
    /// Measure what the README states (with --release). Fails where a count, a ratio or a size is not as wanted
    Bench {
        /// Only this; it can be given again
        #[arg(long, value_enum)]
        only: Vec<Subject>,
    },
    /// Check the template as `sam validate --lint` does, and the contract's examples
    Validate,
    /// Try the contract on a stack of its own with made-up requests
    Contract {
        /// How many requests are made up for each operation
        #[arg(long, default_value_t = 25)]
        examples: u32,
    },
    /// Make in the cloud what CloudFormation cannot, with the credentials of the environment
    Provision(Box<CloudArgs>),
}

/// Does what the command line says.
pub async fn run() -> Result<ExitCode> {
    let Cli { settings, command } = Cli::parse();
    match command {
        None => serve(&settings).await,
        Some(Command::Services) => services(&settings).await,
        Some(Command::Replay { file }) => replay(&settings, &file).await,
        Some(Command::Demo { scenario, once }) => demo(&settings, &scenario, once).await,
        Some(Command::Admin { email }) => admin(&settings, &email).await,
        Some(Command::Redrive { queue }) => redrive(&settings, &queue).await,
        Some(Command::Bench { only }) => bench(&settings, &only).await,
        Some(Command::Validate) => validate().await,
        Some(Command::Contract { examples }) => contract(&settings, examples).await,
        Some(Command::Provision(args)) => {
            cloud::run(*args, &mut io::stdout()).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

impl Settings {
    /// With the data that is kept, and the services that the environment names.
    fn kept(&self) -> Options {
        Options { keep: self.keep(), given_services: true, ..self.in_memory() }
    }

    /// For what must begin with nothing and leave nothing.
    fn in_memory(&self) -> Options {
        let written = match self.log_level {
            LogLevel::Trace => Some("TRACE"),
            LogLevel::Debug => Some("DEBUG"),
            // The template's own is below these.
            LogLevel::Info | LogLevel::Warn | LogLevel::Error | LogLevel::Quiet => None,
        };
        let written = written.map(|level| ("LogLevel".to_owned(), level.to_owned()));
        let root = stack::workspace();
        Options {
            port: self.port,
            keep: Keep::Nothing,
            data: self.data.clone().unwrap_or_else(|| root.join(data::FOLDER)),
            given_services: false,
            elsewhere: BTreeMap::new(),
            functions: &[],
            parameters: written.into_iter().chain(self.parameters.iter().cloned()).collect(),
            logs: Logs::to_stderr(self.log_level),
            say: Arc::new(tell),
            root,
            ..Options::in_memory()
        }
    }

    fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on which `services` serves what a stack serves under `/_local`, since the API's is for `cargo lambda watch`.
    fn services_port(&self) -> Result<u16> {
        self.port.checked_add(1).context("--port leaves no port after it")
    }

    /// The address of a stack that somebody runs on our port.
    async fn running_stack(&self) -> Option<String> {
        let base_url = self.base_url();
        is_local(&base_url).await.then_some(base_url)
    }

    /// The address of services that somebody runs beside our port.
    async fn running_services(&self) -> Option<String> {
        let base_url = format!("http://127.0.0.1:{}", self.services_port().ok()?);
        is_local(&base_url).await.then_some(base_url)
    }

    const fn keep(&self) -> Keep {
        match (self.in_memory, self.fresh) {
            (true, _) => Keep::Nothing,
            (false, true) => Keep::Afresh,
            (false, false) => Keep::Everything,
        }
    }
}

/// Whether a `local` answers there. `cargo lambda watch` answers too, for other paths.
async fn is_local(base_url: &str) -> bool {
    let api = ApiClient::new(base_url);
    match tokio::time::timeout(PATIENCE, api.get(local_routes::METRICS)).await {
        Ok(Ok(answer)) => answer.status == 200 && answer.body["event_sources"].is_object(),
        _ => false,
    }
}

async fn serve(settings: &Settings) -> Result<ExitCode> {
    let began = Instant::now();
    with_stack(settings.kept(), async |stack| {
        tell_services(stack.endpoints());
        tell(&format!(
            "{} serves, after {} ms; Ctrl-C ends it",
            stack.base_url(),
            began.elapsed().as_millis()
        ));
        Ok(Then::Stay)
    })
    .await
}

async fn demo(settings: &Settings, scenario: &Path, once: bool) -> Result<ExitCode> {
    with_stack(settings.in_memory(), async |stack| {
        tell_services(stack.endpoints());
        let as_expected = demo::run(stack.base_url(), scenario, &mut io::stdout()).await?;
        if once {
            return Ok(Then::End(as_expected));
        }
        tell(&format!("{} stays up; Ctrl-C ends it", stack.base_url()));
        Ok(Then::Stay)
    })
    .await
}

async fn bench(settings: &Settings, only: &[Subject]) -> Result<ExitCode> {
    let subjects = if only.is_empty() { Subject::value_variants() } else { only };
    let mut report = Report::default();
    let measured = measure(settings, subjects, &mut report).await;
    // What there is, also where the rest failed.
    report.print(&mut io::stdout())?;
    Ok(if measured? && report.is_as_wanted() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures each subject, on stacks one after the other; answers whether it came to its end.
async fn measure(settings: &Settings, subjects: &[Subject], report: &mut Report) -> Result<bool> {
    let options = Options { port: 0, functions: bench::FUNCTIONS, ..settings.in_memory() };
    let say: &(dyn Fn(&str) + Send + Sync) = &tell;
    if cfg!(debug_assertions) {
        report.note("This is a debug build: what is wanted is wanted of a release build (--release).");
    }
    if subjects.iter().any(|subject| !matches!(subject, Subject::Audience | Subject::Crowd)) {
        let mut ended = false;
        with_stack(options.clone(), async |stack| {
            Bench { stack, say }.run(subjects, report).await?;
            ended = true;
            Ok(Then::End(true))
        })
        .await?;
        if !ended {
            return Ok(false);
        }
    }
    if subjects.contains(&Subject::Audience) {
        let measured = async {
            let foundation = Foundation::lay(&options, &settings.base_url(), false).await?;
            let measured = bench::audience(&foundation, report, say).await;
            foundation.shutdown().await;
            measured
        };
        let Some(measured) = unless_told_to_end(measured).await else { return Ok(false) };
        measured?;
    }
    if subjects.contains(&Subject::Crowd) {
        for scene in bench::Scene::ALL {
            let endpoints = bench::Endpoints::start().await?;
            let mut ended = false;
            let (elsewhere, environment) = (endpoints.addresses(), scene.environment());
            with_stack(Options { elsewhere, environment, ..options.clone() }, async |stack| {
                Bench { stack, say }.crowd(scene, &endpoints, report).await?;
                ended = true;
                Ok(Then::End(true))
            })
            .await?;
            if !ended {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn validate() -> Result<ExitCode> {
    let root = stack::workspace();
    match unless_told_to_end(checks::validate(&root, Arc::new(tell))).await {
        Some(result) => result.map(|()| ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

async fn contract(settings: &Settings, examples: u32) -> Result<ExitCode> {
    let root = stack::workspace();
    let options = Options { port: 0, ..settings.in_memory() };
    // First: a stack that stands and waits for pip helps nobody.
    let installed = Tools::installed(&root, Set::Contract, Arc::clone(&options.say));
    let Some(tools) = unless_told_to_end(installed).await else { return Ok(ExitCode::FAILURE) };
    let tools = tools?;
    with_stack(options, async |stack| {
        checks::contract(&tools, &root, stack, examples).await?;
        Ok(Then::End(true))
    })
    .await
}

async fn admin(settings: &Settings, email: &str) -> Result<ExitCode> {
    let running = match settings.running_stack().await {
        Some(stack) => Some(stack),
        None => settings.running_services().await,
    };
    let changed = if let Some(running) = running {
        let wish = serde_json::json!({ "email": email });
        wished(&running, local_routes::ADMINS, &wish).await?["changed"] == true
    } else {
        anyhow::ensure!(
            !settings.fresh && !settings.in_memory,
            "nobody has registered in a stack without data"
        );
        tell(&format!(
            "no stack runs on port {}: this changes the data in {}, which the next start has",
            settings.port,
            settings.kept().data.display()
        ));
        let options = settings.kept();
        let base_url = settings.base_url();
        let laid = unless_told_to_end(Foundation::lay(&options, &base_url, false)).await;
        let Some(foundation) = laid.transpose()? else { return Ok(ExitCode::FAILURE) };
        let changed = match foundation.users_table() {
            Some(users) => installation::grant_admin(&users, email).await,
            None => Err(anyhow::anyhow!("the template has no table of users")),
        };
        unless_told_to_end(foundation.shutdown()).await;
        changed?
    };
    tell(&if changed {
        format!("{email} is a moderator and admin now; access tokens know it from their next renewal on")
    } else {
        format!("{email} was a moderator and admin already")
    });
    Ok(ExitCode::SUCCESS)
}

async fn redrive(settings: &Settings, queue: &str) -> Result<ExitCode> {
    let running = settings.running_stack().await;
    let running = running.with_context(|| format!("no stack runs on port {}", settings.port))?;
    let path = [local_routes::REDRIVE, queue].concat();
    let redriven = wished(&running, &path, &serde_json::json!({})).await?;
    let Redriven { moved, kept } = serde_json::from_value(redriven)?;
    writeln!(io::stdout(), "{moved} of the messages in {queue} were brought back, {kept} stay")?;
    Ok(if kept == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a running `local` answers to a wish, if it fulfils it.
async fn wished(base_url: &str, path: &str, wish: &serde_json::Value) -> Result<serde_json::Value> {
    let answer = ApiClient::new(base_url).post(path, wish).await?;
    let reason = answer.body["message"].as_str().unwrap_or("it was refused");
    anyhow::ensure!(answer.status == 200, "{reason}");
    Ok(answer.body)
}

async fn replay(settings: &Settings, file: &Path) -> Result<ExitCode> {
    if let Some(running) = settings.running_stack().await {
        let good = replay::run(&running, file, &mut io::stdout()).await?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    tell(&format!("no stack runs on port {}: this replay gets one of its own", settings.port));
    let options = Options { port: 0, ..settings.in_memory() };
    with_stack(options, async |stack| {
        replay::run(stack.base_url(), file, &mut io::stdout()).await.map(Then::End)
    })
    .await
}

async fn services(settings: &Settings) -> Result<ExitCode> {
    let options = settings.kept();
    // First, so that a taken port is told before anything is built.
    let listener = stack::listen(settings.services_port()?).await?;
    // Where `cargo lambda watch` serves by default, and so what tokens are issued by.
    let base_url = settings.base_url();
    let laid = async {
        let watch = Tools::installed(&options.root, Set::Watch, Arc::clone(&options.say));
        tokio::try_join!(Foundation::lay(&options, &base_url, false), watch)
    };
    let Some(laid) = unless_told_to_end(laid).await else { return Ok(ExitCode::SUCCESS) };
    let (foundation, tools) = laid?;
    let served = async {
        let path = options.data.with_file_name("services.env");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let _file = EnvFile::write(&path, &foundation.environment())?;
        let server = foundation.serve(listener)?;
        tell_services(foundation.endpoints());
        tell(&format!("what is pushed and mailed is at http://{}/_local/outbox", server.address()));
        let watch = tools.program("cargo-lambda");
        tell(&format!(
            "the services run; now: {} lambda watch --env-file {}",
            watch.display(),
            path.display()
        ));
        anyhow::Ok(tokio::select! {
            death = foundation.death() => Some(death),
            () = told_to_end() => None,
        })
    };
    let death = served.await;
    unless_told_to_end(foundation.shutdown()).await;
    Ok(match death? {
        Some(death) => {
            tell_death(&death);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    })
}

/// What comes after some work with a stack.
enum Then {
    /// Its end, whether the work went well or not.
    End(bool),
    /// Nothing, until somebody says so.
    Stay,
}

/// Starts a stack, does something with it, and ends it, whatever comes first: the work's end, a service's death, or the
/// order to end, which cuts the work short.
async fn with_stack(options: Options, work: impl AsyncFnOnce(&Stack) -> Result<Then>) -> Result<ExitCode> {
    let Some(stack) = unless_told_to_end(Stack::start(options)).await else { return Ok(ExitCode::SUCCESS) };
    let stack = stack?;
    let mut is_staying = false;
    let worked = async {
        match work(&stack).await? {
            Then::End(is_good) => anyhow::Ok(is_good),
            Then::Stay => {
                is_staying = true;
                std::future::pending().await
            }
        }
    };
    let result = tokio::select! {
        biased;
        result = worked => result,
        death = stack.death() => {
            tell_death(&death);
            Ok(false)
        }
        () = until_told_to_end() => Ok(is_staying),
    };
    // Who asks twice does not want to wait.
    let ended = unless_told_to_end(stack.shutdown()).await;
    Ok(if result? && ended.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does something to its end; `None` if it was told to end before.
async fn unless_told_to_end<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        () = told_to_end() => {
            commands::end_all();
            None
        }
    }
}

/// Waits for the order to end a stack, and says what it does.
async fn until_told_to_end() {
    told_to_end().await;
    tell("what was accepted is done, and then everything ends; once more, and it ends at once");
}

/// Waits for an order to end that nobody has obeyed yet: Ctrl-C, a request to end, or the end of the terminal.
///
/// Orders are counted from the first wait on, so that one that comes between two waits is not lost. Of those who wait
/// at the same time, the first that is polled obeys.
async fn told_to_end() {
    static OBEYED: AtomicU32 = AtomicU32::new(0);
    static GIVEN: LazyLock<watch::Receiver<u32>> = LazyLock::new(orders);
    let mut given = GIVEN.clone();
    match given.wait_for(|given| *given > OBEYED.load(Ordering::Relaxed)).await {
        Ok(given) => OBEYED.store(*given, Ordering::Relaxed),
        // Without signals there are no orders.
        Err(_) => std::future::pending().await,
    }
}

/// Counts the orders to end that this process gets, from now on.
fn orders() -> watch::Receiver<u32> {
    let (tell, orders) = watch::channel(0);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        match signal(kind) {
            Ok(mut signal) => {
                let tell = tell.clone();
                tokio::spawn(async move {
                    while signal.recv().await.is_some() {
                        tell.send_modify(|orders| *orders += 1);
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "a signal cannot be waited for"),
        }
    }
    orders
}

fn tell_services(endpoints: &Endpoints) {
    for started in &endpoints.started {
        tell(&format!("{:<14} {:<28} {:>5} ms", started.service, started.address, started.took.as_millis()));
    }
}

fn tell_death(death: &Death) {
    tell(&format!("{} ended by itself: {}", death.service, death.report));
}

/// For the person at the terminal; what a command gives goes to the standard output, and can be piped.
fn tell(line: &str) {
    // Nobody is left to tell if it fails.
    let _ = writeln!(io::stderr(), "local | {line}");
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[tokio::test]
    async fn an_order_between_two_waits_is_obeyed_once() {
        const SOON: Duration = Duration::from_millis(100);
        assert_eq!(unless_told_to_end(async { 1 }).await, Some(1));
        assert!(timeout(SOON, told_to_end()).await.is_err());
        let us = std::process::id().to_string();
        let status = std::process::Command::new("kill").args(["-HUP", &us]).status();
        assert!(status.is_ok_and(|status| status.success()));
        // It comes while nobody waits.
        sleep(SOON).await;
        assert!(timeout(PATIENCE, told_to_end()).await.is_ok());
        assert!(timeout(SOON, told_to_end()).await.is_err());
    }
}
