//! The readers of what tenants bring, each in a confined process of its own: the code artifact, and
//! the snapshot's disk and memory. Their death is a failed build.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use hearth_confined::{Confinement, Error, Job, Limits, Task, Work};
use hearth_guest_protocol::Inspection;
use hearth_image_report::{Report, Sources, inspect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::archive::{self, ArchiveLimits, Context};
use crate::failure::{BuildFailure, FailureCode};

/// What the program has to offer to [`hearth_confined::run_if_requested`].
pub const CONFINED_WORKS: [Work; 2] =
    [Work { name: ARCHIVE, run: read_archive }, Work { name: REPORT, run: read_snapshot }];

const ARCHIVE: &str = "archive";
const REPORT: &str = "report";
/// Memory of a reader: some times the largest directory of a zip, or the longest lists of a disk.
const MEMORY_BYTES: u64 = 512 << 20;
/// Time for a zip of the largest allowed size on a slow disk.
const ARCHIVE_TIME: Duration = Duration::from_mins(15);
const ARCHIVE_CPU_SECONDS: u64 = 600;
/// Bytes of a tar beside the content of an entry: its header, a long name and a long
/// link, and padding.
const TAR_ENTRY_BYTES: u64 = 12 << 10;
/// A Dockerfile, with every byte of it escaped.
const CONTEXT_BYTES: usize = 8 << 20;
/// How long files and memory may be searched. Some 300 MiB of files take a second.
const SEARCH_TIME: Duration = Duration::from_secs(20);
/// How long a search may take that does not look at its clock: a damaged disk can
/// lead it in circles.
const SEARCH_LIMIT: Duration = Duration::from_mins(1);
/// A report with the most findings, processes and sockets.
const REPORT_BYTES: usize = 32 << 20;

/// Starts readers.
#[derive(Debug, Clone)]
pub struct Readers {
    confinement: Confinement,
}

/// What the reader of a snapshot is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotQuestion {
    /// What the guest said of itself right before the snapshot.
    pub inspection: Inspection,
    /// The app's environment.
    pub environment: BTreeMap<String, String>,
}

impl Readers {
    /// By way of these processes.
    pub fn new(confinement: Confinement) -> Self {
        Self { confinement }
    }

    /// Checks the zip and rewrites it as a tar.
    pub async fn to_tar(
        &self,
        zip: &Path,
        tar: &Path,
        limits: &ArchiveLimits,
    ) -> Result<Context, BuildFailure> {
        let open = |error| BuildFailure::platform("open the code artifact", &error);
        let files = vec![File::open(zip).map_err(open)?, File::create(tar).map_err(open)?];
        let entries = (limits.entries as u64).saturating_mul(TAR_ENTRY_BYTES);
        let limits_of_child = Limits {
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: ARCHIVE_CPU_SECONDS,
            time: ARCHIVE_TIME,
            written_bytes: limits.total_bytes.saturating_add(entries).saturating_add(1 << 20),
            answer_bytes: CONTEXT_BYTES,
        };
        let answer = self.ask(ARCHIVE, limits, files, limits_of_child).await;
        answer
            .map_err(|error| died(FailureCode::ArchiveInvalid, "The zip archive could not be read", error))?
    }

    /// Searches a snapshot.
    pub async fn report(
        &self,
        question: &SnapshotQuestion,
        disk: &Path,
        memory: &Path,
    ) -> Result<Report, BuildFailure> {
        let open =
            |path| File::open(path).map_err(|error| BuildFailure::platform("open the snapshot", &error));
        let files = vec![open(disk)?, open(memory)?];
        let limits = Limits {
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: SEARCH_LIMIT.as_secs(),
            time: SEARCH_LIMIT,
            written_bytes: 0,
            answer_bytes: REPORT_BYTES,
        };
        let answer = self.ask(REPORT, question, files, limits).await;
        let what = "The disk and memory of the image could not be searched for secrets";
        answer.map_err(|error| died(FailureCode::ContainerBuildFailed, what, error))
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        work: &'static str,
        question: &impl Serialize,
        files: Vec<File>,
        limits: Limits,
    ) -> Result<A, Error> {
        let question = serde_json::to_vec(question).map_err(|error| Error::Start(error.into()))?;
        let answer = self.confinement.run(Job { work, question, files, limits }).await?;
        // An answer that is none is the word of a child that something has taken over.
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Failed { said: format!("it gave no answer ({error})") })
    }
}

/// The failure of a build whose reader has died.
fn died(code: FailureCode, what: &str, error: Error) -> BuildFailure {
    match error {
        Error::Start(_) | Error::Watch(_) => BuildFailure::platform("read what was brought", &error),
        error => {
            tracing::warn!(%error, "a confined reader gave no answer");
            BuildFailure::new(code, format!("{what}: {error}."))
        }
    }
}

fn read_archive(task: Task) -> Vec<u8> {
    let limits: ArchiveLimits = question(&task);
    let [zip, tar] = files(task);
    answer(&archive::to_tar(zip, tar, &limits))
}

fn read_snapshot(task: Task) -> Vec<u8> {
    let SnapshotQuestion { inspection, environment } = question(&task);
    let [disk, memory] = files(task);
    answer(&inspect(&Sources {
        inspection: &inspection,
        environment: &environment,
        disk: &disk,
        memory: &memory,
        memory_offset: hearth_vmm::qemu::memory_offset,
        time: SEARCH_TIME,
    }))
}

fn question<Q: DeserializeOwned>(task: &Task) -> Q {
    serde_json::from_slice(&task.question).expect("invariant: questions are written by this module")
}

fn files<const COUNT: usize>(task: Task) -> [File; COUNT] {
    task.files.try_into().expect("invariant: this module hands the files over")
}

fn answer(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("invariant: answers are plain data")
}
