//! Records as answers show them.

use hearth_api::{
    ImageVersionState, MicrovmDescription, MicrovmImageBuildSummary, MicrovmImageDescription,
    MicrovmImageSummary, MicrovmImageVersionDescription, MicrovmItem,
};
use hearth_records::{BuildRecord, ImageRecord, ImageVersionRecord, MicrovmRecord, MicrovmSummary};

use crate::config::Context;

/// The service builds for several CPU generations; here there is one, the host's.
const CHIPSET_GENERATION: &str = "1";

pub(crate) fn image_summary(record: &ImageRecord) -> MicrovmImageSummary {
    MicrovmImageSummary {
        image_arn: record.arn.clone(),
        id: record.id.clone(),
        name: record.arn.name.clone(),
        state: record.state,
        latest_active_image_version: record.latest_active_version,
        latest_failed_image_version: record.latest_failed_version,
        created_at: record.created_at,
    }
}

/// An image with the version that is being built.
pub(crate) fn image(image: &ImageRecord, version: &ImageVersionRecord) -> MicrovmImageDescription {
    MicrovmImageDescription {
        kms_key_identifier: (),
        image_arn: image.arn.clone(),
        id: image.id.clone(),
        name: image.arn.name.clone(),
        state: image.state,
        image_version: version.version,
        latest_active_image_version: image.latest_active_version,
        latest_failed_image_version: image.latest_failed_version,
        created_at: image.created_at,
        updated_at: image.updated_at,
        configuration: version.configuration.clone(),
        build_phase_overrides: (),
        role_configuration: (),
    }
}

pub(crate) fn version(record: ImageVersionRecord) -> MicrovmImageVersionDescription {
    let bucket = record.updated_at.0.strftime("%y%m%d%H");
    MicrovmImageVersionDescription {
        kms_key_identifier: (),
        version_state_time_bucket: format!("{}#{bucket}", ImageVersionState::as_str(record.state)),
        image_arn: record.arn,
        image_version: record.version,
        state: record.state,
        state_reason: (),
        status: record.status,
        created_at: record.created_at,
        updated_at: record.updated_at,
        tags: (),
        configuration: record.configuration,
    }
}

pub(crate) fn build_summary(record: BuildRecord) -> MicrovmImageBuildSummary {
    MicrovmImageBuildSummary {
        image_arn: record.arn,
        image_version: record.version,
        build_id: record.id,
        build_state: record.state,
        architecture: record.architecture,
        chipset: record.architecture.chipset(),
        chipset_generation: CHIPSET_GENERATION.to_owned(),
        state_reason: record.state_reason,
        termination_reason_code: (),
        created_at: record.created_at,
    }
}

pub(crate) fn microvm(context: &Context, record: &MicrovmRecord) -> MicrovmDescription {
    let settings = &record.settings;
    MicrovmDescription {
        kms_key_identifier: (),
        microvm_id: record.id.clone(),
        state: record.state,
        endpoint: context.endpoint(&record.endpoint_label),
        image_arn: record.image_arn.clone(),
        image_version: record.image_version,
        execution_role_arn: settings.execution_role_arn.clone(),
        idle_policy: settings.idle_policy,
        maximum_duration_in_seconds: settings.maximum_duration_in_seconds,
        started_at: record.started_at,
        terminated_at: record.terminated_at,
        state_reason: record.state_reason(),
        termination_reason_code: (),
        ingress_network_connectors: settings.ingress_network_connectors.clone(),
        egress_network_connectors: settings.egress_network_connectors.clone(),
    }
}

pub(crate) fn microvm_item(record: MicrovmSummary) -> MicrovmItem {
    MicrovmItem {
        microvm_id: record.id,
        state: record.state,
        image_arn: record.image_arn,
        image_version: record.image_version,
        started_at: record.started_at,
    }
}
