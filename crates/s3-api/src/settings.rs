//! Settings of buckets: those that are stored and shown, and those that no bucket can have here.

use std::sync::Arc;

use http::StatusCode;
use s3s::dto::{
    BucketVersioningStatus, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput,
    DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, DeleteBucketTaggingInput,
    DeleteBucketTaggingOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput,
    GetBucketAclInput, GetBucketAclOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
    GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetBucketTaggingInput,
    GetBucketTaggingOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput,
    GetObjectAclOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput, Grant, Grantee, MFADelete,
    ObjectOwnership, Owner, OwnershipControls, OwnershipControlsRule, Permission,
    PublicAccessBlockConfiguration, PutBucketEncryptionInput, PutBucketEncryptionOutput,
    PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput, PutBucketTaggingInput,
    PutBucketTaggingOutput, PutBucketVersioningInput, PutBucketVersioningOutput, PutPublicAccessBlockInput,
    PutPublicAccessBlockOutput, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Type,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::bucket::{Bucket, BucketRecord, PublicAccessBlock, Versioning};
use super::disk::Tags;
use super::tagging::{Limit, read_tags, tag_set};
use super::{ObjectStorage, custom_error};

impl ObjectStorage {
    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<GetBucketVersioningOutput> {
        let status =
            Asker::bucket_of(&request)?.record.clone().versioning.map(|versioning| match versioning {
                Versioning::Enabled => BucketVersioningStatus::ENABLED,
                Versioning::Suspended => BucketVersioningStatus::SUSPENDED,
            });
        let status = status.map(BucketVersioningStatus::from_static);
        Ok(GetBucketVersioningOutput { status, ..Default::default() })
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<PutBucketVersioningOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let wanted = request.input.versioning_configuration;
        if wanted.mfa_delete.is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED) {
            return Err(s3_error!(
                NotImplemented,
                "There are no MFA devices here, so MfaDelete cannot be enabled."
            ));
        }
        let versioning = match wanted.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
        self.change(bucket, move |record| record.versioning = Some(versioning)).await?;
        Ok(PutBucketVersioningOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_public_access_block(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<GetPublicAccessBlockOutput> {
        let block = Asker::bucket_of(&request)?.record.clone().public_access_block.ok_or_else(|| {
            let message = "The public access block configuration was not found";
            custom_error("NoSuchPublicAccessBlockConfiguration", StatusCode::NOT_FOUND, message)
        })?;
        let public_access_block_configuration = Some(PublicAccessBlockConfiguration {
            block_public_acls: Some(block.block_public_acls),
            ignore_public_acls: Some(block.ignore_public_acls),
            block_public_policy: Some(block.block_public_policy),
            restrict_public_buckets: Some(block.restrict_public_buckets),
        });
        Ok(GetPublicAccessBlockOutput { public_access_block_configuration })
    }

    pub(super) async fn put_public_access_block(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<PutPublicAccessBlockOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let wanted = request.input.public_access_block_configuration;
        let block = PublicAccessBlock {
            block_public_acls: wanted.block_public_acls.unwrap_or(false),
            ignore_public_acls: wanted.ignore_public_acls.unwrap_or(false),
            block_public_policy: wanted.block_public_policy.unwrap_or(false),
            restrict_public_buckets: wanted.restrict_public_buckets.unwrap_or(false),
        };
        self.change(bucket, move |record| record.public_access_block = Some(block)).await?;
        Ok(PutPublicAccessBlockOutput::default())
    }

    pub(super) async fn delete_public_access_block(
        &self,
        request: S3Request<DeletePublicAccessBlockInput>,
    ) -> S3Result<DeletePublicAccessBlockOutput> {
        let bucket = Asker::bucket_of(&request)?;
        self.change(bucket, |record| record.public_access_block = None).await?;
        Ok(DeletePublicAccessBlockOutput::default())
    }

    /// S3 has encrypted every new object since 2023; the state is shown in its form. The disk is
    /// not encrypted by us.
    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_encryption(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<GetBucketEncryptionOutput> {
        let bucket_key = Asker::bucket_of(&request)?.record.clone().bucket_key;
        let by_default = ServerSideEncryptionByDefault {
            kms_master_key_id: None,
            sse_algorithm: ServerSideEncryption::from_static(ServerSideEncryption::AES256),
        };
        let rule = ServerSideEncryptionRule {
            apply_server_side_encryption_by_default: Some(by_default),
            bucket_key_enabled: Some(bucket_key),
        };
        let configuration = ServerSideEncryptionConfiguration { rules: vec![rule] };
        Ok(GetBucketEncryptionOutput { server_side_encryption_configuration: Some(configuration) })
    }

    pub(super) async fn put_bucket_encryption(
        &self,
        request: S3Request<PutBucketEncryptionInput>,
    ) -> S3Result<PutBucketEncryptionOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let [rule] = request.input.server_side_encryption_configuration.rules.as_slice() else {
            return Err(s3_error!(MalformedXML, "There must be exactly one rule."));
        };
        let by_default = rule.apply_server_side_encryption_by_default.as_ref();
        if by_default.is_some_and(|rule| {
            rule.sse_algorithm.as_str() != ServerSideEncryption::AES256 || rule.kms_master_key_id.is_some()
        }) {
            return Err(s3_error!(
                NotImplemented,
                "There is no key management service here; the only SSEAlgorithm is AES256, without a key."
            ));
        }
        let bucket_key = rule.bucket_key_enabled.unwrap_or(false);
        self.change(bucket, move |record| record.bucket_key = bucket_key).await?;
        Ok(PutBucketEncryptionOutput::default())
    }

    /// Back to the default.
    pub(super) async fn delete_bucket_encryption(
        &self,
        request: S3Request<DeleteBucketEncryptionInput>,
    ) -> S3Result<DeleteBucketEncryptionOutput> {
        let bucket = Asker::bucket_of(&request)?;
        self.change(bucket, |record| record.bucket_key = false).await?;
        Ok(DeleteBucketEncryptionOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<GetBucketTaggingOutput> {
        let tags = Asker::bucket_of(&request)?.record.clone().tags;
        if tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet, "The TagSet does not exist"));
        }
        Ok(GetBucketTaggingOutput { tag_set: tag_set(tags) })
    }

    pub(super) async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<PutBucketTaggingOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let tags = read_tags(request.input.tagging.tag_set, Limit::Bucket)?;
        self.change(bucket, move |record| record.tags = tags).await?;
        Ok(PutBucketTaggingOutput::default())
    }

    pub(super) async fn delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<DeleteBucketTaggingOutput> {
        let bucket = Asker::bucket_of(&request)?;
        self.change(bucket, |record| record.tags = Tags::new()).await?;
        Ok(DeleteBucketTaggingOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_ownership_controls(
        &self,
        request: S3Request<GetBucketOwnershipControlsInput>,
    ) -> S3Result<GetBucketOwnershipControlsOutput> {
        if !Asker::bucket_of(&request)?.record.clone().ownership_controls {
            let message = "The bucket ownership controls were not found";
            return Err(s3_error!(OwnershipControlsNotFoundError, "{message}"));
        }
        let object_ownership = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
        let ownership_controls =
            Some(OwnershipControls { rules: vec![OwnershipControlsRule { object_ownership }] });
        Ok(GetBucketOwnershipControlsOutput { ownership_controls })
    }

    pub(super) async fn put_bucket_ownership_controls(
        &self,
        request: S3Request<PutBucketOwnershipControlsInput>,
    ) -> S3Result<PutBucketOwnershipControlsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        for rule in &request.input.ownership_controls.rules {
            check_ownership(&rule.object_ownership)?;
        }
        self.change(bucket, |record| record.ownership_controls = true).await?;
        Ok(PutBucketOwnershipControlsOutput::default())
    }

    pub(super) async fn delete_bucket_ownership_controls(
        &self,
        request: S3Request<DeleteBucketOwnershipControlsInput>,
    ) -> S3Result<DeleteBucketOwnershipControlsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        self.change(bucket, |record| record.ownership_controls = false).await?;
        Ok(DeleteBucketOwnershipControlsOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<GetBucketAclOutput> {
        let owner = owner_of(&*Asker::bucket_of(&request)?);
        Ok(GetBucketAclOutput { grants: Some(vec![full_control(&owner)]), owner: Some(owner) })
    }

    pub(super) async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<GetObjectAclOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let owner = owner_of(&*asker.bucket()?);
        self.open_object(&asker, input.key, input.version_id).await?;
        let grants = Some(vec![full_control(&owner)]);
        Ok(GetObjectAclOutput { grants, owner: Some(owner), ..Default::default() })
    }

    pub(super) async fn change(
        &self,
        bucket: Arc<Bucket>,
        change: impl FnOnce(&mut BucketRecord) + Send + 'static,
    ) -> S3Result<()> {
        let (disk, owner) = (self.disk.clone(), bucket.owner.clone());
        Ok(self.work(&owner, move || disk.change_bucket(&bucket, change)).await?)
    }
}

/// The owner as S3 shows it. AWS has a canonical user id there, which nothing here
/// knows; it is the account.
pub(super) fn owner_of(bucket: &Bucket) -> Owner {
    let account = bucket.owner.to_string();
    Owner { display_name: Some(account.clone()), id: Some(account) }
}

/// Only the bucket's owner owns objects: there are no ACLs.
pub(super) fn check_ownership(ownership: &ObjectOwnership) -> S3Result<()> {
    if ownership.as_str() == ObjectOwnership::BUCKET_OWNER_ENFORCED {
        Ok(())
    } else {
        Err(s3_error!(
            NotImplemented,
            "There are no ACLs here; the only ObjectOwnership is BucketOwnerEnforced."
        ))
    }
}

fn full_control(owner: &Owner) -> Grant {
    let grantee = Grantee {
        display_name: owner.display_name.clone(),
        id: owner.id.clone(),
        type_: Type::from_static(Type::CANONICAL_USER),
        email_address: None,
        uri: None,
    };
    Grant { grantee: Some(grantee), permission: Some(Permission::from_static(Permission::FULL_CONTROL)) }
}
