//! Files of a snapshot that are not what they were.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hearth_vmm::snapshot::create_overlay;
use hearth_vmm::{DriveImage, Error, VmSpec, Vmm as _};

use crate::guest::ask;
use crate::qemu::Host;

#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBit,
    Truncated,
    Missing,
}

/// Restoring something that is not what it was fails with a sentence that names the file, and works
/// again when the file is as it was.
pub(crate) async fn is_found(host: &Host, base: &Path) {
    let vm = host.launch("damaged", base).await;
    host.suspend("damaged", &*vm).await;
    let own =
        ["snapshot/memory.0001.layer", "snapshot/device-state.0001", "snapshot/manifest.json", "overlay"];
    let own = own.map(|file| host.path("damaged").join(file));
    let shared = ["memory", "device-state", "manifest.json"].map(|file| base.join(file));
    let disk = host.path("disk");
    create_overlay(&disk, &host.make_dir("fresh").join("overlay")).unwrap();
    for path in own.iter().chain(&shared).chain([&disk]) {
        for damage in [Damage::FlippedBit, Damage::Truncated, Damage::Missing] {
            // A microVM with a snapshot of its own has its own device state too.
            let name = if own.contains(path) { "damaged" } else { "fresh" };
            assert_found(host, (name, base), path, damage).await;
        }
    }
    let vm = host.launch("damaged", base).await;
    assert_eq!(ask(&*vm, "count").await.unwrap(), "2");
    vm.kill().await.unwrap();

    let image = DriveImage::Overlay { base: disk, overlay: own[3].clone() };
    let spec = VmSpec { memory_mib: 256, ..host.spec("smaller", image) };
    let error = host.qemu.restore(spec, base, None).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

async fn assert_found(host: &Host, (name, base): (&str, &Path), path: &Path, damage: Damage) {
    let kept = PathBuf::from(format!("{}.kept", path.display()));
    fs::copy(path, &kept).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let length = fs::metadata(path).unwrap().len();
    match damage {
        Damage::FlippedBit => {
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let (mut byte, at) = ([0], length / 2);
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
        Damage::Truncated => {
            OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        }
        Damage::Missing => fs::remove_file(path).unwrap(),
    }
    // Not by `host.restore`, which would make an overlay that is missing.
    let image = DriveImage::Overlay { base: host.path("disk"), overlay: host.path(name).join("overlay") };
    let restored = host.qemu.restore(host.spec(name, image), base, host.snapshot_of(name).as_deref()).await;
    let error = restored.expect_err(&format!("{damage:?} {}", path.display()));
    assert!(
        matches!(&error, Error::Damaged { path: named, .. } if named == path),
        "{damage:?} {}: {error}",
        path.display()
    );
    fs::rename(&kept, path).unwrap();
}
