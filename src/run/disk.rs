//! Writing so that a file is there whole or not at all.

use anyhow::{Context, Result};
use same_file::Handle;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a call is retried on Windows while another process has the file open.
const HELD: Duration = Duration::from_secs(1);

/// Retries a call that a signal interrupts. On Windows, also retries for a second while the file is open elsewhere: it cannot be replaced
/// while another process, such as another grokscope or a virus scanner, reads it.
pub fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_held(&error) && began.elapsed() < HELD => sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

/// Whether Windows may have refused because somebody has the file open: ERROR_ACCESS_DENIED or ERROR_SHARING_VIOLATION.
fn is_held(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32))
}

/// Writes a file under a temporary name, syncs it and renames it into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by_way_of(&path.with_extension("tmp"), path, bytes)
}

/// The same where other processes, of other machines too, may write the file at the same time: one of them is the last.
pub fn write_shared(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by_way_of(&nobody_elses(path), path, bytes)
}

/// A name beside a path that no other process gives, of this machine or another.
fn nobody_elses(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // In containers every process is number 1, so that the number alone is no name.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let draw = RandomState::new().hash_one((now, std::process::id()));
    path.with_file_name(format!(".{name}.{draw:016x}.tmp"))
}

/// Writes a file where none is; false where one is by now, which stays as it is.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let temporary = nobody_elses(path);
    let write = || {
        write_synced(&temporary, bytes)?;
        // A name for a file that is whole, unless the name is taken: a rename would take it.
        match retried(|| fs::hard_link(&temporary, path)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            // A file system without links.
            Err(error)
                if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) && !path.exists() =>
            {
                put_in_place(&temporary, path).map(|()| true)
            }
            linked => linked.and_then(|()| sync_entry(path)).map(|()| true),
        }
    };
    let written = write().map_err(|error| failed(path, error));
    let _ = fs::remove_file(&temporary);
    written
}

fn write_by_way_of(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        write_synced(temporary, bytes)?;
        put_in_place(temporary, path)
    };
    write().map_err(|error| {
        // What is left of a failure takes room that the next try may need.
        let _ = fs::remove_file(temporary);
        failed(path, error)
    })
}

/// Writes files into a directory that appears under its name only when all of them are there. For directories inside a run:
/// what a killed process left under the temporary name `path.tmp` is removed.
pub fn write_directory(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let clear = match temporary.is_dir() {
        true => fs::remove_dir_all(&temporary),
        false if temporary.exists() => fs::remove_file(&temporary),
        false => Ok(()),
    };
    clear.map_err(|error| failed(path, error))?;
    write_directory_by_way_of(&temporary, path, files)
}

/// The same for a directory that a user names, beside which anything may be.
pub fn write_new_directory(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    write_directory_by_way_of(&nobody_elses(path), path, files)
}

fn write_directory_by_way_of(temporary: &Path, path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let write = || {
        retried(|| fs::create_dir_all(temporary))?;
        for (name, bytes) in files {
            write_synced(&temporary.join(name), bytes)?;
        }
        sync_directory(temporary)?;
        put_in_place(temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_dir_all(temporary);
        failed(path, error)
    })
}

/// Writes files, with `/` between the parts of their names, into a directory that is there.
pub fn write_files(path: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let mut made = BTreeSet::from([path.to_path_buf()]);
    for (name, bytes) in files {
        let file = path.join(name);
        let above = file.parent().unwrap_or(path);
        let write = || {
            retried(|| fs::create_dir_all(above))?;
            write_synced(&file, bytes)
        };
        write().map_err(|error| failed(&file, error))?;
        made.extend(above.ancestors().take_while(|above| *above != path).map(Path::to_path_buf));
    }
    made.iter().try_for_each(|directory| sync_directory(directory)).map_err(|error| failed(path, error))
}

/// Makes a directory, with those above it, where it is not there, and makes that last.
pub fn make_directory(path: &Path) -> Result<()> {
    let make = || {
        let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        retried(|| fs::create_dir_all(path))?;
        missing.into_iter().rev().try_for_each(sync_entry)
    };
    make().with_context(|| format!("{}: could not be made", path.display()))
}

/// What kind of error of the system's an error comes from.
pub fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
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
    sync_entry(path)
}

/// Makes last that a file or directory stands in the one above it.
pub fn sync_entry(path: &Path) -> io::Result<()> {
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

/// Adds whole lines or records to a file that is there; where that fails, the file is as it was.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = retried(|| fs::OpenOptions::new().append(true).open(path))?;
        let before = file.metadata()?.len();
        file.write_all(bytes).inspect_err(|_| drop(file.set_len(before)))
    };
    write().map_err(|error| failed(path, error))
}

/// Makes last what was appended.
pub fn sync(path: &Path) -> Result<()> {
    sync_file(path).map_err(|error| failed(path, error))
}

fn sync_file(path: &Path) -> io::Result<()> {
    let file = retried(|| fs::OpenOptions::new().append(true).open(path))?;
    retried(|| file.sync_all())
}

/// Copies a directory so that the copy appears under its name whole, or not at all. Files for which `leaves` holds, by their name,
/// are left out.
pub fn copy_directory(from: &Path, to: &Path, leaves: impl Fn(&str) -> bool) -> Result<()> {
    // A name that nobody else gives: what stands under it is removed.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.grokscope-copy"));
    let copy = || {
        // What a copy that was cut off has left.
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        copy_into(from, &temporary, &leaves)?;
        put_in_place(&temporary, to)
    };
    copy().map_err(|error| {
        let _ = fs::remove_dir_all(&temporary);
        anyhow::Error::new(error).context(format!("{}: could not be copied to {}", from.display(), to.display()))
    })
}

/// Moves everything in a directory but its lock into a new one beside it.
pub fn move_contents(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("{}: could not be moved to {}", from.display(), to.display());
    make_directory(to)?;
    let move_all = || {
        for entry in entries(from)?.iter().filter(|entry| entry.file_name() != LOCK) {
            retried(|| fs::rename(entry.path(), to.join(entry.file_name())))?;
        }
        sync_directory(to)?;
        sync_directory(from)
    };
    move_all().with_context(failed)
}

/// Names of the files in a directory and those in it, with `/` between their parts, in order; without locks and what was cut off.
pub fn files(path: &Path) -> Result<Vec<String>> {
    let (mut names, mut pending) = (Vec::new(), vec![(path.to_path_buf(), String::new())]);
    while let Some((directory, prefix)) = pending.pop() {
        for entry in entries(&directory).with_context(|| format!("{}: could not be listed", directory.display()))? {
            let own = entry.file_name().to_string_lossy().into_owned();
            let name = format!("{prefix}{own}");
            if own == LOCK || own.ends_with(".tmp") {
            } else if entry.path().is_dir() {
                pending.push((entry.path(), format!("{name}/")));
            } else {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a relative path stays in the directory that it is joined to.
pub fn is_inside(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Whether an error may be gone another time, with nothing changed in what was asked for: a full disk, say, or a device that failed.
pub fn passes(error: &anyhow::Error) -> bool {
    use ErrorKind::*;
    let lasting = [
        NotFound,
        PermissionDenied,
        AlreadyExists,
        NotADirectory,
        IsADirectory,
        DirectoryNotEmpty,
        ReadOnlyFilesystem,
        InvalidInput,
        InvalidData,
        InvalidFilename,
        Unsupported,
    ];
    kind_of(error).is_some_and(|kind| !lasting.contains(&kind))
}

/// What stands in a directory.
pub fn entries(path: &Path) -> io::Result<Vec<fs::DirEntry>> {
    retried(|| fs::read_dir(path)?.collect())
}

fn copy_into(from: &Path, to: &Path, leaves: &impl Fn(&str) -> bool) -> io::Result<()> {
    retried(|| fs::create_dir(to))?;
    for entry in entries(from)? {
        let (from, name) = (entry.path(), entry.file_name());
        let to = to.join(&name);
        if name.to_str().is_some_and(leaves) {
        } else if from.is_dir() {
            copy_into(&from, &to, leaves)?;
        } else {
            retried(|| fs::copy(&from, &to))?;
            sync_file(&to)?;
        }
    }
    sync_directory(to)
}

/// A file's bytes; an error names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: could not be read", path.display()))
}

/// A file's text; an error names it.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: could not be read as text", path.display()))
}

/// The name of the file that a [`Lock`] locks.
pub const LOCK: &str = ".lock";

/// Keeps a second process from training in the same directory, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory; an error where another process holds it.
    pub fn take(directory: &Path) -> Result<Self> {
        let held = || format!("{}: another grokscope is training here: expected it to have ended", directory.display());
        Self::take_free(directory)?.with_context(held)
    }

    /// Takes the lock of a directory; none where another process holds it.
    pub fn take_free(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(LOCK);
        let failed = || format!("{}: could not be locked", path.display());
        loop {
            // Whatever stands under that name keeps what it has.
            let open = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = retried(open).with_context(|| format!("{}: could not be made", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            }
            // Whoever had the lock before may have removed the file after it was opened here: then it keeps nobody out.
            let locked = Handle::from_file(file.try_clone().with_context(failed)?).with_context(failed)?;
            match Handle::from_path(&path) {
                Ok(there) if there == locked => return Ok(Some(Self { path, _file: file })),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked. A file that stays behind belongs to nobody, and keeps nobody out.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(windows)]
    #[test]
    fn a_file_that_is_open_for_a_moment_is_replaced() {
        use std::os::windows::fs::OpenOptionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_whole(&path, b"old").unwrap();
        // A reader that opens the file exclusively.
        let open = || fs::OpenOptions::new().read(true).share_mode(0).open(&path).unwrap();
        let reader = open();
        let closing = std::thread::spawn(move || {
            sleep(HELD / 4);
            drop(reader);
        });
        write_whole(&path, b"new").unwrap();
        closing.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let _reader = open();
        assert!(write_whole(&path, b"newer").is_err(), "a file that stays open was replaced");
    }

    #[test]
    fn of_many_who_take_a_lock_one_at_a_time_has_it() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let directory = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 2000 {
                        let Ok(lock) = Lock::take(directory.path()) else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                        taken.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!directory.path().join(LOCK).exists());
    }
}
