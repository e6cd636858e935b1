//! Giving up what root may do.

use std::io;

use nix::libc;
use rustix::thread::CapabilitySet;

/// Becomes this user and group for good, without any capability. The process must have one thread.
pub fn drop_privileges(uid: u32) -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel older than the list of capabilities does not know the last ones.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(uid));
    // The process has one thread, so that the thread's ids are the process's. The change away from user 0 empties
    // the permitted, effective and inheritable capability sets; see capabilities(7).
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    rustix::thread::set_no_new_privs(true)?;
    if rustix::process::getuid().is_root() || rustix::process::geteuid().is_root() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}
