//! Where `make setup` and `make build` put their artefacts.

use std::path::PathBuf;

/// `${XDG_CACHE_HOME:-~/.cache}/hearth`.
pub(crate) fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
        PathBuf::from,
    );
    base.join("hearth")
}
