//! The managed base image: one, `al2023-1`, in two versions, as the service lists it. Both versions
//! are the same guest here; which artefacts it was built from is on record with each image version.

use hearth_api::{
    Architecture, CpuConfiguration, ManagedMicrovmImageSummary, ManagedMicrovmImageVersion, Timestamp,
    managed_base_image_arn,
};
use hearth_service::Error;

/// Versions with their dates in milliseconds since 1970 (2026-07-21 and 2026-06-17,
/// UTC), newest first.
const VERSIONS: [(&str, i64); 2] = [("1", 1_784_592_000_000), ("0", 1_781_654_400_000)];

pub(crate) fn summary(region: &str) -> ManagedMicrovmImageSummary {
    let [(_, newest), (_, oldest)] = VERSIONS;
    ManagedMicrovmImageSummary {
        image_arn: managed_base_image_arn(region),
        created_at: Timestamp::from_millis(oldest),
        updated_at: Timestamp::from_millis(newest),
    }
}

pub(crate) fn versions(region: &str) -> Vec<ManagedMicrovmImageVersion> {
    VERSIONS
        .into_iter()
        .map(|(version, date)| ManagedMicrovmImageVersion {
            image_arn: managed_base_image_arn(region),
            image_version: version.to_owned(),
            status: "AVAILABLE".to_owned(),
            supported_cpu_configurations: vec![CpuConfiguration { architecture: Architecture::host() }],
            created_at: Timestamp::from_millis(date),
            updated_at: Timestamp::from_millis(date),
        })
        .collect()
}

/// Resolves a `baseImageArn` and `baseImageVersion` to the version as it is read back: `1` is
/// sent, `1.0` is read.
pub(crate) fn resolve(region: &str, arn: &str, version: Option<&str>) -> Result<String, Error> {
    if !arn.starts_with("arn:") {
        return Err(Error::validation("Malformed ARN - doesn't start with 'arn:'"));
    }
    let [(newest, _), _] = VERSIONS;
    let wanted = version.unwrap_or(newest);
    if !wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::validation("Expected a single major version number"));
    }
    let known = arn == managed_base_image_arn(region) && VERSIONS.iter().any(|(known, _)| *known == wanted);
    if known {
        Ok(format!("{wanted}.0"))
    } else {
        Err(Error::validation(format!(
            "No managed MicroVM Image with arn {arn} and version {wanted} is available"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_sent_bare_and_read_with_its_minor() {
        let arn = managed_base_image_arn("us-east-1");
        let resolve = |arn: &str, version| resolve("us-east-1", arn, version).map_err(|error| error.message);
        assert_eq!(resolve(&arn, None).unwrap(), "1.0");
        assert_eq!(resolve(&arn, Some("0")).unwrap(), "0.0");
        assert_eq!(resolve(&arn, Some("1.0")).unwrap_err(), "Expected a single major version number");
        assert!(resolve(&arn, Some("999")).unwrap_err().ends_with("version 999 is available"));
        assert!(resolve("al2023-1", None).unwrap_err().starts_with("Malformed ARN"));
        assert!(resolve(&arn.replace("al2023-1", "other"), None).is_err());
    }
}
