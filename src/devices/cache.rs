//! The cache directory: results of self-checks, and pipelines that drivers compiled.

use etcetera::{BaseStrategy, base_strategy};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The environment variable that names the cache directory.
pub const CACHE_DIR: &str = "GROKSCOPE_CACHE_DIR";

/// The user's cache directory: GROKSCOPE_CACHE_DIR, or else `grokscope` in the platform's cache directory. None if it has none.
pub fn directory() -> Option<PathBuf> {
    let named = std::env::var_os(CACHE_DIR).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(base_strategy::choose_native_strategy().ok()?.cache_dir().join("grokscope")))
}

/// The bytes of a cached file. None if it is missing, no regular file (a pipe would block), larger than `most`, or unreadable.
pub fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > most {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5), Some(b"12345".to_vec()));
        assert_eq!(read(&file, 4), None, "too large");
        assert_eq!(read(directory.path(), 5), None, "a directory");
        assert_eq!(read(&directory.path().join("missing"), 5), None);
        #[cfg(unix)]
        {
            let pipe = directory.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert_eq!(read(&pipe, 5), None, "a pipe, which nobody writes");
            let link = directory.path().join("link");
            std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
            assert_eq!(read(&link, 5), None, "an endless device");
        }
    }
}
