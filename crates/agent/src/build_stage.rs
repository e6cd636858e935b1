//! The stage that runs a Dockerfile build in the builder's root file system, as PID 1
//! of its own namespaces.
//!
//! The builder's disk is shared by all builds and read-only, so an overlay in memory lies
//! on top of it. What a build writes in quantity (layers, the context, temporary files)
//! goes to the cache disk.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use hearth_guest_protocol::{BuildSpec, Capabilities, RESOLVER};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::sys::statvfs::statvfs;
use nix::unistd::{chroot, sync};
use serde::{Deserialize, Serialize};

use crate::disks::device_with_serial;
use crate::error::Error;
use crate::mounts::{self, mount_disk, mount_on};
use crate::stage;

const LOWER: &str = "/run/builder";
const UPPER: &str = "/run/builder-upper";
const ROOT: &str = "/run/build-root";
const SCRIPT: &str = "/usr/libexec/hearth/build-image";
/// Where the ext4 superblock has its magic number, and the number (ext4's on-disk
/// format documentation).
const EXT4_MAGIC: (u64, [u8; 2]) = (0x438, [0x53, 0xef]);

/// What the stage reports to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BuildResult {
    pub(crate) code: i32,
    pub(crate) oci_config: String,
    pub(crate) root_bytes: u64,
}

/// The stage's whole life.
pub(crate) fn main() -> ! {
    stage::run(|spec: BuildSpec, status| {
        let result = build(&spec)?;
        let report = serde_json::to_vec(&result).map_err(io::Error::from);
        report
            .and_then(|report| status.write_all(&report))
            .map_err(|source| Error::Write { path: "the build's report".into(), source })
    })
}

fn build(spec: &BuildSpec) -> Result<BuildResult, Error> {
    mounts::isolate()?;
    mount_builder(&spec.builder_disk)?;
    mount_build_disks(spec)?;
    unpack_context(&spec.context_disk)?;
    write(&format!("{ROOT}/run/resolv.conf"), &format!("nameserver {}\n", Ipv4Addr::from(RESOLVER)))?;
    write(&format!("{ROOT}/etc/resolv.conf"), &format!("nameserver {}\n", Ipv4Addr::from(RESOLVER)))?;
    create_dir(&format!("{ROOT}/run/hearth"))?;
    for (file, text) in [("ca.crt", &spec.ca_bundle), ("Dockerfile", &spec.dockerfile)] {
        if !text.is_empty() {
            write(&format!("{ROOT}/run/hearth/{file}"), text)?;
        }
    }
    mounts::enter_container(ROOT, Capabilities::Default)?;
    let code = run_script()?;
    // Nothing that the build left behind may keep its disks busy.
    // SAFETY: no memory is involved; as PID 1 this process is not among those signalled.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    let oci_config = if code == 0 { read("/out-meta/config.json")? } else { String::new() };
    let root = statvfs("/out").map_err(|errno| Error::Read { path: "/out".into(), source: errno.into() })?;
    let root_bytes = (root.blocks() - root.blocks_free()) * root.fragment_size();
    sync();
    umount("/out").map_err(|errno| Error::Unmount { target: "/out".into(), source: errno.into() })?;
    Ok(BuildResult { code, oci_config, root_bytes })
}

/// Mounts the builder's root with a writable layer in memory.
fn mount_builder(serial: &str) -> Result<(), Error> {
    for path in [LOWER, UPPER, ROOT] {
        create_dir(path)?;
    }
    mount_disk(&device_with_serial(serial)?, LOWER, MsFlags::MS_RDONLY | MsFlags::MS_NODEV)?;
    mount_on("tmpfs", UPPER, MsFlags::MS_NODEV, Some("mode=755"))?;
    create_dir(&format!("{UPPER}/upper"))?;
    create_dir(&format!("{UPPER}/work"))?;
    let layers = format!("lowerdir={LOWER},upperdir={UPPER}/upper,workdir={UPPER}/work");
    mount_on("overlay", ROOT, MsFlags::MS_NODEV, Some(&layers))?;
    for (directory, mode) in [("run", "mode=755"), ("tmp", "mode=1777"), ("out-meta", "mode=755")] {
        let target = format!("{ROOT}/{directory}");
        create_dir(&target)?;
        mount_on("tmpfs", &target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(mode))?;
    }
    Ok(())
}

/// Mounts the cache with the directories that it lends, the stores and the result.
fn mount_build_disks(spec: &BuildSpec) -> Result<(), Error> {
    let cache = device_with_serial(&spec.cache_disk)?;
    if !has_ext4(&cache)? {
        run_in_builder("mke2fs", &["-q", "-t", "ext4", "-m", "0", "-E", "nodiscard", &cache])?;
    }
    let containers = format!("{ROOT}/var/lib/containers");
    create_dir(&containers)?;
    mount_disk(&cache, &containers, MsFlags::MS_NODEV)?;
    for (lent, directory) in [("tmp", "var/tmp"), ("context", "context")] {
        let lent = format!("{containers}/{lent}");
        match fs::remove_dir_all(&lent) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Write { path: lent, source });
            }
            _ => create_dir(&lent)?,
        }
        let target = format!("{ROOT}/{directory}");
        create_dir(&target)?;
        bind(&lent, &target)?;
    }
    for (number, serial) in spec.store_disks.iter().enumerate() {
        let target = format!("{ROOT}/run/stores/{number}");
        create_dir(&target)?;
        mount_disk(&device_with_serial(serial)?, &target, MsFlags::MS_RDONLY | MsFlags::MS_NODEV)?;
    }
    let out = format!("{ROOT}/out");
    create_dir(&out)?;
    mount_disk(&device_with_serial(&spec.out_disk)?, &out, MsFlags::MS_NODEV)
}

fn unpack_context(serial: &str) -> Result<(), Error> {
    run_in_builder("tar", &["-C", "/context", "-xf", &device_with_serial(serial)?])
}

/// Runs a program of the builder that needs the guest's disks, which the build itself does not see.
fn run_in_builder(program: &'static str, arguments: &[&str]) -> Result<(), Error> {
    let dev = format!("{ROOT}/dev");
    bind("/dev", &dev)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // SAFETY: the child of this single-threaded process only changes its root before it
    // executes the program.
    unsafe { command.pre_exec(|| Ok(chroot(ROOT)?)) };
    let output = command.output().map_err(|source| Error::Program { program, source })?;
    umount2(dev.as_str(), MntFlags::MNT_DETACH)
        .map_err(|errno| Error::Unmount { target: dev, source: errno.into() })?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::ProgramFailed { program, output });
    }
    Ok(())
}

/// Runs the build script to its end; its output goes to this process's own.
fn run_script() -> Result<i32, Error> {
    use std::os::unix::process::ExitStatusExt;
    let status = Command::new(SCRIPT)
        .current_dir("/context")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("CONTEXT", "/context")
        .status()
        .map_err(|source| Error::Program { program: SCRIPT, source })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// Whether the device holds an ext4 file system; a new cache disk is all zeros.
fn has_ext4(device: &str) -> Result<bool, Error> {
    let (offset, magic) = EXT4_MAGIC;
    let mut found = [0; 2];
    File::open(device)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut found)
        })
        .map_err(|source| Error::Read { path: device.into(), source })?;
    Ok(found == magic)
}

fn bind(source: &str, target: &str) -> Result<(), Error> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| Error::Mount {
        kind: "bind",
        target: target.into(),
        source: errno.into(),
    })
}

fn create_dir(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.into(), source })
}

fn write(path: &str, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write { path: path.into(), source })
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })
}
