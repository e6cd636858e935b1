//! What a jail keeps from the program in it, whatever that program is.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hearth_confined::spawn::{SpawnRequest, spawn};
use hearth_vmm::jail::JailSpec;
use rustix::process::{WaitId, WaitIdOptions};

const MIB: u64 = 1 << 20;

/// Runs a shell in a jail with one descriptor, `$0`; returns what it printed.
fn shell(script: &str, file: &File, largest_file: u64) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let jail = JailSpec {
        uid: 2_000_100_000,
        network_namespace: None,
        scratch_dir: scratch.path().to_owned(),
        devices: Vec::new(),
        program: "/bin/sh".into(),
        largest_file,
    };
    let descriptor = file.as_raw_fd();
    let words: [OsString; 3] = ["-c".into(), script.into(), descriptor.to_string().into()];
    let program = Path::new(env!("CARGO_BIN_EXE_hearth-vmm-test-jail"));
    let (go, mut say_go) = std::io::pipe().unwrap();
    let (mut said, says): (PipeReader, _) = std::io::pipe().unwrap();
    let (_, pidfd) = spawn(&SpawnRequest {
        program: &CString::new(program.as_os_str().as_bytes()).unwrap(),
        arguments: &jail.arguments(&words).unwrap(),
        inherit: &[descriptor],
        stdin: go.as_fd(),
        stdout: says.as_fd(),
        stderr: says.as_fd(),
    })
    .unwrap();
    drop(says);
    say_go.write_all(b"\n").unwrap();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    text
}

#[test]
fn no_file_of_a_vmm_grows_beyond_its_limit_and_it_lives_on() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let on_disk = tempfile::tempfile().unwrap();
    let memory = File::from(rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    for file in [on_disk, memory] {
        // Within the limit it writes; beyond, writing fails, and the process lives on.
        let script = "cat /usr/bin/yes >/proc/self/fd/$0 && yes x >>/proc/self/fd/$0; echo lives on";
        std::os::unix::fs::fchown(&file, Some(2_000_100_000), None).unwrap();
        let said = shell(script, &file, MIB);
        assert!(said.contains("File too large") && said.ends_with("lives on\n"), "{said}");
        assert_eq!(file.metadata().unwrap().len(), MIB);
        let said = shell("truncate -s 2M /proc/self/fd/$0; echo lives on", &file, MIB);
        assert!(said.contains("File too large") && said.ends_with("lives on\n"), "{said}");
        assert_eq!(file.metadata().unwrap().len(), MIB);
        // A higher limit lets it.
        assert_eq!(shell("truncate -s 2M /proc/self/fd/$0; echo lives on", &file, 2 * MIB), "lives on\n");
        assert_eq!(file.metadata().unwrap().len(), 2 * MIB);
    }
}
