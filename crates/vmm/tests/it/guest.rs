//! The test guest: its kernel, its initial RAM file system, and a conversation with it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hearth_vmm::{BootSource, GuestChannel, GuestStream, Vm};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any guest takes to boot under emulation on a busy machine.
const BOOT_DEADLINE: Duration = Duration::from_mins(3);

/// Says why the tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<&'static str> {
    let found = |program: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|directory| directory.join(program).exists())
    };
    if !rustix::process::geteuid().is_root() {
        Some("not root")
    } else if !found("qemu-system-x86_64") && !found("qemu-system-aarch64") {
        Some("QEMU is not installed")
    } else if !found("gcc") || !found("ip") {
        Some("gcc or ip is not installed")
    } else if !artefacts().join("vmlinuz").exists() {
        Some("there are no guest artefacts: run make setup")
    } else {
        None
    }
}

fn artefacts() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("HEARTH_GUEST_DIR").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        cache.unwrap_or_default().join("hearth/guest/1")
    })
}

/// Compiles the test guest's init and packs it behind the common initial RAM file system.
pub(crate) fn boot_source(directory: &Path) -> BootSource {
    let init = directory.join("init");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/init.c");
    let compiled =
        Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&init).arg(source).status().unwrap();
    assert!(compiled.success());
    let initrd_path = directory.join("initrd");
    let mut initrd = File::create(&initrd_path).unwrap();
    initrd.write_all(&fs::read(artefacts().join("initramfs.cpio")).unwrap()).unwrap();
    initrd.write_all(&cpio("init", &fs::read(init).unwrap())).unwrap();
    BootSource {
        kernel_image_path: artefacts().join("vmlinuz"),
        initrd_path,
        boot_args: "console=ttyS0 quiet panic=-1 reboot=t mitigations=off cryptomgr.notests".into(),
    }
}

/// An archive of one executable file, in cpio's `newc` format.
fn cpio(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in [(name, 0o100_755, content), ("TRAILER!!!", 0, &[][..])] {
        let fields = [1, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend(b"070701");
        archive.extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// Sends one command to the guest and returns its answer.
pub(crate) async fn ask(vm: &dyn Vm, command: &str) -> std::io::Result<String> {
    converse(vm.connect_guest().await?, command).await
}

/// The same without a VM, when nobody has it.
pub(crate) async fn say(channel: &dyn GuestChannel, command: &str) -> std::io::Result<String> {
    let conversation = async { converse(channel.connect().await?, command).await };
    tokio::time::timeout(Duration::from_secs(1), conversation).await?
}

async fn converse(mut stream: Box<dyn GuestStream>, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply.trim_end().to_owned())
}

/// Waits until the guest answers.
pub(crate) async fn wait_until_ready(vm: &dyn Vm) {
    let deadline = Instant::now() + BOOT_DEADLINE;
    loop {
        match ask(vm, "hello").await {
            Ok(reply) if reply == "what?" => return,
            other => assert!(Instant::now() < deadline, "the guest does not answer: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
