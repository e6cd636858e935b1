//! Bodies coming in: streamed to a temporary file while they are hashed, kept only when every digest is right.

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
use super::checksums::Checksums;
use super::disk::Disk;

const BUFFER_BYTES: usize = 256 * 1024;

/// What the caller says about the body.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) checksums: Checksums,
    pub(super) algorithm: Option<ChecksumAlgorithm>,
    /// Base64.
    pub(super) content_md5: Option<String>,
    pub(super) headers: &'a HeaderMap,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// A body that arrived whole.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) content: NamedTempFile,
    pub(super) size: u64,
    /// MD5 in hex: the ETag of a simple object.
    pub(super) e_tag: String,
    pub(super) checksums: Checksums,
}

/// Takes in a body; a missing one counts as empty.
pub(super) async fn receive(
    disk: &Disk,
    body: Option<StreamingBlob>,
    mut expected: Expected<'_>,
) -> S3Result<Received> {
    let content = disk.temporary()?;
    let path = content.path().to_owned();
    let storage_error = |error| S3Error::from(StorageError::io(&path)(error));
    let file = content.reopen().map_err(storage_error)?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file));
    let mut md5 = Md5::new();
    let mut hasher = expected.checksums.hasher(expected.algorithm.as_ref(), expected.headers);
    let mut size: u64 = 0;
    if let Some(mut body) = body {
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(body_error)?;
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
    Ok(Received { content, size, e_tag: hex::encode(md5), checksums })
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
