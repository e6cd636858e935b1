//! Settings of the guest's kernel.

use std::fs;

/// Writes a setting below `/proc/sys`. A kernel may lack it; the guest works without.
pub(crate) fn write(name: &str, value: &str) {
    if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
        eprintln!("hearth-agent: cannot set {name}: {error}");
    }
}
