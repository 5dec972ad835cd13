//! The file that gives `cargo lambda watch` the environment of a machine's services.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The written file. It is removed with this: its services are gone then, and there is a private key in it.
#[derive(Debug)]
pub struct EnvFile(PathBuf);

impl EnvFile {
    /// Writes the variables for their owner alone.
    pub fn write(path: &Path, variables: &BTreeMap<String, String>) -> Result<Self> {
        let write = || {
            // A file that is there already would keep its mode.
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text(variables).as_bytes())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for EnvFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "the file of the services' environment was not removed");
        }
    }
}

/// One `NAME="value"` a line. What would end a line is escaped, since keys in PEM have several.
fn text(variables: &BTreeMap<String, String>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let lines = variables.iter().map(|(name, value)| [name, "=\"", &escaped(value), "\"\n"].concat());
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_env_file_has_one_line_for_each_variable_and_ends_with_its_owner() {
        let variables = [("KEY", "a\nb"), ("QUOTED", "{\"x\": 1}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let path = std::env::temp_dir().join(format!("tocsin-env-{}", uuid::Uuid::new_v4()));
        fs::write(&path, "of another start").unwrap();
        let file = EnvFile::write(&path, &variables).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, "KEY=\"a\\nb\"\nQUOTED=\"{\\\"x\\\": 1}\"\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }
}
