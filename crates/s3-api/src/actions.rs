//! What each operation needs: the table of the S3 user guide's "Required permissions for
//! Amazon S3 API operations".

/// What an operation is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// No resource.
    Account,
    /// A bucket that need not be there yet.
    NewBucket,
    /// A bucket.
    Bucket,
    /// An object.
    Object,
    /// Objects that the body names: a check per key, by the operation itself.
    Keys,
}

/// An operation and what a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) subject: Subject,
    /// All of them; without `s3:`.
    pub(super) actions: &'static [&'static str],
    /// Instead of `actions` when the request names a version; empty when it cannot.
    pub(super) version_actions: &'static [&'static str],
}

const fn on(subject: Subject, name: &'static str, actions: &'static [&'static str]) -> Operation {
    Operation { name, subject, actions, version_actions: &[] }
}

const fn of_version(
    name: &'static str,
    actions: &'static [&'static str],
    version_actions: &'static [&'static str],
) -> Operation {
    Operation { name, subject: Subject::Object, actions, version_actions }
}

use Subject::{Account, Bucket, Keys, NewBucket, Object};

/// Every operation that is served. What is not here is refused before anything is done.
pub(super) const OPERATIONS: [Operation; 59] = [
    on(Account, "ListBuckets", &["ListAllMyBuckets"]),
    on(NewBucket, "CreateBucket", &["CreateBucket"]),
    on(Bucket, "HeadBucket", &["ListBucket"]),
    on(Bucket, "DeleteBucket", &["DeleteBucket"]),
    on(Bucket, "GetBucketLocation", &["GetBucketLocation"]),
    on(Bucket, "ListObjects", &["ListBucket"]),
    on(Bucket, "ListObjectsV2", &["ListBucket"]),
    on(Bucket, "ListObjectVersions", &["ListBucketVersions"]),
    on(Bucket, "ListMultipartUploads", &["ListBucketMultipartUploads"]),
    on(Bucket, "GetBucketVersioning", &["GetBucketVersioning"]),
    on(Bucket, "PutBucketVersioning", &["PutBucketVersioning"]),
    on(Bucket, "GetPublicAccessBlock", &["GetBucketPublicAccessBlock"]),
    on(Bucket, "PutPublicAccessBlock", &["PutBucketPublicAccessBlock"]),
    on(Bucket, "DeletePublicAccessBlock", &["PutBucketPublicAccessBlock"]),
    on(Bucket, "GetBucketEncryption", &["GetEncryptionConfiguration"]),
    on(Bucket, "PutBucketEncryption", &["PutEncryptionConfiguration"]),
    on(Bucket, "DeleteBucketEncryption", &["PutEncryptionConfiguration"]),
    on(Bucket, "GetBucketTagging", &["GetBucketTagging"]),
    on(Bucket, "PutBucketTagging", &["PutBucketTagging"]),
    on(Bucket, "DeleteBucketTagging", &["PutBucketTagging"]),
    on(Bucket, "GetBucketOwnershipControls", &["GetBucketOwnershipControls"]),
    on(Bucket, "PutBucketOwnershipControls", &["PutBucketOwnershipControls"]),
    on(Bucket, "DeleteBucketOwnershipControls", &["PutBucketOwnershipControls"]),
    on(Bucket, "GetBucketAcl", &["GetBucketAcl"]),
    on(Bucket, "GetBucketPolicy", &["GetBucketPolicy"]),
    on(Bucket, "GetBucketPolicyStatus", &["GetBucketPolicyStatus"]),
    on(Bucket, "PutBucketPolicy", &["PutBucketPolicy"]),
    on(Bucket, "DeleteBucketPolicy", &["DeleteBucketPolicy"]),
    on(Bucket, "GetBucketCors", &["GetBucketCORS"]),
    on(Bucket, "PutBucketCors", &["PutBucketCORS"]),
    on(Bucket, "DeleteBucketCors", &["PutBucketCORS"]),
    on(Bucket, "GetBucketWebsite", &["GetBucketWebsite"]),
    on(Bucket, "GetBucketLifecycleConfiguration", &["GetLifecycleConfiguration"]),
    on(Bucket, "PutBucketLifecycleConfiguration", &["PutLifecycleConfiguration"]),
    on(Bucket, "DeleteBucketLifecycle", &["PutLifecycleConfiguration"]),
    on(Bucket, "GetBucketReplication", &["GetReplicationConfiguration"]),
    on(Bucket, "GetObjectLockConfiguration", &["GetBucketObjectLockConfiguration"]),
    on(Bucket, "GetBucketAccelerateConfiguration", &["GetAccelerateConfiguration"]),
    on(Bucket, "GetBucketLogging", &["GetBucketLogging"]),
    on(Bucket, "GetBucketNotificationConfiguration", &["GetBucketNotification"]),
    on(Bucket, "PutBucketNotificationConfiguration", &["PutBucketNotification"]),
    on(Bucket, "GetBucketRequestPayment", &["GetBucketRequestPayment"]),
    on(Keys, "DeleteObjects", &[]),
    on(Object, "PutObject", &["PutObject"]),
    on(Object, "CopyObject", &["PutObject"]),
    on(Object, "CreateMultipartUpload", &["PutObject"]),
    on(Object, "UploadPart", &["PutObject"]),
    on(Object, "UploadPartCopy", &["PutObject"]),
    on(Object, "CompleteMultipartUpload", &["PutObject"]),
    on(Object, "AbortMultipartUpload", &["AbortMultipartUpload"]),
    on(Object, "ListParts", &["ListMultipartUploadParts"]),
    of_version("GetObject", &["GetObject"], &["GetObjectVersion"]),
    of_version("HeadObject", &["GetObject"], &["GetObjectVersion"]),
    of_version(
        "GetObjectAttributes",
        &["GetObject", "GetObjectAttributes"],
        &["GetObjectVersion", "GetObjectVersionAttributes"],
    ),
    of_version("DeleteObject", &["DeleteObject"], &["DeleteObjectVersion"]),
    of_version("GetObjectAcl", &["GetObjectAcl"], &["GetObjectVersionAcl"]),
    of_version("GetObjectTagging", &["GetObjectTagging"], &["GetObjectVersionTagging"]),
    of_version("PutObjectTagging", &["PutObjectTagging"], &["PutObjectVersionTagging"]),
    of_version("DeleteObjectTagging", &["DeleteObjectTagging"], &["DeleteObjectVersionTagging"]),
];

/// The operation of this name, if it is served.
pub(super) fn operation(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::operations::SERVED;
    use super::*;

    #[test]
    fn what_is_implemented_and_what_is_authorised_are_the_same() {
        let mut authorised: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        let mut implemented = SERVED.to_vec();
        authorised.sort_unstable();
        implemented.sort_unstable();
        assert_eq!(authorised, implemented);
    }
}
