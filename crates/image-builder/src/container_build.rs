//! Runs a Dockerfile in a fresh build microVM.

use std::path::{Path, PathBuf};

use hearth_guest::guest::Error as GuestError;
use hearth_guest::{Egress, Guest, GuestFactory, GuestPlan};
use hearth_guest_protocol::client::{ClientError, Replies};
use hearth_guest_protocol::{BuildSpec, Reply, Request};
use hearth_vmm::{Drive, DriveImage};

use crate::build_guest::{WayOut, not_up, plan, until_stopped};
use crate::build_log::BuildLog;
use crate::build_output::BuildOutput;
use crate::failure::BuildFailure;

/// Size of an image's layer cache (sparse), in bytes.
const CACHE_BYTES: u64 = 32 << 30;

/// What a build works on.
#[derive(Debug)]
pub(crate) struct ContainerBuild<'a> {
    pub(crate) name: String,
    /// Tar of the build context.
    pub(crate) context: &'a Path,
    /// Layer cache; made when missing.
    pub(crate) cache: &'a Path,
    /// The new root disk; made here.
    pub(crate) disk: &'a Path,
    /// Bytes of the new root disk.
    pub(crate) disk_bytes: u64,
    /// Base image stores.
    pub(crate) stores: Vec<PathBuf>,
    /// PEM text, or nothing.
    pub(crate) ca_bundle: &'a str,
    /// The Dockerfile, if the builder needs other words than those in the context.
    pub(crate) dockerfile: Option<&'a str>,
    pub(crate) vcpu_count: u8,
    pub(crate) memory_mib: u32,
    /// What the Dockerfile may reach.
    pub(crate) way_out: WayOut<'a>,
    pub(crate) timeout_seconds: u64,
}

/// How a build ended.
#[derive(Debug)]
pub(crate) enum BuildEnd {
    Built(ContainerImage),
    /// The builder needs this image, which it was not given.
    Missing(String),
}

/// What a build leaves besides the disk.
#[derive(Debug)]
pub(crate) struct ContainerImage {
    /// OCI image configuration.
    pub(crate) oci_config: String,
    /// Bytes used on the disk.
    pub(crate) root_bytes: u64,
}

impl ContainerBuild<'_> {
    /// Runs the build; its output goes to `log` while it happens.
    pub(crate) async fn run(
        self,
        guests: &GuestFactory,
        log: &mut BuildLog,
        stopped: &tokio_util::sync::CancellationToken,
    ) -> Result<BuildEnd, BuildFailure> {
        let platform = |error: std::io::Error| BuildFailure::platform("prepare the build's disks", &error);
        make_disk(self.disk, self.disk_bytes).await?;
        if !self.cache.exists() {
            if let Some(parent) = self.cache.parent() {
                std::fs::create_dir_all(parent).map_err(platform)?;
            }
            sparse_file(self.cache, CACHE_BYTES).map_err(platform)?;
        }
        let egress = self.way_out.resolve(&self.name).await?;
        let guest = guests
            .boot_until_up(|| self.plan(guests, egress.clone()), None, stopped.cancelled())
            .await
            .map_err(|error| not_up("boot the build microVM", &error))?;
        let kept = self.way_out.keep(&self.name, &guest).await;
        let result =
            until_stopped("run the build microVM", &guest, self.build_in(&guest, log), stopped).await;
        for refusal in kept.refusals() {
            log.line(&refusal).await;
        }
        guest.destroy().await;
        result
    }

    fn plan(&self, guests: &GuestFactory, egress: Egress) -> GuestPlan {
        let drive = |id: &str, image| Drive { drive_id: id.to_owned(), image };
        let mut drives = vec![
            drive("builder", DriveImage::RawReadOnly(guests.artefacts.builder_disk.clone())),
            drive("context", DriveImage::RawReadOnly(self.context.to_owned())),
            drive("cache", DriveImage::Raw(self.cache.to_owned())),
            drive("out", DriveImage::Raw(self.disk.to_owned())),
        ];
        for (number, store) in self.stores.iter().enumerate() {
            drives.push(drive(&store_id(number), DriveImage::RawReadOnly(store.clone())));
        }
        GuestPlan { drives, ..plan(&self.name, (self.vcpu_count, self.memory_mib), None, egress) }
    }

    async fn build_in(&self, guest: &Guest, log: &mut BuildLog) -> Result<BuildEnd, BuildFailure> {
        let broke =
            |error: &dyn std::error::Error| BuildFailure::platform("talk to the build microVM", error);
        let build = BuildSpec {
            builder_disk: "builder".into(),
            context_disk: "context".into(),
            cache_disk: "cache".into(),
            out_disk: "out".into(),
            store_disks: (0..self.stores.len()).map(store_id).collect(),
            ca_bundle: self.ca_bundle.to_owned(),
            dockerfile: self.dockerfile.unwrap_or_default().to_owned(),
            timeout_seconds: self.timeout_seconds,
        };
        let stream = guest.vm().connect_guest().await.map_err(|error| broke(&error))?;
        let mut replies =
            Replies::request(stream, &Request::Build { build }).await.map_err(|error| broke(&error))?;
        let mut output = BuildOutput::default();
        loop {
            let reply = match replies.next().await {
                Ok(Some(reply)) => reply,
                Ok(None) => break,
                Err(ClientError::Agent(message)) => {
                    log.write(&output.rest()).await;
                    log.line(&message).await;
                    return Err(BuildFailure::container(sentence(&message)));
                }
                Err(error) => return Err(broke(&error)),
            };
            match reply {
                Reply::Output { data, .. } => log.write(&output.push(&data)).await,
                Reply::Built { code, oci_config, root_bytes } => {
                    log.write(&output.rest()).await;
                    if code == 0 {
                        return Ok(BuildEnd::Built(ContainerImage { oci_config, root_bytes }));
                    }
                    log.line(&format!("The build ended with status {code}.")).await;
                    return match output.missing_image() {
                        Some(image) => Ok(BuildEnd::Missing(image)),
                        None => Err(BuildFailure::container(output.reason())),
                    };
                }
                _ => {}
            }
        }
        Err(broke(&GuestError::Refused("the build microVM ended before the build did".into())))
    }
}

fn store_id(number: usize) -> String {
    format!("store{number}")
}

fn sentence(message: &str) -> String {
    format!("The container image build failed: {}.", message.trim_end_matches('.'))
}

fn sparse_file(path: &Path, bytes: u64) -> std::io::Result<()> {
    std::fs::File::create(path)?.set_len(bytes)
}

/// Makes an empty ext4 disk of a guest's root file system (mke2fs(8): nothing is
/// zeroed that need not be).
async fn make_disk(path: &Path, bytes: u64) -> Result<(), BuildFailure> {
    let failed = |error: std::io::Error| BuildFailure::platform("make the image's disk", &error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    sparse_file(path, bytes).map_err(failed)?;
    let output = tokio::process::Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "root"])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"])
        .arg(path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
}
