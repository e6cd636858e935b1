//! UpdateMicrovmImage: a new version from a whole new configuration; nothing of the
//! version before is kept.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, ImageState, ImageVersion, Timestamp, UpdateMicrovmImageRequest};
use hearth_image_builder::refusal;
use hearth_records::{BegunUpdate, BuildRecord, ImageVersionRecord};
use http::StatusCode;

use super::idempotency::{client_token, replay};
use super::image_configuration::{complete, pass};
use super::refusals::customer_managed_key;
use super::views;
use crate::answer::{Answer, Outcome, to_json};
use crate::call::Call;
use crate::capacity::quota_exceeded;
use crate::config::{Context, store_failed};
use crate::shapes::UPDATE_MICROVM_IMAGE;

const OPERATION: &str = "UpdateMicrovmImage";

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let mut request: UpdateMicrovmImageRequest = call.input(&UPDATE_MICROVM_IMAGE)?;
    let token = request.client_token.take();
    let arn = context.path_image(&call, OPERATION).await?;
    let parameters = (arn.to_string(), &request);
    let store = &context.services.store;
    // A repeated call gets its answer even if the image has changed since.
    let repeated = client_token(&call.caller.account, OPERATION, token.clone(), &parameters, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(StatusCode::OK, answer));
    }
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    let mut configuration = request.configuration.clone();
    complete(&context, &mut configuration)?;
    pass(&context, &call, &arn, &configuration, request.configuration.egress_network_connectors.as_deref())
        .await?;
    context.services.image_builder.check_room(&arn.account).await?;

    let image = store.image(&arn).await.map_err(|error| store_failed(&error))?;
    let mut image = image.ok_or_else(|| Error::image_not_found(&arn))?;
    let now = Timestamp::now();
    image.state = ImageState::Updating;
    image.last_version = ImageVersion(image.last_version.0 + 1);
    image.updated_at = now;
    let version = ImageVersionRecord::pending(arn.clone(), image.last_version, configuration, now);
    let build = BuildRecord::pending(&version);
    let answer = to_json(&views::image(&image, &version));
    let token = client_token(&call.caller.account, OPERATION, token, &parameters, &answer);
    let begun = store.begin_update(&image, &version, &build, token, &context.config.quotas).await;
    match begun.map_err(|error| store_failed(&error))? {
        BegunUpdate::QuotaExceeded(quota) => Err(quota_exceeded(quota, &context.config.quotas).into()),
        BegunUpdate::Token(claim) => {
            let answer = replay(claim)?.unwrap_or(answer);
            Ok(Answer::text(StatusCode::OK, answer))
        }
        BegunUpdate::Changed(change) => {
            refusal(change, || Error::image_not_found(&arn))?;
            context.services.image_builder.start(arn, version.version, build.id);
            Ok(Answer::text(StatusCode::OK, answer))
        }
    }
}
