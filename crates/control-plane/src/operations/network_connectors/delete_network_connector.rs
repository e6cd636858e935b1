//! DeleteNetworkConnector: the connector, or with a qualified ARN one version that is not its
//! latest. Repeating it changes nothing, even when what is named is gone.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, NetworkConnectorState};
use hearth_records::{DeletedNetworkConnector, NetworkConnectorRecord};
use http::StatusCode;

use super::refusal::Outcome;
use super::{conflict, identifier, invalid, now, settled, views};
use crate::answer::{Answer, to_json};
use crate::call::Call;
use crate::config::{Context, store_failed};

pub(super) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let now = now();
    let wanted = identifier::arn(&context, &call)?;
    let connector =
        identifier::connector_or_gone(&context, &call, "DeleteNetworkConnector", &wanted, now).await?;
    let (arn, version, state) = match wanted.version {
        None => (connector.arn.clone(), connector.latest.clone(), connector.state(now)),
        Some(number) => {
            let version = identifier::version_or_gone(&context, &wanted, number).await?;
            let state = version.state(now);
            (wanted, version, state)
        }
    };
    match state {
        NetworkConnectorState::Deleting => {}
        NetworkConnectorState::Pending if arn.version.is_none() => {
            let message = format!("The network connector {arn} is in state PENDING; try again later.");
            return Err(conflict(message).into());
        }
        _ => {
            check_not_latest(&connector, arn.version)?;
            let store = &context.services.store;
            let deleted = store.delete_network_connector(&arn, settled(now)).await;
            if deleted.map_err(|error| store_failed(&error))? == DeletedNetworkConnector::InUse {
                let message = format!(
                    "The network connector {arn} is in use by MicroVMs or MicroVM images and cannot be deleted."
                );
                return Err(conflict(message).into());
            }
        }
    }
    let answer = views::description(&connector, &version, NetworkConnectorState::Deleting);
    Ok(Answer::text(StatusCode::ACCEPTED, to_json(&answer)))
}

/// While an update is in progress, what it replaces is still in use.
fn check_not_latest(connector: &NetworkConnectorRecord, version: Option<u32>) -> Result<(), Error> {
    match version {
        Some(number) if number == connector.latest.version || Some(number) == connector.latest_active => {
            Err(invalid(format!(
                "{} is the latest version of the network connector and can only be deleted with it.",
                connector.arn.qualified(number)
            )))
        }
        _ => Ok(()),
    }
}
