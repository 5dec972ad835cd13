//! Builds the binaries that are run besides our own: the functions, and the embedded broker.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

use crate::commands;

/// Where binaries are built and found.
#[derive(Clone, Debug)]
pub struct Builds {
    root: PathBuf,
    /// `target/debug`, or `target/release`: the functions are built as `local` itself was.
    profile_folder: PathBuf,
}

impl Builds {
    /// For the workspace at `root`, in the profile that this program was built in.
    pub fn new(root: &Path) -> Result<Self> {
        let program = env::current_exe().context("cannot tell where this program is")?;
        let mut folder = program.parent().context("this program is nowhere")?;
        if folder.ends_with("deps") {
            folder = folder.parent().unwrap_or(folder);
        }
        Ok(Self { root: root.to_owned(), profile_folder: folder.to_owned() })
    }

    /// The binary of a function.
    #[must_use]
    pub fn function(&self, name: &str) -> PathBuf {
        self.profile_folder.join(name)
    }

    /// The folder of the functions' binaries.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.profile_folder
    }

    /// Builds the binaries of these functions, or every binary of the workspace, where none is named. Cargo shows what it
    /// does. Blocks.
    pub fn functions(&self, named: &[&str]) -> Result<()> {
        // All of them with `local`, from the root: the features are then those that `local` was built with, and nothing
        // is compiled a second time.
        let mut cargo = cargo_in(&self.root);
        cargo.args(["build", "--workspace", "--target-dir"]).arg(self.target_folder()?);
        if named.is_empty() {
            cargo.arg("--bins");
        }
        cargo.args(named.iter().flat_map(|name| ["--bin", name]));
        let profile = self.profile_folder.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
        cargo.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        run(cargo, "the functions")
    }

    /// Builds the embedded broker, unless it is there and newer than its source, and gives its path. Blocks.
    pub fn broker(&self, say: impl Fn(&str)) -> Result<PathBuf> {
        let source = self.root.join("local/broker");
        // One profile whatever ours is, and a folder of its own: see its Cargo.toml.
        let target = self.target_folder()?.join("broker");
        let program = target.join("debug/broker");
        if !is_current(&program, &source) {
            say("building the embedded broker (the first time: some minutes)");
            let mut cargo = cargo_in(&source);
            cargo.args(["build", "--locked", "--target-dir"]).arg(target);
            run(cargo, "the embedded broker")?;
        }
        Ok(program)
    }

    fn target_folder(&self) -> Result<&Path> {
        self.profile_folder.parent().context("this program is not in a target folder")
    }
}

fn cargo_in(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).stdin(Stdio::null());
    // `cargo run` and `cargo test` describe our own package to us; a build in the build would take it for its own.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let described = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if described.iter().any(|prefix| name_text.starts_with(prefix)) || name_text == "OUT_DIR" {
            command.env_remove(&name);
        }
    }
    command
}

fn run(mut cargo: Command, what: &str) -> Result<()> {
    let status = commands::run(&mut cargo).with_context(|| format!("cargo did not build {what}"))?;
    if status.success() { Ok(()) } else { bail!("cargo could not build {what}") }
}

/// Whether the program is newer than everything that it is made of. Cargo would know too, in a hundred times the time.
fn is_current(program: &Path, source: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let Some(built) = modified(program) else { return false };
    let newer = |path: PathBuf| modified(&path).is_none_or(|changed: SystemTime| changed > built);
    !["Cargo.toml", "Cargo.lock", "src/main.rs"].into_iter().map(|name| source.join(name)).any(newer)
}
