//! The cache directory: results of self-checks, and pipelines that drivers compiled.

use etcetera::{BaseStrategy, base_strategy};
use std::path::PathBuf;

/// The environment variable that names the cache directory.
pub const CACHE_DIR: &str = "GROKSCOPE_CACHE_DIR";

/// The user's cache directory: GROKSCOPE_CACHE_DIR, or else `grokscope` in the platform's cache directory. None if it has none.
pub fn directory() -> Option<PathBuf> {
    let named = std::env::var_os(CACHE_DIR).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(base_strategy::choose_native_strategy().ok()?.cache_dir().join("grokscope")))
}
