//! The report of a build: what its snapshot holds.

use std::io;

use hearth_api::{BuildId, ImageArn, ImageVersion, SnapshotBuild, Timestamp};
use hearth_image_report::Report;
use hearth_records::{BuildRecord, ImageVersionRecord};
use hearth_snapshots::ImageDraft;
use serde::Serialize;

use crate::build_log::Phase;
use crate::builder::ImageBuilder;
use crate::failure::{BuildFailure, FailureCode};
use crate::image_snapshot::TakenSnapshot;
use crate::readers::SnapshotQuestion;

/// Findings that the log names.
const MOST_LINES: usize = 50;

/// The report as it is stored and served.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredReport<'a> {
    image_arn: &'a ImageArn,
    image_version: ImageVersion,
    build_id: &'a BuildId,
    created_at: Timestamp,
    #[serde(flatten)]
    sizes: SnapshotBuild,
    #[serde(flatten)]
    report: &'a Report,
}

impl ImageBuilder {
    /// Makes the report of a version's snapshot, and writes its findings to the log.
    /// They fail the build only if the operator wants it.
    pub(crate) async fn report(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        draft: &ImageDraft,
        taken: TakenSnapshot,
        sizes: SnapshotBuild,
    ) -> Result<Vec<u8>, BuildFailure> {
        let question = SnapshotQuestion { inspection: taken.inspection, environment: taken.environment };
        let (disk, memory) = (draft.disk(), draft.memory());
        let stopped = self.builds.token(&build.id);
        let report = tokio::select! {
            report = self.config.readers.report(&question, &disk, &memory) => report?,
            () = stopped.cancelled() => return Err(self.builds.failure(&build.id)),
        };
        let stored = StoredReport {
            image_arn: &row.arn,
            image_version: row.version,
            build_id: &build.id,
            created_at: Timestamp::now(),
            sizes,
            report: &report,
        };
        let stored = serde_json::to_vec(&stored)
            .map_err(|error| BuildFailure::platform("write the report", &error))?;
        if report.findings.is_empty() {
            return Ok(stored);
        }
        let mut log = self.log(row, build, Phase::Snapshot);
        for finding in report.findings.iter().take(MOST_LINES) {
            let places: Vec<_> = finding.places.iter().map(ToString::to_string).collect();
            log.line(&format!(
                "[hearth] the snapshot holds: {}, in {}",
                finding.kind.name(),
                places.join("; ")
            ))
            .await;
        }
        let verdict = if self.config.refuse_findings { Err(refusal(&report)) } else { Ok(stored) };
        log.end(verdict).await
    }

    /// The stored report of a version; `None` if there is none.
    pub async fn stored_report(&self, arn: &ImageArn, version: ImageVersion) -> io::Result<Option<String>> {
        let (snapshots, arn) = (self.config.snapshots.clone(), arn.clone());
        let reading = tokio::task::spawn_blocking(move || snapshots.report(&arn, version)).await;
        reading.map_err(io::Error::other)?
    }
}

fn refusal(report: &Report) -> BuildFailure {
    let mut kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind.name()).collect();
    kinds.dedup();
    let message = format!(
        "The snapshot holds what its clones should not share: {}. The build log says where; this service refuses such images.",
        kinds.join(", ")
    );
    BuildFailure::new(FailureCode::NotReady, message)
}

#[cfg(test)]
mod tests {
    use hearth_image_report::{Finding, SecretKind};

    use super::*;

    #[test]
    fn a_refusal_names_each_kind_once() {
        let finding = |kind| Finding { kind, places: Vec::new() };
        let kinds = [SecretKind::PrivateKey, SecretKind::PrivateKey, SecretKind::AwsAccessKeyId];
        let report = Report { findings: kinds.map(finding).into(), ..Report::default() };
        let sentence = refusal(&report).to_string();
        assert!(sentence.contains("share: private key, AWS access key id. The build log"), "{sentence}");
    }
}
