//! Filters of system calls, one for each kind of child. What a child needs is allowed; everything
//! else fails with EPERM.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What every child may do: use descriptors that it has, and memory.
const COMMON: &[libc::c_long] = &[
    // Data of open descriptors.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fcntl,
    libc::SYS_close,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // What the language's runtime does in a process of one thread, its end included.
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
];

/// What a client of the network does besides: wait, talk, and write files below its root directory.
const NETWORK_CLIENT: &[libc::c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_sched_yield,
    // The socket of a DNS question is bound to any port.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_openat,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
];

/// What a client of the network has no innocent reason to try: it is ended at once, and its
/// end shows what it did.
const DEADLY: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_listen,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
];

/// Leaves this thread, the only one, with what a reader needs.
pub(crate) fn apply_reader() -> io::Result<()> {
    apply(reader())
}

/// Leaves this thread, which must be the only one, with what a client of the network needs: TCP and
/// UDP over IPv4, and files below its root directory.
pub fn allow_network_client() -> io::Result<()> {
    // The first says what ends it, the second what fails; of two verdicts, the stricter one
    // counts (seccomp(2)).
    apply(deadly())?;
    apply(network_client())
}

fn apply(program: Result<BpfProgram, seccompiler::BackendError>) -> io::Result<()> {
    seccompiler::apply_filter(&program.map_err(io::Error::other)?).map_err(io::Error::other)
}

fn reader() -> Result<BpfProgram, seccompiler::BackendError> {
    allow_only(common()?)
}

fn network_client() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = common()?;
    rules.extend(NETWORK_CLIENT.iter().map(|number| (*number, Vec::new())));
    let argument = |index, operator, value| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value as u64)
    };
    // The type has flags beside it (socket(2)).
    let kind = SeccompCmpOp::MaskedEq(0xf);
    let sockets = [libc::SOCK_STREAM, libc::SOCK_DGRAM].map(|wanted| {
        let domain = argument(0, SeccompCmpOp::Eq, libc::AF_INET)?;
        SeccompRule::new(vec![domain, argument(1, kind.clone(), wanted)?])
    });
    rules.insert(libc::SYS_socket, sockets.into_iter().collect::<Result<_, _>>()?);
    let non_blocking = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::FIONBIO)?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![non_blocking])?]);
    allow_only(rules)
}

fn common() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = COMMON.iter().map(|number| (*number, Vec::new())).collect();
    // No new code: the third argument of both is the protection.
    let executable = libc::PROT_EXEC as u64;
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)?;
        rules.insert(number, vec![SeccompRule::new(vec![not_executable])?]);
    }
    Ok(rules)
}

fn allow_only(rules: Rules) -> Result<BpfProgram, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn deadly() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = DEADLY.iter().map(|number| (*number, Vec::new())).collect();
    let (others, these) = (SeccompAction::Allow, SeccompAction::KillProcess);
    SeccompFilter::new(rules, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        assert!(reader().unwrap().len() > COMMON.len());
        assert!(network_client().unwrap().len() > COMMON.len() + NETWORK_CLIENT.len());
        assert!(deadly().unwrap().len() > DEADLY.len());
    }

    #[test]
    fn nothing_that_is_deadly_is_allowed_as_well() {
        let allowed = COMMON.iter().chain(NETWORK_CLIENT);
        assert_eq!(allowed.filter(|number| DEADLY.contains(number)).count(), 0);
    }
}
