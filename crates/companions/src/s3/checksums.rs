//! The additional checksums of S3 objects (CRC32 by default in current SDKs), in base64.

use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ChecksumAlgorithm};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// One optional value per algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checksums {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
}

/// Reads the five `checksum_*` members of a request.
macro_rules! checksums_of {
    ($from:expr) => {
        $crate::s3::checksums::Checksums {
            crc32: $from.checksum_crc32.clone(),
            crc32c: $from.checksum_crc32c.clone(),
            crc64nvme: $from.checksum_crc64nvme.clone(),
            sha1: $from.checksum_sha1.clone(),
            sha256: $from.checksum_sha256.clone(),
        }
    };
}

/// Sets the five `checksum_*` members of an answer.
macro_rules! set_checksums {
    ($output:expr, $checksums:expr) => {
        $output.checksum_crc32 = $checksums.crc32;
        $output.checksum_crc32c = $checksums.crc32c;
        $output.checksum_crc64nvme = $checksums.crc64nvme;
        $output.checksum_sha1 = $checksums.sha1;
        $output.checksum_sha256 = $checksums.sha256;
    };
}

pub(super) use {checksums_of, set_checksums};

impl From<Checksum> for Checksums {
    fn from(checksum: Checksum) -> Self {
        checksums_of!(checksum)
    }
}

impl Checksums {
    /// Adds the values that came after the body.
    pub(super) fn add_trailers(&mut self, trailers: &HeaderMap) {
        let text = |name: &str| trailers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let fill = |slot: &mut Option<String>, name: &str| {
            if let Some(value) = text(name) {
                *slot = Some(value);
            }
        };
        fill(&mut self.crc32, "x-amz-checksum-crc32");
        fill(&mut self.crc32c, "x-amz-checksum-crc32c");
        fill(&mut self.crc64nvme, "x-amz-checksum-crc64nvme");
        fill(&mut self.sha1, "x-amz-checksum-sha1");
        fill(&mut self.sha256, "x-amz-checksum-sha256");
    }

    /// Refuses when a value that the caller sent is not the one computed here.
    pub(super) fn check_against(&self, computed: &Self) -> S3Result<()> {
        let pairs = [
            ("CRC32", &self.crc32, &computed.crc32),
            ("CRC32C", &self.crc32c, &computed.crc32c),
            ("CRC64NVME", &self.crc64nvme, &computed.crc64nvme),
            ("SHA1", &self.sha1, &computed.sha1),
            ("SHA256", &self.sha256, &computed.sha256),
        ];
        match pairs.into_iter().find(|(_, sent, computed)| sent.is_some() && sent != computed) {
            None => Ok(()),
            Some((name, ..)) => {
                Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."))
            }
        }
    }

    /// A hasher for every algorithm that a value, the `algorithm` or a trailer (`x-amz-trailer`) calls for.
    pub(super) fn hasher(
        &self,
        algorithm: Option<&ChecksumAlgorithm>,
        headers: &HeaderMap,
    ) -> ChecksumHasher {
        let announced = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or("");
        let wanted = |value: &Option<String>, name: &str| {
            value.is_some()
                || algorithm.is_some_and(|algorithm| algorithm.as_str() == name)
                || announced
                    .split(',')
                    .filter_map(|header| header.trim().strip_prefix("x-amz-checksum-"))
                    .any(|announced| announced.eq_ignore_ascii_case(name))
        };
        ChecksumHasher {
            crc32: wanted(&self.crc32, "CRC32").then(Default::default),
            crc32c: wanted(&self.crc32c, "CRC32C").then(Default::default),
            crc64nvme: wanted(&self.crc64nvme, "CRC64NVME").then(Default::default),
            sha1: wanted(&self.sha1, "SHA1").then(Default::default),
            sha256: wanted(&self.sha256, "SHA256").then(Default::default),
        }
    }
}
