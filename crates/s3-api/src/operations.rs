//! The S3 operations that are served: each is a method of [`ObjectStorage`] of the same name. `s3s`
//! answers NotImplemented to every other, after the gate did (see `access`).

use s3s::{S3, S3Request, S3Response, S3Result, dto};

use super::ObjectStorage;

/// Implements the trait, and lists what it implements, so that tests can hold other
/// tables against it.
macro_rules! serve {
    ($($name:literal $method:ident($input:ident) -> $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for ObjectStorage {
            $(
                async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                    // The inherent method: the trait's would not answer a bare output.
                    let output: dto::$output = self.$method(request).await?;
                    Ok(S3Response::new(output))
                }
            )*
        }

        /// Names of all operations that are served.
        pub const SERVED: &[&str] = &[$($name),*];
    };
}

serve! {
    "ListBuckets" list_buckets(ListBucketsInput) -> ListBucketsOutput;
    "CreateBucket" create_bucket(CreateBucketInput) -> CreateBucketOutput;
    "HeadBucket" head_bucket(HeadBucketInput) -> HeadBucketOutput;
    "DeleteBucket" delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    "GetBucketLocation" get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    "ListObjects" list_objects(ListObjectsInput) -> ListObjectsOutput;
    "ListObjectsV2" list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    "ListObjectVersions" list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    "ListMultipartUploads" list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
    "GetBucketVersioning" get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    "PutBucketVersioning" put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    "GetPublicAccessBlock" get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput;
    "PutPublicAccessBlock" put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput;
    "DeletePublicAccessBlock" delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput;
    "GetBucketEncryption" get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput;
    "PutBucketEncryption" put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput;
    "DeleteBucketEncryption" delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput;
    "GetBucketTagging" get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput;
    "PutBucketTagging" put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput;
    "DeleteBucketTagging" delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput;
    "GetBucketOwnershipControls" get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput;
    "PutBucketOwnershipControls" put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput;
    "DeleteBucketOwnershipControls" delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput;
    "GetBucketAcl" get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput;
    "GetBucketPolicy" get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput;
    "GetBucketPolicyStatus" get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput;
    "PutBucketPolicy" put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput;
    "DeleteBucketPolicy" delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput;
    "GetBucketCors" get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput;
    "PutBucketCors" put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput;
    "DeleteBucketCors" delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput;
    "GetBucketWebsite" get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput;
    "GetBucketLifecycleConfiguration" get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput;
    "PutBucketLifecycleConfiguration" put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput;
    "DeleteBucketLifecycle" delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    "GetBucketReplication" get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput;
    "GetObjectLockConfiguration" get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    "GetBucketAccelerateConfiguration" get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput;
    "GetBucketLogging" get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput;
    "GetBucketNotificationConfiguration" get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput;
    "PutBucketNotificationConfiguration" put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput;
    "GetBucketRequestPayment" get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput;
    "DeleteObjects" delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    "PutObject" put_object(PutObjectInput) -> PutObjectOutput;
    "CopyObject" copy_object(CopyObjectInput) -> CopyObjectOutput;
    "CreateMultipartUpload" create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    "UploadPart" upload_part(UploadPartInput) -> UploadPartOutput;
    "UploadPartCopy" upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    "CompleteMultipartUpload" complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    "AbortMultipartUpload" abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    "ListParts" list_parts(ListPartsInput) -> ListPartsOutput;
    "GetObject" get_object(GetObjectInput) -> GetObjectOutput;
    "HeadObject" head_object(HeadObjectInput) -> HeadObjectOutput;
    "GetObjectAttributes" get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput;
    "DeleteObject" delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    "GetObjectAcl" get_object_acl(GetObjectAclInput) -> GetObjectAclOutput;
    "GetObjectTagging" get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    "PutObjectTagging" put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    "DeleteObjectTagging" delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;
}
