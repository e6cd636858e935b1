//! S3 over a directory: protocol, signatures and chunked bodies by the crate `s3s`, objects
//! as files of our own.
//!
//! `s3s-fs`, the file backend next to `s3s`, was tried and not taken: it puts objects into buckets
//! that do not exist, deletes buckets with content, keeps an object whose checksum turned out
//! wrong, and maps keys to paths.
//!
//! Reading order: `disk`, `index` and `versions` (what is on disk), `receive` (bodies coming in),
//! `objects`, `copy`, `listing`, `multipart`, `buckets`, `settings`, `operations` (the trait of
//! `s3s`), `access` and `actions` (who may do what).

mod access;
mod actions;
mod body;
mod bucket;
mod bucket_policy;
mod buckets;
mod checksums;
mod chunks;
mod conditions;
mod control;
mod copy;
mod cors;
mod coverage;
mod disk;
mod erase;
mod expiry;
mod expiry_sweep;
mod front;
mod index;
mod lifecycle;
mod listing;
mod listings;
mod locks;
mod multipart;
mod object_file;
mod objects;
mod operations;
mod receive;
mod refusals;
mod routes;
mod sentences;
mod setting_files;
mod settings;
mod stored;
mod tagging;
#[cfg(test)]
mod testing;
mod unset;
mod upload;
mod usage;
mod version_2;
mod versions;
mod virtual_hosts;
mod walk;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_auth::sigv4::Denial;
use hearth_identity::{Identities, Owned};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use disk::Disk;
use work::Work;

pub use front::S3;
pub use operations::SERVED;
pub use usage::StorageLimits;
pub use virtual_hosts::Names;

/// How far the caller's clock may be off.
const MAXIMUM_SKEW_SECONDS: u32 = 300;
/// Forms are refused, but `s3s` reads their fields first.
const MAXIMUM_FORM_BYTES: usize = 64 * 1024;

/// Why an object could not be fetched or a bucket not be read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No such bucket.
    #[error("bucket {0} does not exist")]
    NoSuchBucket(String),
    /// No such object.
    #[error("object {0} does not exist")]
    NoSuchKey(String),
    /// There are objects or versions in it.
    #[error("bucket {0} is not empty")]
    BucketNotEmpty(String),
    /// The account has what it may have.
    #[error("the account's quota of {0} bytes is used up")]
    QuotaExceeded(u64),
    /// What is to stay free of the disk would not.
    #[error("the disk is nearly full")]
    DiskFull,
    /// Who asks may not read it.
    #[error("what is in bucket {0} may not be read")]
    AccessDenied(String),
    /// More bytes than the caller takes.
    #[error("object {key} has {size_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// Key.
        key: String,
        /// Its size.
        size_bytes: u64,
        /// What the caller takes.
        max_bytes: u64,
    },
    /// The disk failed.
    #[error("cannot use {path}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

impl StorageError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl From<StorageError> for S3Error {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::NoSuchBucket(_) => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            StorageError::NoSuchKey(_) => s3_error!(NoSuchKey, "The specified key does not exist."),
            StorageError::BucketNotEmpty(_) => s3_error!(
                BucketNotEmpty,
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket."
            ),
            StorageError::QuotaExceeded(bytes) => coded(
                "QuotaExceeded",
                http::StatusCode::FORBIDDEN,
                format!(
                    "The account may have {} MiB in objects, versions and unfinished uploads here. Delete some, or ask \
                     the operator for a higher s3_gib in [quotas].",
                    bytes >> 20
                ),
            ),
            StorageError::DiskFull => {
                tracing::error!("the disk of the data directory is nearly full: S3 takes no more bytes");
                s3_error!(
                    ServiceUnavailable,
                    "The disk of this server is nearly full. Please try again later."
                )
            }
            StorageError::AccessDenied(_) => s3_error!(AccessDenied),
            StorageError::TooLarge { .. } => s3_error!(EntityTooLarge),
            StorageError::Io { path, source } => {
                tracing::error!(path = %path.display(), error = %source, "S3 storage failed");
                S3Error::internal_error(error)
            }
        }
    }
}

/// All buckets of the server. Clones share the directory.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    disk: Arc<Disk>,
    work: Arc<Work>,
    region: String,
}

impl ObjectStorage {
    /// Uses `directory`, which is made when missing. One server at a time may use it.
    /// Buckets without an owner, which are from before there were several accounts,
    /// belong to `first_account`.
    pub fn open(
        directory: &Path,
        region: &str,
        first_account: &AccountId,
        limits: StorageLimits,
    ) -> Result<Self, StorageError> {
        let disk = Arc::new(Disk::open(directory, first_account, limits)?);
        Ok(Self { disk, work: Arc::new(Work::default()), region: region.to_owned() })
    }

    /// Copies an object to the file `to` and returns its size in bytes; nothing is written when it
    /// has more than `max_bytes`. `may` says whether who asks may read it, given the bucket if
    /// there is one, and account `reader` is whose that is.
    pub async fn fetch(
        &self,
        (bucket, key): (&str, &str),
        reader: &AccountId,
        may: impl Fn(Option<Owned<'_>>) -> bool + Send + 'static,
        to: &Path,
        max_bytes: u64,
    ) -> Result<u64, StorageError> {
        let (disk, bucket, key, to) = (self.disk.clone(), bucket.to_owned(), key.to_owned(), to.to_owned());
        let reader = reader.clone();
        disk::blocking(move || {
            let denied = || StorageError::AccessDenied(bucket.clone());
            let bucket = match disk.find(&bucket) {
                // That it is missing is told to those who might read it.
                Err(StorageError::NoSuchBucket(_)) if !may(None) => return Err(denied()),
                found => found?,
            };
            let policy = bucket_policy::deciding(&bucket, bucket.owner == reader).map_err(|_| denied())?;
            if !may(Some(Owned { owner: &bucket.owner, policy })) {
                return Err(denied());
            }
            let mut object = disk.object(&bucket, &key)?;
            let size_bytes = object.record.size;
            if size_bytes > max_bytes {
                return Err(StorageError::TooLarge { key, size_bytes, max_bytes });
            }
            let mut target = std::fs::File::create(&to).map_err(StorageError::io(&to))?;
            object.copy_to(&mut target).map_err(StorageError::io(&to))?;
            Ok(size_bytes)
        })
        .await
    }

    /// The HTTP service; every request must be signed with a key of `identities`. A request whose
    /// host is a bucket and one of `names` is about that bucket.
    pub(crate) fn service(&self, identities: Arc<Identities>, names: Names) -> S3Service {
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = MAXIMUM_SKEW_SECONDS;
        config.form_max_field_size = MAXIMUM_FORM_BYTES;
        config.form_max_fields_size = MAXIMUM_FORM_BYTES;
        config.post_object_max_file_size = 0;
        config.xml_max_body_size = refusals::MAXIMUM_DOCUMENT_BYTES;
        let mut builder = S3ServiceBuilder::new(self.clone());
        builder.set_auth(Secrets(identities.clone()));
        let gate = access::Gate { identities, storage: self.clone() };
        builder.set_access(gate.clone());
        builder.set_route(routes::Routes(gate));
        builder.set_host(names);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.build()
    }
}

/// An error with a code that `s3s` does not know.
fn custom_error(code: &'static str, status: http::StatusCode, message: &'static str) -> S3Error {
    coded(code, status, message.to_owned())
}

fn coded(code: &'static str, status: http::StatusCode, message: String) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

struct Secrets(Arc<Identities>);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.credential(access_key) {
            Ok(credential) => Ok(SecretKey::from(credential.secret)),
            Err(Denial::ExpiredToken) => Err(s3_error!(ExpiredToken, "The provided token has expired.")),
            Err(_) => Err(s3_error!(
                InvalidAccessKeyId,
                "The access key id of the request does not exist in our records."
            )),
        }
    }
}
