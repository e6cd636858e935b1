//! What every child process that gives something up has in common.

use std::io;

use nix::libc;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::CapabilitySet;

/// Names the step that failed, in front of its cause: `cannot give up privileges: …`.
pub fn step<T>(name: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot {name}: {error}")))
}

/// Lowers these limits for good: the most that this process and its children may
/// have (setrlimit(2)).
pub fn limit(limits: impl IntoIterator<Item = (Resource, u64)>) -> io::Result<()> {
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// The thread that has started this process waits for its end. To be called again after a change of
/// user, which undoes it (prctl(2), PR_SET_PDEATHSIG).
pub fn end_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

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
    // The process has one thread, so that the thread's ids are the process's. The change away from
    // user 0 empties the permitted, effective and inheritable capability sets; see capabilities(7).
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    rustix::thread::set_no_new_privs(true)?;
    if rustix::process::getuid().is_root() || rustix::process::geteuid().is_root() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}
