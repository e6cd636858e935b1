//! The additional checksums of S3 objects (CRC32 by default in current SDKs), in base64.

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{self, Checksum, ChecksumAlgorithm};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

const READ_BYTES: usize = 256 * 1024;

/// Of what a checksum of an object is ("Checking object integrity for data uploads",
/// S3 user guide).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ChecksumType {
    /// Of its bytes.
    #[default]
    FullObject,
    /// Of the checksums of its parts.
    Composite,
}

impl ChecksumType {
    pub(super) fn to_dto(self) -> dto::ChecksumType {
        dto::ChecksumType::from_static(match self {
            Self::FullObject => dto::ChecksumType::FULL_OBJECT,
            Self::Composite => dto::ChecksumType::COMPOSITE,
        })
    }
}

/// How a checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64nvme, Self::Sha1, Self::Sha256];

    pub(super) fn of(algorithm: &ChecksumAlgorithm) -> S3Result<Self> {
        let name = algorithm.as_str();
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
            )
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => ChecksumAlgorithm::CRC32,
            Self::Crc32c => ChecksumAlgorithm::CRC32C,
            Self::Crc64nvme => ChecksumAlgorithm::CRC64NVME,
            Self::Sha1 => ChecksumAlgorithm::SHA1,
            Self::Sha256 => ChecksumAlgorithm::SHA256,
        }
    }

    /// What an upload's checksum is of when nobody says.
    pub(super) fn usual_type(self) -> ChecksumType {
        if self == Self::Crc64nvme { ChecksumType::FullObject } else { ChecksumType::Composite }
    }

    /// Whether there are checksums of this type.
    pub(super) fn has(self, kind: ChecksumType) -> bool {
        match kind {
            ChecksumType::FullObject => self.crc().is_some(),
            ChecksumType::Composite => self != Self::Crc64nvme,
        }
    }

    /// The CRC and its length in bytes.
    fn crc(self) -> Option<(CrcAlgorithm, usize)> {
        match self {
            Self::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
            Self::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
            Self::Crc64nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Adds this one to what is computed.
    pub(super) fn add_to(self, hasher: &mut ChecksumHasher) {
        match self {
            Self::Crc32 => _ = hasher.crc32.get_or_insert_default(),
            Self::Crc32c => _ = hasher.crc32c.get_or_insert_default(),
            Self::Crc64nvme => _ = hasher.crc64nvme.get_or_insert_default(),
            Self::Sha1 => _ = hasher.sha1.get_or_insert_default(),
            Self::Sha256 => _ = hasher.sha256.get_or_insert_default(),
        }
    }

    /// The checksum of `bytes`, to their end.
    pub(super) fn of_bytes(self, mut bytes: impl Read) -> io::Result<Checksums> {
        let mut hasher = ChecksumHasher::default();
        self.add_to(&mut hasher);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match bytes.read(&mut buffer)? {
                0 => return Ok(hasher.finalize().into()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// The checksum of the bytes of all parts from each part's checksum and length,
    /// without reading them again.
    pub(super) fn whole(self, parts: &[(String, u64)]) -> Option<String> {
        let (crc, length) = self.crc()?;
        let mut whole = None;
        for (value, size) in parts {
            let bytes = STANDARD.decode(value).ok().filter(|bytes| bytes.len() == length)?;
            let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            whole = Some(whole.map_or(value, |whole| checksum_combine(crc, whole, value, *size)));
        }
        let bytes = whole?.to_be_bytes();
        Some(STANDARD.encode(&bytes[bytes.len() - length..]))
    }

    /// The checksum of the parts' checksums, and their number.
    pub(super) fn composite(self, parts: &[(String, u64)]) -> Option<String> {
        let mut hasher = ChecksumHasher::default();
        self.add_to(&mut hasher);
        for (value, _) in parts {
            hasher.update(&STANDARD.decode(value).ok()?);
        }
        let value = Checksums::from(hasher.finalize()).get(self).cloned()?;
        Some(format!("{value}-{}", parts.len()))
    }
}

/// Whether something besides `only` is computed, and what.
pub(super) fn others(hasher: &ChecksumHasher, only: Algorithm) -> Option<Algorithm> {
    let asked = |algorithm: &Algorithm| match algorithm {
        Algorithm::Crc32 => hasher.crc32.is_some(),
        Algorithm::Crc32c => hasher.crc32c.is_some(),
        Algorithm::Crc64nvme => hasher.crc64nvme.is_some(),
        Algorithm::Sha1 => hasher.sha1.is_some(),
        Algorithm::Sha256 => hasher.sha256.is_some(),
    };
    Algorithm::ALL.into_iter().filter(asked).find(|algorithm| *algorithm != only)
}

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
        $crate::checksums::Checksums {
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
    pub(super) fn get(&self, algorithm: Algorithm) -> Option<&String> {
        match algorithm {
            Algorithm::Crc32 => self.crc32.as_ref(),
            Algorithm::Crc32c => self.crc32c.as_ref(),
            Algorithm::Crc64nvme => self.crc64nvme.as_ref(),
            Algorithm::Sha1 => self.sha1.as_ref(),
            Algorithm::Sha256 => self.sha256.as_ref(),
        }
    }

    /// One value only.
    pub(super) fn one(algorithm: Algorithm, value: String) -> Self {
        let mut all = Self::default();
        *match algorithm {
            Algorithm::Crc32 => &mut all.crc32,
            Algorithm::Crc32c => &mut all.crc32c,
            Algorithm::Crc64nvme => &mut all.crc64nvme,
            Algorithm::Sha1 => &mut all.sha1,
            Algorithm::Sha256 => &mut all.sha256,
        } = Some(value);
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

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

    /// A hasher for every algorithm that a value, the `algorithm` or a trailer
    /// (`x-amz-trailer`) calls for.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_whole_follows_from_those_of_its_parts() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 249) as u8).collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
            let of = |bytes: &[u8]| algorithm.of_bytes(bytes).unwrap().get(algorithm).unwrap().clone();
            for cuts in [vec![0, 100_000], vec![0, 1, 70_000, 70_000, 100_000]] {
                let parts: Vec<(String, u64)> = cuts
                    .windows(2)
                    .map(|cut| (of(&bytes[cut[0]..cut[1]]), (cut[1] - cut[0]) as u64))
                    .collect();
                assert_eq!(algorithm.whole(&parts), Some(of(&bytes)), "{algorithm:?} {cuts:?}");
            }
        }
        assert_eq!(Algorithm::Crc32.of_bytes(&b"123456789"[..]).unwrap().crc32.as_deref(), Some("y/Q5Jg=="));
        assert_eq!(Algorithm::Sha256.whole(&[("AAAA".to_owned(), 1)]), None);
    }
}
