//! Reduces a container's first process to what Docker grants: capabilities, user, limits.
#![allow(unsafe_code)]

use std::fs;
use std::io;

use hearth_guest_protocol::Capabilities;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};

use crate::error::Error;
use crate::user::Identity;

/// Docker's default capabilities as a bit set: chown, `dac_override`, fowner, fsetid, kill, setgid,
/// setuid, setpcap, `net_bind_service`, `net_raw`, `sys_chroot`, mknod, `audit_write`, setfcap.
const DOCKER_DEFAULT: u64 = 0xa804_25fb;
/// Limit of open files, soft and hard, as it is in guests of the service.
const OPEN_FILES: u64 = 1024;
/// `_LINUX_CAPABILITY_VERSION_3` (capget(2)).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up everything that the app is not to have. Root keeps `capabilities`; any other user has
/// none in effect, but can gain them from a set-user-ID program.
pub(crate) fn reduce(identity: &Identity, capabilities: Capabilities) -> Result<(), Error> {
    let failed = |what| move |source: io::Error| Error::Privileges { what, source };
    let errno = |what| move |errno: nix::Error| Error::Privileges { what, source: errno.into() };
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).map_err(errno("limit of open files"))?;
    let all = all_capabilities().map_err(failed("capabilities"))?;
    let granted = match capabilities {
        Capabilities::Default => DOCKER_DEFAULT & all,
        Capabilities::All => all,
    };
    for number in (0..u64::BITS).filter(|number| (all & !granted) >> number & 1 == 1) {
        drop_from_bounding_set(number).map_err(failed("bounding set"))?;
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(errno("groups"))?;
    let uid = Uid::from_raw(identity.uid);
    // Else a user other than root could not open /dev/stdout.
    fchown(io::stdout(), Some(uid), None).map_err(errno("standard output"))?;
    fchown(io::stderr(), Some(uid), None).map_err(errno("standard error"))?;
    let gid = Gid::from_raw(identity.gid);
    setresgid(gid, gid, gid).map_err(errno("group"))?;
    // The kernel clears all sets of a process that leaves user 0.
    setresuid(uid, uid, uid).map_err(errno("user"))?;
    if uid.is_root() {
        set_capabilities(granted).map_err(failed("capabilities"))?;
    }
    Ok(())
}

/// Every capability that the kernel knows.
fn all_capabilities() -> io::Result<u64> {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last: u32 = last.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u64::MAX >> (u64::BITS - 1).saturating_sub(last))
}

fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    // SAFETY: prctl with numbers only.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the permitted and the effective set, and empties the inheritable one.
fn set_capabilities(set: u64) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let half = |bits: u64| CapabilityData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(set), half(set >> 32)];
    // SAFETY: the two structures have the layout of capset(2), version 3, which
    // reads two data elements.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
