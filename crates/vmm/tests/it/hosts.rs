//! Snapshots that were taken on other hosts than this one: what cannot run here is refused with a
//! sentence that says why, before anything of it is touched.

use std::fs;
use std::path::Path;

use hearth_vmm::Error;
use hearth_vmm::snapshot::{Manifest, Platform, sparse_digest};

use crate::guest::ask;
use crate::qemu::Host;

/// Rewrites a manifest as if the snapshot had been taken on another host.
pub(crate) fn pretend(directory: &Path, change: impl FnOnce(&mut Platform)) {
    let mut manifest = Manifest::read(directory).unwrap().unwrap();
    change(&mut manifest.platform);
    let checksum = blake3::hash(&serde_json::to_vec(&manifest).unwrap()).to_hex().to_string();
    let mut sealed = serde_json::to_value(&manifest).unwrap();
    sealed["blake3"] = checksum.into();
    fs::write(directory.join("manifest.json"), sealed.to_string()).unwrap();
}

/// Of the snapshot and of the disk of a microVM.
pub(crate) fn digests(directory: &Path) -> Vec<(String, String)> {
    let parts = fs::read_dir(directory.join("snapshot")).unwrap().map(|entry| entry.unwrap().path());
    let paths = parts.chain([directory.join("overlay")]);
    let mut digests: Vec<_> =
        paths.map(|path| (path.display().to_string(), sparse_digest(&path).unwrap())).collect();
    digests.sort();
    digests
}

pub(crate) async fn are_told_apart(host: &Host, base: &Path) {
    let vm = host.launch("elsewhere", base).await;
    host.suspend("elsewhere", &*vm).await;
    let before = digests(&host.path("elsewhere"));
    let manifest = fs::read(base.join("manifest.json")).unwrap();
    let taken = Manifest::read(base).unwrap().unwrap().platform;
    assert!(taken.features.len() > 20 && taken.hides_virtualization, "{taken:?}");
    let own = Manifest::read(&host.path("elsewhere").join("snapshot")).unwrap().unwrap().platform;
    assert_eq!(own, taken, "a layer has been taken where its base was");

    pretend(base, |platform| "another".clone_into(&mut platform.accelerator));
    let error = host.restore("elsewhere", base).await.unwrap_err();
    assert!(matches!(error, Error::OtherAccelerator { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&host.qemu.accelerator().reason) && text.contains("HEARTH_ACCELERATOR"), "{text}");

    fs::write(base.join("manifest.json"), &manifest).unwrap();
    // No guest has it here.
    pretend(base, |platform| platform.features.push("svm".to_owned()));
    let error = host.restore("elsewhere", base).await.unwrap_err();
    assert!(
        matches!(&error, Error::MissingFeatures { features } if features == "svm")
            || cfg!(not(target_arch = "x86_64")),
        "{error}"
    );

    fs::write(base.join("manifest.json"), &manifest).unwrap();
    pretend(base, |platform| "Another CPU".clone_into(&mut platform.cpu));
    let error = host.restore("elsewhere", base).await.unwrap_err();
    assert!(error.to_string().contains("Another CPU"), "{error}");

    fs::write(base.join("manifest.json"), &manifest).unwrap();
    assert_eq!(digests(&host.path("elsewhere")), before, "nothing was touched");
    let vm = host.launch("elsewhere", base).await;
    assert_eq!(ask(&*vm, "count").await.unwrap(), "2");
    vm.kill().await.unwrap();
}
