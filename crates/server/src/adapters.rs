//! Small pieces that let crates which must not know each other work together.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hearth_api::{EndpointCounters, EndpointTokenKeys, MicrovmId};
use hearth_control_plane::{Endpoints, RotationError};
use hearth_data_plane::Counters;
use hearth_identity::service_role::RoleArn;
use hearth_identity::{Identities, OnBehalf, Owned};
use hearth_image_builder::{ArtifactError, ArtifactSource, Reader};
use hearth_s3_api::{ObjectStorage, StorageError};

use crate::token_keys::SharedTokenKeys;

/// Code artifacts come from our own S3, as far as the build role may read there.
#[derive(Debug)]
pub(crate) struct Artifacts {
    pub(crate) storage: ObjectStorage,
    pub(crate) identities: Arc<Identities>,
}

#[async_trait::async_trait]
impl ArtifactSource for Artifacts {
    async fn fetch(
        &self,
        reader: Reader<'_>,
        bucket: &str,
        key: &str,
        to: &Path,
        max_bytes: u64,
    ) -> Result<u64, ArtifactError> {
        let own = RoleArn::parse(reader.role).is_some_and(|role| role.account() == reader.account);
        if !own {
            return Err(ArtifactError::AccessDenied);
        }
        let may = may_read(Arc::clone(&self.identities), reader, format!("arn:aws:s3:::{bucket}/{key}"));
        let fetched = self.storage.fetch((bucket, key), reader.account, may, to, max_bytes).await;
        fetched.map_err(|error| match error {
            StorageError::NoSuchBucket(_) => ArtifactError::NoSuchBucket,
            StorageError::NoSuchKey(_) => ArtifactError::NoSuchKey,
            StorageError::AccessDenied(_) => ArtifactError::AccessDenied,
            StorageError::TooLarge { max_bytes, .. } => ArtifactError::TooLarge { max_bytes },
            other @ (StorageError::Io { .. }
            | StorageError::BucketNotEmpty(_)
            | StorageError::QuotaExceeded(_)
            | StorageError::DiskFull) => ArtifactError::Io(io::Error::other(other)),
        })
    }
}

/// Whether the build role may read the object, also as the policy of its bucket sees it.
fn may_read(
    identities: Arc<Identities>,
    reader: Reader<'_>,
    object: String,
) -> impl Fn(Option<Owned<'_>>) -> bool + Send + 'static {
    let (account, source) = (reader.account.clone(), reader.image.to_string());
    let (role, session) = (reader.role.to_owned(), reader.session.to_owned());
    move |bucket| {
        let use_of = OnBehalf { role: &role, session: &session, account: &account, source: &source };
        identities.service_role_may_with(&use_of, "s3:GetObject", &object, bucket)
    }
}

/// The endpoints as the API sees them.
#[derive(Debug)]
pub(crate) struct OurEndpoints {
    pub(crate) counters: Arc<Counters>,
    pub(crate) token_keys: Arc<SharedTokenKeys>,
}

#[async_trait::async_trait]
impl Endpoints for OurEndpoints {
    fn counters(&self, microvm: &MicrovmId) -> EndpointCounters {
        self.counters.of(microvm)
    }

    async fn rotate_token_keys(&self) -> Result<EndpointTokenKeys, RotationError> {
        self.token_keys.rotate(jiff::Timestamp::now().as_second()).await
    }
}

#[cfg(test)]
mod tests {
    use hearth_api::{AccountId, Timestamp};
    use hearth_iam::DocumentKind;
    use hearth_identity::entities::{Attachments, Tags};
    use hearth_identity::{Account, Policy, Role, RootKey};
    use hearth_store_sqlite::Store;

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/build";

    fn role(service: &str, resource: &str) -> Role {
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":["sts:AssumeRole","sts:TagSession"],"Principal":{{"Service":"{service}"}}}}}}"#
        );
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"s3:GetObject","Resource":"{resource}"}}}}"#
        );
        let policy = Policy::parse(&policy, DocumentKind::Identity, 6144).unwrap();
        Role {
            account: AccountId::from_stored("111122223333"),
            path: "/".into(),
            name: "build".into(),
            id: "AROA1".into(),
            created_at: Timestamp::now(),
            trust: Policy::parse(&trust, DocumentKind::Trust, 2048).unwrap(),
            policies: Attachments { inline: [("p".to_owned(), policy)].into(), ..Attachments::default() },
            description: None,
            maximum_session_seconds: 3600,
            tags: Tags::new(),
        }
    }

    /// What comes of reading `s3://<bucket>/app.zip`, which is nowhere: `NoSuchBucket` is what an
    /// allowed reader is told.
    async fn read(artifacts: &Artifacts, role: &str, bucket: &str) -> ArtifactError {
        let account = AccountId::from_stored("111122223333");
        let image = "arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
        let image = hearth_api::ImageArn::parse(image).unwrap();
        let reader = Reader { account: &account, image: &image, role, session: "s" };
        artifacts.fetch(reader, bucket, "app.zip", Path::new("/nonexistent/zip"), 1).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_build_reads_what_its_role_may_read_in_its_account() {
        let (directory, account) = (tempfile::tempdir().unwrap(), AccountId::from_stored("111122223333"));
        let root = RootKey { account: account.clone(), access_key: "AK".into(), secret: "s".into() };
        let identities =
            Identities::open(Arc::new(Store::temporary().await.unwrap()), vec![root]).await.unwrap();
        let bucket = |name: &str, owner: &str, effect: &str| {
            let allow = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"s3:GetObject","Principal":{{"AWS":"111122223333"}},"Resource":"arn:aws:s3:::{name}/*"}}}}"#
            );
            let policy = if effect.is_empty() { None } else { Some(allow) };
            let record = serde_json::json!({"created_ms": 0, "owner": owner, "policy": policy});
            std::fs::create_dir_all(directory.path().join(name).join("objects")).unwrap();
            std::fs::write(directory.path().join(name).join("bucket.json"), record.to_string()).unwrap();
        };
        bucket("theirs", "999999999999", "");
        bucket("shared", "999999999999", "Allow");
        bucket("own", "111122223333", "Allow");
        bucket("closed", "111122223333", "Deny");
        let artifacts = Artifacts {
            storage: ObjectStorage::open(
                directory.path(),
                "us-east-1",
                &account,
                hearth_s3_api::StorageLimits::default(),
            )
            .unwrap(),
            identities: Arc::new(identities),
        };
        let put = async |role: Option<Role>| {
            let change = |account: &mut Account| {
                match role {
                    Some(role) => account.put_role(role),
                    None => account.remove_role("build"),
                }
                Ok::<(), ()>(())
            };
            artifacts.identities.change(&account, change).await.unwrap().unwrap().unwrap();
        };
        assert!(matches!(read(&artifacts, ROLE, "code").await, ArtifactError::NoSuchBucket), "never made");
        put(Some(role("lambda.amazonaws.com", "arn:aws:s3:::code/*"))).await;
        assert!(matches!(read(&artifacts, ROLE, "code").await, ArtifactError::NoSuchBucket));
        assert!(matches!(read(&artifacts, ROLE, "other").await, ArtifactError::AccessDenied));
        put(Some(role("ec2.amazonaws.com", "*"))).await;
        assert!(matches!(read(&artifacts, ROLE, "code").await, ArtifactError::AccessDenied), "no trust");
        put(None).await;
        assert!(matches!(read(&artifacts, ROLE, "code").await, ArtifactError::AccessDenied), "deleted");

        put(Some(role("lambda.amazonaws.com", "*"))).await;
        let told = async |name: &str| read(&artifacts, ROLE, name).await;
        assert!(matches!(told("theirs").await, ArtifactError::AccessDenied), "nobody there agreed");
        assert!(matches!(told("shared").await, ArtifactError::NoSuchKey), "both accounts agree");
        assert!(matches!(told("closed").await, ArtifactError::AccessDenied), "the bucket's policy says no");
        put(Some(role("lambda.amazonaws.com", "arn:aws:s3:::other/*"))).await;
        assert!(
            matches!(told("shared").await, ArtifactError::AccessDenied),
            "its own account does not agree"
        );
        assert!(matches!(told("own").await, ArtifactError::AccessDenied), "an account is not its roles");
    }
}
