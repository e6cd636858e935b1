//! UpdateMicrovmImage: a new version from a whole new configuration; nothing of the
//! version before is kept.

use hearth_api::{ImageArn, ImageState, ImageVersion, Timestamp, UpdateMicrovmImageRequest};
use hearth_image_builder::refusal;
use hearth_records::{BegunUpdate, BuildRecord, ImageVersionRecord};
use hearth_service::shape::Member;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb, to_json};

use super::idempotency::{client_token, replay};
use super::image_configuration::{complete, pass};
use super::refusals::customer_managed_key;
use super::{on, views};
use crate::access::Access;
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::errors::image_not_found;
use crate::shapes::{
    BASE_IMAGE_ARN, BASE_IMAGE_VERSION, BUILD_ROLE_ARN, CODE_ARTIFACT, DESCRIPTION, IMAGE,
    IMAGE_CAPABILITIES, IMAGE_CLIENT_TOKEN, IMAGE_CPUS, IMAGE_EGRESS, IMAGE_ENVIRONMENT, IMAGE_HOOKS,
    IMAGE_LOGGING, IMAGE_RESOURCES, KMS_KEY_IDENTIFIER,
};

const NAMED: &str = "UpdateMicrovmImage";

const SHAPE: &[Member] = &[
    BASE_IMAGE_ARN,
    BASE_IMAGE_VERSION,
    BUILD_ROLE_ARN,
    DESCRIPTION,
    CODE_ARTIFACT,
    IMAGE_LOGGING,
    IMAGE_EGRESS,
    IMAGE_CPUS,
    IMAGE_RESOURCES,
    IMAGE_CAPABILITIES,
    IMAGE_HOOKS,
    IMAGE_ENVIRONMENT,
    IMAGE,
    KMS_KEY_IDENTIFIER,
    IMAGE_CLIENT_TOKEN,
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    NAMED,
    Effect::Write,
    on(Verb::Put, "/2025-09-09/microvm-images/{imageIdentifier}"),
    SHAPE,
    Access::Image(|context, call, arn| Box::pin(run(context, call, arn))),
);

async fn run(context: &Context, call: Call, arn: ImageArn) -> Outcome {
    let mut request: UpdateMicrovmImageRequest = call.read()?;
    let token = request.client_token.take();
    let parameters = (arn.to_string(), &request);
    let store = &context.services.store;
    // A repeated call gets its answer even if the image has changed since.
    let repeated = client_token(&call.caller().account, NAMED, token.clone(), &parameters, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(answer));
    }
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    let mut configuration = request.configuration.clone();
    complete(context, &mut configuration)?;
    pass(context, &call, &arn, &configuration, request.configuration.egress_network_connectors.as_deref())
        .await?;
    context.services.image_builder.check_room(&arn.account).await?;

    let image = store.image(&arn).await?;
    let mut image = image.ok_or_else(|| image_not_found(&arn))?;
    let now = Timestamp::now();
    image.state = ImageState::Updating;
    image.last_version = ImageVersion(image.last_version.0 + 1);
    image.updated_at = now;
    let version = ImageVersionRecord::pending(arn.clone(), image.last_version, configuration, now);
    let build = BuildRecord::pending(&version);
    let answer = to_json(&views::image(&image, &version));
    let token = client_token(&call.caller().account, NAMED, token, &parameters, &answer);
    let begun = store.begin_update(&image, &version, &build, token, &context.config.quotas).await;
    match begun? {
        BegunUpdate::QuotaExceeded(quota) => Err(quota_exceeded(quota, &context.config.quotas)),
        BegunUpdate::Token(claim) => {
            let answer = replay(claim)?.unwrap_or(answer);
            Ok(Answer::text(answer))
        }
        BegunUpdate::Changed(change) => {
            refusal(change, || hearth_api::Error::image_not_found(&arn))?;
            context.services.image_builder.start(arn, version.version, build.id);
            Ok(Answer::text(answer))
        }
    }
}
