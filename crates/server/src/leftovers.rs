//! VMM processes that a killed server left behind. Only processes that are provably ours are ended: their run
//! directory names them, and they are still running from it.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends what is named in `run_root` and empties it.
pub(crate) fn remove(run_root: &Path) {
    let Ok(entries) = std::fs::read_dir(run_root) else { return };
    for entry in entries.flatten() {
        let directory = entry.path();
        if let Ok(text) = std::fs::read_to_string(directory.join("vmm.pid"))
            && let Ok(pid) = text.trim().parse::<i32>()
            && is_ours(pid, &entry.file_name().to_string_lossy())
        {
            tracing::warn!(pid, directory = %directory.display(), "ending a VMM that a former server left");
            if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                tracing::error!(pid, %error, "the process could not be ended");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&directory) {
            tracing::warn!(directory = %directory.display(), %error, "a run directory could not be removed");
        }
    }
}

/// QEMU is told the VM's name, so the command line shows whose process this is.
fn is_ours(pid: i32, name: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|command| String::from_utf8_lossy(&command).contains(name))
}
