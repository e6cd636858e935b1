//! A disk without room.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_vmm::Error;

use crate::guest::ask;
use crate::qemu::Host;

/// Mounts a small file system on a microVM's directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: &Path, options: &std::ffi::CStr) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", directory, "tmpfs", flags, Some(options)).unwrap();
        Self(directory.to_path_buf())
    }

    fn grow(&self, options: &std::ffi::CStr) {
        rustix::mount::mount_remount(&self.0, rustix::mount::MountFlags::empty(), options).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

pub(crate) async fn stops_nothing(host: &Host, base: &Path) {
    let directory = host.make_dir("full");
    let disk = SmallDisk::mount(&directory, c"size=8m");
    let vm = host.launch("full", base).await;
    assert_eq!(ask(&*vm, "fill 32 3").await.unwrap(), "filled");
    let sum = ask(&*vm, "sum").await.unwrap();
    let target = host.target("full");
    vm.pause().await.unwrap();
    let error = vm.create_snapshot(&target).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    vm.resume().await.unwrap();
    assert_eq!(ask(&*vm, "sum").await.unwrap(), sum, "it runs on");
    fs::remove_dir_all(target.directory()).unwrap();

    disk.grow(c"size=64m");
    host.suspend("full", &*vm).await;
    let vm = host.launch("full", base).await;
    assert_eq!(ask(&*vm, "sum").await.unwrap(), sum);
    vm.kill().await.unwrap();
}
