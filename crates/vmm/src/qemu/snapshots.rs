//! Taking snapshots of a paused VM.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags};
use tracing::debug;

use super::commands::{Command, Migrate, QueryStatus, XenSaveDevicesState};
use super::vm::{QemuVm, Ram};
use crate::error::{Error, Result};
use crate::process::guest_memory::GuestMemory;
use crate::snapshot::{
    DeviceState, DiskState, LayerFile, LayerSnapshot, MEMORY_FILE, Manifest, PageSink, PageSource,
    SnapshotDisk, file_error, finish_base,
};
use crate::vm::{SnapshotInfo, SnapshotTarget};

/// Largest device state that is read, in bytes. A microVM's takes some hundred KiB.
pub(super) const DEVICE_STATE_MAX: u64 = 64 << 20;

/// Takes a snapshot.
pub(super) async fn create(vm: &QemuVm, target: &SnapshotTarget) -> Result<SnapshotInfo> {
    let status = vm.execute_reply(&QueryStatus {}).await?.status;
    if status == "running" {
        let message = "the VM is not paused".to_owned();
        return Err(Error::Refused { command: "create_snapshot".to_owned(), message });
    }
    match (&vm.ram, target) {
        (Ram::FutureBase { directory }, SnapshotTarget::Base { directory: wanted, disks })
            if directory == wanted =>
        {
            create_base(vm, directory, disks).await
        }
        (Ram::Clone { base, .. }, SnapshotTarget::Layer { directory, previous, disks }) => {
            create_layer(vm, base, LayerSnapshot::begin(directory, previous.as_deref())?, disks).await
        }
        (_, SnapshotTarget::Base { .. }) => {
            Err(Error::Unsupported { operation: "a base snapshot of a VM not booted into that directory" })
        }
        (_, SnapshotTarget::Layer { .. }) => {
            Err(Error::Unsupported { operation: "a layer snapshot of a VM that was not restored" })
        }
    }
}

/// The memory file has the RAM already: what is missing is the state of the devices.
async fn create_base(vm: &QemuVm, directory: &Path, disks: &[SnapshotDisk]) -> Result<SnapshotInfo> {
    let begin = Instant::now();
    let (file, writer) = memory_file(vm)?;
    let mut events = vm.qmp.events();
    vm.enable_migration().await?;
    vm.execute_on_file(&writer, |path| Migrate { uri: format!("file:{path}") }).await?;
    vm.wait_for_migration(Migrate::NAME, &mut events).await?;
    let saved = begin.elapsed();
    vm.sealed.store(true, Ordering::Release);

    let launcher = Arc::clone(&vm.launcher);
    let (directory, disks) = (directory.to_path_buf(), disks.to_vec());
    let device_state = content(vm, &file)?;
    let finish = move || {
        let info = finish_base(&directory, launcher.platform.clone(), &device_state, &disks)?;
        let memory = directory.join(MEMORY_FILE);
        launcher.verified.trust(disks.iter().map(|disk| &*disk.path).chain([&*memory]))?;
        Ok(info)
    };
    let info = blocking(finish).await?;
    debug!(vm = vm.instance.name, ?saved, total = ?begin.elapsed(), ?info, "the base snapshot is taken");
    Ok(info)
}

/// A file in the server's memory for QEMU to write its state to, so that a full disk shows here and
/// not there; and the same opened for writing only.
fn memory_file(vm: &QemuVm) -> Result<(File, File)> {
    let created = rustix::fs::memfd_create("device-state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let file = File::from(created.map_err(|error| state_error(vm, "create", error.into()))?);
    let writer = File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok((file, writer.map_err(|error| state_error(vm, "open", error))?))
}

/// All that QEMU has written.
fn content(vm: &QemuVm, file: &File) -> Result<Vec<u8>> {
    sealed_content(file, DEVICE_STATE_MAX).map_err(|error| state_error(vm, "read", error))
}

/// What is in a file that others may have open: sealed first (`F_ADD_SEALS` of fcntl(2)), so that
/// it has the length that it is found to have.
fn sealed_content(mut file: &File, most: u64) -> std::io::Result<Vec<u8>> {
    rustix::fs::fcntl_add_seals(file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(std::io::Error::other(format!("{length} bytes are more than the {most} that are read")));
    }
    let mut content = Vec::with_capacity(length as usize);
    file.rewind()?;
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

fn state_error(vm: &QemuVm, action: &'static str, source: std::io::Error) -> Error {
    Error::File { action, path: PathBuf::from(format!("the device state of {}", vm.instance.name)), source }
}

/// Device state and changed pages.
async fn create_layer(
    vm: &QemuVm,
    base: &Manifest,
    snapshot: LayerSnapshot,
    disks: &[SnapshotDisk],
) -> Result<SnapshotInfo> {
    let begin = Instant::now();
    // Disks are read while memory is written; neither changes any more.
    let disks = disks.to_vec();
    let disks = blocking(move || disks.iter().map(DiskState::of).collect::<Result<Vec<_>>>());
    let (written, disks) = tokio::join!(write_layer(vm, &snapshot), disks);
    let ((layer, device_state), disks) = (written?, disks?);
    let info = snapshot.commit(base, layer, device_state, disks)?;
    debug!(vm = vm.instance.name, total = ?begin.elapsed(), ?info, "the layer snapshot is taken");
    Ok(info)
}

async fn write_layer(vm: &QemuVm, snapshot: &LayerSnapshot) -> Result<(LayerFile, DeviceState)> {
    let begin = Instant::now();
    let state_name = snapshot.device_state_name();
    let device_state = save_devices(vm).await?;
    let devices = begin.elapsed();
    let (stack, layer_name) = (snapshot.open_layers()?, snapshot.layer_name());
    let (directory, name) = (snapshot.directory().to_path_buf(), vm.instance.name.clone());
    let write = move |memory: GuestMemory| {
        let pages = memory.private_pages().map_err(|error| memory_error(&memory, "scan", error))?;
        let scanned = begin.elapsed();
        let layer = stack.write_layer(&directory, &layer_name, &pages, &memory)?;
        let device_state = DeviceState::write(&directory, &state_name, &device_state)?;
        let private_pages = pages.len();
        debug!(vm = name, ?devices, ?scanned, written = ?begin.elapsed(), private_pages, "the layer is written");
        Ok((layer, device_state))
    };
    vm.with_memory(write).await
}

/// Saves everything but RAM and disks.
async fn save_devices(vm: &QemuVm) -> Result<Vec<u8>> {
    let (file, writer) = memory_file(vm)?;
    // Not `live`: the disks stay open, so that the VM can go on if the snapshot fails.
    // `stop` has flushed them.
    vm.execute_on_file(&writer, |filename| XenSaveDevicesState { filename, live: false }).await?;
    content(vm, &file)
}

impl QemuVm {
    /// Runs `work` on the guest's memory in a thread for blocking work.
    pub(super) async fn with_memory<T: Send + 'static>(
        &self,
        work: impl FnOnce(GuestMemory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Ram::Clone { base, memory } = &self.ram else {
            return Err(Error::Unsupported {
                operation: "access to the memory of a VM that was not restored",
            });
        };
        let pid = self.instance.process.pid();
        let size = base.memory_bytes;
        let memory = memory.try_clone().map_err(|error| file_error("share", &maps_path(pid), error))?;
        blocking(move || {
            let memory = GuestMemory::find(pid, &memory, size)
                .map_err(|error| file_error("read", &maps_path(pid), error))?;
            work(memory)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.expect("invariant: snapshot work does not panic")
}

fn maps_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/maps"))
}

fn memory_error(memory: &GuestMemory, action: &'static str, source: std::io::Error) -> Error {
    Error::File { action, path: PathBuf::from(format!("/proc/{}/mem", memory.pid())), source }
}

impl PageSource for GuestMemory {
    fn read_pages(&self, pages: &[u64], buffer: &mut [u8]) -> Result<()> {
        Self::read_pages(self, pages, buffer).map_err(|error| memory_error(self, "read", error))
    }
}

impl PageSink for GuestMemory {
    fn write_pages(&self, pages: &[u64], buffer: &[u8]) -> Result<()> {
        Self::write_pages(self, pages, buffer).map_err(|error| memory_error(self, "write", error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A file as QEMU gets it, with this in it.
    fn memory_file(content: &[u8]) -> (File, File) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("device-state", flags).unwrap());
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut writer = File::options().write(true).open(path).unwrap();
        writer.write_all(content).unwrap();
        (file, writer)
    }

    #[test]
    fn a_device_state_that_a_vmm_writes_on_is_read_as_it_was() {
        let (file, mut writer) = memory_file(b"state");
        assert_eq!(sealed_content(&file, 5).unwrap(), b"state");
        assert!(writer.write_all(b"x").is_err() && writer.set_len(1 << 40).is_err());
        assert_eq!(file.metadata().unwrap().len(), 5);
    }

    #[test]
    fn a_device_state_without_end_is_not_read() {
        let (file, writer) = memory_file(b"state");
        writer.set_len(1 << 40).unwrap();
        let error = sealed_content(&file, DEVICE_STATE_MAX).unwrap_err().to_string();
        assert_eq!(error, "1099511627776 bytes are more than the 67108864 that are read");
    }
}
