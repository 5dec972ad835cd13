//! Where the data of a stack is: in memory, or in the git-ignored folder that survives a restart.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The folder in the workspace, unless another is chosen. What it holds is made by `local` alone, and may be deleted at any
/// time.
pub const FOLDER: &str = ".local/data";

/// Where to keep data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nowhere: each stack begins empty, and many run side by side.
    Nothing,
    /// In a folder.
    Everything,
    /// There too, but what is there now goes first.
    Afresh,
}

/// The data folder, as long as this stack has it for itself.
#[derive(Debug)]
pub struct DataFolder {
    folder: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder; `None` if nothing is kept.
    pub fn take(folder: &Path, keep: Keep) -> Result<Option<Self>> {
        if keep == Keep::Nothing {
            return Ok(None);
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Beside the folder, so that it outlives what is in it.
        let lock = File::create(folder.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another `local` uses {}: end it, or start this one with --in-memory", folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data"),
        }
        if keep == Keep::Afresh {
            fs::remove_dir_all(folder)?;
            fs::create_dir(folder)?;
        }
        Ok(Some(Self { folder: folder.to_owned(), _lock: lock }))
    }

    /// The storage's file.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.folder.join("dynamodb.sqlite")
    }

    /// The signing key's file.
    #[must_use]
    pub fn signing_key(&self) -> PathBuf {
        self.folder.join("access-token-key.pem")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_one_user_and_begins_afresh() {
        let root = std::env::temp_dir().join(format!("tocsin-data-{}", uuid::Uuid::new_v4()));
        let folder = root.join("data");
        let kept = DataFolder::take(&folder, Keep::Everything).unwrap().unwrap();
        fs::write(kept.storage(), "x").unwrap();
        let error = DataFolder::take(&folder, Keep::Everything).unwrap_err();
        assert!(error.to_string().contains("--in-memory"), "{error}");
        drop(kept);
        let again = DataFolder::take(&folder, Keep::Everything).unwrap().unwrap();
        assert!(again.storage().is_file());
        drop(again);
        let fresh = DataFolder::take(&folder, Keep::Afresh).unwrap().unwrap();
        assert!(!fresh.storage().exists());
        assert!(DataFolder::take(&folder, Keep::Nothing).unwrap().is_none());
        drop(fresh);
        fs::remove_dir_all(root).unwrap();
    }
}
