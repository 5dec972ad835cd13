//! What is kept in Redis does what the ports promise, where there is a `redis-server`: on PATH, or among the tools that
//! `local` installs. (`local`, which always has one, runs the same suite.)
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
use tocsin_adapters::{
    memory::MemoryTimelines,
    redis::{Redis, RedisPostCache, RedisRateLimiter, RedisTimelines},
};
use tocsin_conformance::{posts, rate_limits, timelines};
use tocsin_domain::{ids::PostId, posts::PostCache as _, time};

struct Server {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: there is no redis-server");
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("tocsin-redis-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let process = run(&program, port, &folder);
        Some(Self { process, port, folder })
    }

    fn redis(&self) -> Redis {
        Redis::open(&format!("redis://127.0.0.1:{}", self.port).into()).unwrap()
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn run(program: &Path, port: u16, folder: &Path) -> Child {
    let process = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}

fn program() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.local/tools");
    let environments =
        std::fs::read_dir(tools).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut folders = std::env::split_paths(&on_path).chain(environments);
    folders.find_map(|folder| Some(folder.join("redis-server")).filter(|program| program.is_file()))
}

#[tokio::test]
async fn conformance() {
    let Some(server) = Server::start() else { return };
    let redis = server.redis();
    posts::cache(&RedisPostCache::new(&redis)).await;
    rate_limits::rate_limits(&RedisRateLimiter::new(&redis)).await;
    timelines::timelines(&RedisTimelines::new(&redis)).await;
}

#[tokio::test]
async fn timeline_operations_in_any_order_end_in_the_same_timeline() {
    let Some(server) = Server::start() else { return };
    let mut runner = TestRunner::default();
    for capacity in (1..8).cycle().take(128) {
        let timelines = RedisTimelines::new(&server.redis()).with_capacity(capacity);
        let history = proptest::strategy::Strategy::new_tree(&timelines::any_history(), &mut runner).unwrap();
        let in_memory = MemoryTimelines::default().with_capacity(capacity);
        let end = timelines::any_order(&timelines, &history.current()).await;
        assert_eq!(end, timelines::any_order(&in_memory, &history.current()).await);
    }
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_at_once_and_used_again_when_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let cache = RedisPostCache::new(&server.redis());
    let id = PostId::new(time::now());
    assert_eq!(cache.get(&[id]).await.unwrap(), []);

    server.stop();
    for _ in 0..3 {
        let since = std::time::Instant::now();
        assert!(cache.get(&[id]).await.is_err());
        assert!(since.elapsed() < Duration::from_millis(600), "{:?}", since.elapsed());
    }

    server.process = run(&program().unwrap(), server.port, &server.folder);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cache.get(&[id]).await.unwrap(), []);

    // Restarted while nobody looked, as when a function was frozen: nobody notices.
    server.stop();
    server.process = run(&program().unwrap(), server.port, &server.folder);
    assert_eq!(cache.get(&[id]).await.unwrap(), []);
}
