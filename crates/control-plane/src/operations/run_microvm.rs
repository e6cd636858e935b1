//! RunMicrovm: resolves the version, records the microVM as PENDING and hands it to the node.
//! The answer does not wait for the launch; how that ends is read with GetMicrovm.

use hearth_api::{
    HookState, ImageArn, ImageState, ImageVersion, ImageVersionState, ImageVersionStatus, RunMicrovmRequest,
};
use hearth_records::{
    Actor, ClientToken, ImageVersionRecord, InsertedMicrovm, MicrovmRecord, MicrovmSettings, Size,
};
use hearth_service::shape::{Member, Shape, optional, required, secret};
use hearth_service::validate::violation;
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb, to_json};

use super::idempotency::{client_token, replay};
use super::refusals::customer_managed_key;
use super::{on, views};
use crate::access::{Access, actor};
use crate::capacity::quota_exceeded;
use crate::config::Context;
use crate::connectors::ingress;
use crate::rates;
use crate::shapes::{
    AT_LEAST_ONE, BOOLEAN, CLIENT_TOKEN, CONNECTOR, COUNT, IDENTIFIER, KMS_KEY_IDENTIFIER, LOGGING,
    NON_BLANK, ROLE,
};

const DEFAULT_MAXIMUM_DURATION_SECONDS: u32 = 28_800;
const NAMED: &str = "RunMicrovm";

/// The least idle time and the longest life are settings of the operator, checked by the operation.
pub(super) const SHAPE: &[Member] = &[
    optional("ingressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    required("imageIdentifier", &IDENTIFIER),
    optional("imageVersion", &NON_BLANK),
    optional("executionRoleArn", &ROLE),
    optional(
        "idlePolicy",
        &Shape::Structure(&[
            required("maxIdleDurationSeconds", &COUNT),
            required("suspendedDurationSeconds", &COUNT),
            required("autoResumeEnabled", &BOOLEAN),
        ]),
    ),
    optional("logging", &LOGGING),
    optional("runHookPayload", &secret(4096)),
    optional("maximumDurationInSeconds", &AT_LEAST_ONE),
    KMS_KEY_IDENTIFIER,
    optional("clientToken", &CLIENT_TOKEN),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    NAMED,
    Effect::Write,
    on(Verb::Post, "/2025-09-09/microvms"),
    SHAPE,
    Access::Image(|context, call, arn| Box::pin(run(context, call, arn))),
)
.rated(rates::RUN);

async fn run(context: &Context, call: Call, arn: ImageArn) -> Outcome {
    let mut request: RunMicrovmRequest = call.read()?;
    let token = request.client_token.take();
    // A repeated call gets its answer even if the image has gone since.
    let repeated = client_token(&call.caller().account, NAMED, token.clone(), &request, "");
    if let Some(answer) = context.first_answer(repeated).await? {
        return Ok(Answer::text(answer));
    }
    customer_managed_key(request.kms_key_identifier.as_ref())?;
    check_idle_policy(context, &request)?;
    let maximum_duration_in_seconds = maximum_duration(context, request.maximum_duration_in_seconds)?;
    let version = launchable_version(context, &arn, request.image_version.as_deref()).await?;
    check_payload(&version, &request)?;

    let region = &context.config.region;
    let inherited = version.configuration.egress_network_connectors.as_deref();
    let settings = MicrovmSettings {
        minimum_memory_mib: Size::baseline_of(&version.configuration),
        execution_role_arn: request.execution_role_arn.clone(),
        idle_policy: request.idle_policy,
        maximum_duration_in_seconds,
        logging: request.logging.clone(),
        ingress_network_connectors: ingress(region, request.ingress_network_connectors.clone())?,
        egress_network_connectors: context
            .egress(&call.caller().account, request.egress_network_connectors.clone(), inherited)
            .await?,
        run_by: request.execution_role_arn.is_none().then(|| call.caller().author()),
    };
    if let Some(role) = &settings.execution_role_arn {
        context.authorize_pass_role(&call, role, &arn.to_string())?;
    }
    context.authorize_pass_connectors(&call, &settings.ingress_network_connectors).await?;
    context.authorize_pass_connectors(&call, &settings.egress_network_connectors).await?;
    context.check_connectors(&call.caller().account, &settings.egress_network_connectors).await?;
    context.check_capacity()?;
    let record = MicrovmRecord::pending(
        call.caller().account.clone(),
        arn,
        version.version,
        settings,
        context.services.node.id().clone(),
    );
    context.authorize_logging(&call, &record).await?;
    let answer = to_json(&views::microvm(context, &record));
    let token = client_token(&call.caller().account, NAMED, token, &request, &answer);
    let actor = actor(&call);
    let payload = request.run_hook_payload.as_deref();
    let inserted = insert(context, (&record, payload), &actor, token).await?;
    let answer = match inserted {
        InsertedMicrovm::Inserted => {
            context.services.node.clone().launch(record, Some(actor));
            answer
        }
        InsertedMicrovm::VersionGone => {
            return Err(no_active_version(&record.image_arn, request.image_version.as_deref()));
        }
        InsertedMicrovm::QuotaExceeded(quota) => {
            return Err(quota_exceeded(quota, &context.quotas()));
        }
        InsertedMicrovm::Token(claim) => replay(claim)?.unwrap_or(answer),
    };
    Ok(Answer::text(answer))
}

/// Records the microVM, with the payload of its run hook.
async fn insert(
    context: &Context,
    (record, payload): (&MicrovmRecord, Option<&str>),
    actor: &Actor,
    token: Option<ClientToken>,
) -> Result<InsertedMicrovm, Error> {
    let seal = |payload| context.services.node.seal_payload(&record.id, payload);
    let sealed = payload.map(seal).transpose();
    let sealed =
        sealed.map_err(|error| Error::failed("the payload of a run hook could not be sealed", &error))?;
    let (store, quotas) = (&context.services.store, context.quotas());
    Ok(store.insert_microvm(record, sealed.as_deref(), Some(actor), token, &quotas).await?)
}

/// The time that the microVM may live: at most 8 hours on the service, a setting here. Whoever does
/// not ask gets the service's 8 hours, or the setting if that is less.
fn maximum_duration(context: &Context, wanted: Option<u32>) -> Result<u32, Error> {
    let limit = match context.config.maximum_duration_seconds {
        0 => u32::MAX,
        seconds => seconds,
    };
    match wanted {
        Some(seconds) if seconds > limit => Err(Error::validation(violation(
            seconds,
            "maximumDurationInSeconds",
            &format!("Member must have value less than or equal to {limit}"),
        ))),
        Some(seconds) => Ok(seconds),
        None => Ok(DEFAULT_MAXIMUM_DURATION_SECONDS.min(limit)),
    }
}

/// The least idle time is 60 s on the service and a setting here.
fn check_idle_policy(context: &Context, request: &RunMicrovmRequest) -> Result<(), Error> {
    let minimum = context.config.minimum_idle_seconds;
    match request.idle_policy {
        Some(policy) if policy.max_idle_duration_seconds < minimum => Err(Error::validation(violation(
            policy.max_idle_duration_seconds,
            "idlePolicy.maxIdleDurationSeconds",
            &format!("Member must have value greater than or equal to {minimum}"),
        ))),
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
    let image = store.image(arn).await?.ok_or_else(not_found)?;
    let version = match wanted {
        // `1` is refused here, unlike where versions are read.
        Some(text) => ImageVersion::parse(text).filter(|version| version.to_string() == text),
        None => image.latest_active_version,
    };
    let version = store.image_version(arn, version.ok_or_else(not_found)?).await?;
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
