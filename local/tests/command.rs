//! The command, as a person runs it: what it keeps, what it says when it cannot, and that it leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use local::{
    api_client::{ApiClient, PASSWORD, text},
    builds::Builds,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{OnceCell, mpsc},
    time::{sleep, timeout},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Long enough for a start or an end on a busy machine, also where tools are installed first.
const PATIENCE: Duration = Duration::from_mins(6);

/// A running `local`.
struct Local {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: String,
}

impl Local {
    async fn start(arguments: &[&str]) -> Self {
        static BUILT: OnceCell<()> = OnceCell::const_new();
        // What takes minutes is done before anything is waited for.
        let build = || {
            tokio::task::spawn_blocking(|| {
                let builds = Builds::new(Path::new(ROOT)).unwrap();
                builds.broker(|_| {}).unwrap();
                builds.functions(&[]).unwrap();
            })
        };
        BUILT.get_or_init(|| async { build().await.unwrap() }).await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_local"))
            .args(arguments)
            .current_dir(ROOT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::unbounded_channel();
        forward(child.stdout.take().unwrap(), tell.clone());
        forward(child.stderr.take().unwrap(), tell);
        Self { child, lines, said: String::new() }
    }

    /// Waits for a line with a text in it.
    async fn says(&mut self, wanted: &str) -> String {
        let heard = async {
            while let Some(line) = self.lines.recv().await {
                self.said.push_str(&line);
                self.said.push('\n');
                if line.contains(wanted) {
                    return Some(line);
                }
            }
            None
        };
        let heard = timeout(PATIENCE, heard).await;
        heard.ok().flatten().unwrap_or_else(|| panic!("it did not say `{wanted}`, but:\n{}", self.said))
    }

    /// Waits until the API is there, and answers its address.
    async fn serves(&mut self) -> String {
        let line = self.says(" serves").await;
        line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned()
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for its end; answers its exit code.
    async fn ends(&mut self) -> Option<i32> {
        let end = async {
            let status = self.child.wait().await.unwrap();
            while let Some(line) = self.lines.recv().await {
                self.said.push_str(&line);
                self.said.push('\n');
            }
            status.code()
        };
        let end = timeout(PATIENCE, end).await;
        end.unwrap_or_else(|_| panic!("it did not end:\n{}", self.said))
    }

    /// Asks it to end with a signal: it does so without complaint, and ends what it started.
    async fn ends_by(&mut self, signal: &str) {
        let started = descendants(self.id());
        assert!(!started.is_empty());
        kill(signal, self.id());
        assert_eq!(self.ends().await, Some(0), "{}", self.said);
        assert_eq!(still_there(&started), []);
    }
}

fn forward(output: impl AsyncRead + Unpin + Send + 'static, tell: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
}

fn kill(signal: &str, process: u32) {
    let status = std::process::Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    name: String,
}

/// Every process that runs; one that has ended, and that nobody has asked about yet, does not.
fn processes() -> Vec<Process> {
    // Not every Linux has `ps`, and not every Unix has /proc.
    let lines: Vec<String> = if let Ok(entries) = fs::read_dir("/proc") {
        entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
            // <id> (<name>) <state> <parent> …
            .filter_map(|line| {
                let (id, rest) = line.split_once(" (")?;
                let (name, rest) = rest.rsplit_once(") ")?;
                let (state, rest) = rest.split_once(' ')?;
                Some(format!("{id} {} {state} {name}", rest.split(' ').next()?))
            })
            .collect()
    } else {
        let columns = ["-A", "-o", "pid=,ppid=,state=,comm="];
        let listed = std::process::Command::new("ps").args(columns).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    };
    let process = |line: &String| {
        let mut words = line.split_whitespace();
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let runs = !words.next()?.starts_with('Z');
        runs.then(|| Process { id, parent, name: words.collect::<Vec<_>>().join(" ") })
    };
    lines.iter().filter_map(process).collect()
}

/// The children of a process, and theirs.
fn descendants(id: u32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![id];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|process| process.parent == parent);
        for child in children {
            parents.push(child.id);
            found.push(child.clone());
        }
    }
    found
}

fn still_there(processes_then: &[Process]) -> Vec<Process> {
    let now = processes();
    let same = |then: &&Process| now.iter().any(|now| now.id == then.id && now.name == then.name);
    processes_then.iter().filter(same).cloned().collect()
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tocsin-command-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn data(&self) -> String {
        self.0.join("data").display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn data_survives_a_restart_until_it_is_to_be_fresh() {
    let folder = Folder::new();
    let data = folder.data();
    let mut local = Local::start(&["--port", "0", "--data", &data]).await;
    let base_url = local.serves().await;
    let ada = ApiClient::new(&base_url).register("ada", "ada@example.org").await.unwrap();
    let smoke = json!({"title": "Smoke", "category": "fire", "location": {"lat": 60.3972, "lon": 5.3238}});
    let accepted = ada.api.post("/v1/posts", &smoke).await.unwrap().expect(202).unwrap();
    let path = format!("/v1/posts/{}", text(&accepted, "post_id").unwrap());

    // What is in use is not shared, and says so.
    let port = base_url.rsplit(':').next().unwrap();
    let mut other = Local::start(&["--port", port, "--in-memory"]).await;
    assert_eq!(other.ends().await, Some(1));
    assert!(other.said.contains(&format!("port {port} of 127.0.0.1 is taken")), "{}", other.said);
    let mut other = Local::start(&["--port", "0", "--data", &data]).await;
    assert_eq!(other.ends().await, Some(1));
    assert!(other.said.contains("another `local` uses"), "{}", other.said);
    local.ends_by("-TERM").await;

    let sign_in = async |api: &ApiClient| {
        let password = json!({"email": "ada@example.org", "password": PASSWORD});
        api.post("/v1/auth/login", &password).await.unwrap()
    };
    let mut local = Local::start(&["--port", "0", "--data", &data]).await;
    let api = ApiClient::new(local.serves().await);
    let tokens = sign_in(&api).await.expect(200).unwrap();
    let api = api.with_token(text(&tokens, "access_token").unwrap());
    assert_eq!(api.get(&path).await.unwrap().expect(200).unwrap()["title"], "Smoke");
    local.ends_by("-INT").await;
    assert!(local.said.contains("what was accepted is done"), "{}", local.said);

    let mut local = Local::start(&["--port", "0", "--data", &data, "--fresh"]).await;
    let api = ApiClient::new(local.serves().await);
    assert_eq!(sign_in(&api).await.status, 401);
    local.ends_by("-TERM").await;
}

#[tokio::test]
async fn a_service_that_dies_is_reported_and_ends_it() {
    let mut local = Local::start(&["--port", "0", "--in-memory"]).await;
    local.serves().await;
    let started = descendants(local.id());
    let redis = started.iter().find(|process| process.name.contains("redis-server"));
    kill("-9", redis.unwrap_or_else(|| panic!("no Redis in {started:?}")).id);
    local.says("redis ended by itself").await;
    assert_eq!(local.ends().await, Some(1));
    assert_eq!(still_there(&started), []);
}

#[tokio::test]
async fn what_it_started_does_not_outlive_it_even_if_it_is_killed() {
    let mut local = Local::start(&["--port", "0", "--in-memory"]).await;
    let api = ApiClient::new(local.serves().await);
    // So that functions run, too.
    api.get("/v1/status").await.unwrap().expect(200).unwrap();
    let started = descendants(local.id());
    assert!(started.iter().any(|process| process.name.contains("get-status")), "{started:?}");
    kill("-9", local.id());
    local.ends().await;
    let gone = async {
        while !still_there(&started).is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let gone = timeout(Duration::from_secs(20), gone).await;
    assert!(gone.is_ok(), "{:?} are left", still_there(&started));
}

#[tokio::test]
async fn services_run_alone_and_write_what_functions_need() {
    let folder = Folder::new();
    let mut local = Local::start(&["services", "--data", &folder.data()]).await;
    local.says("the services run").await;
    let file = fs::read_to_string(folder.0.join("services.env")).unwrap();
    for name in ["AWS_ENDPOINT_URL_DYNAMODB", "KAFKA_BOOTSTRAP_SERVERS", "POSTS_TABLE", "REDIS_URL"] {
        assert!(file.lines().any(|line| line.starts_with(&format!("{name}=\""))), "{name} in {file}");
    }
    local.ends_by("-TERM").await;
}

#[tokio::test]
async fn the_demo_tells_what_everybody_got() {
    let mut local = Local::start(&["demo", "--once", "--port", "0"]).await;
    assert_eq!(local.ends().await, Some(0), "{}", local.said);
    for text in
        ["timeline, newest first", "pushes (device, because of)", "from POST to", "Everybody got what"]
    {
        assert!(local.said.contains(text), "`{text}` in\n{}", local.said);
    }
}

#[tokio::test]
async fn a_sample_is_replayed_on_a_stack_of_its_own() {
    let mut local = Local::start(&["replay", "events/get-status.json", "--port", "0"]).await;
    assert_eq!(local.ends().await, Some(0), "{}", local.said);
    assert!(local.said.contains("get-status answered"), "{}", local.said);
    assert!(local.said.contains("\"statusCode\": 200"), "{}", local.said);
}
