use std::fs::File;
use std::sync::Arc;

use super::*;
use crate::spec::{BootSource, Drive, GuestChannel, GuestStream, Isolation, NetworkInterface};

#[derive(Debug)]
struct NoChannel;

#[async_trait::async_trait]
impl GuestChannel for NoChannel {
    async fn connect(&self) -> std::io::Result<Box<dyn GuestStream>> {
        Err(std::io::ErrorKind::NotConnected.into())
    }
}

fn spec() -> VmSpec {
    let overlay = DriveImage::Overlay { base: "/images/root".into(), overlay: "/vm/root.qcow2".into() };
    VmSpec {
        name: "vm-1".into(),
        run_dir: "/run/hearth/vm-1".into(),
        vcpu_count: 2,
        memory_mib: 2048,
        boot_source: BootSource {
            kernel_image_path: "/guest/vmlinuz".into(),
            initrd_path: "/guest/initrd".into(),
            boot_args: "console=ttyS0 quiet".into(),
        },
        drives: vec![
            Drive { drive_id: "root".into(), image: overlay },
            Drive { drive_id: "store".into(), image: DriveImage::RawReadOnly("/store".into()) },
            Drive { drive_id: "out".into(), image: DriveImage::Raw("/out".into()) },
        ],
        network_interfaces: vec![NetworkInterface {
            tap: File::open("/dev/null").unwrap().into(),
            guest_mac: [2, 0, 0, 0xab, 0, 1],
        }],
        isolation: Isolation {
            uid: 100_000,
            network_namespace: None,
            memory_limit_mib: None,
            cpu_limit_percent: None,
        },
        guest_channel: Arc::new(NoChannel),
    }
}

fn host() -> Host {
    Host {
        architecture: Architecture::X86_64,
        accelerator: Accelerator::Tcg,
        hides_virtualization: true,
        machine_type: "pc-q35-10.0".into(),
        overcommit: true,
        tsc_khz: Some(2_600_000),
    }
}

fn descriptors() -> Descriptors {
    let drive = |raw, overlay| DriveDescriptors { raw, overlay };
    let drives = vec![drive(20, Some(21)), drive(22, None), drive(23, None)];
    Descriptors { qmp: 10, boot: Some((11, 12)), drives }
}

fn line(host: &Host, start: Start) -> Vec<String> {
    let line = command_line(host, &spec(), start, &descriptors());
    line.into_iter().map(|argument| argument.into_string().unwrap()).collect()
}

/// Values of an option, in order.
fn values<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
    line.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn a_boot_maps_the_memory_file_shared_and_names_the_kernel_by_descriptor() {
    let line = line(&host(), Start::Boot { memory: 13 });
    let object = "memory-backend-file,id=ram,size=2048M,mem-path=/proc/self/fd/13,share=on,reserve=off";
    assert_eq!(values(&line, "-object")[0], object);
    assert_eq!(values(&line, "-kernel"), ["/proc/self/fd/11"]);
    assert_eq!(values(&line, "-initrd"), ["/proc/self/fd/12"]);
    assert_eq!(values(&line, "-append"), ["console=ttyS0 quiet tsc_early_khz=2600000"]);
    assert!(values(&line, "-incoming").is_empty());
}

#[test]
fn a_clone_maps_the_base_privately_and_read_only_and_needs_no_kernel() {
    for (start, layered) in
        [(Start::Restore { memory: 13 }, false), (Start::RestoreLayers { memory: 13 }, true)]
    {
        let line = line(&host(), start);
        let object = values(&line, "-object")[0];
        assert!(object.contains("mem-path=/proc/self/fd/13,share=off,readonly=on,rom=off"), "{object}");
        assert_eq!(values(&line, "-incoming"), ["defer"]);
        assert!(values(&line, "-kernel").is_empty() && values(&line, "-initrd").is_empty());
        assert_eq!(!values(&line, "-global").is_empty(), layered);
    }
}

#[test]
fn anonymous_memory_has_no_file() {
    let line = line(&Host { overcommit: false, ..host() }, Start::BootAnonymous);
    assert_eq!(values(&line, "-object")[0], "memory-backend-ram,id=ram,size=2048M");
}

#[test]
fn files_come_as_fd_sets_and_only_what_is_written_is_writable() {
    let line = line(&host(), Start::Restore { memory: 13 });
    let sets = ["fd=20,set=1", "fd=21,set=2", "fd=22,set=3", "fd=23,set=4"];
    assert_eq!(values(&line, "-add-fd"), sets);
    let nodes: Vec<serde_json::Value> =
        values(&line, "-blockdev").iter().map(|node| serde_json::from_str(node).unwrap()).collect();
    let root = &nodes[0];
    assert_eq!((&root["driver"], &root["read-only"]), (&"qcow2".into(), &false.into()));
    assert_eq!(root["node-name"], "drive0");
    assert_eq!(root["file"]["filename"], "/dev/fdset/2");
    assert_eq!(root["backing"]["driver"], "raw");
    assert_eq!(root["backing"]["read-only"], true);
    assert_eq!(root["backing"]["file"]["filename"], "/dev/fdset/1");
    assert_eq!(root["backing"]["file"]["read-only"], true);
    assert_eq!((&nodes[1]["read-only"], &nodes[1]["file"]["read-only"]), (&true.into(), &true.into()));
    assert_eq!((&nodes[2]["read-only"], &nodes[2]["file"]["read-only"]), (&false.into(), &false.into()));
    let zeroes: Vec<_> = nodes.iter().map(|node| node["detect-zeroes"].as_str()).collect();
    assert_eq!(zeroes, [None, None, Some("unmap")], "only of the disks of builds");
}

#[test]
fn devices_keep_their_order_so_that_snapshots_fit() {
    let devices = |start| -> Vec<String> {
        values(&line(&host(), start), "-device").iter().map(|device| (*device).to_owned()).collect()
    };
    let booted = devices(Start::Boot { memory: 13 });
    assert_eq!(booted, devices(Start::RestoreLayers { memory: 99 }));
    let kinds: Vec<&str> = booted.iter().filter_map(|device| device.split(',').next()).collect();
    let blocks = ["virtio-blk-pci"; 3];
    assert_eq!(kinds, [&["virtio-rng-pci", "vmgenid"][..], &blocks, &["virtio-net-pci"]].concat());
    assert!(booted[5].contains("mac=02:00:00:ab:00:01"), "{}", booted[5]);
    assert!(booted[2].contains("serial=root"), "{}", booted[2]);
    let reports: Vec<bool> = booted[2..5].iter().map(|disk| disk.contains("werror=report")).collect();
    assert_eq!(
        reports,
        [false, false, true],
        "only a raw disk that is written in place fails on a full host"
    );
}

#[test]
fn every_vm_is_sandboxed_and_reads_no_configuration() {
    for start in [Start::BootAnonymous, Start::Boot { memory: 13 }, Start::Restore { memory: 13 }] {
        let line = line(&host(), start);
        let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        assert_eq!(values(&line, "-sandbox"), [sandbox]);
        for flag in ["-nodefaults", "-no-user-config", "-S"] {
            assert!(line.iter().any(|argument| argument == flag), "{flag}");
        }
    }
}

#[test]
fn the_accelerator_and_architecture_decide_cpu_and_machine() {
    let line_kvm = line(&Host { accelerator: Accelerator::Kvm, ..host() }, Start::BootAnonymous);
    assert_eq!(
        (values(&line_kvm, "-accel"), values(&line_kvm, "-cpu")),
        (vec!["kvm"], vec!["host,-svm,-vmx"])
    );
    assert_eq!(values(&line(&host(), Start::BootAnonymous), "-cpu"), ["max,-svm,-vmx"]);
    // A snapshot from before gets the CPU that it was taken of.
    let before = Host { accelerator: Accelerator::Kvm, hides_virtualization: false, ..host() };
    assert_eq!(values(&line(&before, Start::Restore { memory: 3 }), "-cpu"), ["host"]);
    let arm = Host { architecture: Architecture::Aarch64, machine_type: "virt-10.0".into(), ..host() };
    let line_arm = line(&arm, Start::BootAnonymous);
    assert!(values(&line_arm, "-machine")[0].starts_with("virt-10.0,gic-version=max,"));
    assert!(!values(&line_arm, "-device").contains(&"vmgenid,guid=auto"));
    assert!(values(&line(&host(), Start::BootAnonymous), "-accel")[0].starts_with("tcg,thread=multi"));
}
