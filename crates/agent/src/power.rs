//! Before a snapshot, and the end of the guest.

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

use crate::app;

/// Writes dirty pages to the disks, so that the disk and the memory of the snapshot agree.
///
/// Clean pages stay cached. Dropping them was measured: the memory file keeps its size (122 MiB
/// either way), since freed pages keep their old contents, and each clone would have to read again
/// what its first request needs.
pub(crate) fn prepare_snapshot() {
    sync();
}

/// Ends the app, which unmounts its file system, and writes what is left.
pub(crate) fn shut_down() {
    app::kill();
    sync();
}

/// Switches the machine off. As PID 1 there is no other way to end.
pub(crate) fn halt() -> ! {
    sync();
    loop {
        let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
        eprintln!("hearth-agent: cannot power off: {errno}");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
