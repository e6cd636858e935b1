//! On what a snapshot was taken.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a VM ran on. Another VMM, architecture, CPU or accelerator would not run on from the
/// registers and the features in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// VMM that wrote the device state, and its version: `QEMU 10.0.2`.
    pub vmm: String,
    /// Architecture of guest and host, as [`std::env::consts::ARCH`] has it. Older versions knew
    /// but one, [`FORMER_ARCHITECTURE`], and did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Machine type to restore with: `pc-q35-10.0`.
    pub machine_type: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// The emulated CPU, or the host's model where that is passed through.
    pub cpu: String,
    /// Whether the guest's CPU has no virtualization extension of its own. Older
    /// versions passed it on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hides_virtualization: bool,
    /// Features of the guest's CPU, by QEMU's names, sorted. Older versions did not look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// Architecture of snapshots that do not say theirs.
const FORMER_ARCHITECTURE: &str = "x86_64";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Platform {
    /// That of the fake driver.
    pub(crate) fn for_tests() -> Self {
        let fake = || "fake".to_owned();
        Self {
            vmm: fake(),
            architecture: None,
            machine_type: fake(),
            accelerator: fake(),
            cpu: fake(),
            hides_virtualization: false,
            features: Vec::new(),
        }
    }

    /// Refuses a snapshot of another VMM than this one, whose versions may differ, or of another
    /// architecture.
    pub(crate) fn check_kind(&self, vmm: &str, architecture: &str) -> Result<()> {
        let name = self.vmm.split(' ').next().unwrap_or_default();
        let taken = self.architecture.as_deref().unwrap_or(FORMER_ARCHITECTURE);
        if name == vmm && taken == architecture {
            return Ok(());
        }
        Err(Error::OtherPlatform {
            taken: format!("{name} on {taken}"),
            host: format!("{vmm} on {architecture}"),
        })
    }

    /// Refuses a snapshot that was taken on another CPU than `cpu`, or with features that this host
    /// is known to lack. Versions of the VMM may differ: the machine type keeps what it means.
    pub(crate) fn check_fits(&self, cpu: &str, lacking: &BTreeSet<String>) -> Result<()> {
        if self.cpu != cpu {
            return Err(Error::OtherCpu { taken: self.cpu.clone(), host: cpu.to_owned() });
        }
        let missing: Vec<&str> =
            self.features.iter().filter(|name| lacking.contains(*name)).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingFeatures { features: missing.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_for_its_vmm_and_its_architecture() {
        let taken = |architecture: Option<&str>| Platform {
            vmm: "QEMU 9.2.0".to_owned(),
            architecture: architecture.map(str::to_owned),
            ..Platform::for_tests()
        };
        taken(None).check_kind("QEMU", "x86_64").unwrap();
        taken(Some("aarch64")).check_kind("QEMU", "aarch64").unwrap();
        for (platform, vmm, architecture) in [
            (taken(None), "QEMU", "aarch64"),
            (taken(Some("aarch64")), "QEMU", "x86_64"),
            (taken(None), "Firecracker", "x86_64"),
        ] {
            let error = platform.check_kind(vmm, architecture).unwrap_err().to_string();
            assert!(
                error.contains("QEMU on ") && error.contains(&format!("{vmm} on {architecture}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_snapshot_fits_a_cpu_of_its_name_that_lacks_none_of_its_features() {
        let lacking = BTreeSet::from(["avx2".to_owned(), "sha-ni".to_owned()]);
        let features = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let taken = Platform { features: features(&["avx", "sse2"]), ..Platform::for_tests() };
        taken.check_fits("fake", &lacking).unwrap();
        let error = taken.check_fits("another", &lacking).unwrap_err().to_string();
        assert!(error.contains("\"fake\"") && error.contains("\"another\""), "{error}");
        let taken = Platform { features: features(&["avx", "avx2", "sha-ni"]), ..Platform::for_tests() };
        let error = taken.check_fits("fake", &lacking).unwrap_err().to_string();
        assert!(error.ends_with("does not have: avx2, sha-ni"), "{error}");
        // A snapshot of a version that did not look is let through, and fails later, if it does.
        Platform::for_tests().check_fits("fake", &lacking).unwrap();
    }

    #[test]
    fn a_manifest_from_before_features_were_recorded_is_read() {
        let text = serde_json::to_string(&Platform::for_tests()).unwrap();
        assert!(
            !text.contains("features") && !text.contains("hides"),
            "its checksum is the one it had: {text}"
        );
        assert_eq!(serde_json::from_str::<Platform>(&text).unwrap(), Platform::for_tests());
    }
}
