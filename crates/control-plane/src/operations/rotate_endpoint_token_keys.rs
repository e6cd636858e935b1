//! A new key for endpoint tokens: an extension, which AWS does not have. The keys are those of all
//! accounts, so it is for the root user of the first account only.

use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::endpoints::RotationError;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "RotateEndpointTokenKeys",
    Effect::Write,
    on(Verb::Post, "/hearth/2026-11-22/endpoint-token-keys"),
    &[],
    Access::Server(|context, call, ()| Box::pin(run(context, call))),
);

async fn run(context: &Context, _: Call) -> Outcome {
    let rotated = context.services.endpoints.rotate_token_keys().await;
    Ok(Answer::json(&rotated.map_err(|error| refusal(&error))?))
}

fn refusal(error: &RotationError) -> Error {
    match error {
        RotationError::TooOften { rotations } => Error::conflict(format!(
            "The endpoint token keys were rotated {rotations} times within an hour; try again later."
        )),
        RotationError::Io(_) => Error::failed("the endpoint token keys stay", error),
    }
}
