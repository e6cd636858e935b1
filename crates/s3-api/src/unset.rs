//! Settings that no bucket has here, because nothing would come of them: they are shown as
//! unset and cannot be set, so that clients which read everything of a bucket get the
//! answers of a fresh one.

use s3s::dto::{GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput, Payer};
use s3s::{S3Request, S3Result, dto, s3_error};

use super::ObjectStorage;
use super::access::Asker;

/// Reads of a setting that does not exist: an error of S3, when there is the bucket.
macro_rules! unset {
    ($($method:ident($input:ident) -> $output:ident: $code:ident, $message:literal;)*) => {
        impl ObjectStorage {
            $(
                pub(super) async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<dto::$output> {
                    Asker::bucket_of(&request)?;
                    Err(s3_error!($code, $message))
                }
            )*
        }
    };
}

unset! {
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput:
        NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration";
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput:
        ReplicationConfigurationNotFoundError, "The replication configuration was not found";
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput:
        ObjectLockConfigurationNotFoundError, "Object Lock configuration does not exist for this bucket";
}

/// Reads of a setting that is there and empty.
macro_rules! empty {
    ($($method:ident($input:ident) -> $output:ident;)*) => {
        impl ObjectStorage {
            $(
                pub(super) async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<dto::$output> {
                    Asker::bucket_of(&request)?;
                    Ok(dto::$output::default())
                }
            )*
        }
    };
}

empty! {
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput)
        -> GetBucketAccelerateConfigurationOutput;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput;
}

impl ObjectStorage {
    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_request_payment(
        &self,
        request: S3Request<GetBucketRequestPaymentInput>,
    ) -> S3Result<GetBucketRequestPaymentOutput> {
        Asker::bucket_of(&request)?;
        Ok(GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(Payer::BUCKET_OWNER)) })
    }
}
