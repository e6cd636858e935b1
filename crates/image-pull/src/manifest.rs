//! Manifests and indexes (OCI image specification 1.1; Docker's image manifest
//! version 2, schema 2).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::spec::{CONFIG_BYTES, Failure, LAYERS};

/// The media types that are asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// What a manifest is that does not say it.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The other kind of manifest that is taken.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A SHA-256 digest, 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest(String);

impl Digest {
    /// Reads `sha256:…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let valid = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(hex.to_owned()))
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
    }

    /// Of what was hashed.
    pub(crate) fn from_hash(hash: &aws_lc_rs::digest::Digest) -> Self {
        Self(hex::encode(hash))
    }

    /// The digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

/// What has to be fetched for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Media type of the manifest.
    pub(crate) media_type: &'static str,
    /// Size of each blob; one that is named twice is fetched once.
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

impl Image {
    /// Bytes of all blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.values().sum()
    }
}

/// What a manifest's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// An image.
    Image(Image),
    /// An index, in which this is the manifest for this machine's architecture.
    Index(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: String,
    architecture: String,
}

impl Document {
    /// Reads what a registry has sent. The blobs of an image have at most `image_bytes` together.
    pub(crate) fn parse(bytes: &[u8], image_bytes: u64) -> Result<Self, Failure> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|_| Failure::Manifest)?;
        if raw.schema_version != 2 {
            return Err(Failure::Manifest);
        }
        if let Some(manifests) = raw.manifests {
            let fits = |entry: &&RawDescriptor| {
                entry
                    .platform
                    .as_ref()
                    .is_some_and(|it| it.os == "linux" && it.architecture == architecture())
            };
            let entry = manifests.iter().find(fits).ok_or(Failure::Platform)?;
            return Digest::parse(&entry.digest).map(Self::Index).ok_or(Failure::Manifest);
        }
        let (Some(config), Some(layers)) = (raw.config, raw.layers) else { return Err(Failure::Manifest) };
        if layers.len() > LAYERS {
            return Err(Failure::Manifest);
        }
        if config.size > CONFIG_BYTES {
            return Err(Failure::TooLarge);
        }
        let (mut blobs, mut sum) = (BTreeMap::new(), 0_u64);
        for blob in layers.iter().chain([&config]) {
            let digest = Digest::parse(&blob.digest).ok_or(Failure::Manifest)?;
            match blobs.insert(digest, blob.size) {
                None => sum = sum.saturating_add(blob.size),
                Some(size) if size == blob.size => {}
                Some(_) => return Err(Failure::Manifest),
            }
        }
        if sum > image_bytes {
            return Err(Failure::ImageTooLarge(image_bytes));
        }
        let docker = raw.media_type.as_deref() == Some(DOCKER_MANIFEST);
        Ok(Self::Image(Image { media_type: if docker { DOCKER_MANIFEST } else { OCI_MANIFEST }, blobs }))
    }
}

/// This machine's architecture in the words of manifests.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
