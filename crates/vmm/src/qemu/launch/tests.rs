use std::error::Error as _;

use super::*;
use crate::qemu::Architecture;

/// A launcher on a host whose guests run under this accelerator.
fn launcher(accelerator: Accelerator, lacking: &[&str]) -> Launcher {
    let absent = || Err("absent".to_owned());
    let cpu = match accelerator {
        Accelerator::Kvm => "Host CPU",
        Accelerator::Tcg => "max",
    };
    Launcher {
        program: "qemu".into(),
        jail_program: "hearth".into(),
        host: Host {
            architecture: Architecture::HOST,
            accelerator,
            hides_virtualization: true,
            machine_type: "pc-q35-10.0".into(),
            overcommit: true,
            tsc_khz: None,
        },
        platform: platform(accelerator.name(), cpu, &[]),
        lacking: lacking.iter().map(ToString::to_string).collect(),
        reason: "/dev/kvm cannot be opened".into(),
        cgroups: Cgroups { memory: absent(), cpu: absent(), pids: absent() },
        command_timeout: Duration::from_secs(1),
        verified: Verified::default(),
    }
}

fn platform(accelerator: &str, cpu: &str, features: &[&str]) -> Platform {
    Platform {
        vmm: "QEMU 10.0.2".to_owned(),
        machine_type: "pc-q35-9.2".into(),
        accelerator: accelerator.into(),
        cpu: cpu.into(),
        features: features.iter().map(ToString::to_string).collect(),
        ..Platform::for_tests()
    }
}

#[test]
fn a_missing_kvm_is_named_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let error = devices(Accelerator::Kvm, &directory.path().join("kvm")).unwrap_err();
    assert_eq!(error.to_string(), "/dev/kvm cannot be opened, under which guests run here");
    assert!(error.source().unwrap().to_string().contains("No such file"), "{error:?}");
    // Under TCG nobody asks for it.
    assert_eq!(devices(Accelerator::Tcg, &directory.path().join("kvm")).unwrap(), Vec::<PathBuf>::new());
    // One that is there is what the jail shows.
    let there = directory.path().join("there");
    File::create(&there).unwrap();
    assert_eq!(devices(Accelerator::Kvm, &there).unwrap(), [there]);
}

#[test]
fn a_snapshot_fits_by_accelerator_then_cpu_then_features() {
    let (kvm, tcg) = (launcher(Accelerator::Kvm, &["avx2"]), launcher(Accelerator::Tcg, &["avx2"]));
    let of_kvm = platform("kvm", "Host CPU", &["avx"]);
    kvm.check_fits(&of_kvm).unwrap();
    match tcg.check_fits(&of_kvm).unwrap_err() {
        Error::OtherAccelerator { taken, host, reason } => {
            assert_eq!((&*taken, &*host, &*reason), ("kvm", "tcg", "/dev/kvm cannot be opened"));
        }
        other => panic!("{other}"),
    }
    let error = kvm.check_fits(&platform("kvm", "Other CPU", &[])).unwrap_err();
    assert!(matches!(&error, Error::OtherCpu { taken, .. } if taken == "Other CPU"), "{error}");
    let error = kvm.check_fits(&platform("kvm", "Host CPU", &["avx", "avx2"])).unwrap_err();
    assert!(matches!(&error, Error::MissingFeatures { features } if features == "avx2"), "{error}");
    // What TCG emulates is the same on every host, whatever its own CPU lacks.
    let of_tcg = platform("tcg", "max", &["avx"]);
    kvm.check_fits(&of_tcg).unwrap();
    tcg.check_fits(&of_tcg).unwrap();
    kvm.check_fits(&platform("tcg", "max", &["avx2"])).unwrap();
    // One that nobody knows.
    let error = kvm.check_fits(&platform("hvf", "Host CPU", &[])).unwrap_err();
    assert!(matches!(error, Error::OtherAccelerator { .. }), "{error}");
}

#[test]
fn a_clone_runs_under_what_its_snapshot_was_taken_under() {
    let clone = |platform| Launch::Restore {
        memory: tempfile::tempfile().unwrap(),
        clone: CloneOf { base_directory: "/base".into(), platform },
    };
    let kvm = launcher(Accelerator::Kvm, &[]);
    let host = kvm.host_for(&clone(platform("tcg", "max", &[])));
    assert_eq!((host.accelerator, &*host.machine_type), (Accelerator::Tcg, "pc-q35-9.2"));
    assert!(!host.hides_virtualization, "an older version passed it on");
    assert_eq!(kvm.host_for(&Launch::BootAnonymous), kvm.host);
}
