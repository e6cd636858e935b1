//! Drives builds, from the records of a new version to those of a built or failed one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_api::{BuildId, SnapshotBuild};
use hearth_egress::Egresses;
use hearth_guest::GuestFactory;
use hearth_records::{AppRecord, BuildRecord, Building, ImageVersionRecord, NodeId, Records, Size};
use hearth_snapshots::{BuildFiles, ImageDraft, Snapshots, allocated_bytes};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive::ArchiveLimits;
use crate::base_images::BaseImages;
use crate::build_guest::WayOut;
use crate::build_hook::BuildHook;
use crate::build_log::{BuildLog, Phase};
use crate::cancellation::Builds;
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
    /// Whose builds these are.
    pub node: NodeId,
    /// Database.
    pub store: Arc<dyn Records>,
    /// Starts guests.
    pub guests: GuestFactory,
    /// What they may reach.
    pub egresses: Arc<Egresses>,
    /// Where images and builds keep their files.
    pub snapshots: Snapshots,
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
    /// vCPUs of a build microVM, at most the host's CPUs.
    pub build_vcpus: u8,
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

    /// Who owns the builds that are started here.
    pub fn node(&self) -> &NodeId {
        &self.config.node
    }

    /// Builds a version whose records are new, CREATING or UPDATING and PENDING; returns at once.
    pub fn start(self: &Arc<Self>, building: Building) {
        let builder = self.clone();
        self.tasks.spawn(async move {
            let id = building.build.id.clone();
            if let Err(error) = tokio::spawn(builder.drive(building)).await {
                tracing::error!(build = %id, %error, "a build task failed");
            }
        });
    }

    async fn drive(self: Arc<Self>, building: Building) {
        let (arn, id) = (building.image.arn.clone(), building.build.id.clone());
        if let Err(error) = Box::pin(self.build(building)).await {
            tracing::error!(%arn, build = %id, %error, "the rows of a build could not be written");
        }
    }

    async fn build(&self, mut building: Building) -> hearth_records::Result<()> {
        let build = building.build.clone();
        let listed = self.builds.list(&build.arn, &build.id);
        let work = Box::pin(self.pipeline(&mut building, &listed.token));
        let outcome = self.while_owned(&build, work, &listed.token).await;
        let files = self.config.snapshots.build(&build.id);
        let outcome = outcome.map_err(|failure| match failure {
            _ if listed.token.is_cancelled() => self.builds.failure(&build.id),
            failure => if_disk_is_full(files.directory(), failure),
        });
        let is_full = outcome.as_ref().is_err_and(|failure| failure.code == FailureCode::DiskStorageFull);
        if is_full && files.image().disk().exists() {
            // What was written to it is damaged, and its space is needed.
            self.config.snapshots.remove_build_cache(&build.arn, &building.image.id);
        }
        files.remove();
        let origin = self.origin_of_end(listed.cancelled_by(), &outcome);
        self.finish(&building, outcome, &origin).await
    }

    /// All steps; what is known of the sizes is left in the build's record, also when a later step
    /// fails.
    async fn pipeline(
        &self,
        building: &mut Building,
        stopped: &CancellationToken,
    ) -> Result<AppRecord, BuildFailure> {
        let config = &self.config;
        let files = config.snapshots.build(&building.build.id);
        let draft = files.image();
        files.make().map_err(|error| BuildFailure::platform("make the build's directory", &error))?;
        let (row, build) = (&building.version, &building.build);
        let mut log = self.log(row, build, Phase::Build);
        let prepared = tokio::select! {
            prepared = self.prepare(row, build, files.directory(), &mut log) => prepared,
            () = stopped.cancelled() => Err(self.builds.failure(&build.id)),
        };
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return self.end(log, &build.id, Err(failure)).await,
        };
        if !self.slots.is_free_for(&row.arn.account) {
            log.line("Waiting for other builds to end").await;
        }
        match self.place(build, stopped).await {
            Ok(slot) => prepared.slot = Some(slot),
            Err(failure) => return self.end(log, &build.id, Err(failure)).await,
        }
        if let Err(failure) = self.still_has_room(&row.arn.account).await {
            return log.end(Err(failure)).await;
        }
        self.begin(building).await?;
        let Building { image, version: row, build } = building;
        let result = self.container(&image.id, row, build, &files, &mut prepared, &mut log).await;
        let (container, size) = self.end(log, &build.id, result).await?;
        let code_bytes = Some(container.root_bytes);
        build.snapshot =
            Some(SnapshotBuild { code_install_size_in_bytes: code_bytes, ..SnapshotBuild::default() });

        let vcpu_count = host_capped(size.vcpu_count);
        let before = allocated_bytes(&draft.disk());
        let snapshot = ImageSnapshot {
            name: format!("snapshot-{}", build.id),
            arn: &row.arn,
            version: row.version,
            configuration: &row.configuration,
            draft: &draft,
            vcpu_count,
            memory_mib: size.peak_memory_mib,
            listen_timeout_seconds: config.listen_timeout_seconds,
        };
        let way_out = WayOut::of(&config.egresses, &row.configuration);
        let mut log = self.log(row, build, Phase::Snapshot);
        let taken = snapshot.take((&config.guests, way_out), &container.oci_config, &mut log, stopped).await;
        let taken = self.end(log, &build.id, taken).await?;
        let app = AppRecord {
            guest_key: config.guests.artefacts.key.clone(),
            vcpu_count,
            memory_mib: size.peak_memory_mib,
            output_position: taken.output_position,
        };
        let sizes = SnapshotBuild {
            memory_snapshot_size_in_bytes: Some(taken.info.memory_bytes),
            code_install_size_in_bytes: code_bytes,
            disk_snapshot_size_in_bytes: Some(allocated_bytes(&draft.disk()).saturating_sub(before)),
        };
        let report = self.report(row, build, &draft, taken, sizes);
        let (valid, reported) = tokio::join!(self.validate(row, build, &app, &files), report);
        valid?;
        self.publish(draft, row, reported?).await?;
        build.snapshot = Some(sizes);
        Ok(app)
    }

    /// Asks the app's `validate` hook, if the image has one, in a clone of which nothing is kept.
    async fn validate(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        app: &AppRecord,
        files: &BuildFiles,
    ) -> Result<(), BuildFailure> {
        let Some(hook) = BuildHook::validate(&row.configuration) else { return Ok(()) };
        let validation = Validation {
            name: format!("validate-{}", build.id),
            way_out: WayOut::of(&self.config.egresses, &row.configuration),
            hook,
            files,
            vcpu_count: app.vcpu_count,
            memory_mib: app.memory_mib,
            output_position: app.output_position,
        };
        let mut log = self.log(row, build, Phase::Validate);
        let result = validation.run(&self.config.guests, &mut log, &self.builds.token(&build.id)).await;
        self.end(log, &build.id, result).await
    }

    /// Writes how a phase ended; one that was told to end, by what.
    async fn end<T>(
        &self,
        log: BuildLog,
        id: &BuildId,
        result: Result<T, BuildFailure>,
    ) -> Result<T, BuildFailure> {
        let told = self.builds.token(id).is_cancelled();
        log.end(result.map_err(|failure| if told { self.builds.failure(id) } else { failure })).await
    }

    /// Makes the draft the version's snapshot. Waits for the disk.
    async fn publish(
        &self,
        draft: ImageDraft,
        row: &ImageVersionRecord,
        report: Vec<u8>,
    ) -> Result<(), BuildFailure> {
        let (snapshots, arn, version) = (self.config.snapshots.clone(), row.arn.clone(), row.version);
        let publish = move || snapshots.publish(&draft, &arn, version, &report);
        let failed = |error: &dyn std::error::Error| BuildFailure::platform("publish the snapshot", error);
        let published = tokio::task::spawn_blocking(publish).await.map_err(|error| failed(&error))?;
        published.map(drop).map_err(|error| failed(&error))
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
        files: &BuildFiles,
        prepared: &mut Prepared,
        log: &mut BuildLog,
    ) -> Result<(crate::container_build::ContainerImage, Size), BuildFailure> {
        let config = &self.config;
        let size = Size::of(&row.configuration).ok_or_else(|| {
            BuildFailure::new(FailureCode::InternalPlatformError, "The version has no valid size.")
        })?;
        let inputs = BuildInputs {
            context: &files.directory().join("context.tar"),
            disk: &files.image().disk(),
            cache: &config.snapshots.build_cache(&row.arn, image_id),
            disk_bytes: size.disk_bytes,
            prepared,
        };
        let image = self.container_image(row, build, inputs, log).await?;
        log.line("The container image is built; starting the app in a clean microVM.").await;
        Ok((image, size))
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
    let free_bytes = fs4::available_space(directory).unwrap_or(u64::MAX);
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
