//! Records to begin with.

use std::collections::BTreeMap;

use hearth_api::{BuildState, ImageArn, ImageState, ImageVersion, ImageVersionState, Timestamp};

use crate::{AppRecord, Building, MicrovmSettings, NodeId};

/// The least that a caller of RunMicrovm can fix: 512 MiB for a minute, and nothing else.
pub fn settings() -> MicrovmSettings {
    MicrovmSettings {
        minimum_memory_mib: 512,
        execution_role_arn: None,
        idle_policy: None,
        maximum_duration_in_seconds: 60,
        logging: None,
        run_by: None,
        ingress_network_connectors: Vec::new(),
        egress_network_connectors: Vec::new(),
    }
}

/// The ARN of an image in `us-east-1`.
pub fn image_arn(account: &str, name: &str) -> ImageArn {
    ImageArn::parse(&format!("arn:aws:lambda:us-east-1:{account}:microvm-image:{name}")).unwrap()
}

/// A new image whose first version `node` builds of `s3://code/<the image's name>`.
pub fn begun(arn: ImageArn, node: NodeId, now: Timestamp) -> Building {
    let configuration = serde_json::json!({
        "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
        "buildRoleArn": format!("arn:aws:iam::{}:role/build", arn.account),
        "codeArtifact": { "uri": format!("s3://code/{}", arn.name) },
    });
    Building::first(arn, BTreeMap::new(), serde_json::from_value(configuration).unwrap(), node, now)
}

/// An image whose first version was built and is nobody's: an app of 1 vCPU and 1 MiB.
pub fn built(arn: ImageArn, now: Timestamp) -> Building {
    let mut new = begun(arn, NodeId::nobody(), now);
    new.image.state = ImageState::Created;
    new.image.latest_active_version = Some(ImageVersion::FIRST);
    new.version.state = ImageVersionState::Successful;
    let guest_key = "key".to_owned();
    new.version.app = Some(AppRecord { guest_key, vcpu_count: 1, memory_mib: 1, output_position: 0 });
    new.build.state = BuildState::Successful;
    new
}
