//! UpdateMicrovmImage: a new version from a whole new configuration; nothing of the
//! version before is kept.

use hearth_api::{ImageArn, ImageState, ImageVersion, Timestamp, UpdateMicrovmImageRequest};
use hearth_image_builder::refusal;
use hearth_records::{BegunUpdate, BuildRecord, Building, Change, ImageVersionRecord, Written};
use hearth_service::shape::Member;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb, to_json};

use super::idempotency::{client_token, replay};
use super::image_configuration::{complete, pass};
use super::refusals::customer_managed_key;
use super::{on, views};
use crate::access::{Access, actor};
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
    complete(context, &call.caller().account, &mut configuration).await?;
    pass(context, &call, &arn, &configuration, request.configuration.egress_network_connectors.as_deref())
        .await?;
    context.services.image_builder.check_room(&arn.account).await?;

    let (builder, actor, quotas) = (&context.services.image_builder, actor(&call), &context.quotas());
    loop {
        let was = store.image(&arn).await?.ok_or_else(|| image_not_found(&arn))?;
        let (number, now) = (ImageVersion(was.last_version.0 + 1), Timestamp::now());
        let mut image = was.entering(ImageState::Updating, now);
        image.last_version = number;
        let node = builder.node().clone();
        let version = ImageVersionRecord::pending(arn.clone(), number, configuration.clone(), node, now);
        let build = BuildRecord::pending(&version);
        let answer = to_json(&views::image(&image, &version));
        let token = client_token(&call.caller().account, NAMED, token.clone(), &parameters, &answer);
        let new = Building { image, version, build };
        match store.begin_update(&was, &new, Some(&actor), token, quotas).await? {
            BegunUpdate::Changed(Change::Written(Written::Yes)) => {
                builder.start(new);
                return Ok(Answer::text(answer));
            }
            BegunUpdate::Changed(Change::Written(Written::Stale(_))) => {}
            BegunUpdate::Changed(Change::Refused(unchanged)) => return Err(refusal(unchanged).into()),
            BegunUpdate::QuotaExceeded(quota) => return Err(quota_exceeded(quota, quotas)),
            BegunUpdate::Token(claim) => {
                return Ok(Answer::text(replay(claim)?.unwrap_or(answer)));
            }
        }
    }
}
