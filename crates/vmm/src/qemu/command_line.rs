//! QEMU's command line, as a pure function of what the VM is to be.
//!
//! Every file is named by a descriptor that the process inherits, so nothing here depends on
//! what the jail shows. Devices stand in a fixed order: a snapshot only fits a VM whose devices
//! have the same addresses.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};

use serde::Serialize;

use super::{Accelerator, Architecture};
use crate::spec::{DriveImage, VmSpec};

/// Bytes of serial console output that are kept.
pub(crate) const CONSOLE_BYTES: u32 = 64 * 1024;
/// Name of the character device behind the serial console.
pub(crate) const CONSOLE: &str = "console";

/// MiB of host memory for a clone's translated code under TCG, all of which it comes to use if it
/// runs for long. QEMU's own choice is hundreds of MiB.
const CLONE_TRANSLATION_CACHE_MIB: u32 = 32;
/// MiB for the translated code of a VM that is booted: builds run many programs, and there are few
/// of them at a time.
const BOOT_TRANSLATION_CACHE_MIB: u32 = 256;

/// What the host decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Architecture of host and guest.
    pub(crate) architecture: Architecture,
    /// How guest code runs.
    pub(crate) accelerator: Accelerator,
    /// Whether guests see no virtualization extension.
    pub(crate) hides_virtualization: bool,
    /// Versioned machine type: `pc-q35-10.0`.
    pub(crate) machine_type: String,
    /// Whether RAM may be mapped without reserving swap space for it (not with
    /// `vm.overcommit_memory=2`).
    pub(crate) overcommit: bool,
    /// What the guest's kernel is told of its time stamp counter, in kHz.
    pub(crate) tsc_khz: Option<u32>,
}

/// Where RAM is and how the VM starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// From the boot source, with RAM that no snapshot can be taken of.
    BootAnonymous,
    /// From the boot source, with RAM in a file that becomes a base.
    Boot {
        /// The file.
        memory: RawFd,
    },
    /// From a base.
    Restore {
        /// The base's memory.
        memory: RawFd,
    },
    /// From a base and layers, whose device state has no configuration section.
    RestoreLayers {
        /// The base's memory.
        memory: RawFd,
    },
}

/// Descriptors of a drive's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DriveDescriptors {
    /// The raw file.
    pub(crate) raw: RawFd,
    /// The overlay, if there is one.
    pub(crate) overlay: Option<RawFd>,
}

/// Descriptors that are not in the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Listening socket for QMP.
    pub(crate) qmp: RawFd,
    /// Kernel and initial RAM file system, when booting.
    pub(crate) boot: Option<(RawFd, RawFd)>,
    /// Files of each drive of the spec.
    pub(crate) drives: Vec<DriveDescriptors>,
}

/// A node of QEMU's block graph (`BlockdevOptions` of `qapi/block-core.json`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct BlockNode {
    driver: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    read_only: bool,
    discard: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detect_zeroes: Option<&'static str>,
    cache: CacheOptions,
    #[serde(flatten)]
    kind: BlockNodeKind,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum BlockNodeKind {
    /// A host file. Locks protect against a second QEMU, but only one has the descriptor of a
    /// writable file, and read-only bases are shared.
    File { filename: String, locking: &'static str, aio: &'static str },
    /// A format on top of a file.
    Format {
        file: Box<BlockNode>,
        #[serde(skip_serializing_if = "Option::is_none")]
        backing: Option<Box<BlockNode>>,
    },
}

/// Guest flushes end in the host's page cache: like RAM, disks survive any process
/// but not the host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CacheOptions {
    direct: bool,
    no_flush: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

/// All arguments of the process after its name.
pub(crate) fn command_line(
    host: &Host,
    spec: &VmSpec,
    start: Start,
    descriptors: &Descriptors,
) -> Vec<OsString> {
    let mut line = Arguments::default();
    line.flag("-no-user-config").flag("-nodefaults");
    line.option("-name", format!("{},debug-threads=on", spec.name));
    line.option("-display", "none").flag("-no-reboot").flag("-no-shutdown").flag("-S");
    line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    machine(&mut line, host, spec, start);
    memory(&mut line, host, spec, start);
    line.option("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", descriptors.qmp));
    line.option("-mon", "chardev=qmp,mode=control");
    line.option("-chardev", format!("ringbuf,id={CONSOLE},size={CONSOLE_BYTES}"));
    line.option("-serial", format!("chardev:{CONSOLE}"));
    devices(&mut line, host, spec, descriptors);
    match (start, descriptors.boot) {
        (Start::BootAnonymous | Start::Boot { .. }, Some((kernel, initrd))) => {
            line.option("-kernel", format!("/proc/self/fd/{kernel}"));
            line.option("-initrd", format!("/proc/self/fd/{initrd}"));
            line.option("-append", kernel_command_line(host, spec));
        }
        (Start::BootAnonymous | Start::Boot { .. }, None) => {}
        // The guest's kernel is in its memory already.
        (Start::Restore { .. }, _) => {
            line.option("-incoming", "defer");
        }
        (Start::RestoreLayers { .. }, _) => {
            line.option("-incoming", "defer").option("-global", "migration.send-configuration=off");
        }
    }
    line.0
}

fn kernel_command_line(host: &Host, spec: &VmSpec) -> String {
    let tsc = host.tsc_khz.map(|khz| format!(" tsc_early_khz={khz}"));
    spec.boot_source.boot_args.clone() + &tsc.unwrap_or_default()
}

fn machine(line: &mut Arguments, host: &Host, spec: &VmSpec, start: Start) {
    let options = match host.architecture {
        Architecture::X86_64 => "smm=off,vmport=off,sata=off,usb=off,graphics=off",
        Architecture::Aarch64 => "gic-version=max",
    };
    line.option("-machine", format!("{},{options},memory-backend=ram", host.machine_type));
    match host.accelerator {
        Accelerator::Tcg => {
            let cache_mib = match start {
                Start::BootAnonymous | Start::Boot { .. } => BOOT_TRANSLATION_CACHE_MIB,
                Start::Restore { .. } | Start::RestoreLayers { .. } => CLONE_TRANSLATION_CACHE_MIB,
            };
            line.option("-accel", format!("tcg,thread=multi,tb-size={cache_mib}"));
        }
        Accelerator::Kvm => {
            line.option("-accel", "kvm");
        }
    }
    line.option("-cpu", host.accelerator.cpu_option(host.hides_virtualization));
    let cpus = spec.vcpu_count;
    line.option("-smp", format!("cpus={cpus},sockets=1,cores={cpus},threads=1"));
    line.option("-m", format!("{}M", spec.memory_mib));
}

fn memory(line: &mut Arguments, host: &Host, spec: &VmSpec, start: Start) {
    let (kind, place) = match start {
        Start::BootAnonymous => ("memory-backend-ram", String::new()),
        Start::Boot { memory } => {
            ("memory-backend-file", format!(",mem-path=/proc/self/fd/{memory},share=on"))
        }
        // Private to this process and opened read-only: no VMM can change what other clones see.
        Start::Restore { memory } | Start::RestoreLayers { memory } => {
            let place = format!(",mem-path=/proc/self/fd/{memory},share=off,readonly=on,rom=off");
            ("memory-backend-file", place)
        }
    };
    let reserve = if host.overcommit { ",reserve=off" } else { "" };
    line.option("-object", format!("{kind},id=ram,size={}M{place}{reserve}", spec.memory_mib));
}

fn devices(line: &mut Arguments, host: &Host, spec: &VmSpec, descriptors: &Descriptors) {
    line.option("-object", "rng-builtin,id=rng").option("-device", "virtio-rng-pci,rng=rng");
    if host.architecture == Architecture::X86_64 {
        // A new number after each restore makes the guest's kernel reseed its random numbers.
        line.option("-device", "vmgenid,guid=auto");
    }
    let mut fd_sets = 0;
    let mut file = |line: &mut Arguments, descriptor: RawFd, access| {
        fd_sets += 1;
        line.option("-add-fd", format!("fd={descriptor},set={fd_sets}"));
        BlockNode::file(fd_sets, access)
    };
    for (index, (drive, files)) in spec.drives.iter().zip(&descriptors.drives).enumerate() {
        let raw_access = match drive.image {
            DriveImage::Raw(_) => Access::ReadWrite,
            DriveImage::RawReadOnly(_) | DriveImage::Overlay { .. } => Access::ReadOnly,
        };
        let mut raw = BlockNode::format("raw", file(line, files.raw, raw_access), raw_access, None);
        if raw_access == Access::ReadWrite {
            // A build's layers have their holes written out, as a tar knows none.
            raw.detect_zeroes = Some("unmap");
        }
        let mut node = match files.overlay {
            None => raw,
            Some(overlay) => {
                let overlay = file(line, overlay, Access::ReadWrite);
                BlockNode::format("qcow2", overlay, Access::ReadWrite, Some(raw))
            }
        };
        node.node_name = Some(format!("drive{index}"));
        let node = serde_json::to_string(&node).expect("invariant: block nodes are plain data");
        line.option("-blockdev", node);
        let id = &drive.drive_id;
        let on_full = on_full_disk(&drive.image);
        line.option(
            "-device",
            format!("virtio-blk-pci,id=disk{index},drive=drive{index},serial={id}{on_full}"),
        );
    }
    for (index, interface) in spec.network_interfaces.iter().enumerate() {
        let mac = interface.guest_mac.map(|byte| format!("{byte:02x}")).join(":");
        let tap = interface.tap.as_raw_fd();
        line.option("-netdev", format!("tap,id=net{index},fd={tap},vhost=off"));
        // No boot ROM: it would only be one more block of memory to load. Nobody needs to hear that
        // the guest has moved: its side of the TAP is new and empty.
        let nic = format!("id=nic{index},netdev=net{index},mac={mac},romfile=,guest_announce=off");
        line.option("-device", format!("virtio-net-pci,{nic}"));
    }
}

/// What the guest sees when the host's disk is full: a build fails with I/O errors at once, while
/// a clone, whose data is somebody's, is stopped by QEMU until there is space again
/// (`werror=enospc`, the default).
fn on_full_disk(image: &DriveImage) -> &'static str {
    match image {
        DriveImage::Raw(_) => ",werror=report",
        DriveImage::RawReadOnly(_) | DriveImage::Overlay { .. } => "",
    }
}

impl BlockNode {
    fn new(driver: &'static str, access: Access, kind: BlockNodeKind) -> Self {
        let cache = CacheOptions { direct: false, no_flush: true };
        let read_only = access == Access::ReadOnly;
        Self { driver, node_name: None, read_only, discard: "unmap", detect_zeroes: None, cache, kind }
    }

    fn file(fd_set: u32, access: Access) -> Self {
        let filename = format!("/dev/fdset/{fd_set}");
        Self::new("file", access, BlockNodeKind::File { filename, locking: "off", aio: "threads" })
    }

    fn format(driver: &'static str, file: Self, access: Access, backing: Option<Self>) -> Self {
        let kind = BlockNodeKind::Format { file: Box::new(file), backing: backing.map(Box::new) };
        Self::new(driver, access, kind)
    }
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }
}

#[cfg(test)]
mod tests;
