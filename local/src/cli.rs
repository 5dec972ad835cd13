//! `cargo run -p local`: what it is told, and what it does.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api_client::ApiClient,
    bench::Bench,
    checks,
    cloud::{self, CloudArgs},
    data::{self, Keep},
    demo, installation, local_routes, replay,
    runtime::{LogLevel, Logs},
    services::{Death, Endpoints},
    stack::{self, Foundation, Options, Stack},
};

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
    /// From which level on the functions' lines are shown: trace, debug, info, warn, error, quiet
    #[arg(long, global = true, default_value = "warn")]
    log_level: LogLevel,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start only the services, and write `.local/services.env` for `cargo lambda watch --env-file`
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
    /// Measure what the README states (with --release)
    Bench,
    /// Check the template as `sam validate --lint` does
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
        Some(Command::Bench) => bench(&settings).await,
        Some(Command::Validate) => checks::validate(&stack::workspace()).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Contract { examples }) => contract(&settings, examples).await,
        Some(Command::Provision(args)) => {
            cloud::run(*args, &mut io::stdout()).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

impl Settings {
    fn options(&self, keep: Keep) -> Options {
        Options {
            root: stack::workspace(),
            port: self.port,
            keep,
            data: self.data.clone().unwrap_or_else(|| stack::workspace().join(data::FOLDER)),
            parameters: self.parameters.iter().cloned().collect::<BTreeMap<_, _>>(),
            logs: Logs::to_stderr(self.log_level),
            say: Arc::new(tell),
        }
    }

    fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address of a stack that somebody runs on our port.
    async fn running_stack(&self) -> Option<String> {
        let answer = ApiClient::new(self.base_url()).get("/v1/status").await.ok()?;
        (answer.status == 200).then(|| self.base_url())
    }

    const fn keep(&self) -> Keep {
        match (self.in_memory, self.fresh) {
            (true, _) => Keep::Nothing,
            (false, true) => Keep::Afresh,
            (false, false) => Keep::Everything,
        }
    }

    /// For what must begin with nothing and leave nothing.
    fn in_memory(&self) -> Options {
        self.options(Keep::Nothing)
    }
}

async fn serve(settings: &Settings) -> Result<ExitCode> {
    let began = Instant::now();
    let Some(stack) = started(settings.options(settings.keep())).await? else { return Ok(ExitCode::SUCCESS) };
    tell_services(stack.endpoints());
    tell(&format!("{} serves, after {} ms; Ctrl-C ends it", stack.base_url(), stack::milliseconds(began)));
    stay(stack).await
}

async fn demo(settings: &Settings, scenario: &Path, once: bool) -> Result<ExitCode> {
    let Some(stack) = started(settings.in_memory()).await? else { return Ok(ExitCode::SUCCESS) };
    tell_services(stack.endpoints());
    let mut out = io::stdout();
    let as_expected = tokio::select! {
        result = demo::run(stack.base_url(), scenario, &mut out) => result?,
        () = told_to_end() => {
            stack.shutdown().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if once {
        stack.shutdown().await;
        return Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    tell(&format!("{} stays up; Ctrl-C ends it", stack.base_url()));
    stay(stack).await
}

async fn bench(settings: &Settings) -> Result<ExitCode> {
    let root = stack::workspace();
    with_stack(settings.in_memory(), async |stack| {
        let bench = Bench {
            fleet: stack.fleet(),
            metrics: stack.metrics(),
            base_url: stack.base_url(),
            binaries: stack.binaries(),
            events: &root.join("events"),
        };
        bench.run(&mut io::stdout()).await.map(|()| true)
    })
    .await
}

async fn contract(settings: &Settings, examples: u32) -> Result<ExitCode> {
    let root = stack::workspace();
    let options = Options { port: 0, ..settings.in_memory() };
    with_stack(options, async |stack| {
        checks::contract(&root, stack.base_url(), examples).await.map(|()| true)
    })
    .await
}

async fn admin(settings: &Settings, email: &str) -> Result<ExitCode> {
    let changed = if let Some(running) = settings.running_stack().await {
        let wish = serde_json::json!({ "email": email });
        let answer = ApiClient::new(&running).post(local_routes::ADMINS, &wish).await?;
        anyhow::ensure!(
            answer.status == 200,
            "{}",
            answer.body["message"].as_str().unwrap_or("the stack refused")
        );
        answer.body["changed"] == true
    } else {
        // It changes what is kept, for the next start.
        let options = settings.options(settings.keep());
        let foundation = Foundation::lay(&options, &settings.base_url(), false).await?;
        let changed = match foundation.users_table() {
            Some(users) => installation::grant_admin(&users, email).await,
            None => Err(anyhow::anyhow!("the template has no table of users")),
        };
        foundation.shutdown().await;
        changed?
    };
    tell(&if changed {
        format!("{email} is a moderator and admin now; access tokens know it from their next renewal on")
    } else {
        format!("{email} was a moderator and admin already")
    });
    Ok(ExitCode::SUCCESS)
}

async fn replay(settings: &Settings, file: &Path) -> Result<ExitCode> {
    if let Some(running) = settings.running_stack().await {
        let good = replay::run(&running, file, &mut io::stdout()).await?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    tell(&format!("nothing runs on port {}: this replay gets a stack of its own", settings.port));
    let options = Options { port: 0, ..settings.in_memory() };
    with_stack(options, async |stack| replay::run(stack.base_url(), file, &mut io::stdout()).await).await
}

async fn services(settings: &Settings) -> Result<ExitCode> {
    let options = settings.options(settings.keep());
    // Where `cargo lambda watch` serves by default, and so what tokens are issued by.
    let base_url = settings.base_url();
    let foundation = tokio::select! {
        foundation = Foundation::lay(&options, &base_url, false) => foundation?,
        () = told_to_end() => return Ok(ExitCode::SUCCESS),
    };
    let file = options.data.with_file_name("services.env");
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, env_file(&foundation.environment()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    tell_services(foundation.endpoints());
    tell(&format!("the services run; now: cargo lambda watch --env-file {}", file.display()));
    let death = tokio::select! {
        death = foundation.death() => Some(death),
        () = told_to_end() => None,
    };
    foundation.shutdown().await;
    Ok(outcome(death))
}

/// A started stack; `None` if it was told to end before.
async fn started(options: Options) -> Result<Option<Stack>> {
    tokio::select! {
        stack = Stack::start(options) => stack.map(Some),
        () = told_to_end() => Ok(None),
    }
}

/// Does something with a stack that ends with it.
async fn with_stack(options: Options, work: impl AsyncFnOnce(&Stack) -> Result<bool>) -> Result<ExitCode> {
    let Some(stack) = started(options).await? else { return Ok(ExitCode::SUCCESS) };
    let result = tokio::select! {
        result = work(&stack) => result,
        death = stack.death() => {
            tell_death(&death);
            Ok(false)
        }
        () = told_to_end() => Ok(false),
    };
    stack.shutdown().await;
    Ok(if result? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stays until told to end, or until a service dies.
async fn stay(stack: Stack) -> Result<ExitCode> {
    let death = tokio::select! {
        death = stack.death() => Some(death),
        () = told_to_end() => None,
    };
    tokio::select! {
        () = stack.shutdown() => Ok(outcome(death)),
        // Who asks twice does not want to wait.
        () = told_to_end() => Ok(ExitCode::FAILURE),
    }
}

fn outcome(death: Option<Death>) -> ExitCode {
    match death {
        Some(death) => {
            tell_death(&death);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Ctrl-C, a request to end, or the end of the terminal.
async fn told_to_end() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "a signal cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
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

/// One `NAME="value"` a line. What would end a line is escaped, since keys in PEM have several.
fn env_file(variables: &BTreeMap<String, String>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let lines = variables.iter().map(|(name, value)| [name, "=\"", &escaped(value), "\"\n"].concat());
    lines.collect()
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_env_file_has_one_line_for_each_variable() {
        let variables = [("KEY", "a\nb"), ("QUOTED", "{\"x\": 1}")];
        let file = env_file(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(file, "KEY=\"a\\nb\"\nQUOTED=\"{\\\"x\\\": 1}\"\n");
    }
}
