//! Drives builds: the only writer of image, version and build rows after their creation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_api::{
    BuildId, BuildState, ImageArn, ImageState, ImageVersion, ImageVersionState, SizeClass, SnapshotBuild,
    Timestamp,
};
use hearth_guest::GuestFactory;
use hearth_records::Records;
use hearth_records::{AppRecord, BuildRecord, ImageRecord, ImageVersionRecord};
use hearth_snapshots::Files;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive::ArchiveLimits;
use crate::base_images::BaseImages;
use crate::build_guest::stopped_failure;
use crate::build_hook::BuildHook;
use crate::build_log::{BuildLog, Phase};
use crate::cancellation::Builds;
use crate::deletion::remove_cache;
use crate::failure::{BuildFailure, FailureCode};
use crate::image_snapshot::ImageSnapshot;
use crate::preparation::Prepared;
use crate::readers::Readers;
use crate::rounds::BuildInputs;
use crate::slots::FairSlots;
use crate::source::ArtifactSource;
use crate::validation::Validation;

/// What an image builder needs.
#[derive(Debug)]
pub struct ImageBuilderConfig {
    /// Database.
    pub store: Arc<dyn Records>,
    /// Starts guests.
    pub guests: GuestFactory,
    /// File layout.
    pub files: Files,
    /// Base images.
    pub base_images: BaseImages,
    /// Code artifacts.
    pub artifacts: Arc<dyn ArtifactSource>,
    /// Read what tenants bring.
    pub readers: Readers,
    /// What a zip may be.
    pub archive_limits: ArchiveLimits,
    /// PEM file that RUN lines trust, besides the image's own certificates.
    pub ca_bundle: Option<PathBuf>,
    /// Bytes of the disk that an account's images and their layer caches may take when a build
    /// begins; 0 is no limit.
    pub account_bytes: u64,
    /// Bytes of the disk that are free when a build begins.
    pub free_bytes: u64,
    /// Builds at the same time.
    pub concurrent_builds: usize,
    /// Builds at the same time for one account.
    pub concurrent_builds_per_account: usize,
    /// Memory of a build microVM in MiB.
    pub build_memory_mib: u32,
    /// Seconds until a Dockerfile's build is stopped.
    pub build_timeout_seconds: u64,
    /// Seconds to wait for a listening port when the image has no ready hook; the
    /// snapshot is taken then.
    pub listen_timeout_seconds: u64,
    /// Whether a snapshot with secrets in it fails its build.
    pub refuse_findings: bool,
    /// Whether an image of this host's architecture is taken where FROM asks for another one.
    pub any_architecture: bool,
}

/// Builds images.
#[derive(Debug)]
pub struct ImageBuilder {
    pub(crate) config: ImageBuilderConfig,
    /// For what keeps the host busy: build and snapshot microVMs.
    pub(crate) slots: FairSlots,
    /// For what comes before: fetching and checking the zip.
    pub(crate) preparations: FairSlots,
    /// For looking at what an account's images take.
    pub(crate) looks: FairSlots,
    pub(crate) builds: Builds,
    pub(crate) stopped: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl ImageBuilder {
    /// With these settings.
    pub fn new(config: ImageBuilderConfig) -> Arc<Self> {
        let stopped = CancellationToken::new();
        Arc::new(Self {
            slots: FairSlots::new(config.concurrent_builds, config.concurrent_builds_per_account),
            preparations: crate::preparation::places(),
            looks: crate::room::looks(),
            builds: Builds::new(stopped.clone()),
            stopped,
            tasks: TaskTracker::new(),
            config,
        })
    }

    /// Builds a version whose rows have been recorded as CREATING and PENDING; returns at once.
    pub fn start(self: &Arc<Self>, arn: ImageArn, version: ImageVersion, build: BuildId) {
        let builder = self.clone();
        self.tasks.spawn(async move {
            let run = builder.drive(arn.clone(), version, build.clone());
            if let Err(error) = tokio::spawn(run).await {
                tracing::error!(%arn, %build, %error, "a build task failed");
            }
        });
    }

    async fn drive(self: Arc<Self>, arn: ImageArn, version: ImageVersion, build: BuildId) {
        if let Err(error) = Box::pin(self.build(&arn, version, &build)).await {
            tracing::error!(%arn, %build, %error, "the rows of a build could not be written");
        }
    }

    async fn build(&self, arn: &ImageArn, version: ImageVersion, id: &BuildId) -> hearth_records::Result<()> {
        let store = &self.config.store;
        let (Some(mut image), Some(mut row), Some(mut build)) = (
            store.image(arn).await?,
            store.image_version(arn, version).await?,
            store.build(arn, version, id).await?,
        ) else {
            return Ok(());
        };
        let listed = self.builds.list(arn, id);
        let outcome = self.pipeline(&image.id, &mut row, &mut build, &listed.token).await;
        let scratch = self.config.files.build(id);
        let outcome = outcome.map_err(|failure| match failure {
            _ if listed.token.is_cancelled() => self.builds.failure(),
            failure => if_disk_is_full(&scratch, failure),
        });
        remove(&scratch);
        self.finish(&mut image, &mut row, &mut build, outcome).await
    }

    async fn finish(
        &self,
        image: &mut ImageRecord,
        row: &mut ImageVersionRecord,
        build: &mut BuildRecord,
        outcome: Result<AppRecord, BuildFailure>,
    ) -> hearth_records::Result<()> {
        let now = Timestamp::now();
        let first = image.state == ImageState::Creating;
        match outcome {
            Ok(app) => {
                build.state = BuildState::Successful;
                row.state = ImageVersionState::Successful;
                row.app = Some(app);
                image.state = if first { ImageState::Created } else { ImageState::Updated };
                image.latest_active_version = Some(row.version);
            }
            Err(failure) => {
                if failure.code == FailureCode::Deleted {
                    tracing::info!(arn = %row.arn, version = %row.version, "a build ended: its image was deleted");
                } else {
                    tracing::warn!(arn = %row.arn, version = %row.version, %failure, "a build failed");
                }
                let files = self.config.files.image(&row.arn, row.version);
                let began = files.disk.exists();
                remove(&files.directory);
                if failure.code == FailureCode::DiskStorageFull && began {
                    // What was written to it is damaged, and its space is needed.
                    remove_cache(&self.config.files.build_cache(&row.arn, &image.id));
                }
                build.state = BuildState::Failed;
                build.state_reason = Some(failure.to_string());
                row.state = ImageVersionState::Failed;
                image.state = if first { ImageState::CreateFailed } else { ImageState::UpdateFailed };
                image.latest_failed_version = Some(row.version);
            }
        }
        row.updated_at = now;
        image.updated_at = now;
        self.config.store.finish_build(image, row, build).await
    }

    /// All steps; what is known of the sizes is left in `build`, also when a later step fails.
    async fn pipeline(
        &self,
        image_id: &str,
        row: &mut ImageVersionRecord,
        build: &mut BuildRecord,
        stopped: &CancellationToken,
    ) -> Result<AppRecord, BuildFailure> {
        let config = &self.config;
        let scratch = config.files.build(&build.id);
        std::fs::create_dir_all(&scratch)
            .map_err(|error| BuildFailure::platform("make the build's directory", &error))?;
        let mut log = self.log(row, build, Phase::Build);
        let prepared = tokio::select! {
            prepared = self.prepare(row, build, &scratch, &mut log) => prepared,
            () = stopped.cancelled() => Err(self.builds.failure()),
        };
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return log.end(Err(failure)).await,
        };
        if !self.slots.is_free_for(&row.arn.account) {
            log.line("Waiting for other builds to end").await;
        }
        match self.place(&row.arn.account, stopped).await {
            Ok(slot) => prepared.slot = Some(slot),
            Err(failure) => return log.end(Err(failure)).await,
        }
        if let Err(failure) = self.still_has_room(&row.arn.account).await {
            return log.end(Err(failure)).await;
        }
        build.state = BuildState::InProgress;
        row.state = ImageVersionState::InProgress;
        let begun = config.store.begin_build(row, build).await;
        begun.map_err(|error| BuildFailure::platform("record the begin of the build", &error))?;
        let row = &*row;
        let result = self.container(image_id, row, build, &scratch, &mut prepared, &mut log).await;
        let (container, class) = log.end(result).await?;
        let code_bytes = Some(container.root_bytes);
        build.snapshot =
            Some(SnapshotBuild { code_install_size_in_bytes: code_bytes, ..SnapshotBuild::default() });

        let files = config.files.image(&row.arn, row.version);
        let vcpu_count = host_capped(class.vcpu_count);
        let before = allocated_bytes(&files.disk);
        let snapshot = ImageSnapshot {
            name: format!("snapshot-{}", build.id),
            arn: &row.arn,
            version: row.version,
            configuration: &row.configuration,
            disk: &files.disk,
            directory: &files.snapshot,
            vcpu_count,
            memory_mib: class.peak_memory_mib,
            listen_timeout_seconds: config.listen_timeout_seconds,
        };
        let mut log = self.log(row, build, Phase::Snapshot);
        let taken = snapshot.take(&config.guests, &container.oci_config, &mut log, stopped).await;
        let taken = log.end(taken).await?;
        let app = AppRecord {
            guest_key: config.guests.artefacts.key.clone(),
            vcpu_count,
            memory_mib: class.peak_memory_mib,
            output_position: taken.output_position,
        };
        let sizes = SnapshotBuild {
            memory_snapshot_size_in_bytes: Some(taken.info.memory_bytes),
            code_install_size_in_bytes: code_bytes,
            disk_snapshot_size_in_bytes: Some(allocated_bytes(&files.disk).saturating_sub(before)),
        };
        let report = self.report(row, build, taken, sizes);
        let (valid, reported) = tokio::join!(self.validate(row, build, &app, &scratch), report);
        valid.and(reported)?;
        build.snapshot = Some(sizes);
        Ok(app)
    }

    /// Asks the app's `validate` hook, if the image has one, in a clone of which nothing is kept.
    async fn validate(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        app: &AppRecord,
        scratch: &Path,
    ) -> Result<(), BuildFailure> {
        let Some(hook) = BuildHook::validate(&row.configuration) else { return Ok(()) };
        let files = self.config.files.image(&row.arn, row.version);
        let validation = Validation {
            name: format!("validate-{}", build.id),
            configuration: &row.configuration,
            hook,
            disk: &files.disk,
            snapshot: &files.snapshot,
            scratch,
            vcpu_count: app.vcpu_count,
            memory_mib: app.memory_mib,
            output_position: app.output_position,
        };
        let mut log = self.log(row, build, Phase::Validate);
        let result = validation.run(&self.config.guests, &mut log, &self.builds.token(&build.id)).await;
        log.end(result).await
    }

    pub(crate) fn log(&self, row: &ImageVersionRecord, build: &BuildRecord, phase: Phase) -> BuildLog {
        let subject = (&row.arn, row.version, &build.id);
        BuildLog::new(self.config.store.clone(), Some(&row.configuration), subject, phase)
    }

    async fn container(
        &self,
        image_id: &str,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        scratch: &Path,
        prepared: &mut Prepared,
        log: &mut BuildLog,
    ) -> Result<(crate::container_build::ContainerImage, SizeClass), BuildFailure> {
        let config = &self.config;
        let class = SizeClass::for_baseline(row.configuration.minimum_memory_mib()).ok_or_else(|| {
            BuildFailure::new(FailureCode::InternalPlatformError, "The version has no valid size class.")
        })?;
        let inputs = BuildInputs {
            context: &scratch.join("context.tar"),
            cache: &config.files.build_cache(&row.arn, image_id),
            disk_bytes: class.disk_bytes,
            prepared,
        };
        let image = self.container_image(row, build, inputs, log).await?;
        log.line("The container image is built; starting the app in a clean microVM.").await;
        Ok((image, class))
    }

    /// Ends builds that a former process left unfinished and removes their files.
    pub async fn recover(&self) -> hearth_records::Result<()> {
        self.config.base_images.sweep();
        let store = &self.config.store;
        for mut build in store.unfinished_builds().await? {
            let image = store.image(&build.arn).await?;
            let row = store.image_version(&build.arn, build.version).await?;
            if let (Some(mut image), Some(mut row)) = (image, row) {
                self.finish(&mut image, &mut row, &mut build, Err(stopped_failure())).await?;
            }
        }
        remove(&self.config.files.builds());
        for (arn, version) in store.unfinished_deletions().await? {
            self.remove_version(&arn, version).await?;
        }
        for image in store.all_images().await? {
            if image.state == ImageState::Deleting {
                self.remove_image(&image.arn).await?;
            }
        }
        Ok(())
    }

    /// Stops all builds (they end as FAILED) and waits until nothing of them is left running.
    pub async fn shutdown(&self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Free bytes below which a failed build is put down to the full disk.
const FULL_BYTES: u64 = 64 << 20;

/// A full disk shows in a guest as I/O errors, and kills a VMM whose memory file cannot grow:
/// whatever broke first, the disk is what the user has to know of.
fn if_disk_is_full(directory: &Path, failure: BuildFailure) -> BuildFailure {
    let free_bytes = hearth_snapshots::free_bytes(directory).unwrap_or(u64::MAX);
    if free_bytes >= FULL_BYTES || failure.code == FailureCode::DiskStorageFull {
        return failure;
    }
    BuildFailure::new(
        FailureCode::DiskStorageFull,
        format!("The disk of the service is full ({} MiB are left). {}", free_bytes >> 20, failure.message),
    )
}

/// A guest never has more vCPUs than the host has CPUs.
pub(crate) fn host_capped(vcpus: u8) -> u8 {
    let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vcpus.min(u8::try_from(host).unwrap_or(u8::MAX)).max(1)
}

/// Bytes that a sparse file occupies (stat(2): blocks of 512 bytes).
fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

pub(crate) fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(directory = %directory.display(), %error, "a directory could not be removed");
    }
}
