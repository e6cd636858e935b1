//! CreateMicrovmImage: records image, version and build, and starts the build.

use hearth_api::{CreateMicrovmImageRequest, CreateMicrovmImageResponse, ImageArn, Timestamp};
use hearth_records::{Building, InsertedImage};
use hearth_service::shape::{Member, optional, patterned, required};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb, to_json};

use super::idempotency::{client_token, replay};
use super::image_configuration::{complete, pass};
use super::refusals::customer_managed_key;
use super::tags::check as check_tags;
use super::{answering, views};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::shapes::{
    BASE_IMAGE_ARN, BASE_IMAGE_VERSION, BUILD_ROLE_ARN, CODE_ARTIFACT, DESCRIPTION, IMAGE_CAPABILITIES,
    IMAGE_CLIENT_TOKEN, IMAGE_CPUS, IMAGE_EGRESS, IMAGE_ENVIRONMENT, IMAGE_HOOKS, IMAGE_LOGGING,
    IMAGE_RESOURCES, KMS_KEY_IDENTIFIER, NAME, TAGS,
};

const NAMED: &str = "CreateMicrovmImage";

pub(super) const SHAPE: &[Member] = &[
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
    required("name", &patterned(1, 64, NAME)),
    optional("tags", &TAGS),
    KMS_KEY_IDENTIFIER,
    IMAGE_CLIENT_TOKEN,
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    NAMED,
    Effect::Write,
    answering(201, Verb::Post, "/2025-09-09/microvm-images"),
    SHAPE,
    Access::NewImage(|context, call, arn| Box::pin(run(context, call, arn))),
);

async fn run(context: &Context, call: Call, arn: ImageArn) -> Outcome {
    let mut request: CreateMicrovmImageRequest = call.read()?;
    let token = request.client_token.take();
    let tags = request.tags.clone().unwrap_or_default();
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    check_tags(&tags)?;
    let mut configuration = request.configuration.clone();
    complete(context, &call.caller().account, &mut configuration).await?;
    pass(context, &call, &arn, &configuration, request.configuration.egress_network_connectors.as_deref())
        .await?;

    // A repeated call gets its answer even if there is no more room.
    let repeated = client_token(&call.caller().account, NAMED, token.clone(), &request, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(answer));
    }
    context.services.image_builder.check_room(&call.caller().account).await?;

    let now = Timestamp::now();
    let node = context.services.image_builder.node().clone();
    let new = Building::first(arn, tags, configuration, node, now);
    let shown = CreateMicrovmImageResponse {
        image: views::image(&new.image, &new.version),
        tags: request.tags.clone(),
    };
    let answer = to_json(&shown);
    let token = client_token(&call.caller().account, NAMED, token, &request, &answer);
    let (store, quotas) = (&context.services.store, &context.quotas());
    match store.insert_image(&new, Some(&actor(&call)), token, quotas).await? {
        InsertedImage::Inserted => {
            context.services.image_builder.start(new);
            Ok(Answer::text(answer))
        }
        InsertedImage::NameTaken => {
            let name = &new.image.arn.name;
            let message = format!("A MicroVM image with the name '{name}' already exists in this account");
            Err(Error::validation(message))
        }
        InsertedImage::QuotaExceeded(quota) => Err(quota_exceeded(quota, quotas)),
        InsertedImage::Token(claim) => {
            let answer = replay(claim)?.unwrap_or(answer);
            Ok(Answer::text(answer))
        }
    }
}
