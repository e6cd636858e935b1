//! A new key for endpoint tokens: an extension, which AWS does not have. The keys are those of all
//! accounts, so it is for the root user of the first account only.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, ErrorKind};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::Context;
use crate::endpoints::RotationError;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    if !call.caller.is_root() || call.caller.account != context.config.operator {
        let message = "Only the root user of the server's first account may rotate the endpoint token keys.";
        return Err(Error::new(ErrorKind::AccessDenied, message).into());
    }
    let endpoints = context.services.endpoints.clone();
    let rotated = tokio::task::spawn_blocking(move || endpoints.rotate_token_keys()).await;
    let rotated = rotated.map_err(|error| {
        tracing::error!(%error, "the rotation of the endpoint token keys broke off");
        Error::internal()
    })?;
    Ok(Answer::ok(&rotated.map_err(|error| refusal(&error))?))
}

fn refusal(error: &RotationError) -> Error {
    match error {
        RotationError::TooOften { rotations } => Error::conflict(format!(
            "The endpoint token keys were rotated {rotations} times within an hour; try again later."
        )),
        RotationError::Io(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "the endpoint token keys stay");
            Error::internal()
        }
    }
}
