//! The QEMU driver: `q35` (x86-64) or `virt` (ARM) machines under KVM or, without it, TCG.
//!
//! A VM is one QEMU process in a jail. Everything it works on is opened here and inherited as a
//! descriptor; it is driven over QMP through a socket in the VM's run directory, by which a later
//! server process can take over.

mod adopt;
mod command_line;
mod commands;
mod features;
mod instance;
mod largest_file;
mod launch;
mod log;
mod physical;
mod probe;
mod qmp;
mod snapshots;
mod stopped;
mod tsc;
mod vm;

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::process::cgroup::Cgroups;
use crate::snapshot::{self, Manifest, Platform, Verified};
use crate::spec::{DriveImage, VmSpec};
use crate::vm::{Adopted, Adoption, Capabilities, Vm, Vmm};

pub use instance::CONSOLE_FILE;
pub use physical::memory_offset;
pub use probe::AcceleratorChoice;

/// Name of the VMM in [`Platform::vmm`].
const NAME: &str = "QEMU";

/// Environment variable that overrides [`QemuConfig::accelerator`]: `auto`, `kvm` or `tcg`.
pub const ACCELERATOR_VARIABLE: &str = "HEARTH_ACCELERATOR";

/// How guest code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// On the CPU's virtualization extension.
    Kvm,
    /// Translated in software.
    Tcg,
}

impl Accelerator {
    /// QEMU's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's name of the CPU that guests see. TCG's is everything it can emulate: without
    /// ERMS and FSRM large copies are faster, but restores and boots slower
    /// (docs/decisions/0002-guest-transport.md has both figures).
    fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }

    /// The CPU's name with features taken away, as QEMU's command line has it. Guests have no use
    /// for a virtualization extension, and what emulates one or passes it on is the most intricate
    /// code between a guest and its host.
    fn cpu_option(self, hides_virtualization: bool) -> String {
        match Architecture::HOST {
            Architecture::X86_64 if hides_virtualization => format!("{},-svm,-vmx", self.cpu()),
            _ => self.cpu().to_owned(),
        }
    }

    /// The accelerator with QEMU's name for it.
    fn named(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg].into_iter().find(|accelerator| accelerator.name() == name)
    }
}

/// Architecture of the host, and so of its guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// AMD64.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// What this program was built for.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };
}

/// What the operator may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuConfig {
    /// QEMU's system emulator; found in `PATH` by default.
    pub program: Option<PathBuf>,
    /// Accelerator to use; `None` decides by a trial. [`ACCELERATOR_VARIABLE`] comes before this.
    pub accelerator: Option<Accelerator>,
    /// Program that calls [`crate::jail::run_if_requested`] first: this program
    /// itself, except in tests.
    pub jail_program: PathBuf,
    /// How long a QMP command may take, including the start of QEMU.
    pub command_timeout: Duration,
    /// Where it is remembered that KVM works on this host, until the host, its
    /// kernel or QEMU changes.
    pub verdict_file: Option<PathBuf>,
}

impl Default for QemuConfig {
    fn default() -> Self {
        Self {
            program: None,
            accelerator: None,
            jail_program: PathBuf::from("/proc/self/exe"),
            command_timeout: Duration::from_secs(30),
            verdict_file: None,
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct Qemu {
    launcher: Arc<launch::Launcher>,
    accelerator: AcceleratorChoice,
    capabilities: Capabilities,
}

impl Qemu {
    /// Checks QEMU and what this host allows. Takes some 100 ms, and some seconds where
    /// KVM has to be tried.
    pub async fn new(config: QemuConfig) -> Result<Self> {
        let program = probe::find_program(config.program.as_deref())?;
        let version = probe::version(&program).await?;
        let verdict_file = config.verdict_file.as_deref();
        let accelerator =
            probe::choose_accelerator(&program, config.accelerator, &version, verdict_file).await?;
        let machine_type = probe::machine_type(&program).await?;
        let features = features::of_guests(&program, accelerator.accelerator).await;
        let cgroups = Cgroups::probe();
        let description = format!("QEMU {version} ({})", accelerator.accelerator.name());
        let capabilities = Capabilities {
            description,
            snapshots: true,
            adoption: true,
            memory_limit: cgroups.memory.as_ref().map(drop).map_err(Clone::clone),
            cpu_limit: cgroups.cpu.as_ref().map(drop).map_err(Clone::clone),
        };
        let platform = Platform {
            vmm: format!("{NAME} {version}"),
            architecture: Some(ARCH.to_owned()),
            machine_type: machine_type.clone(),
            accelerator: accelerator.accelerator.name().to_owned(),
            cpu: probe::cpu(accelerator.accelerator),
            hides_virtualization: true,
            features: features.present,
        };
        let host = command_line::Host {
            architecture: Architecture::HOST,
            accelerator: accelerator.accelerator,
            machine_type,
            hides_virtualization: true,
            overcommit: probe::overcommit_allowed(),
            tsc_khz: match accelerator.accelerator {
                Accelerator::Tcg => tsc::khz().await,
                Accelerator::Kvm => None,
            },
        };
        let launcher = launch::Launcher {
            program,
            jail_program: config.jail_program,
            host,
            platform,
            lacking: features.absent,
            reason: accelerator.reason.clone(),
            cgroups,
            command_timeout: config.command_timeout,
            verified: Verified::default(),
        };
        Ok(Self { launcher: Arc::new(launcher), accelerator, capabilities })
    }

    /// Checks the files that QEMU works on by itself, while it starts: the base's memory and disks,
    /// and what the VM has changed on them.
    fn check(
        &self,
        spec: &VmSpec,
        snapshot: &vm::Snapshot,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let drives: Vec<(String, DriveImage)> =
            spec.drives.iter().map(|drive| (drive.drive_id.clone(), drive.image.clone())).collect();
        let (directory, base) = (snapshot.base_directory.clone(), snapshot.base.clone());
        let own = snapshot.layers.as_ref().map_or(Vec::new(), |(_, manifest)| manifest.disks.clone());
        let launcher = Arc::clone(&self.launcher);
        let check = tokio::task::spawn_blocking(move || {
            let image = |id: &str| drives.iter().find(|(drive_id, _)| drive_id == id).map(|(_, image)| image);
            launcher.verified.check_base(&directory, &base, |id| Some(image(id)?.base()?.to_owned()))?;
            for disk in &own {
                if let Some(DriveImage::Overlay { overlay, .. }) = image(&disk.drive_id) {
                    disk.check(overlay)?;
                }
            }
            Ok(())
        });
        async { check.await.expect("invariant: checks do not panic") }
    }

    /// The accelerator in use, and why it is.
    pub fn accelerator(&self) -> &AcceleratorChoice {
        &self.accelerator
    }
}

#[async_trait]
impl Vmm for Qemu {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn boot(&self, spec: VmSpec, snapshot_directory: Option<&Path>) -> Result<Arc<dyn Vm>> {
        let vm = match snapshot_directory {
            None => vm::boot(&self.launcher, spec, vm::Ram::Anonymous).await,
            Some(directory) => {
                vm::boot(&self.launcher, spec, vm::Ram::FutureBase { directory: directory.to_path_buf() })
                    .await
            }
        }?;
        Ok(vm)
    }

    async fn restore(
        &self,
        spec: VmSpec,
        base_directory: &Path,
        layers_directory: Option<&Path>,
    ) -> Result<Arc<dyn Vm>> {
        let base = Manifest::read_existing(base_directory)?;
        self.launcher.check_fits(&base.platform)?;
        let read = |directory: &Path| Ok((directory.to_path_buf(), Manifest::read_existing(directory)?));
        let layers = layers_directory.map(read).transpose()?;
        let own = layers.as_ref().map(|(directory, manifest)| (directory.as_path(), manifest));
        for (directory, manifest) in [Some((base_directory, &base)), own].into_iter().flatten() {
            let expected = u64::from(spec.memory_mib) * 1024 * 1024;
            if manifest.memory_bytes != expected || manifest.base_digest() != base.base_digest() {
                let path = directory.join(snapshot::MANIFEST_FILE);
                let detail = "it belongs to a VM with other memory".to_owned();
                return Err(Error::Damaged { path, detail });
            }
        }
        let snapshot = vm::Snapshot { base_directory: base_directory.to_path_buf(), base, layers };
        let check = self.check(&spec, &snapshot);
        let (restored, checked) = tokio::join!(vm::restore(&self.launcher, spec, snapshot), check);
        match (restored, checked) {
            (Ok(vm), Ok(())) => Ok(vm),
            (Ok(vm), Err(error)) => {
                // Why it cannot be used is what there is to tell.
                let _ = vm.kill().await;
                Err(error)
            }
            (Err(error), Ok(())) | (Err(_), Err(error)) => Err(error),
        }
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Option<Adopted>> {
        adopt::adopt(&self.launcher, adoption).await
    }
}
