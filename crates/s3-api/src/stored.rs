//! Settings that are kept in S3's XML and given back: lifecycle, CORS, notifications.

use std::sync::Arc;

use s3s::dto::{
    BucketLifecycleConfiguration, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketLifecycleInput,
    DeleteBucketLifecycleOutput, GetBucketCorsInput, GetBucketCorsOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput,
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    NotificationConfiguration, PutBucketCorsInput, PutBucketCorsOutput, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, PutBucketNotificationConfigurationInput,
    PutBucketNotificationConfigurationOutput, TransitionDefaultMinimumObjectSize,
};
use s3s::xml::{DeserializeContent, Deserializer, SerializeContent, Serializer};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::access::Asker;
use super::bucket::Bucket;
use super::setting_files::Setting;
use super::{ObjectStorage, cors, lifecycle};

const ROOT: &str = "Setting";

/// A setting as it is kept.
fn write<T: SerializeContent>(kind: Setting, setting: &T) -> S3Result<String> {
    let mut xml = Vec::new();
    Serializer::new(&mut xml).content(ROOT, setting).map_err(S3Error::internal_error)?;
    let maximum = kind.maximum_bytes();
    if xml.len() > maximum {
        return Err(s3_error!(MalformedXML, "The configuration is longer than {maximum} bytes."));
    }
    String::from_utf8(xml).map_err(S3Error::internal_error)
}

/// A setting that was kept.
pub(super) fn read<T: for<'xml> DeserializeContent<'xml>>(xml: &str) -> S3Result<T> {
    let mut deserializer = Deserializer::new(xml.as_bytes());
    deserializer.named_element(ROOT, DeserializeContent::deserialize_content).map_err(S3Error::internal_error)
}

fn usual_minimum() -> TransitionDefaultMinimumObjectSize {
    TransitionDefaultMinimumObjectSize::from_static(
        TransitionDefaultMinimumObjectSize::ALL_STORAGE_CLASSES_128K,
    )
}

impl ObjectStorage {
    async fn set(&self, bucket: Arc<Bucket>, setting: Setting, xml: Option<String>) -> S3Result<()> {
        let (disk, owner) = (self.disk.clone(), bucket.owner.clone());
        Ok(self.work(&owner, move || disk.set(&bucket, setting, xml.as_deref())).await?)
    }

    async fn setting<T>(&self, bucket: Arc<Bucket>, setting: Setting) -> S3Result<Option<T>>
    where
        T: for<'xml> DeserializeContent<'xml> + Send + 'static,
    {
        let (disk, owner) = (self.disk.clone(), bucket.owner.clone());
        let read = move || disk.setting(&bucket.place, setting)?.as_deref().map(read).transpose();
        self.work(&owner, read).await
    }

    pub(super) async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<PutBucketLifecycleConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let minimum = request.input.transition_default_minimum_object_size;
        let mut setting = request
            .input
            .lifecycle_configuration
            .ok_or_else(|| s3_error!(MalformedXML, "The XML you provided was not well-formed"))?;
        lifecycle::check(&mut setting)?;
        let known = [
            TransitionDefaultMinimumObjectSize::ALL_STORAGE_CLASSES_128K,
            TransitionDefaultMinimumObjectSize::VARIES_BY_STORAGE_CLASS,
        ];
        if minimum.as_ref().is_some_and(|minimum| !known.contains(&minimum.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "There is no such transition default minimum object size."
            ));
        }
        let xml = write(Setting::Lifecycle, &setting)?;
        let kept = minimum.as_ref().map(|minimum| minimum.as_str().to_owned());
        self.set(bucket.clone(), Setting::Lifecycle, Some(xml)).await?;
        if kept != bucket.record.transition_minimum {
            self.change(bucket, |record| record.transition_minimum = kept).await?;
        }
        Ok(PutBucketLifecycleConfigurationOutput {
            transition_default_minimum_object_size: Some(minimum.unwrap_or_else(usual_minimum)),
        })
    }

    pub(super) async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<GetBucketLifecycleConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting: Option<BucketLifecycleConfiguration> =
            self.setting(bucket.clone(), Setting::Lifecycle).await?;
        let Some(setting) = setting else {
            return Err(s3_error!(
                NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist"
            ));
        };
        let minimum = bucket.record.transition_minimum.clone().map(TransitionDefaultMinimumObjectSize::from);
        Ok(GetBucketLifecycleConfigurationOutput {
            rules: Some(setting.rules),
            transition_default_minimum_object_size: Some(minimum.unwrap_or_else(usual_minimum)),
        })
    }

    pub(super) async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<DeleteBucketLifecycleOutput> {
        self.set(Asker::bucket_of(&request)?, Setting::Lifecycle, None).await?;
        Ok(DeleteBucketLifecycleOutput::default())
    }

    pub(super) async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<PutBucketCorsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting = request.input.cors_configuration;
        cors::check(&setting)?;
        let xml = write(Setting::Cors, &setting)?;
        self.set(bucket, Setting::Cors, Some(xml)).await?;
        Ok(PutBucketCorsOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<GetBucketCorsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let Some(setting) = &bucket.cors else {
            return Err(s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist"));
        };
        Ok(GetBucketCorsOutput { cors_rules: Some(setting.cors_rules.clone()) })
    }

    pub(super) async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<DeleteBucketCorsOutput> {
        self.set(Asker::bucket_of(&request)?, Setting::Cors, None).await?;
        Ok(DeleteBucketCorsOutput::default())
    }

    /// Nothing is delivered here, so that a configuration is kept and given back is
    /// all that comes of it.
    pub(super) async fn put_bucket_notification_configuration(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<PutBucketNotificationConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting = request.input.notification_configuration;
        let some = setting != NotificationConfiguration::default();
        let xml = some.then(|| write(Setting::Notification, &setting)).transpose()?;
        self.set(bucket, Setting::Notification, xml).await?;
        Ok(PutBucketNotificationConfigurationOutput::default())
    }

    pub(super) async fn get_bucket_notification_configuration(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<GetBucketNotificationConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting: Option<NotificationConfiguration> = self.setting(bucket, Setting::Notification).await?;
        let Some(setting) = setting else {
            return Ok(GetBucketNotificationConfigurationOutput::default());
        };
        Ok(GetBucketNotificationConfigurationOutput {
            event_bridge_configuration: setting.event_bridge_configuration,
            lambda_function_configurations: setting.lambda_function_configurations,
            queue_configurations: setting.queue_configurations,
            topic_configurations: setting.topic_configurations,
        })
    }
}
