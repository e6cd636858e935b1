//! CreateMicrovmImage: records image, version and build, and starts the build.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{
    CreateMicrovmImageRequest, CreateMicrovmImageResponse, Error, ImageArn, ImageState, ImageVersion,
    Timestamp,
};
use hearth_records::{BuildRecord, ImageRecord, ImageVersionRecord, InsertedImage, Taggable};
use http::StatusCode;

use super::idempotency::{client_token, replay};
use super::image_configuration::{complete, pass};
use super::refusals::customer_managed_key;
use super::tags::check as check_tags;
use super::views;
use crate::answer::{Answer, Outcome, to_json};
use crate::call::Call;
use crate::capacity::quota_exceeded;
use crate::config::{Context, store_failed};
use crate::shapes::CREATE_MICROVM_IMAGE;

const OPERATION: &str = "CreateMicrovmImage";

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let mut request: CreateMicrovmImageRequest = call.input(&CREATE_MICROVM_IMAGE)?;
    let token = request.client_token.take();
    let arn = ImageArn {
        region: context.config.region.clone(),
        account: call.caller.account.clone(),
        name: request.name.clone(),
    };
    let tags = request.tags.clone().unwrap_or_default();
    context.authorize_tagging(&call, OPERATION, &Taggable::Image(arn.clone()), &tags).await?;
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    check_tags(&tags)?;
    let mut configuration = request.configuration.clone();
    complete(&context, &mut configuration)?;
    pass(&context, &call, &arn, &configuration, request.configuration.egress_network_connectors.as_deref())
        .await?;

    // A repeated call gets its answer even if there is no more room.
    let repeated = client_token(&call.caller.account, OPERATION, token.clone(), &request, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(StatusCode::CREATED, answer));
    }
    context.services.image_builder.check_room(&call.caller.account).await?;

    let now = Timestamp::now();
    let image = ImageRecord {
        arn: arn.clone(),
        id: uuid::Uuid::new_v4().to_string(),
        state: ImageState::Creating,
        last_version: ImageVersion::FIRST,
        latest_active_version: None,
        latest_failed_version: None,
        created_at: now,
        updated_at: now,
        tags,
    };
    let version = ImageVersionRecord::pending(arn.clone(), ImageVersion::FIRST, configuration, now);
    let build = BuildRecord::pending(&version);
    let shown =
        CreateMicrovmImageResponse { image: views::image(&image, &version), tags: request.tags.clone() };
    let answer = to_json(&shown);
    let token = client_token(&call.caller.account, OPERATION, token, &request, &answer);
    let inserted = context
        .services
        .store
        .insert_image(&image, &version, &build, token, &context.config.quotas)
        .await
        .map_err(|error| store_failed(&error))?;
    match inserted {
        InsertedImage::Inserted => {
            context.services.image_builder.start(arn, version.version, build.id);
            Ok(Answer::text(StatusCode::CREATED, answer))
        }
        InsertedImage::NameTaken => {
            let name = &image.arn.name;
            let message = format!("A MicroVM image with the name '{name}' already exists in this account");
            Err(Error::validation(message).into())
        }
        InsertedImage::QuotaExceeded(quota) => Err(quota_exceeded(quota, &context.config.quotas).into()),
        InsertedImage::Token(claim) => {
            let answer = replay(claim)?.unwrap_or(answer);
            Ok(Answer::text(StatusCode::CREATED, answer))
        }
    }
}
