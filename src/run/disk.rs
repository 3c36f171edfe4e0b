//! Writing so that a file is there whole or not at all.

use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Makes a call again while a signal interrupts it.
pub fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes a file under a temporary name, syncs it and renames it into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        write_synced(&temporary, bytes)?;
        put_in_place(&temporary, path)
    };
    write().map_err(|error| {
        // What is left of a failure takes room that the next try may need.
        let _ = fs::remove_file(&temporary);
        failed(path, error)
    })
}

/// Writes files into a directory that appears under its name only when all of them are there.
pub fn write_directory(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        retried(|| fs::create_dir_all(&temporary))?;
        for (name, bytes) in files {
            write_synced(&temporary.join(name), bytes)?;
        }
        sync_directory(&temporary)?;
        put_in_place(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_dir_all(&temporary);
        failed(path, error)
    })
}

/// Makes a directory, with those above it, where it is not there.
pub fn make_directory(path: &Path) -> Result<()> {
    retried(|| fs::create_dir_all(path)).with_context(|| format!("{}: could not be made", path.display()))
}

fn failed(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("{}: could not be written", path.display()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = retried(|| File::create(path))?;
    file.write_all(bytes)?;
    retried(|| file.sync_all())
}

fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    retried(|| fs::rename(temporary, path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a rename in the directory last.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    // Windows cannot open directories, and does not need to.
    if cfg!(unix) {
        let directory = retried(|| File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path }))?;
        retried(|| directory.sync_all())
    } else {
        Ok(())
    }
}

/// Adds whole lines to a file that is there; where that fails, the file is as it was.
pub fn append(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = retried(|| fs::OpenOptions::new().append(true).open(path))?;
        let before = file.metadata()?.len();
        file.write_all(text.as_bytes()).inspect_err(|_| drop(file.set_len(before)))
    };
    write().map_err(|error| failed(path, error))
}

/// Makes last what was appended.
pub fn sync(path: &Path) -> Result<()> {
    let write = || {
        let file = retried(|| fs::OpenOptions::new().append(true).open(path))?;
        retried(|| file.sync_all())
    };
    write().map_err(|error| failed(path, error))
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: could not be read", path.display()))
}

pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: could not be read as text", path.display()))
}

/// The name of the file that a [`Lock`] locks.
pub const LOCK: &str = ".lock";

/// Keeps a second process from training in the same directory, until it is dropped.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join(LOCK);
        let file = retried(|| File::create(&path)).with_context(|| format!("{}: could not be made", path.display()))?;
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
