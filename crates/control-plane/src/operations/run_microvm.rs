//! RunMicrovm: resolves the version, records the microVM as PENDING and hands it to the registry.
//! The answer does not wait for the launch; how that ends is read with GetMicrovm.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{
    Error, HookState, ImageArn, ImageState, ImageVersion, ImageVersionState, ImageVersionStatus,
    RunMicrovmRequest,
};
use hearth_records::{ClientToken, ImageVersionRecord, InsertedMicrovm, MicrovmRecord, MicrovmSettings};
use http::StatusCode;

use super::idempotency::{client_token, replay};
use super::refusals::customer_managed_key;
use super::views;
use crate::answer::{Answer, Outcome, to_json};
use crate::call::Call;
use crate::capacity::quota_exceeded;
use crate::config::{Context, store_failed};
use crate::connectors::{egress, ingress};
use crate::shapes::RUN_MICROVM;
use crate::throttle::Throttled;
use crate::validate::violation;

const DEFAULT_MAXIMUM_DURATION_SECONDS: u32 = 28_800;
const OPERATION: &str = "RunMicrovm";

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    context.throttle.admit(&call.caller.account, Throttled::Run).await?;
    let mut request: RunMicrovmRequest = call.input(&RUN_MICROVM)?;
    let arn = context.image_arn(&call, OPERATION, &request.image_identifier).await?;
    let token = request.client_token.take();
    // A repeated call gets its answer even if the image has gone since.
    let repeated = client_token(&call.caller.account, OPERATION, token.clone(), &request, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(StatusCode::OK, answer));
    }
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    check_idle_policy(&context, &request)?;
    let maximum_duration_in_seconds = maximum_duration(&context, request.maximum_duration_in_seconds)?;
    let version = launchable_version(&context, &arn, request.image_version.as_deref()).await?;
    check_payload(&version, &request)?;

    let region = &context.config.region;
    let inherited = version.configuration.egress_network_connectors.as_deref();
    let settings = MicrovmSettings {
        minimum_memory_mib: version.configuration.minimum_memory_mib(),
        execution_role_arn: request.execution_role_arn.clone(),
        idle_policy: request.idle_policy,
        maximum_duration_in_seconds,
        logging: request.logging.clone(),
        ingress_network_connectors: ingress(region, request.ingress_network_connectors.clone())?,
        egress_network_connectors: egress(region, request.egress_network_connectors.clone(), inherited)?,
        run_by: request.execution_role_arn.is_none().then(|| call.caller.author()),
    };
    if let Some(role) = &settings.execution_role_arn {
        context.authorize_pass_role(&call, role, &arn.to_string())?;
    }
    context.authorize_pass_connectors(&call, &settings.ingress_network_connectors).await?;
    context.authorize_pass_connectors(&call, &settings.egress_network_connectors).await?;
    context.check_connectors(&call.caller.account, &settings.egress_network_connectors).await?;
    context.check_capacity()?;
    let record = MicrovmRecord::pending(call.caller.account.clone(), arn, version.version, settings);
    context.authorize_logging(&call, &record).await?;
    let answer = to_json(&views::microvm(&context, &record));
    let token = client_token(&call.caller.account, OPERATION, token, &request, &answer);
    let inserted = insert(&context, &record, token, request.run_hook_payload.as_deref()).await?;
    let answer = match inserted {
        InsertedMicrovm::Inserted => {
            context.services.registry.launch(record);
            answer
        }
        InsertedMicrovm::VersionGone => {
            return Err(no_active_version(&record.image_arn, request.image_version.as_deref()).into());
        }
        InsertedMicrovm::QuotaExceeded(quota) => {
            return Err(quota_exceeded(quota, &context.config.quotas).into());
        }
        InsertedMicrovm::Token(claim) => replay(claim)?.unwrap_or(answer),
    };
    Ok(Answer::text(StatusCode::OK, answer))
}

/// Records the microVM, after the payload of its run hook: whoever finds the record finds the
/// payload too. A payload without a record is removed, here or by the next start of the server.
async fn insert(
    context: &Context,
    record: &MicrovmRecord,
    token: Option<ClientToken>,
    payload: Option<&str>,
) -> Result<InsertedMicrovm, Error> {
    let registry = &context.services.registry;
    if let Some(payload) = payload
        && let Err(error) = registry.keep_payload(&record.id, payload)
    {
        tracing::error!(%error, "the payload of a run hook could not be written");
        registry.discard_payload(&record.id);
        return Err(Error::internal());
    }
    let inserted = context.services.store.insert_microvm(record, token, &context.config.quotas).await;
    if payload.is_some() && !matches!(inserted, Ok(InsertedMicrovm::Inserted)) {
        registry.discard_payload(&record.id);
    }
    inserted.map_err(|error| store_failed(&error))
}

/// The time that the microVM may live: at most 8 hours on the service, a setting here. Whoever does
/// not ask gets the service's 8 hours, or the setting if that is less.
fn maximum_duration(context: &Context, wanted: Option<u32>) -> Result<u32, Error> {
    let limit = match context.config.maximum_duration_seconds {
        0 => u32::MAX,
        seconds => seconds,
    };
    match wanted {
        Some(seconds) if seconds > limit => Err(violation(
            seconds,
            "maximumDurationInSeconds",
            &format!("Member must have value less than or equal to {limit}"),
        )),
        Some(seconds) => Ok(seconds),
        None => Ok(DEFAULT_MAXIMUM_DURATION_SECONDS.min(limit)),
    }
}

/// The least idle time is 60 s on the service and a setting here.
fn check_idle_policy(context: &Context, request: &RunMicrovmRequest) -> Result<(), Error> {
    let minimum = context.config.minimum_idle_seconds;
    match request.idle_policy {
        Some(policy) if policy.max_idle_duration_seconds < minimum => Err(violation(
            policy.max_idle_duration_seconds,
            "idlePolicy.maxIdleDurationSeconds",
            &format!("Member must have value greater than or equal to {minimum}"),
        )),
        _ => Ok(()),
    }
}

/// The wanted version, or the newest active one, if it may be launched. One text for every reason
/// why not, as on the service.
async fn launchable_version(
    context: &Context,
    arn: &ImageArn,
    wanted: Option<&str>,
) -> Result<ImageVersionRecord, Error> {
    let store = &context.services.store;
    let not_found = || no_active_version(arn, wanted);
    let image = store.image(arn).await.map_err(|error| store_failed(&error))?.ok_or_else(not_found)?;
    let version = match wanted {
        // `1` is refused here, unlike where versions are read.
        Some(text) => ImageVersion::parse(text).filter(|version| version.to_string() == text),
        None => image.latest_active_version,
    };
    let version = store
        .image_version(arn, version.ok_or_else(not_found)?)
        .await
        .map_err(|error| store_failed(&error))?;
    version
        .filter(|version| {
            version.state == ImageVersionState::Successful
                && version.status == ImageVersionStatus::Active
                && !matches!(image.state, ImageState::Deleting | ImageState::Deleted)
        })
        .ok_or_else(not_found)
}

fn no_active_version(arn: &ImageArn, wanted: Option<&str>) -> Error {
    Error::not_found(match wanted {
        Some(version) => format!("No active version found for MicroVM image {arn} and version {version}"),
        None => format!("No active version found for MicroVM image {arn}"),
    })
}

fn check_payload(version: &ImageVersionRecord, request: &RunMicrovmRequest) -> Result<(), Error> {
    let hooks = version.configuration.hooks.as_ref().and_then(|hooks| hooks.microvm_hooks.as_ref());
    let run_hook = hooks.and_then(|hooks| hooks.run) == Some(HookState::Enabled);
    if request.run_hook_payload.is_some() && !run_hook {
        return Err(Error::validation(
            "The run hook must be enabled in the MicroVM image to pass the run hook payload",
        ));
    }
    Ok(())
}
