"""Runs a program that reads what is hostile, without what it does not need.

usage: confine.py UID SECONDS MEMORY_BYTES FILE_BYTES PROGRAM [ARGUMENT...]

The caller has given the process namespaces and a root directory of its own. Here it gives up root
and all capabilities, gets limits (CPU time, address space, length of files, processes, descriptors,
no core) and a filter of system calls: no sockets, no namespaces, no mounts, no tracing, nothing of
the kernel's rarer parts. The program and all that it starts keep them. Standard library only;
PROGRAM is executed in this very process, with an empty environment but for PATH and the locale.
"""
import ctypes
import os
import platform
import resource
import struct
import sys

# Numbers of <asm/unistd.h>. The first row is of x86_64, the second of the table that arm64 and
# later architectures share.
NAMES = (
    "socket", "socketpair", "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root", "chroot", "unshare",
    "setns", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "open_by_handle_at",
    "name_to_handle_at", "kexec_load", "init_module", "finit_module", "delete_module", "swapon", "reboot", "personality", "mknodat",
    "move_mount", "open_tree", "fsopen", "fspick", "mount_setattr", "pidfd_getfd", "kcmp", "quotactl", "acct", "syslog",
)
NUMBERS = {
    "x86_64": (41, 53, 101, 310, 311, 165, 166, 155, 161, 272, 308, 250, 248, 249, 321, 298, 323, 425, 304, 303, 246, 175, 313, 176,
               167, 169, 135, 259, 429, 428, 430, 433, 442, 438, 312, 179, 163, 103),
    "aarch64": (198, 199, 117, 270, 271, 40, 39, 41, 51, 97, 268, 219, 217, 218, 280, 241, 282, 425, 265, 264, 104, 105, 273, 106,
                224, 142, 92, 33, 429, 428, 430, 433, 442, 438, 272, 60, 89, 116),
}
CLONE = {"x86_64": 56, "aarch64": 220}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE3 = 435
EPERM, ENOSYS = 1, 38
# New namespaces of any kind (clone(2)): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
CLONE_NEW = 0x7E020000
# struct seccomp_data: number, architecture, instruction pointer, arguments.
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
LOAD, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 22, 24, 38, 2
MOST_CAPABILITIES = 64
EINVAL, SIGKILL = 22, 9


def program(machine):
    """The filter as instructions of classic BPF: code, jump if true, jump if false, constant."""
    refuse = (RETURN, 0, 0, ERRNO | EPERM)
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":  # The numbers of x32 are other names of the same calls.
        code += [(AT_LEAST, 0, 1, 0x40000000), refuse]
    # Its flags are in memory, where a filter cannot look; libraries fall back to clone.
    code += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | ENOSYS)]
    for number in NUMBERS[machine]:
        code += [(EQUAL, 0, 1, number), refuse]
    code += [(EQUAL, 0, 3, CLONE[machine]), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 0, 1, CLONE_NEW), refuse, (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def prctl(option, first=0, second=0):
    """prctl(2); returns the error number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(number) for number in (option, first, second, 0, 0)]
    return ctypes.get_errno() if libc.prctl(*arguments) != 0 else 0


def must(error, what):
    if error:
        raise OSError(error, what)


def give_up_root(uid):
    for capability in range(MOST_CAPABILITIES):
        error = prctl(PR_CAPBSET_DROP, capability)
        must(0 if error == EINVAL else error, "give up a capability")  # This kernel has fewer.
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    must(prctl(PR_SET_NO_NEW_PRIVS, 1), "give up new privileges")
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "end with whoever has started it")


def filter_system_calls():
    instructions = program(platform.machine())
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog: a count of two bytes, padding, a pointer.
    descriptor = ctypes.create_string_buffer(struct.pack("@HP", len(instructions) // 8, ctypes.addressof(buffer)))
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(descriptor)), "filter system calls")


def limit(seconds, memory, file_bytes):
    for kind, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NPROC, 64), (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (most, most))


def main():
    uid, seconds, memory, file_bytes = (int(text) for text in sys.argv[1:5])
    assert uid > 0, "not root"
    assert len(NAMES) == len(NUMBERS["x86_64"]) == len(NUMBERS["aarch64"]), "a number for each name"
    limit(seconds, memory, file_bytes)
    give_up_root(uid)
    filter_system_calls()
    os.execve(sys.argv[5], sys.argv[5:], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})


if __name__ == "__main__":
    main()
