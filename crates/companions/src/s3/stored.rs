//! Settings that are kept in S3's XML and given back: lifecycle, CORS, notifications.

use s3s::dto::{
    BucketLifecycleConfiguration, CORSConfiguration, DeleteBucketCorsInput, DeleteBucketCorsOutput,
    DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, GetBucketCorsInput, GetBucketCorsOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput,
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    NotificationConfiguration, PutBucketCorsInput, PutBucketCorsOutput, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, PutBucketNotificationConfigurationInput,
    PutBucketNotificationConfigurationOutput, TransitionDefaultMinimumObjectSize,
};
use s3s::xml::{DeserializeContent, Deserializer, SerializeContent, Serializer};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::access::Asker;
use super::bucket::BucketRecord;
use super::{ObjectStorage, cors, lifecycle};

/// Longest setting in bytes; a lifecycle of 1,000 rules has some 300 KB.
const MAXIMUM_BYTES: usize = 512 * 1024;
const ROOT: &str = "Setting";

/// A setting as it is kept.
pub(super) fn write<T: SerializeContent>(setting: &T) -> S3Result<String> {
    let mut xml = Vec::new();
    Serializer::new(&mut xml).content(ROOT, setting).map_err(S3Error::internal_error)?;
    if xml.len() > MAXIMUM_BYTES {
        return Err(s3_error!(MalformedXML, "The configuration is longer than {MAXIMUM_BYTES} bytes."));
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
        let xml = write(&setting)?;
        let kept = minimum.as_ref().map(|minimum| minimum.as_str().to_owned());
        let change = move |record: &mut BucketRecord| {
            record.lifecycle = Some(xml);
            record.transition_minimum = kept;
        };
        self.change(bucket, change).await?;
        Ok(PutBucketLifecycleConfigurationOutput {
            transition_default_minimum_object_size: Some(minimum.unwrap_or_else(usual_minimum)),
        })
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<GetBucketLifecycleConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let Some(xml) = &bucket.record.lifecycle else {
            return Err(s3_error!(
                NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist"
            ));
        };
        let setting: BucketLifecycleConfiguration = read(xml)?;
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
        self.change(Asker::bucket_of(&request)?, |record| record.lifecycle = None).await?;
        Ok(DeleteBucketLifecycleOutput::default())
    }

    pub(super) async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<PutBucketCorsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting = request.input.cors_configuration;
        cors::check(&setting)?;
        let xml = write(&setting)?;
        self.change(bucket, move |record| record.cors = Some(xml)).await?;
        Ok(PutBucketCorsOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<GetBucketCorsOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let Some(xml) = &bucket.record.cors else {
            return Err(s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist"));
        };
        let setting: CORSConfiguration = read(xml)?;
        Ok(GetBucketCorsOutput { cors_rules: Some(setting.cors_rules) })
    }

    pub(super) async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<DeleteBucketCorsOutput> {
        self.change(Asker::bucket_of(&request)?, |record| record.cors = None).await?;
        Ok(DeleteBucketCorsOutput::default())
    }

    /// Nothing is delivered here, so that a configuration is kept and given back is all that comes of it.
    pub(super) async fn put_bucket_notification_configuration(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<PutBucketNotificationConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let setting = request.input.notification_configuration;
        let xml = (setting != NotificationConfiguration::default()).then(|| write(&setting)).transpose()?;
        self.change(bucket, move |record| record.notification = xml).await?;
        Ok(PutBucketNotificationConfigurationOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_notification_configuration(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<GetBucketNotificationConfigurationOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let Some(xml) = &bucket.record.notification else {
            return Ok(GetBucketNotificationConfigurationOutput::default());
        };
        let setting: NotificationConfiguration = read(xml)?;
        Ok(GetBucketNotificationConfigurationOutput {
            event_bridge_configuration: setting.event_bridge_configuration,
            lambda_function_configurations: setting.lambda_function_configurations,
            queue_configurations: setting.queue_configurations,
            topic_configurations: setting.topic_configurations,
        })
    }
}
