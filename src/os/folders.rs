//! The folders of this user (XDG base directory specification 0.8). Windows has `%APPDATA%` and
//! `%LOCALAPPDATA%` instead.
//!
//! A variable counts only if it holds an absolute path.

use std::path::PathBuf;

use crate::host::Host;

/// Returns the folder for configuration: `$XDG_CONFIG_HOME`, else `~/.config`.
pub fn config(host: &dyn Host) -> Option<PathBuf> {
    host.dir("XDG_CONFIG_HOME").or_else(|| home(host).map(|home| home.join(".config")))
}

/// Returns the folder for caches: `$XDG_CACHE_HOME`, else `~/.cache`.
pub fn cache(host: &dyn Host) -> Option<PathBuf> {
    host.dir("XDG_CACHE_HOME").or_else(|| home(host).map(|home| home.join(".cache")))
}

/// Returns the folder for files that end with the session, if there is one. It is local by definition.
pub fn runtime(host: &dyn Host) -> Option<PathBuf> {
    host.dir("XDG_RUNTIME_DIR")
}

/// Returns the folder for temporary files: `$TMPDIR`, else `/tmp`.
pub fn temporary(host: &dyn Host) -> PathBuf {
    host.dir("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Returns the home folder.
pub fn home(host: &dyn Host) -> Option<PathBuf> {
    host.dir("HOME")
}
