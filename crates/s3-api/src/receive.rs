//! Bodies coming in: streamed to a temporary file while they are hashed, kept only when
//! every digest is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::HeaderMap;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};
use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::StorageError;
use super::bucket::Bucket;
use super::checksums::{Algorithm, Checksums, others};
use super::disk::Disk;
use super::usage::Reservation;

const BUFFER_BYTES: usize = 256 * 1024;

/// What the caller says about the body.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) checksums: Checksums,
    pub(super) algorithm: Option<ChecksumAlgorithm>,
    /// Computed whatever the caller says; of an object, when it says nothing.
    pub(super) own: Own,
    /// Base64.
    pub(super) content_md5: Option<String>,
    pub(super) headers: &'a HeaderMap,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// The checksum that is kept for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// CRC64NVME unless the caller names one.
    Object,
    /// That of the upload; whether the caller named it, so that others are refused.
    Part(Algorithm, bool),
}

/// A body that arrived whole.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) content: (NamedTempFile, Reservation),
    pub(super) size: u64,
    /// MD5 in hex: the ETag of a simple object.
    pub(super) e_tag: String,
    pub(super) checksums: Checksums,
}

/// Takes in a body; a missing one counts as empty.
pub(super) async fn receive(
    disk: &Disk,
    bucket: &Bucket,
    body: Option<StreamingBlob>,
    mut expected: Expected<'_>,
) -> S3Result<Received> {
    let (content, mut reservation) = (disk.temporary()?, disk.reserve(bucket, 0)?);
    let path = content.path().to_owned();
    let storage_error = |error| S3Error::from(StorageError::io(&path)(error));
    let file = content.reopen().map_err(storage_error)?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file));
    let mut md5 = Md5::new();
    let mut hasher = expected.checksums.hasher(expected.algorithm.as_ref(), expected.headers);
    match expected.own {
        Own::Object if others(&hasher, Algorithm::Crc64nvme).is_none() => {
            Algorithm::Crc64nvme.add_to(&mut hasher);
        }
        Own::Object => {}
        Own::Part(algorithm, named) => {
            if let Some(other) = others(&hasher, algorithm).filter(|_| named) {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    algorithm.name().to_ascii_lowercase(),
                    other.name().to_ascii_lowercase()
                ));
            }
            algorithm.add_to(&mut hasher);
        }
    }
    let mut size: u64 = 0;
    if let Some(mut body) = body {
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(body_error)?;
            reservation.grow(bytes.len() as u64)?;
            md5.update(&bytes);
            hasher.update(&bytes);
            size += bytes.len() as u64;
            writer.write_all(&bytes).await.map_err(storage_error)?;
        }
    }
    writer.flush().await.map_err(storage_error)?;

    let md5 = md5.finalize();
    if expected.content_md5.is_some_and(|sent| sent != STANDARD.encode(md5)) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    if let Some(trailers) = expected.trailers.and_then(|trailers| trailers.take()) {
        expected.checksums.add_trailers(&trailers);
    }
    let checksums = Checksums::from(hasher.finalize());
    expected.checksums.check_against(&checksums)?;
    Ok(Received { content: (content, reservation), size, e_tag: hex::encode(md5), checksums })
}

/// A body that broke off or whose chunk signatures are wrong; `s3s` says which in its own error.
fn body_error(error: s3s::StdError) -> S3Error {
    match error.downcast::<S3Error>() {
        Ok(error) => *error,
        Err(error) => {
            s3_error!(IncompleteBody, "The body ended early or is not what its headers say: {error}")
        }
    }
}
