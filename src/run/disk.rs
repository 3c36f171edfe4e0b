//! Writing so that a file is there whole or not at all.

use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes a file under a temporary name, syncs it and renames it into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or(Path::new(".")))
    };
    write().with_context(|| format!("{}: could not be written", path.display()))
}

/// Writes files into a directory that appears under its name only when all of them are there.
pub fn write_directory(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)?;
        for (name, bytes) in files {
            let mut file = File::create(temporary.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        sync_directory(&temporary)?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or(Path::new(".")))
    };
    write().with_context(|| format!("{}: could not be written", path.display()))
}

/// Makes a rename in the directory last.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    // Windows cannot open directories, and does not need to.
    if cfg!(unix) {
        File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
    } else {
        Ok(())
    }
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: could not be read", path.display()))
}

pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: could not be read as text", path.display()))
}

/// Keeps a second process from training in the same directory, until it is dropped.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join(".lock");
        let file = File::create(&path).with_context(|| format!("{}: could not be made", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another grokscope is training here: expected it to have ended", directory.display())
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: could not be locked", path.display()));
            }
        }
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that stays behind belongs to nobody, and keeps nobody out.
        let _ = fs::remove_file(&self.path);
    }
}
