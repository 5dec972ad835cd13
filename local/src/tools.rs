//! The programs that are not Rust: installed from `PyPI` into virtual environments under `.local/tools`, pinned, the first
//! time that they are needed; and what no wheel has, from Debian's packages.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use tokio::task::spawn_blocking;

use crate::commands;

/// A set of programs: each has an environment of its own, since their dependencies disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// What `local` runs: moto and a Redis.
    Run,
    /// What builds functions for AWS, and serves them while one works on them: cargo-lambda, with Zig.
    Watch,
    /// What checks the template.
    Template,
    /// What tries the contract.
    Contract,
}

impl Set {
    const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Watch => "watch",
            Self::Template => "template",
            Self::Contract => "contract",
        }
    }

    const fn requirements(self) -> &'static str {
        match self {
            Self::Run => include_str!("../requirements/run.txt"),
            Self::Watch => include_str!("../requirements/watch.txt"),
            Self::Template => include_str!("../requirements/template.txt"),
            Self::Contract => include_str!("../requirements/contract.txt"),
        }
    }
}

/// An installed set.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
}

/// What `redis-benchmark` is in Debian and its derivatives, with the libraries that a machine without Redis lacks.
const REDIS_BENCHMARK: [&str; 3] = ["redis-tools=5:7.*", "liblzf1", "libjemalloc2"];

/// A program that is not in an environment of Python's.
#[derive(Clone, Debug)]
pub struct Unpacked {
    program: PathBuf,
    libraries: Option<PathBuf>,
}

impl Unpacked {
    /// Runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// `redis-benchmark`: the one on PATH, or else that of Debian's package, unpacked under `root`, since no wheel of Redis has
/// it. Blocks.
pub fn redis_benchmark(root: &Path) -> Result<Unpacked> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&paths).map(|folder| folder.join("redis-benchmark"));
    if let Some(program) = on_path.find(|program| program.is_file()) {
        return Ok(Unpacked { program, libraries: None });
    }
    let folder = root.join(".local/tools/redis-benchmark");
    fs::create_dir_all(&folder)?;
    let lock = File::create(root.join(".local/tools/redis-benchmark.lock"))?;
    lock.lock().context("cannot lock the tools")?;
    let program = folder.join("usr/bin/redis-benchmark");
    if !program.is_file() {
        let mut download = Command::new("apt-get");
        download.arg("download").args(REDIS_BENCHMARK).current_dir(&folder);
        run(&mut download, &|_: &str| {}).context("cannot download redis-tools")?;
        for entry in fs::read_dir(&folder)? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg").arg("-x").arg(&package).arg(&folder), &|_: &str| {})?;
                fs::remove_file(package)?;
            }
        }
    }
    let library = folder.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    Ok(Unpacked { program, libraries: Some(library) })
}

/// Written last, with the requirements that were installed: an environment without it, or with another, is made anew.
const STAMP: &str = ".installed";

impl Tools {
    /// [`Self::ensure`] on a thread that may block.
    pub async fn installed(root: &Path, set: Set, say: Arc<dyn Fn(&str) + Send + Sync>) -> Result<Self> {
        let root = root.to_owned();
        spawn_blocking(move || Self::ensure(&root, set, |line| say(line))).await?
    }

    /// The set under `root`, installed if it is not there yet, or not as it is pinned now. `say` is told what goes on.
    /// Blocks; a second call waits for the first, whichever process makes it.
    pub fn ensure(root: &Path, set: Set, say: impl Fn(&str)) -> Result<Self> {
        let environment = root.join(".local/tools").join(set.name());
        fs::create_dir_all(&environment).with_context(|| format!("cannot make {}", environment.display()))?;
        let lock = File::create(root.join(".local/tools").join(format!("{}.lock", set.name())))?;
        lock.lock().context("cannot lock the tools")?;
        let tools = Self { bin: environment.join("bin") };
        let stamp = environment.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == set.requirements()) {
            return Ok(tools);
        }
        say(&format!("installing tools into {} (the first time: a minute or two)", environment.display()));
        fs::remove_dir_all(&environment)?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment), &say)
            .context("cannot make a Python environment: Python 3.10 or later with venv is needed")?;
        let requirements = environment.join("requirements.txt");
        fs::write(&requirements, set.requirements())?;
        let mut pip = Command::new(tools.program("pip"));
        pip.args(["install", "--disable-pip-version-check", "--progress-bar", "off", "--requirement"])
            .arg(requirements);
        run(&mut pip, &say).context("cannot install the tools from PyPI")?;
        fs::write(stamp, set.requirements())?;
        Ok(tools)
    }

    /// The path of one of the set's programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// Runs a command to its end, and shows a line for each package that it collects.
fn run(command: &mut Command, say: &impl Fn(&str)) -> Result<()> {
    let (status, errors) = commands::run_and_tell(command.stdin(Stdio::null()), |line| {
        if let Some(package) = line.strip_prefix("Collecting ") {
            say(&format!("  {}", package.split(" (from").next().unwrap_or(package)));
        }
    })?;
    if status.success() { Ok(()) } else { bail!("{status}: {}", errors.trim()) }
}
